"""Meta-train an adapter: ``python train.py [CONFIG.py] [--field VALUE ...]``."""

import sys

from fsclip_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
