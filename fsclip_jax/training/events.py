"""TensorBoard event files, scalars only.

A file is a row of records: length (8 bytes), checksum of the length (4), content, checksum of the
content (4). The content is an ``Event`` message of TensorBoard's protocol: wall time, step and one
scalar. Written here, and in the thread of the caller, because the writers that exist bring a deep
learning framework along, and lose what fails in a thread of their own, such as a full disk.
"""

import os
import socket
import struct
import time
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Checksum of Castagnoli.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    """A field of variable length: a string or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def scalar_event(tag: str, value: float, step: int, wall_time: float) -> bytes:
    """Encode one scalar as a record.

    ``wall_time`` is in seconds since 1970.
    """
    name = _field(1, tag.encode("utf-8", "replace"))  # of a log that somebody edited
    single = name + _varint(2 << 3 | 5) + struct.pack("<f", value)
    head = _varint(1 << 3 | 1) + struct.pack("<d", wall_time) + _varint(2 << 3) + _varint(step)
    return _record(head + _field(5, _field(1, single)))


def new_event_file(folder: Path) -> Path:
    """Begin an event file, under the name by which TensorBoard finds it."""
    now = time.time()
    name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
    version = _varint(1 << 3 | 1) + struct.pack("<d", now) + _field(3, b"brain.Event:2")
    (folder / name).write_bytes(_record(version))
    return folder / name
