"""What a user of the Python API gave: pictures in any form, labels, settings; or why it is none."""

import io
import numbers
import os
import sys
from collections.abc import Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from fsclip_jax.data.folder import list_pictures
from fsclip_jax.data.left_out import Passed, passed_over
from fsclip_jax.errors import UserError, tell

PictureLike: TypeAlias = str | os.PathLike | bytes | Image.Image | np.ndarray
"""A file or its content, a decoded picture, or pixels: uint8 [height width 3], or whatever else of
bytes ``PIL.Image.fromarray`` takes."""

_FORMS = "give files, their bytes, PIL images, or uint8 arrays [height width 3]"


def as_pictures(given: Any) -> list[PictureLike] | None:
    """List the pictures that a user means; None where it is no pictures but a matrix of features.

    One picture or many: a file or a folder of them, an open file or its content, a PIL image, uint8
    pixels [height width 3] or [n height width 3]; and any sequence of such, a list, a tuple, a
    generator, an array of names or of objects, a pandas Series, a column of one.

    Raises:
        UserError: a folder is missing, or something there is no picture.

    Example:
        >>> grey = Image.new("L", (8, 8))
        >>> len(as_pictures((grey, grey))), len(as_pictures(np.zeros((5, 8, 8, 3), np.uint8)))
        (2, 5)
        >>> as_pictures(np.eye(3))
    """
    if isinstance(given, str | os.PathLike):
        return _named(given)
    if _is_picture(given) and not isinstance(given, np.ndarray):
        return [_content(given)]
    if isinstance(given, Iterator | KeysView | ValuesView):
        given = list(given)
    if _is_sparse(given):  # of which one kind is a mapping
        return None
    if given is None or isinstance(given, Mapping | Set | numbers.Number):
        raise UserError(f"X is {_described(given)}, and holds no pictures; {_FORMS}, or a list")
    given = _array(given)
    if isinstance(given, np.ndarray):
        if given.dtype.kind not in "OUS":
            return _pixels(given)
        given = _column(given)
    return _many(list(given)) if isinstance(given, Sequence | np.ndarray) else None


def _named(name: str | os.PathLike) -> list[PictureLike]:
    _content(name)
    if not Path(name).is_dir():
        return [Path(name)]
    passed: Passed = {}
    files = list_pictures([Path(name)], passed)
    tell(passed_over(passed))
    return [Path(file) for file in files]


def _array(given: Any) -> Any:
    """Make an array of a pandas Series, or of an array of another library."""
    known = isinstance(given, np.ndarray | np.generic | list | tuple)
    return np.asarray(given) if not known and hasattr(given, "__array__") else given


def _column(given: np.ndarray) -> np.ndarray:
    """Take names or objects that stand in one column, or alone, for a list of them."""
    if given.ndim == 1 or not any(map(_is_picture, given.flat)):
        return given
    if given.ndim == 0 or (given.ndim == 2 and given.shape[1] == 1):
        return given.reshape(-1)
    raise UserError(f"X holds pictures in the shape {given.shape}; give a flat list, X.ravel()")


def _pixels(given: np.ndarray) -> list[PictureLike] | None:
    if given.ndim <= 2:
        return None
    if given.ndim == 4:
        return [_checked(one, f"X has the shape {given.shape}") for one in given]
    return [_checked(given, "X")]


def _many(listed: list[Any]) -> list[PictureLike] | None:
    listed = [_array(one) for one in listed]
    if not any(map(_is_picture, listed)):
        if any(isinstance(one, list | tuple) and any(map(_is_picture, one)) for one in listed):
            raise UserError("X holds lists of pictures; give one flat list of them")
        return None if listed else []
    for place, one in enumerate(listed):
        if not _is_picture(one):
            raise UserError(f"X[{place}] is {_described(one)}, and no picture; {_FORMS}")
    return [_content(one, f"X[{place}]") for place, one in enumerate(listed)]


