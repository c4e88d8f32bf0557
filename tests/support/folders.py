"""What is in a folder, to compare two of them."""

import hashlib
import json


def content(folder):
    """The sum of every file of a folder, by name."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}


TIMES = {"created", "command", "fit_seconds", "predict_us_per_query"}
"""What may differ between two runs of one report: when it was, how typed, how long it took."""


def without_times(value):
    """A report's JSON without what may differ between two runs."""
    if isinstance(value, dict):
        return {name: without_times(v) for name, v in value.items() if name not in TIMES}
    return list(map(without_times, value)) if isinstance(value, list) else value


def content_of_tree(folder):
    """Every file below a folder by name, as bytes or, where times are in it, as its numbers."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in (".lock", ".html"):
            name = file.relative_to(folder).as_posix()
            is_json = file.suffix == ".json"
            found[name] = without_times(json.loads(file.read_text())) if is_json else None
            found[name] = found[name] if is_json else file.read_bytes()
    return found
