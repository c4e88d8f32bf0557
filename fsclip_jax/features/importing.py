"""Make a feature bank from a ``.npz`` or ``.pt`` of features that somebody else computed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsclip_jax.clip.scale import check_scale, doubt_scale
from fsclip_jax.data.splits import SPLITS, split_by_hash
from fsclip_jax.durable import sha256_file
from fsclip_jax.errors import some, suggestion
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.import_file import TORCH, ImportFile, load_import
from fsclip_jax.features.layout import Rows
from fsclip_jax.features.tensors import lengths
from fsclip_jax.features.writing import Description, refuse_existing, write_bank

_FAR_FROM_ONE = 0.01
_MOST_FAMILIES = 65_536
"""Families of artists, where there are not even more images."""
_MOST_CLASSES = 1_000_000
"""The same of classes, where no text says how many there are."""


@dataclass(frozen=True)
class Imported:
    """What an import made; ``notes`` has one sentence for each thing the file left open."""

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
    """Read an ``.npz`` or ``.pt``, check everything in it and write it as a bank.

    Nothing is ever unpickled. Vectors are brought to unit length. Without ``split``, the images
    of each class are split by ``data.splits.split_by_hash``; without ``class_names``, classes
    are called ``class 0``, ``class 1`` and so on; without ``key``, images are called by their
    row number. Without ``text_features`` only methods that need no text run on the bank.

    Args:
        features: the file: ``features`` [N D] or [V N D], ``labels`` [N]; optionally
            ``text_features`` [C D] (as the tower gives them, or of unit length with
            ``text_lengths`` [C]), ``prompt_features`` [P C D] (zero where a class has fewer
            prompts than others), ``split`` [N] of ``train|val|test``, ``class_names`` [C], ``key``
            [N], ``domain`` [N] (numbers or names), ``domain_names``, ``logit_scale``; or as
            ``CALLED`` says. Labels may be one-hot, and vectors lie along the other axis where sizes
            tell.
        logit_scale: inverse temperature of the backbone; else the file's own, else 100, or
            without text 1 / 0.07.

    Raises:
        UserError: one line on the first thing that is wrong.
    """
    target = Path(out)
    refuse_existing(target)
    file = load_import(Path(features))
    vectors, text = _unit(file, "features", 3), _text(file)
    n, dim = vectors.shape[1:]
    if text is not None and text.shape[1] != dim:
        raise file.wrong("text_features", f"has width {text.shape[1]}, features have {dim}")
    labels, keys = _labels(file, n, None if text is None else len(text)), _keys(file, n)
    named = np.size(file.arrays.get("class_names", ()))
    names = _class_names(file, max(int(labels.max()) + 1, named) if text is None else len(text))
    domains, domain_names = _domains(file, n)
    if logit_scale is not None:
        scale = check_scale(logit_scale, "--logit-scale")
    else:
        scale = check_scale(_scale(file), str(file.source))
    if why := doubt_scale(scale):
        file.notes.append(why)
    prompts = None if text is None else _prompts(file, text.shape)
    long = None if text is None else _text_lengths(file, len(text))
    kind = "pt" if file.source.suffix in TORCH else "npz"
    rows = Rows(vectors, labels, _splits(file, keys, labels), keys, domains)
    about = Description(
        text_features=text,
        text_lengths=long,
        prompt_features=prompts,
        prompt_mask=None if prompts is None else np.asarray(prompts.any(-1)),
        class_names=names,
        domain_names=domain_names,
        logit_scale=float(scale),
        data={"spec": f"{kind}:{file.source.name}", "version": sha256_file(file.source)},
        backbone={"id": backbone_id, "sha256": None},
        preprocessing={},
        templates=[],
        extra={"augmentation": {}},
    )
    return Imported(write_bank(target, rows, about, dtype=dtype), tuple(file.notes))


def _unit(file: ImportFile, name: str, ndim: int) -> np.ndarray:
    """Scale vectors to unit length, with a view axis if there are three axes."""
    array = file.arrays[name]
    if ndim == 3 and array.ndim == 2:
        array = array[None]
    wanted = "[N D] or [V N D], not empty" if ndim == 3 else "[C D], not empty"
    vectors = file.vectors(name, array, wanted, array.ndim == ndim and 0 not in array.shape)
    norms = lengths(vectors)
    bad = np.argwhere(~(np.isfinite(norms[..., 0]) & (norms[..., 0] > 0)))
    if len(bad):
        what = f"row {bad[0][-1]} is zero, or has a value that is not finite"
        raise file.wrong(name, f"{what}; lengths are up to 1.8e19")
    low, high = float(norms.min()), float(norms.max())
    if max(1 - low, high - 1) > _FAR_FROM_ONE:
        file.notes.append(f"{name} had lengths from {low:.3g} to {high:.3g}; scaled to unit length")
    return vectors / norms


def _text(file: ImportFile) -> np.ndarray | None:
    if "text_features" in file.arrays:
        return _unit(file, "text_features", 2)
    if "prompt_features" in file.arrays:
        raise file.wrong("prompt_features", "come without text_features; add these [C D]")
    held = some(list(file.arrays), 9)
    file.notes.append(
        f"no text_features in the file, which holds {held}: methods that read text do not run"
    )
    return None


def _text_lengths(file: ImportFile, n_classes: int) -> np.ndarray | None:
    """Return the lengths that the text tower gave; a mean of unit vectors is not as long as 1."""
    name = "text_lengths"
    if name not in file.arrays:
        found = lengths(np.asarray(file.arrays["text_features"], np.float32))[:, 0]
        return found if found.max() > 1 + _FAR_FROM_ONE else None
    array = file.arrays[name]
    if array.shape != (n_classes,) or array.dtype.kind not in "fiu":
        raise file.wrong(
            name, f"is {array.dtype} {list(array.shape)}, wanted numbers [{n_classes}]"
        )
    found = array.astype(np.float32)
    if not (np.isfinite(found).all() and found.min() > 0):
        raise file.wrong(name, "has a value that is not finite or not positive")
    return found


def _prompts(file: ImportFile, text: tuple[int, ...]) -> np.ndarray | None:
    """Check prompt vectors and scale those that are there to unit length."""
    name = "prompt_features"
    array = file.arrays.get(name)
    if array is None:
        return None
    wanted = f"[P {text[0]} {text[1]}], as text_features"
    fits = array.ndim == 3 and array.shape[1:] == text and len(array) > 0
    vectors = file.vectors(name, array, wanted, fits)
    norms = lengths(vectors)
    if not np.isfinite(norms).all():
        raise file.wrong(name, "has a value that is not finite; write zeros for no prompt")
    without = np.flatnonzero(~(norms[..., 0] > 0).any(0))
    if len(without):
        raise file.wrong(name, f"has no prompt for class {without[0]}; each class needs one")
    return np.asarray(vectors / np.where(norms > 0, norms, 1))


def _labels(file: ImportFile, n: int, n_classes: int | None) -> np.ndarray:
    labels = file.per_image("labels", n)
    if labels.dtype.kind not in "iu":
        raise file.wrong("labels", f"has type {labels.dtype}; it must be integers")
    most = _MOST_CLASSES - 1 if n_classes is None else n_classes - 1
    wrong = labels[(labels < 0) | (labels > most)]
    if len(wrong):
        what = "text_features allow" if n_classes else "classes are numbered"
        raise file.wrong("labels", f"holds {wrong[0]}; {what} 0 to {most}")
    return labels.astype(np.int32)


def _keys(file: ImportFile, n: int) -> list[str]:
    if "key" not in file.arrays:
        return [f"row-{row:07d}" for row in range(n)]
    array = file.per_image("key", n)
    numbers = array.dtype.kind in "iu"
    keys = [str(number) for number in array.tolist()] if numbers else file.strings("key")
    if len(set(keys)) != n:
        raise file.wrong("key", "holds a key twice; each image needs its own")
    return keys


def _splits(file: ImportFile, keys: list[str], labels: np.ndarray) -> np.ndarray:
    if "split" not in file.arrays:
        file.notes.append("no split in the file: each class was split by the hash of its keys")
        return np.asarray(split_by_hash(keys, labels), np.int8)
    file.per_image("split", len(keys))
    names = file.strings("split")
    unknown = sorted(set(names) - set(SPLITS))
    if unknown:
        hint = suggestion(unknown[0], SPLITS)
        raise file.wrong("split", f"holds {unknown[0]!r}; accepted: {', '.join(SPLITS)}{hint}")
    return np.array([SPLITS.index(name) for name in names], np.int8)


def _class_names(file: ImportFile, n_classes: int) -> list[str]:
    if "class_names" not in file.arrays:
        file.notes.append("no class_names in the file: classes are called by their number")
        return [f"class {index}" for index in range(n_classes)]
    names = file.strings("class_names")
    if len(names) != n_classes:
        many = "text_features" if "text_features" in file.arrays else "classes"
        raise file.wrong("class_names", f"has {len(names)} names for {n_classes} {many}")
    twice = len(names) - len(set(names))
    if twice:
        file.notes.append(f"{twice} class names occur more than once; the classes stay apart")
    return names


def _domains(file: ImportFile, n: int) -> tuple[np.ndarray, list[str]]:
    if "domain" not in file.arrays:
        return np.full(n, -1, np.int32), []
    array = file.per_image("domain", n)
    if array.dtype.kind not in "iu":
        names, index = np.unique(file.strings("domain"), return_inverse=True)
        return index.astype(np.int32), names.tolist()
    if array.min() < 0:
        raise file.wrong("domain", f"holds {array.min()}; families are numbered from 0")
    count = int(array.max()) + 1
    if count > max(n, _MOST_FAMILIES):
        raise file.wrong(
            "domain", f"holds {count - 1}; give names, or numbers from 0 up to {_MOST_FAMILIES}"
        )
    if "domain_names" not in file.arrays:
        return array.astype(np.int32), [f"domain {index}" for index in range(count)]
    given = file.strings("domain_names")
    if len(given) < count:
        raise file.wrong("domain_names", f"has {len(given)} names, domain goes to {count - 1}")
    return array.astype(np.int32), given


def _scale(file: ImportFile) -> float:
    if "logit_scale" not in file.arrays:
        if "text_features" not in file.arrays:
            return 1 / 0.07
        file.notes.append("no logit scale was given: 100, as of OpenAI's CLIP")
        return 100.0
    array = file.arrays["logit_scale"]
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise file.wrong("logit_scale", "must be one number")
    return float(array.reshape(-1)[0])
