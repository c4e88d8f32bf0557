"""Where the features of a bank lie in a training, and how a step comes by the rows it needs.

An episode reads few rows of a large bank. Wherever they come from, a step has them as a small bank
of the episode's own, so that views, masks and prompts are what they are for a whole bank.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fsclip_jax.devices import DATA_AXIS, batch_sharding, on_every_device
from fsclip_jax.episodes.sampler import Episode
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank
from fsclip_jax.features.rows import BankRows
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.machine import memory
from fsclip_jax.training.config import Placement
from fsclip_jax.training.state import TrainState
from fsclip_jax.training.step import MultiStep, StepMetrics
from fsclip_jax.training.tasks import EpisodeSource, rows_of
from fsclip_jax.typing import Array, Float, Int, PRNGKeyArray

Advance = Callable[[TrainState, int, int], tuple[TrainState, StepMetrics]]
"""``advance(state, first, end)`` takes the steps from ``first`` to ``end - 1``."""

PLACEMENTS: tuple[Placement, ...] = ("replicated", "sharded", "host")
"""From the one that asks most of a device's memory to the one that asks least."""

_SHARE = 0.5
"""Of a device's memory, that a bank may fill: steps and the optimiser want room too."""


class Size(NamedTuple):
    """What decides how large a bank is; ``prompts`` of a class are 0 where it stores none."""

    views: int
    rows: int
    dim: int
    classes: int
    prompts: int = 0


