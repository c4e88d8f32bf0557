"""What is in a folder, to compare two of them."""

import hashlib


def content(folder):
    """The sum of every file of a folder, by name."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}
