"""Encode a stream of pixels: batches of one size, each on one device, several at a time."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, UInt8

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.model import cast_weights, encode_before, encode_image, encode_patches
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.errors import UserError
from fsclip_jax.features.projection import Kept
from fsclip_jax.kept_programs import compile_kept
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Params

Compute: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""What the image tower computes in; ``auto`` is float32 on a CPU and bfloat16 elsewhere."""


class Encoded(NamedTuple):
    """Unit vectors of some views, and of their patches (float16) where these are asked for.

    Features before the projection keep their length.
    """

    features: jax.Array | np.ndarray
    patches: jax.Array | np.ndarray | None = None


Encode = Callable[[UInt8[np.ndarray, "rows size size 3"]], Encoded]
"""Starts encoding a batch a device and returns the unit features before they are computed."""

_IN_FLIGHT = 2


def resolve_compute(compute: str) -> str:
    """Return what ``auto`` means on this machine, and anything else as it is.

    Example:
        >>> resolve_compute("float32")
        'float32'
    """
    if compute != "auto":
        return compute
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def image_encoder(
    backbone: Backbone,
    mesh: Mesh | None = None,
    *,
    patches: bool = False,
    features: Kept = "post",
    compute: Compute = "float32",
    kept: bool = False,
) -> Encode:
    """Compile the image tower with normalisation of pixels before and of features after.

    Every device runs the same program on a batch of its own, so that a feature has the same bits
    however many devices there are. In bfloat16 the layer norms and the softmax of the attention are
    float32 all the same, and so are the normalisations here. The axis ``data`` of ``mesh`` is over
    the devices to use; None means the default device. What is returned takes as many pixels for
    each device, and compiles once for each size of batch. ``kept``: on one device the next process
    need not trace it, see :func:`fsclip_jax.kept_programs.compile_kept`.
    """
    if mesh is None:
        mesh = Mesh(np.asarray(jax.local_devices()[:1]), ("data",))
    tower: Callable[..., Any] = encode_patches if patches else encode_image
    if features == "pre":
        tower = encode_before
    args = tower, backbone.graphdef, backbone.preprocess, mesh
    run = _kept_program(*args, backbone.config) if kept and mesh.size == 1 else _program(*args)
    each, same = PartitionSpec("data"), PartitionSpec()
    state = backbone.state
    if resolve_compute(compute) == "bfloat16":
        state = cast_weights(state, jnp.bfloat16)
    weights = jax.device_put(state, NamedSharding(mesh, same))
    place = NamedSharding(mesh, each)

    def start(pixels: np.ndarray) -> Encoded:
        found = run(weights, jax.device_put(pixels, place))
        for array in jax.tree.leaves(found):
            array.copy_to_host_async()
        return found

    return start


def fetch(features: jax.Array | np.ndarray) -> Float[np.ndarray, "*batch dim"]:
    """Bring unit features to the host, every one of them finite.

    Raises:
        UserError: some are not, as where the weights overflow what the tower computes in.

    Example:
        >>> fetch(jnp.ones((1, 1))).tolist()
        [[1.0]]
    """
    found = np.asarray(features)
    if not np.isfinite(found).all():
        bad = ~np.isfinite(found).all(-1)
        raise UserError(
            f"the tower gave {bad.sum()} of {bad.size} "
            "features that are not finite; take other weights, or in bfloat16 --compute float32"
        )
    return found


@functools.lru_cache(maxsize=16)  # towers of one shape share what was compiled
def _program(
    tower: Callable[..., Any], graphdef: nnx.GraphDef, preprocess: Preprocess, mesh: Mesh
) -> Callable[[Params, jax.Array], Encoded]:
    def encode(state: Params, pixels: jax.Array) -> Encoded:
        found = tower(graphdef, state, preprocess.normalize(pixels))
        if tower is encode_before:
            return Encoded(found)
        if not isinstance(found, tuple):
            return Encoded(l2_normalize(found))
        whole, patches = found
        return Encoded(l2_normalize(whole), l2_normalize(patches).astype(jnp.float16))

    each, same = PartitionSpec("data"), PartitionSpec()
    run: Callable[[Params, jax.Array], Encoded] = jax.jit(
        jax.shard_map(encode, mesh=mesh, in_specs=(same, each), out_specs=each, check_vma=False)
    )
    return run


