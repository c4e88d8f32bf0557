"""Where the features of a bank lie in a training, and how a step comes by the rows it needs.

An episode reads few rows of a large bank. Wherever they come from, a step has them as a small bank
of the episode's own, so that views, masks and prompts are what they are for a whole bank.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fsclip_jax.devices import DATA_AXIS, batch_sharding, on_every_device
from fsclip_jax.episodes.sampler import Episode
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank
from fsclip_jax.features.rows import BankRows
from fsclip_jax.training.config import Placement, TrainConfig
from fsclip_jax.training.state import TrainState
from fsclip_jax.training.step import MultiStep, StepMetrics
from fsclip_jax.typing import Array, Float, Int, PRNGKeyArray

Advance = Callable[[TrainState, int, int], tuple[TrainState, StepMetrics]]
"""``advance(state, first, end)`` takes the steps from ``first`` to ``end - 1``."""

_SHARE = 0.5
"""Of a device's memory, that a bank may fill: steps and the optimiser want room too."""


def choose_placement(
    asked: Placement, shape: tuple[int, int, int], mesh: Mesh, *, whole: str = ""
) -> Placement:
    """Choose where a bank of views, rows and width lies.

    ``whole`` says why it must lie whole on every device, empty if it need not.

    Raises:
        UserError: another placement was asked for.
    """
    if whole and asked in ("sharded", "host"):
        raise UserError(f"--bank-placement is {asked}, but {whole}: give replicated")
    if whole or asked != "auto":
        return asked if asked != "auto" else "replicated"
    views, rows, dim = shape
    needed, memory = 4 * rows * dim * (views + (views > 1)), _SHARE * device_memory()
    if needed <= memory:
        return "replicated"
    on_cpu = jax.local_devices()[0].platform == "cpu"  # whose devices share one memory
    return "host" if on_cpu or needed > mesh.size * memory else "sharded"


def device_memory() -> float:
    """Return the bytes of a device; those of a CPU share the machine's, a copy of it on the host.

    Infinite where nobody says.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")
    return total / (1 + jax.local_device_count())


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


def rows_of(episodes: Episode) -> Int[Array, "batch rows"]:
    """Return the rows that every episode reads: its support, then its queries."""
    batch = len(episodes.support)
    return jnp.concatenate(
        [episodes.support.reshape(batch, -1), episodes.query.reshape(batch, -1)], axis=1
    )


def in_own_bank(bank: Bank, episode: Episode, rows: Float[Array, "view rows dim"]) -> tuple:
    """Return a bank of an episode's own rows, and the episode as it lies there."""
    shots = episode.support.size
    places = jnp.arange(shots + episode.query.size, dtype=jnp.int32)
    own = episode._replace(
        support=places[:shots].reshape(episode.support.shape),
        query=places[shots:].reshape(episode.query.shape),
    )
    return bank._replace(features=rows), own


def from_host(
    multi_step: MultiStep,
    draw: Callable[[PRNGKeyArray, Bank], Episode],
    bank: Bank,
    rows: BankRows,
    config: TrainConfig,
    key: PRNGKeyArray,
    mesh: Mesh,
) -> Advance:
    """Take steps whose rows the host reads, those of the next step while one is computed."""
    bank = on_every_device(bank, mesh)

    @jax.jit
    def drawn(step: Array, key: PRNGKeyArray, bank: Bank) -> tuple[Episode, Array]:
        episodes = draw(jax.random.split(jax.random.fold_in(key, step))[0], bank)
        return episodes, rows_of(episodes)

    def prepare(step: int) -> tuple[Episode, jax.Array]:
        episodes, index = drawn(np.int32(step), key, bank)
        return episodes, _read_shares(rows, index, mesh)

    pool, ahead = ThreadPoolExecutor(1), dict[int, Future]()

    def advance(state: TrainState, first: int, end: int) -> tuple[TrainState, StepMetrics]:
        metrics: list[StepMetrics] = []
        for step in range(first, end):
            now = ahead.pop(step, None) or pool.submit(prepare, step)
            episodes, read = now.result()
            if step + 1 < config.steps:
                ahead[step + 1] = pool.submit(prepare, step + 1)
            state, told = multi_step(state, key, (bank, episodes, read), steps=1)
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
