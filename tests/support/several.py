"""Commands that several processes run together, each with some devices of the CPU."""

import os
import socket
import subprocess
import sys


def start(command, *words, devices=2):
    """Start one process of a command."""
    count = f"device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "fsclip_jax.cli.main", command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", count)},
    )


def start_two(command, *words, devices=2, different=((), ())):
    """Start two processes of a command, which meet on a free port; each has words of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        at = f"localhost:{free.getsockname()[1]}"
    flags = ["--coordinator", at, "--processes", "2", "--process"]
    return [start(command, *words, *flags, i, *different[i], devices=devices) for i in range(2)]


def ends(processes, seconds=250.0):
    """Return the exit codes, and what each said on its output and its error stream."""
    try:
        told = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], told
