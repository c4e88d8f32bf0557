"""Compare few-shot methods: ``python eval.py [CONFIG.py] [--field VALUE ...]``."""

import sys

from fsclip_jax.cli.main import process

if __name__ == "__main__":
    sys.exit(process("eval"))