def _is_sparse(given: Any) -> bool:
    """Say whether it is one of SciPy's matrices: there is none where SciPy was not imported."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and sparse.issparse(given)


def _is_picture(one: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.ndim >= 2 and one.dtype.kind not in "OUS"
    return isinstance(one, str | os.PathLike | bytes | bytearray | io.IOBase | Image.Image)


def _content(one: Any, where: str = "X") -> PictureLike:
    """Read an open file; a picture in any other form is as it is."""
    if isinstance(one, io.TextIOBase):
        raise UserError(f"{where} is a file that is open as text; open it as bytes, mode 'rb'")
    if isinstance(one, str) and (not one or one.startswith(("http://", "https://"))):
        said = "an address; download it first" if one else "an empty name; give that of a file"
        raise UserError(f"{where} is {said}")
    if isinstance(one, io.IOBase):
        one = one.read()
    if isinstance(one, np.ndarray):
        return _checked(one, where)
    content: PictureLike = bytes(one) if isinstance(one, bytearray) else one
    return content


def _checked(pixels: np.ndarray, where: str) -> np.ndarray:
    """Refuse pixels of which it is not certain what they mean."""
    flat = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16, np.bool_)
    if not flat and pixels.dtype != np.uint8:
        raise UserError(
            f"{where}: pixels are {pixels.dtype}; give uint8: X.astype('uint8') of numbers from 0 "
            "to 255, (255 * X).round().astype('uint8') of numbers from 0 to 1"
        )
    if not flat and (pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4)):
        raise UserError(
            f"{where}: a picture has the shape {pixels.shape}; wanted is [height width 3]: "
            "numpy.moveaxis(X, -3, -1) where channels are first, X[..., None] of grey pictures"
        )
    if not pixels.size:
        raise UserError(f"{where}: a picture has no pixels, its shape is {pixels.shape}")
    return pixels


def _described(one: Any) -> str:
    if one is None or _is_missing(one):
        return f"missing ({one})"
    return f"of the type {type(one).__name__}"


def _is_missing(one: Any) -> bool:
    lost = type(one).__name__ in ("NAType", "NaTType")  # of pandas
    return lost or one is None or (isinstance(one, float | np.floating) and bool(np.isnan(one)))


def as_labels(y: Any) -> np.ndarray:
    """Return labels [n] of one kind, none of them missing.

    Raises:
        ValueError: or a TypeError, of scikit-learn's; they are no labels of classes.
    """
    given = list(y) if isinstance(y, Iterator | tuple) else _array(y)
    loose = isinstance(given, list) or (
        isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "Of"
    )
    if loose:
        given = _of_one_kind(given)
    # Imported when there are labels: pandas and scipy.stats come with it, a second of work.
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import column_or_1d

    labels: np.ndarray = column_or_1d(given, warn=True)
    check_classification_targets(labels)
    return labels


def _of_one_kind(given: Any) -> Any:
    """Refuse labels that are missing, and words beside numbers, which NumPy would make words."""
    labels = list(given)
    for place, one in enumerate(labels):
        if _is_missing(one):
            raise UserError(f"y[{place}] is missing ({one}); leave it out, and its picture")
    words = [isinstance(one, str) for one in labels]
    if any(words) and not all(words):
        place = words.index(not words[0])
        raise UserError(
            f"y[0] is {labels[0]!r} and y[{place}] is {labels[place]!r}; give labels of one kind, "
            "words or numbers"
        )
    objects = isinstance(given, np.ndarray) and given.dtype == object
    numeric = bool(labels) and all(isinstance(one, numbers.Number) for one in labels)
    return np.array(labels) if objects and numeric else given


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse arguments of ``FewShotClassifier`` of another kind than is meant.

    Raises:
        UserError: one is, and which.
    """
    kinds = {
        "method": (str, "the name of a method, or None"),
        "backbone": (str | os.PathLike, "the name of a CLIP, or None"),
        "checkpoint": (str | os.PathLike, "a workdir of `fsclip train`, or None"),
        "shots": (numbers.Integral, "a whole number, or None"),
        "calibrate": (bool | np.bool_, "True or False"),
        "templates": (str | Sequence, "'single', 'ensemble', or a list"),
    }
    for name, (kind, wanted) in kinds.items():
        value = settings[name]
        if value is None and wanted.endswith("None"):
            continue
        if not isinstance(value, kind):
            raise UserError(f"{name} is {value!r}; give {wanted}")
