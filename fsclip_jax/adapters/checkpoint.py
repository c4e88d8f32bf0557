"""Adapter parameters in a file: safetensors under the published names, with a description.

``adapter.safetensors`` is whole in itself: the description is in its header too, so that the pair
cannot come apart. ``adapter.json`` is the same description for people and other programs.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.clip.files import TORCH, is_weights
from fsclip_jax.clip.pickles import is_torch, read_torch
from fsclip_jax.clip.wrapping import unwrap
from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError, first_line, some, tell
from fsclip_jax.json_files import parse_json
from fsclip_jax.typing import Params

WEIGHTS_FILE = "adapter.safetensors"
META_FILE = "adapter.json"
PUBLISHED_NAMES = {"q_proj.weight", "k_proj.weight", "alpha_proj.weight", "alpha_proj.bias"}
"""A file that holds just these, and no description, is read as a Meta-Adapter: the published state
dict, in safetensors or as PyTorch saves it."""

_MOST_STEPS, _MOST_VALUE = 1_000_000, 1e9
_HEADER = "fsclip_jax"


def save_adapter(
    directory: str | os.PathLike[str],
    adapter_name: str,
    params: Params,
    meta: Mapping[str, Any],
    *,
    adapter: Adapter | None = None,
) -> None:
    """Write the parameters of an adapter; a reader sees the old file or the new one.

    Args:
        params: nested dictionaries of arrays. The path of a leaf, joined by dots, is its name in
            the file: ``q_proj.weight``.

    Raises:
        UserError: if the file cannot be written; the old one is kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_adapter(folder, "text_prototype", {"gate": np.float32(0.5)}, {"dim": 8})
        ...     name, params, meta = load_adapter(folder)
        >>> name, float(params["gate"]), meta["dim"]
        ('text_prototype', 0.5, 8)
    """
    tensors = _flatten(params)
    described = {**meta, "method": adapter_name, "sha256": _digest(tensors)}
    if adapter is not None:
        described["config"] = dataclasses.asdict(adapter)  # type: ignore[call-overload]
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    folder = Path(directory)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / WEIGHTS_FILE, save(tensors, metadata={_HEADER: text}))
    write_file(folder / META_FILE, text.encode())


def load_adapter(
    directory: str | os.PathLike[str],
    *,
    dim: int | None = None,
    backbone_sha256: str | None = None,
) -> tuple[str, Params, dict[str, Any]]:
    """Read what :func:`save_adapter` wrote, and check it.

    Args:
        directory: the folder, or the file itself: safetensors, or a state dict of a published
            Meta-Adapter as PyTorch saves it (``.pt``, ``.pth``, ``.bin``), of which nothing is run.
        dim: width of the features at hand; None if they are not known.
        backbone_sha256: of the weights that made those features; None if they are not known.

    Raises:
        UserError: if the file is missing, damaged, of an unknown method, misses or adds a
            parameter, or belongs to another backbone.
    """
    path = Path(directory)
    if path.is_dir():
        found = [] if (path / WEIGHTS_FILE).is_file() else list(filter(is_weights, path.iterdir()))
        if len(found) > 1:
            names = some(sorted(file.name for file in found))
            raise UserError(f"{path} holds several files of weights, {names}; give one of them")
        path = found[0] if found else path / WEIGHTS_FILE
    tensors, meta = _read(path)
    if meta.get("sha256", _digest(tensors)) != _digest(tensors):
        raise UserError(f"{path} is damaged: its checksum does not match; train again")
    name = str(meta.get("method"))
    params = _unflatten(tensors)
    _check_config(path, get_adapter(name), meta.get("config", {}))
    adapter = get_adapter(name, **meta.get("config", {}))
    _check_parameters(path, adapter, tensors, dim, meta.get("dim"))
    stored = meta.get("backbone_sha256")
    if backbone_sha256 and stored and stored != backbone_sha256:
        raise UserError(
            f"{path} was trained on the backbone {meta.get('backbone', 'with sha256')} "
            f"{str(stored)[:12]}, the features are of {backbone_sha256[:12]}; "
            "use the same backbone for both"
        )
    return name, params, meta


def restore_adapter(
    directory: str | os.PathLike[str],
    *,
    dim: int | None = None,
    backbone_sha256: str | None = None,
) -> tuple[Adapter, Params, dict[str, Any]]:
    """Like :func:`load_adapter`, with the adapter rebuilt from its stored config."""
    name, params, meta = load_adapter(directory, dim=dim, backbone_sha256=backbone_sha256)
    return get_adapter(name, **meta.get("config", {})), params, meta


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read tensors and description; every failure is a UserError of one line."""
    if not path.is_file():
        raise UserError(f"no adapter at {path}; give the folder of a finished training run")
    if path.suffix in TORCH or is_torch(path):
        return _published(path, read_torch(path))
    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        meta = parse_json(header) if header else None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}): it is damaged, or neither safetensors "
            "nor a file of PyTorch; give the folder of a training run"
        ) from error
    if meta is None:
        return _published(path, tensors)
    if not isinstance(meta, dict) or not isinstance(meta.get("config", {}), dict):
        raise UserError(f"{path} was not written by fsclip: its description is no object")
    return tensors, meta


