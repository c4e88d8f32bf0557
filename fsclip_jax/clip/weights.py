"""Move weights between files and a state by a declarative map, naming every error at once.

Loading and saving read the same map, a tuple of ``Entry``, so they cannot drift apart.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.errors import UserError, some
from fsclip_jax.typing import Params

ArrayLayout: TypeAlias = Literal[
    "same", "transposed", "conv", "patch", "patch_hwio", "squeezed", "first"
]
"""How a file stores an array.

``transposed``: PyTorch's linear weight, [out in]. ``conv``: PyTorch's kernel, [out in h w],
ours being [h w in out]. ``patch``: such a kernel that we keep as a matrix [h*w*in out].
``patch_hwio``: the same matrix as Flax's kernel, [h w in out]. ``squeezed``: a number as [1], or
a vector as [1 1 width]. ``first``: with an axis of length 1 before the others.
"""


_DIMENSIONS = (
    "width",
    "mlp_width",
    "embed_dim",
    "vocab_size",
    "context_length",
    "patch_size",
    "registers",
)


@dataclass(frozen=True)
class Entry:
    """One leaf of the state and its place in a file."""

    path: str
    """Dotted path in the state, such as ``text.blocks.0.fc1.kernel``."""
    key: str
    """Key in the file."""
    layout: ArrayLayout = "same"
    """How the file lays the array out."""
    part: tuple[int, int] = (0, 1)
    """Which part of how many equal ones that the file stacks along its first axis."""


def from_file(array: np.ndarray, entry: Entry) -> np.ndarray:
    """Turn an array of a file into the leaf that the entry describes.

    Example:
        >>> from_file(np.ones((6, 2)), Entry("a", "b", "transposed", part=(1, 3))).shape
        (2, 2)
    """
    index, parts = entry.part
    rows = len(array) // parts if parts > 1 else 0
    x = array[index * rows : (index + 1) * rows] if parts > 1 else array
    match entry.layout:
        case "transposed":
            x = x.T
        case "conv":
            x = x.transpose(2, 3, 1, 0)
        case "patch":
            x = x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])
        case "patch_hwio":
            x = x.reshape(-1, x.shape[-1])
        case "squeezed":
            x = x.reshape(x.shape[-1:] if x.ndim == 3 else ())
        case "first":
            x = x[0]
    return np.asarray(x, np.float32, order="C")


def to_file(leaf: np.ndarray, entry: Entry) -> np.ndarray:
    """Undo ``from_file`` for one part, still to be stacked where the file stacks parts.

    Example:
        >>> to_file(np.ones((4 * 4 * 3, 8)), Entry("a", "b", "patch")).shape
        (8, 3, 4, 4)
    """
    match entry.layout:
        case "transposed":
            return leaf.T
        case "conv":
            return leaf.transpose(3, 2, 0, 1)
        case "patch" | "patch_hwio":
            side = math.isqrt(leaf.shape[0] // 3)
            kernel = leaf.reshape(side, side, 3, -1)
            return kernel if entry.layout == "patch_hwio" else kernel.transpose(3, 2, 0, 1)
        case "squeezed":
            return leaf.reshape((1, 1, -1) if leaf.ndim else 1)
        case "first":
            return leaf[None]
    return leaf


def leaf_paths(state: Params) -> dict[str, Any]:
    """List the leaves of a state, or their shapes, under dotted paths in ``jax.tree``'s order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        ".".join(str(k.key) for k in path if not isinstance(k, jax.tree_util.GetAttrKey)): leaf
        for path, leaf in leaves
    }


def require_backed(config: Any, tensors: Mapping[str, np.ndarray], source: Path) -> None:
    """Refuse a config with a size that no array of the file has, before any of it is built.

    Raises:
        UserError: naming every such size.
    """
    most = max((max(x.shape, default=1) for x in tensors.values() if x.size), default=0)
    towers = {"vision": config.vision, "text": config.text}
    odd = [
        f"{tower} {field.name} {getattr(shapes, field.name)}"
        for tower, shapes in towers.items()
        for field in (dataclasses.fields(shapes) if shapes is not None else ())
        if field.name in _DIMENSIONS and getattr(shapes, field.name) > most
    ]
    if odd:
        raise UserError(
            f"{source} does not hold the weights that its config describes: {some(odd)}, and "
            f"no array of the file is longer than {most}; use the config that belongs to the file"
        )