def bytes_a_device(placement: Placement, size: Size, devices: int) -> int:
    """Return the bytes of a device that a bank fills during a training, patches aside.

    Of V views of n images, width D, C classes with P prompts, on d devices: the features
    ``4 D n (V + [V > 1])`` if replicated (the mean over the views is another view),
    ``4 D ceil(n / d) V`` if sharded and none if on the host; and in all cases the labels
    ``8 n`` and the classes ``C (4 D + 8 + P (4 D + 1)) + 4``.

    Example:
        >>> size = Size(views=1, rows=14_000_000, dim=256, classes=21_841)
        >>> [bytes_a_device(where, size, 4) // 10**6 for where in PLACEMENTS]
        [14470, 3718, 134]
    """
    views, rows, dim, classes, prompts = size
    features = {
        "replicated": rows * (views + (views > 1)),
        "sharded": -(-rows // devices) * views,
    }
    fixed = 8 * rows + classes * (4 * dim + 8 + prompts * (4 * dim + 1)) + 4
    return 4 * dim * features.get(placement, 0) + fixed


def choose_placement(
    asked: Placement, size: Size, mesh: Mesh, hosts: Hosts = ALONE, *, whole: str = ""
) -> Placement:
    """Choose where a bank lies: as near to the steps as half of a device's memory allows.

    Hosts that would choose otherwise than others agree on what asks least of a device.

    Args:
        whole: why it must lie whole on every device, empty if it need not.

    Raises:
        UserError: another placement was asked for.
    """
    if whole and asked in ("sharded", "host"):
        raise UserError(f"--bank-placement is {asked}, but {whole}: give replicated")
    mine = asked if asked != "auto" else "replicated" if whole else _by_size(size, mesh)
    least = PLACEMENTS.index(mine)
    hosts.tell(f"placement/{hosts.index}", str(least))
    others = [i for i in range(hosts.count) if i != hosts.index]
    return PLACEMENTS[max([least, *(int(hosts.hear(f"placement/{i}")) for i in others)])]


def _by_size(size: Size, mesh: Mesh) -> Placement:
    most = _SHARE * device_memory()
    on_cpu = jax.local_devices()[0].platform == "cpu"  # whose devices share one memory
    tried: tuple[Placement, ...] = ("replicated",) if on_cpu else ("replicated", "sharded")
    fitting = (each for each in tried if bytes_a_device(each, size, mesh.size) <= most)
    return next(fitting, "host")


def device_memory() -> float:
    """Return the bytes of a device; those of a CPU share ours, a copy of it on the host.

    Infinite where nobody says.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    return memory() / (1 + jax.local_device_count())


def place(source: EpisodeSource, placement: Placement, mesh: Mesh) -> tuple:
    """Put on the devices what every step reads: the bank or a source of whole rows, and shares."""
    if placement == "replicated":
        return (on_every_device(source, mesh),)
    bank = on_every_device(source.bank, mesh)
    if placement == "host":
        return (bank,)
    assert source.rows is not None
    return bank, put_sharded(source.rows, mesh)


def put_sharded(rows: BankRows, mesh: Mesh) -> Float[Array, "view n dim"]:
    """Split the rows over the devices, each process reading those of its own; zeros fill up."""
    views, count, dim = rows.shape
    padded = count + -count % mesh.size

    def part(where: Any) -> np.ndarray:
        low, high, _ = where[1].indices(padded)
        out = np.zeros((views, high - low, dim), np.float32)
        have = np.arange(low, min(high, count))
        if len(have):
            out[:, : len(have)] = rows.read(have)
        return out

    place = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))
    return jax.make_array_from_callback((views, padded, dim), place, part)


def fetch(
    features: Float[Array, "view n dim"], index: Int[Array, "batch rows"], mesh: Mesh
) -> Float[Array, "batch view rows dim"]:
    """Read rows of a bank that is split over the devices, for episodes that are split as well.

    Every device tells all which rows its episodes want, looks up those that it has, and gives each
    device its own: one gather of indices, one scattered sum in which all terms but one are zero.
    """

    def of_device(part: Array, wanted: Array) -> Array:
        first = jax.lax.axis_index(DATA_AXIS) * part.shape[1]
        places = jax.lax.all_gather(wanted, DATA_AXIS) - first
        here = (places >= 0) & (places < part.shape[1])
        found = part[:, jnp.clip(places, 0, part.shape[1] - 1)]
        found = jnp.where(here[None, ..., None], found, 0)
        own = jax.lax.psum_scatter(found, DATA_AXIS, scatter_dimension=1)
        return jnp.moveaxis(own, 0, 1)

    split = PartitionSpec(DATA_AXIS)
    fetched: Array = jax.shard_map(
        of_device, mesh=mesh, in_specs=(PartitionSpec(None, DATA_AXIS), split), out_specs=split,
        check_vma=False,
    )(features, index)  # fmt: skip
    return fetched


def from_host(
    multi_step: MultiStep,
    draw: Callable[[PRNGKeyArray, Bank], Episode],
    bank: Bank,
    rows: BankRows,
    steps: int,
    key: PRNGKeyArray,
    mesh: Mesh,
) -> Advance:
    """Take steps whose rows the host reads, those of the next step while one is computed.

    Args:
        bank: on the devices, without features.
        steps: of the run; nothing is read ahead of the last one.
    """

    @partial(jax.jit, out_shardings=batch_sharding(mesh))
    def drawn(step: Array, key: PRNGKeyArray, bank: Bank) -> tuple[Episode, Array]:
        episodes = draw(jax.random.split(jax.random.fold_in(key, step))[0], bank)
        return episodes, rows_of(episodes)

    pool, ahead = ThreadPoolExecutor(1), dict[int, tuple[Episode, Future[jax.Array]]]()

    def ask(step: int) -> tuple[Episode, Future[jax.Array]]:
        # Devices are told what to do by one thread: all hosts tell theirs the same in one order.
        episodes, index = drawn(np.int32(step), key, bank)
        return episodes, pool.submit(_read_shares, rows, index, mesh)

    def advance(state: TrainState, first: int, end: int) -> tuple[TrainState, StepMetrics]:
        metrics: list[StepMetrics] = []
        for step in range(first, end):
            episodes, read = ahead.pop(step) if step in ahead else ask(step)
            if step + 1 < steps:
                ahead[step + 1] = ask(step + 1)
            state, told = multi_step(state, key, (bank, episodes, read.result()), steps=1)
            metrics.append(told)
        return state, jax.tree.map(lambda *each: np.concatenate([*map(np.asarray, each)]), *metrics)

    return advance


def _read_shares(rows: BankRows, index: jax.Array, mesh: Mesh) -> jax.Array:
    """Read what the episodes of this process want, and put it beside them [batch view rows dim]."""
    views, _, dim = rows.shape
    place = batch_sharding(mesh)
    wanted: dict[Any, np.ndarray] = {
        _span(shard.index): np.asarray(shard.data) for shard in index.addressable_shards
    }

    def part(where: Any) -> np.ndarray:
        some = wanted[_span(where)]
        found = rows.read(some.ravel()).reshape(views, *some.shape, dim)
        return np.ascontiguousarray(found.swapaxes(0, 1))

    return jax.make_array_from_callback((len(index), views, index.shape[1], dim), place, part)


def _span(where: Any) -> tuple[int | None, int | None]:
    return where[0].start, where[0].stop
