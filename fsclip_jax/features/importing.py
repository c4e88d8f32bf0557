"""Make a feature bank from a NumPy ``.npz`` of features that somebody else computed."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsclip_jax.data.splits import SPLITS, split_by_hash
from fsclip_jax.durable import sha256_file
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.layout import Rows
from fsclip_jax.features.writing import Description, refuse_existing, write_bank

REQUIRED = ("features", "labels", "text_features")
OPTIONAL = (
    "prompt_features",
    "split",
    "class_names",
    "key",
    "domain",
    "domain_names",
    "logit_scale",
)
_FAR_FROM_ONE = 0.01


@dataclass(frozen=True)
class Imported:
    """What an import made, and what it had to decide.

    Attributes:
        notes: one sentence for each thing the file left open.
    """

    bank: StoredBank
    notes: tuple[str, ...]


def import_npz(
    features: Path | str,
    out: Path | str,
    *,
    logit_scale: float | None = None,
    backbone_id: str = "unknown",
    dtype: str = "float16",
) -> Imported:
    """Read an ``.npz``, check everything in it and write it as a bank.

    Nothing is ever unpickled. Vectors are brought to unit length. Without ``split``, the images
    of each class are split by ``data.splits.split_by_hash``; without ``class_names``, classes
    are called ``class 0``, ``class 1`` and so on; without ``key``, images are called by their
    row number. ``text_features`` are required, as zero-shot and every method built on it need
    them.

    Args:
        features: the file: ``features`` [N D] or [V N D], ``labels`` [N], ``text_features``
            [C D]; optionally ``prompt_features`` [P C D] (zero where a class has fewer prompts
            than others), ``split`` [N] of ``train|val|test``, ``class_names`` [C], ``key`` [N],
            ``domain`` [N] (numbers or names), ``domain_names``, ``logit_scale``.
        logit_scale: inverse temperature of the backbone; else the file's own, else 100.

    Raises:
        UserError: one line on the first thing that is wrong.
    """
    source, target = Path(features), Path(out)
    refuse_existing(target)
    arrays = _load(source)
    notes: list[str] = []
    vectors = _unit(source, "features", arrays["features"], 3, notes)
    text = _unit(source, "text_features", arrays["text_features"], 2, notes)
    n, dim = vectors.shape[1:]
    if text.shape[1] != dim:
        raise _wrong(source, "text_features", f"has width {text.shape[1]}, features have {dim}")
    labels = _labels(source, arrays["labels"], n, len(text))
    keys = _keys(source, arrays.get("key"), n)
    domains, domain_names = _domains(source, arrays, n)
    scale = logit_scale if logit_scale is not None else _scale(source, arrays, notes)
    if not 0 < scale < np.inf:
        raise UserError(f"the logit scale is {scale}; it must be positive (100 for OpenAI's CLIP)")
    rows = Rows(vectors, labels, _splits(source, arrays, keys, labels, notes), keys, domains)
    prompts = _prompts(source, arrays.get("prompt_features"), text.shape)
    about = Description(
        text_features=text,
        prompt_features=prompts,
        prompt_mask=None if prompts is None else np.asarray(prompts.any(-1)),
        class_names=_class_names(source, arrays, len(text), notes),
        domain_names=domain_names,
        logit_scale=float(scale),
        data={"spec": f"npz:{source.name}", "version": sha256_file(source)},
        backbone={"id": backbone_id, "sha256": None},
        preprocessing={},
        templates=[],
        extra={"augmentation": {}},
    )
    return Imported(write_bank(target, rows, about, dtype=dtype), tuple(notes))


def _wrong(source: Path, name: str, what: str) -> UserError:
    return UserError(f"{source}: {name} {what}")


def _load(source: Path) -> dict[str, np.ndarray]:
    """Read the arrays that are known, never unpickling."""
    if not source.is_file():
        raise UserError(f"there is no file {source}; --features takes a NumPy .npz")
    if not zipfile.is_zipfile(source):
        raise UserError(f"{source} is not a NumPy .npz, or it is cut short; write it by np.savez")
    try:
        with np.load(source, allow_pickle=False) as archive:
            names = list(archive)
            for name in REQUIRED:
                if name not in names:
                    hint = _missing_hint(name, names)
                    raise _wrong(
                        source, name, f"is missing; the file holds {', '.join(names)}{hint}"
                    )
            return {name: archive[name] for name in names if name in REQUIRED + OPTIONAL}
    except UserError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{source} holds an array of Python objects, which is never unpickled: "
                "save numbers, and strings as np.array(names, dtype=str)"
            ) from error
        raise UserError(f"{source} cannot be read: {error}") from error


def _missing_hint(name: str, names: Sequence[str]) -> str:
    if name == "text_features":
        return "; add one text vector a class [C D], from the same CLIP"
    return suggestion(name, names)


def _unit(source: Path, name: str, array: np.ndarray, ndim: int, notes: list[str]) -> np.ndarray:
    """Check vectors and scale them to unit length; float32, with a view axis if asked for."""
    if array.dtype.kind != "f":
        raise _wrong(source, name, f"has type {array.dtype}; it must be floating point")
    if ndim == 3 and array.ndim == 2:
        array = array[None]
    if array.ndim != ndim or 0 in array.shape:
        wanted = "[N D] or [V N D]" if ndim == 3 else "[C D]"
        raise _wrong(source, name, f"has shape {list(array.shape)}; it must be {wanted}, not empty")
    vectors = array.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    bad = np.argwhere(~(np.isfinite(norms[..., 0]) & (norms[..., 0] > 0)))
    if len(bad):
        raise _wrong(source, name, f"row {bad[0][-1]} is zero, or has a value that is not finite")
    low, high = float(norms.min()), float(norms.max())
    if max(1 - low, high - 1) > _FAR_FROM_ONE:
        notes.append(f"{name} had lengths from {low:.3g} to {high:.3g}; scaled to unit length")
    return vectors / norms


def _prompts(source: Path, array: np.ndarray | None, text: tuple[int, ...]) -> np.ndarray | None:
    """Check prompt vectors and scale those that are there to unit length."""
    name = "prompt_features"
    if array is None:
        return None
    if array.dtype.kind != "f":
        raise _wrong(source, name, f"has type {array.dtype}; it must be floating point")
    if array.ndim != 3 or array.shape[1:] != text or not array.shape[0]:
        wanted = f"[P {text[0]} {text[1]}], as text_features"
        raise _wrong(source, name, f"has shape {list(array.shape)}; it must be {wanted}")
    vectors = array.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all():
        raise _wrong(source, name, "has a value that is not finite; write zeros for no prompt")
    without = np.flatnonzero(~(norms[..., 0] > 0).any(0))
    if len(without):
        raise _wrong(source, name, f"has no prompt for class {without[0]}; each class needs one")
    scaled: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return scaled


def _per_image(source: Path, name: str, array: np.ndarray, n: int) -> np.ndarray:
    if array.shape != (n,):
        raise _wrong(source, name, f"has shape {list(array.shape)}; it must be [{n}], as features")
    return array


def _labels(source: Path, labels: np.ndarray, n: int, n_classes: int) -> np.ndarray:
    labels = _per_image(source, "labels", labels, n)
    if labels.dtype.kind not in "iu":
        raise _wrong(source, "labels", f"has type {labels.dtype}; it must be integers")
    wrong = labels[(labels < 0) | (labels >= n_classes)]
    if len(wrong):
        top = n_classes - 1
        raise _wrong(source, "labels", f"holds {wrong[0]}; text_features allow 0 to {top}")
    return labels.astype(np.int32)


def _strings(source: Path, name: str, array: np.ndarray) -> list[str]:
    if array.dtype.kind == "S":
        return [str(value, "utf-8", "replace") for value in array.tolist()]
    if array.dtype.kind != "U":
        raise _wrong(source, name, f"has type {array.dtype}; it must be strings")
    return [str(value) for value in array.tolist()]


def _keys(source: Path, array: np.ndarray | None, n: int) -> list[str]:
    if array is None:
        return [f"row-{row:07d}" for row in range(n)]
    array = _per_image(source, "key", array, n)
    keys = [str(k) for k in array.tolist()] if array.dtype.kind in "iu" else []
    keys = keys or _strings(source, "key", array)
    if len(set(keys)) != n:
        raise _wrong(source, "key", "holds a key twice; each image needs its own")
    return keys


def _splits(
    source: Path,
    arrays: Mapping[str, np.ndarray],
    keys: list[str],
    labels: np.ndarray,
    notes: list[str],
) -> np.ndarray:
    if "split" not in arrays:
        notes.append("no split in the file: each class was split by the hash of its keys")
        return np.asarray(split_by_hash(keys, labels), np.int8)
    names = _strings(source, "split", _per_image(source, "split", arrays["split"], len(keys)))
    unknown = sorted(set(names) - set(SPLITS))
    if unknown:
        accepted = ", ".join(SPLITS)
        hint = suggestion(unknown[0], SPLITS)
        raise _wrong(source, "split", f"holds {unknown[0]!r}; accepted: {accepted}{hint}")
    return np.array([SPLITS.index(name) for name in names], np.int8)


def _class_names(
    source: Path, arrays: Mapping[str, np.ndarray], n_classes: int, notes: list[str]
) -> list[str]:
    if "class_names" not in arrays:
        notes.append("no class_names in the file: classes are called by their number")
        return [f"class {index}" for index in range(n_classes)]
    names = _strings(source, "class_names", arrays["class_names"].reshape(-1))
    if len(names) != n_classes:
        raise _wrong(source, "class_names", f"has {len(names)} names for {n_classes} text_features")
    twice = len(names) - len(set(names))
    if twice:
        notes.append(f"{twice} class names occur more than once; the classes stay apart")
    return names


def _domains(
    source: Path, arrays: Mapping[str, np.ndarray], n: int
) -> tuple[np.ndarray, list[str]]:
    if "domain" not in arrays:
        return np.full(n, -1, np.int32), []
    array = _per_image(source, "domain", arrays["domain"], n)
    if array.dtype.kind not in "iu":
        names, index = np.unique(_strings(source, "domain", array), return_inverse=True)
        return index.astype(np.int32), names.tolist()
    if array.min() < 0:
        raise _wrong(source, "domain", f"holds {array.min()}; families are numbered from 0")
    count = int(array.max()) + 1
    if "domain_names" not in arrays:
        return array.astype(np.int32), [f"domain {index}" for index in range(count)]
    given = _strings(source, "domain_names", arrays["domain_names"].reshape(-1))
    if len(given) < count:
        raise _wrong(source, "domain_names", f"has {len(given)} names, domain goes to {count - 1}")
    return array.astype(np.int32), given


def _scale(source: Path, arrays: Mapping[str, np.ndarray], notes: list[str]) -> float:
    if "logit_scale" not in arrays:
        notes.append("no logit scale was given: 100, as of OpenAI's CLIP")
        return 100.0
    array = arrays["logit_scale"]
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise _wrong(source, "logit_scale", "must be one number")
    return float(array.reshape(-1)[0])
