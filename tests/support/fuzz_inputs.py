"""Spoil a file in ways that readers have fallen for: bytes, numbers, and the tree of its JSON."""

import contextlib
import json
import random
import re
from typing import Any

NUMBERS = [0, -1, 1, 2, 2**31, 2**32, 2**40, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, -1e-320]
VALUES = [None, True, False, "", "a", "\udc80", "../../x", "x" * 2000, [], {}, [[]], [0], {"": 0}]
VALUES += [float("inf"), float("-inf"), float("nan"), *NUMBERS]
WORDS = [
    b"\0",
    b"\n",
    b"{",
    b"[",
    b'"',
    b"\\u0000",
    b"1e999",
    b"NaN",
    b"-1",
    b"99999999999999999999",
]
WORDS += [
    b"\xff\xfe",
    b"\x80\x02",
    b"..",
    b"/",
    b"[" * 3000,
    b"cos\nsystem\n",
    b"\x8a\x08",
    b"PK\5\6",
]
_DIGITS = re.compile(rb"-?\d+")


def spoil(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Change a file in one to four places."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_WAYS)(data, rng, others)
    return data[: 1 << 16]


def _flip(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _set(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at] + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))]) + data[at + 1 :]
    )


def _cut(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    low = rng.randrange(len(data) + 1)
    high = min(len(data), low + rng.choice((1, 2, 8, 64, 100_000)))
    return data[:low] + data[high:]


def _insert(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(WORDS) + data[at:]


def _repeat(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    low = rng.randrange(len(data) + 1)
    part = data[low : low + rng.choice((1, 8, 64))]
    return data[:low] + part * rng.choice((2, 3, 50)) + data[low + len(part) :]


def _splice(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _number(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    found = list(_DIGITS.finditer(data))
    if not found:
        return _flip(data, rng, [])
    spot = rng.choice(found)
    return data[: spot.start()] + str(rng.choice(NUMBERS)).encode() + data[spot.end() :]


def _length(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    """Write a length of eight bytes somewhere, as many formats have them."""
    at = rng.choice((0, rng.randrange(len(data) + 1)))
    value = rng.choice([0, 1, len(data), 2**31, 2**40, 2**62, 2**64 - 1])
    return data[:at] + value.to_bytes(8, "little") + data[at + 8 :]


def _tree(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    """Change a value of the JSON that the file, or its safetensors header, is.

    A byte before it may say which file of several it is.
    """
    for start in (0, 1):
        head = int.from_bytes(data[start : start + 8], "little")
        behind = start + 8 + head
        header = data[start + 8 : behind] if 0 < head <= len(data) - 8 else b""
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(_changed(json.loads(header or data[start:]), rng)).encode()
            size = len(text).to_bytes(8, "little") if header else b""
            return data[:start] + size + text + (data[behind:] if header else b"")
    return _flip(data, rng, [])


def _changed(tree: Any, rng: random.Random) -> Any:
    keys = (
        list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    )
    if not keys or rng.random() < 0.1:
        return rng.choice(VALUES)
    key = rng.choice(list(keys))
    if rng.random() < 0.15:
        if rng.random() < 0.5 and isinstance(tree, list):
            tree.append(tree[key])
        else:
            del tree[key]
    else:
        tree[key] = _changed(tree[key], rng)
    return tree


_WAYS = [_flip, _set, _cut, _insert, _repeat, _splice, _number, _length, _tree, _tree, _tree]