def _published(
    path: Path, tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Take tensors without a description for a Meta-Adapter, in float32: many are saved in half."""
    tensors, note = unwrap(tensors, path, [["alpha_proj."]])
    if set(tensors) != PUBLISHED_NAMES:
        raise UserError(
            f"{path} has no description by fsclip, and is no published Meta-Adapter: that holds "
            f"{', '.join(sorted(PUBLISHED_NAMES))}, this {some(sorted(tensors))}; give the folder "
            "of a training run, and a CLIP to --backbone"
        )
    tell([note] if note else [])
    return {name: tensors[name].astype(np.float32) for name in tensors}, {"method": "meta_adapter"}


def _check_config(path: Path, usual: Adapter, config: Mapping[str, Any]) -> None:
    """Compare the types of the stored settings with those of the defaults."""
    for name, value in config.items():
        default = getattr(usual, name, None)  # get_adapter refuses an unknown name
        as_json: Any = {tuple: list, float: (int, float)}.get(type(default), type(default))
        odd = isinstance(value, bool) != isinstance(default, bool)
        if default is not None and (odd or not isinstance(value, as_json)):
            raise UserError(
                f"{path} has the setting {name}={str(value)[:40]!r} of {usual.name}, wanted is "
                f"something like {default!r}; train again"
            )
        if not _is_bounded(value, default):
            raise UserError(
                f"{path} has the setting {name}={str(value)[:40]} of {usual.name}; accepted are "
                f"whole numbers from 0 to {_MOST_STEPS:,}, or ten times the usual {default}, and "
                f"others up to {_MOST_VALUE:.0e}; train again"
            )


def _is_bounded(value: Any, default: Any) -> bool:
    """Whether a setting is one that a fit ends with."""
    if isinstance(value, list):
        return len(value) <= _MOST_STEPS and all(_is_bounded(item, 0.0) for item in value)
    if isinstance(value, int) and not isinstance(default, float):
        usual = default or 0
        return min(0, usual) <= value <= max(_MOST_STEPS, 10 * usual)
    return not isinstance(value, int | float) or abs(value) <= _MOST_VALUE  # nan is not


def _check_parameters(
    path: Path, adapter: Adapter, tensors: Mapping[str, np.ndarray], dim: int | None, width: object
) -> None:
    """Compare names and shapes with what the method would make of its own accord."""
    # A file of published weights has no description; then the matrix says the width.
    matrix = tensors.get("q_proj.weight")
    stored = matrix.shape[-1] if matrix is not None and matrix.ndim else dim
    if matrix is None and isinstance(width, int) and width > 0:
        stored = width
    if dim is not None and stored != dim:
        raise UserError(
            f"{path} is for features of dim {stored}, these have dim {dim}; "
            "use the backbone it was trained on"
        )
    try:
        made = jax.eval_shape(lambda: adapter.init(jax.random.key(0), stored or 8))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} has settings that no {adapter.name} has ({first_line(error)}); train again"
        ) from error
    expected = {_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(made)}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = [
        f"{name[:80]} {found.get(name, 'missing')} instead of {expected.get(name, 'nothing')}"
        for name in sorted(expected | found)
        if expected.get(name) != found.get(name)
    ]
    if wrong:
        raise UserError(f"{path} does not fit {adapter.name}: {some(wrong, 8)}")


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(entry.key) for entry in path)


def _flatten(params: Params) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    # A scalar's array must stay an array, and safetensors wants it contiguous.
    return {_name(path): np.array(leaf, order="C") for path, leaf in leaves}


def _unflatten(tensors: Mapping[str, np.ndarray]) -> Params:
    params: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, leaf = name.split(".")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = jnp.asarray(tensor)
    return params


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        total.update(tensor.tobytes())
    return total.hexdigest()
