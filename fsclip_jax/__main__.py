"""``python -m fsclip_jax``: the command ``fsclip`` where the folder of scripts is on no path."""

import sys

from fsclip_jax.cli.main import process

if __name__ == "__main__":
    sys.exit(process())
