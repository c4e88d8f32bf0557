"""Labelled pictures as the one task that a classifier is fitted to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.data.splits import SPLITS
from fsclip_jax.episodes.task import Task
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank, StoredBank
from fsclip_jax.fitting.draws import Draws, draws_of, gather_draw
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Bool, Float, Int

MOST_NUMBERS = 2**28
"""Numbers in the support of a task at most: 1 GB in float32."""


def support_of(stored: StoredBank, shots: int | None = None) -> Draws:
    """Take the images of a bank, whatever their split, as the support of one task.

    Classes may have different numbers of images; a mask says which slots are images. With fewer
    shots than a class has images, the shots are spread evenly over them in their order, because
    neighbouring files often show the same thing. Lengths of text vectors are left out: a classifier
    that was saved does not have them, and is to answer the same.

    Raises:
        UserError: shots is less than 1, or the support would not fit into memory.
    """
    bank = stored.select(SPLITS, on_host=True)._replace(text_lengths=None)
    rows, kept = spread_rows(np.asarray(bank.sizes), bank.text.shape[1], shots)
    return support_draw(bank, rows, kept)


def labelled_support(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    text: Float[np.ndarray, "way dim"] | None,
    logit_scale: float,
    shots: int | None = None,
) -> Draws:
    """Lay labelled features out as the support of one task, as :func:`support_of` does.

    Without text the mean of a class's images stands for its name. ``rows`` are those of the
    features.

    Raises:
        UserError: see :func:`support_of`.
    """
    sizes = np.bincount(labels, minlength=0 if text is None else len(text))
    rows, kept = spread_rows(sizes, features.shape[1], shots)
    rows = np.argsort(labels, kind="stable").astype(np.int32)[rows]
    support = np.where(kept[..., None], features[rows], np.float32(0))
    names = np.asarray(l2_normalize(jnp.asarray(support).sum(1)) if text is None else text)
    scale = np.asarray(logit_scale, np.float32)
    of: Any = [support, kept, names.astype(np.float32), scale, np.where(kept, rows, -1)]
    *task, at = (part[None] for part in of)
    return draws_of(Task(*task))._replace(rows=at)


def spread_rows(
    sizes: Int[np.ndarray, " way"], dim: int, shots: int | None
) -> tuple[Int[np.ndarray, "way shot"], Bool[np.ndarray, "way shot"]]:
    """Choose rows of every class, evenly spread over its images, and say which slots are images.

    The rows are in the order of classes.
    """
    if shots is not None and shots < 1:
        raise UserError(f"shots is {shots}; give 1 or more, or leave it out to use every image")
    way, most = len(sizes), int(sizes.max())
    shots = most if shots is None else min(shots, most)
    if way * shots * dim > MOST_NUMBERS:
        raise UserError(
            f"{way} classes with up to {shots} images of {dim} numbers are too many to fit "
            f"together; give --shots {max(1, MOST_NUMBERS // (way * dim))} or less"
        )
    starts, sizes = (np.cumsum(sizes) - sizes)[:, None], sizes[:, None]
    slots = np.arange(shots)[None, :]
    spread = np.where(sizes > shots, slots * sizes // shots, slots)
    kept = slots < sizes
    return np.where(kept, starts + spread, 0).astype(np.int32), kept


def support_draw(
    bank: Bank, rows: Int[np.ndarray, "way shot"], kept: Bool[np.ndarray, "way shot"]
) -> Draws:
    """Read the rows as the support of all classes of a bank, with a leading axis of one draw."""
    draw = gather_draw(bank, np.arange(rows.shape[0]), rows, kept)
    leading: Draws = jax.tree.map(lambda leaf: leaf[None], draw)
    return leading
