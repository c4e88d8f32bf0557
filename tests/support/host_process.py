"""One of several processes that extract a bank together: run by test_hosts.py.

host_process.py OUT COORDINATOR PROCESSES PROCESS VIEWS
"""

import sys
from pathlib import Path

from tiny_clip import noise_source, tiny_backbone

from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import extract
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.hosts import join_hosts


def main(out: str, coordinator: str, processes: str, process: str, views: str) -> int:
    """Take part."""
    hosts = join_hosts(coordinator, int(processes), int(process))
    settings = ExtractSettings(views=int(views), dtype="float32", shard=4, batch=8)
    try:
        extract(noise_source(23), tiny_backbone(), Path(out), settings, hosts=hosts)
    except UserError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
