"""Compare few-shot methods: ``python eval.py [CONFIG.py] [--field VALUE ...]``."""

import sys

from fsclip_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
