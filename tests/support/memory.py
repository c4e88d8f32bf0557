"""The most memory that a process ever held.

Not ``getrusage``: what that says of a new process begins with the memory of whoever started it,
so that a child of a large test run seems large itself.
"""

import re
from pathlib import Path


def peak_kib():
    """The most memory that this process ever held, in KiB."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
