"""Hosts and devices take their shares of the methods and shots, and all hosts get all results."""

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from fsclip_jax.devices import over_devices
from fsclip_jax.evaluation.results import Result
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.fitted import Predictions
from fsclip_jax.hosts import Hosts
from fsclip_jax.report.measured import Measured

Found = Mapping[str, Result]
Unit = TypeVar("Unit")


def spread(
    hosts: Hosts, name: str, units: Sequence[Unit], work: Callable[[Unit], Found]
) -> Iterator[Found]:
    """Yield what the work gives for every unit, in order.

    A unit is done by one device of one host as it would be alone, so its numbers are the same on
    any number of either.

    Args:
        name: tells the units of one call from those of another.
    """
    places = range(hosts.index, len(units), hosts.count)

    def one(at: int) -> Found:
        hosts.check()
        found = work(units[at])
        if hosts.count > 1:
            hosts.tell(f"{name}/{at}", packed(found))
        return found

    mine = over_devices(one, places)
    if hosts.count > 1:
        mine = iter(list(mine))  # others wait for them
    for at in range(len(units)):
        yield next(mine) if at in places else unpacked(hosts.hear(f"{name}/{at}"))


def sum_of(stored: StoredBank) -> int:
    """Return a sum of what a bank holds, by which hosts find that theirs are the same."""
    bank = stored.select(("train", "val", "test"))
    total = zlib.crc32(json.dumps(stored.keys).encode())
    for leaf in jax.tree.leaves(bank):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def packed(found: Found) -> str:
    """Return results as text, every array bit for bit."""
    return json.dumps(
        {
            group: {
                "metrics": {name: _told(np.asarray(a)) for name, a in one.measured.metrics.items()},
                "selection": one.measured.selection,
                "saw": one.measured.saw,
                "predictions": one.predictions and [_told(np.asarray(a)) for a in one.predictions],
            }
            for group, one in found.items()
        },
        default=lambda value: value.item() if value.ndim == 0 else value.tolist(),
    )


def unpacked(text: str) -> Found:
    """Return what was packed."""
    return {
        group: Result(
            Measured(
                {name: _heard(array) for name, array in one["metrics"].items()},
                one["selection"],
                tuple(one["saw"]),
            ),
            one["predictions"] and Predictions(*map(_heard, one["predictions"])),
        )
        for group, one in json.loads(text).items()
    }


def _told(array: np.ndarray) -> list[Any]:
    return [array.dtype.str, array.shape, base64.b64encode(array.tobytes()).decode()]


def _heard(told: Sequence[Any]) -> np.ndarray:
    kind, shape, data = told
    return np.frombuffer(base64.b64decode(data), kind).reshape(shape)