def fill_state(
    abstract: Params,
    tensors: Mapping[str, np.ndarray],
    entries: Sequence[Entry],
    *,
    ignorable: Sequence[str] = (),
    source: str = "the file",
) -> Params:
    """Build a float32 state out of a file's arrays, by a map that covers every leaf.

    Keys with ``ignorable`` endings hold no weights; ``source`` is what errors call the file.

    Raises:
        UserError: naming every key that is missing, unused, misshapen or not of a floating
            point type.
    """
    leaves = leaf_paths(abstract)
    if set(leaves) != {entry.path for entry in entries}:
        odd = sorted(set(leaves) ^ {entry.path for entry in entries})
        raise AssertionError(f"the key map and the model disagree about {', '.join(odd)}")
    shapes = expected_shapes(leaves, entries)
    # One number is stored in any shape: DeepSpeed, say, saves [1].
    one = {key for key, shape in shapes.items() if math.prod(shape) == 1}
    tensors = {
        key: array.reshape(shapes[key]) if key in one and array.size == 1 else array
        for key, array in tensors.items()
    }
    _raise_bad_keys(tensors, shapes, tuple(ignorable), Path(source).name)
    by_path = {entry.path: entry for entry in entries}
    filled = [from_file(tensors[by_path[path].key], by_path[path]) for path in leaves]
    # All at once: jnp.asarray compiles a program for every shape.
    return jax.tree.unflatten(jax.tree.structure(abstract), jax.device_put(filled))


def read_state(state: Params, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """Lay a state out as a file wants it, float32: the inverse of ``fill_state``."""
    leaves = leaf_paths(state)
    parts: dict[str, list[tuple[int, np.ndarray]]] = {}
    for entry in entries:
        array = to_file(np.asarray(leaves[entry.path], np.float32), entry)
        parts.setdefault(entry.key, []).append((entry.part[0], array))
    return {key: _stack(pieces) for key, pieces in parts.items()}


def _stack(pieces: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    arrays = [array for _, array in sorted(pieces, key=lambda piece: piece[0])]
    # Not ascontiguousarray: it turns a scalar into a vector of one.
    return np.asarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), order="C")


def expected_shapes(
    leaves: Mapping[str, Any], entries: Sequence[Entry]
) -> dict[str, tuple[int, ...]]:
    """Say which shapes a file must have, by its keys, to fill these leaves."""
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        # A broadcast scalar has the shape and the strides but no memory.
        dummy = np.broadcast_to(np.float32(0), leaves[entry.path].shape)
        shape = to_file(dummy, entry).shape
        parts = entry.part[1]
        shapes[entry.key] = (shape[0] * parts, *shape[1:]) if parts > 1 else shape
    return shapes


def _raise_bad_keys(
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    ignorable: tuple[str, ...],
    source: str,
) -> None:
    missing = sorted(key for key in expected if key not in tensors)
    unused = [
        key for key in tensors if key not in expected and not key.endswith(ignorable or ("\0",))
    ]
    misshapen = [
        f"{key} is {list(tensors[key].shape)}, wanted {list(shape)}"
        for key, shape in expected.items()
        if key in tensors and tuple(tensors[key].shape) != shape
    ]
    inexact = [
        f"{key} is {tensors[key].dtype}"
        for key in expected
        if key in tensors and not jnp.issubdtype(tensors[key].dtype, jnp.floating)
    ]
    kinds = {
        "missing": missing,
        "unused": unused,
        "misshapen": misshapen,
        "not floating point": inexact,
    }
    problems = [f"{kind}: {some(keys, 8)}" for kind, keys in kinds.items() if keys]
    if problems:
        raise UserError(
            f"{source} does not hold the weights that its config describes; "
            + "; ".join(problems)
            + "; use the config that belongs to the file"
        )