@functools.lru_cache(maxsize=16)
def _kept_program(
    tower: Callable[..., Any],
    graphdef: nnx.GraphDef,
    preprocess: Preprocess,
    mesh: Mesh,
    config: ClipConfig,
) -> Callable[[Params, jax.Array], Encoded]:
    run, compiled = _program(tower, graphdef, preprocess, mesh), {}

    def encode(state: Params, pixels: jax.Array) -> Encoded:
        form = pixels.shape, tuple(leaf.dtype for leaf in jax.tree.leaves(state))
        if form not in compiled:
            name = tower, config, preprocess
            compiled[form] = compile_kept(name, lambda *args: tuple(run(*args)), state, pixels)
        return Encoded(*compiled[form](state, pixels))

    return encode


class _Step(NamedTuple):
    """A batch a device that runs, and whose rows are in it."""

    found: Encoded
    parts: list[tuple[int, int, int]]
    """Shard, first row and end of each run of rows."""
    ended: list[int]
    """Shards that are whole when these rows are there."""


class Batcher:
    """Fill batches with the views of one shard after another and hand out whole shards.

    A batch holds views of one shard only, and the last of a shard is filled up with zeros. So
    what lies in a batch follows from the shard alone, whatever else is encoded in this run and
    on however many devices; the features are the same bits. The devices work while the host
    fills the next batches.
    """

    def __init__(self, encode: Encode, size: int, devices: int, views: int) -> None:
        self._encode, self._size, self._total, self._views = encode, size, size * devices, views
        self._buffer = np.zeros((0,), np.uint8)
        self._filled = 0
        self._parts: list[tuple[int, int, int]] = []
        self._ended: list[int] = []
        self._running: deque[_Step] = deque()
        self._found: dict[int, list[Encoded]] = {}
        self._rows: dict[int, int] = {}
        self._whole: deque[int] = deque()

    def add(self, shard: int, pixels: UInt8[np.ndarray, "n views size size 3"]) -> None:
        """Append the views of some images of a shard."""
        flat = pixels.reshape(-1, *pixels.shape[2:])
        while len(flat):
            if not self._filled:
                # A fresh one each time: on CPU the device may read the host's memory in place.
                self._buffer = np.zeros((self._total, *flat.shape[1:]), np.uint8)
            low = self._filled
            high = min(low + len(flat), self._total)
            self._buffer[low:high] = flat[: high - low]
            self._parts.append((shard, low, high))
            flat = flat[high - low :]
            self._filled = high
            if high == self._total:
                self._start()

    def end(self, shard: int) -> None:
        """Say that the shard is complete."""
        self._filled = -(-self._filled // self._size) * self._size
        if self._filled:
            self._ended.append(shard)
            if self._filled == self._total:
                self._start()
        elif self._running:
            self._running[-1].ended.append(shard)
        else:
            self._whole.append(shard)

    def finished(self, *, wait: bool = False) -> Iterator[tuple[int, Encoded | None]]:
        """Hand out the shards that are whole, in order.

        Yields:
            The shard, and its unit features [V n D], float32, with the patches of view 0
            [n P D]; None where no image was added.
        """
        if wait and self._filled:
            self._start()
        while wait and self._running:
            self._collect()
        while self._whole:
            shard = self._whole.popleft()
            found = self._found.pop(shard, None)
            self._rows.pop(shard, None)
            yield shard, None if found is None else self._join(found)

    def _start(self) -> None:
        self._running.append(_Step(self._encode(self._buffer), self._parts, self._ended))
        self._filled, self._parts, self._ended = 0, [], []
        if len(self._running) >= _IN_FLIGHT:
            self._collect()

    def _collect(self) -> None:
        (features, patches), parts, ended = self._running.popleft()
        features = fetch(features)
        patches = None if patches is None else fetch(patches)
        for shard, low, high in parts:
            some = None
            if patches is not None:  # of view 0 only: every V-th row from the start of the shard
                first = -self._rows.get(shard, 0) % self._views
                # A copy, so that the other views' patches are let go of.
                some = patches[low + first : high : self._views].copy()
            self._found.setdefault(shard, []).append(Encoded(features[low:high], some))
            self._rows[shard] = self._rows.get(shard, 0) + high - low
        self._whole.extend(ended)

    def _join(self, found: list[Encoded]) -> Encoded:
        rows = np.concatenate([np.asarray(part.features) for part in found])
        patches = [part.patches for part in found if part.patches is not None]
        count = len(rows) // self._views
        return Encoded(
            rows.reshape(count, self._views, -1).transpose(1, 0, 2),
            np.concatenate(patches) if patches else None,
        )
