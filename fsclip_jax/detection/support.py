"""A few annotated boxes of every class: which they are, and the task they make."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Boxes, Category, Picture
from fsclip_jax.episodes.task import Task
from fsclip_jax.errors import UserError
from fsclip_jax.typing import Float, Int

NEGATIVES = 8
"""Boxes without an object that are taken from a picture of the support."""
_TRIES = 20


class Needed(NamedTuple):
    """Boxes of one picture that some draw uses."""

    picture: Picture
    boxes: Float[np.ndarray, "region 4"]
    """Left, top, width, height: first the objects, then boxes without one."""
    objects: int
    """Number of the objects among them."""


class SupportPlan(NamedTuple):
    """Which boxes are the support of which draw."""

    needed: tuple[Needed, ...]
    """The boxes to encode, by picture."""
    rows: Int[np.ndarray, "draw way shot"]
    """Row of every shot among all objects of ``needed``, -1 where a class has fewer."""
    pictures: tuple[tuple[int, ...], ...]
    """By draw, the places in ``needed`` of the pictures that it uses."""


def plan_support(
    data: Boxes, categories: Sequence[Category], shots: int, draws: int, seed: int = 0
) -> SupportPlan:
    """Draw the boxes of the support: of every class as many as there are shots, without repeat.

    Crowds and empty boxes are left out. The classes are found by their names. A draw does not
    depend on the number of draws, and no picture is opened.

    Raises:
        UserError: no shots or draws, a class that has no box, or more shots than any class has.
    """
    if shots < 1 or draws < 1:
        raise UserError(f"{shots} shots and {draws} seeds were asked for; give 1 or more of each")
    number = {category.name: category.id for category in data.categories}
    of: dict[int, list[int]] = {category.id: [] for category in data.categories}
    for i, box in enumerate(data.boxes):
        if not box.crowd and min(box.bbox[2:]) >= 1:
            of[box.category].append(i)
    without = [c.name for c in categories if not of.get(number.get(c.name, -1))]
    if without:
        some = ", ".join(without[:5]) + (" ..." if len(without) > 5 else "")
        raise UserError(
            f"{data.source} has no box of {len(without)} of {len(categories)} categories ({some}); "
            "give support annotations with a box of each, under the same names"
        )
    most = max(len(of[number[category.name]]) for category in categories)
    if shots > most:
        raise UserError(
            f"{shots} shots were asked for, but {data.source} has at most {most} boxes of a "
            f"category; give --shots {most} or fewer"
        )
    chosen = np.full((draws, len(categories), shots), -1)
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        for row, category in enumerate(categories):
            mine = of[number[category.name]]
            some_boxes = rng.permutation(mine)[:shots]
            chosen[draw, row, : len(some_boxes)] = some_boxes
    return _lay_out(data, chosen, seed)


def _lay_out(data: Boxes, chosen: Int[np.ndarray, "draw way shot"], seed: int) -> SupportPlan:
    """Sort the chosen boxes by picture, and find boxes without an object in these pictures."""
    used = sorted({int(i) for i in chosen.flat if i >= 0}, key=lambda i: (data.boxes[i].image, i))
    place = {i: row for row, i in enumerate(used)}
    by_image: dict[int, list[int]] = {}
    for i in used:
        by_image.setdefault(data.boxes[i].image, []).append(i)
    around: dict[int, list[tuple[float, ...]]] = {image: [] for image in by_image}
    for box in data.boxes:
        if box.image in around:
            around[box.image].append(box.bbox)
    known = {picture.id: picture for picture in data.pictures}
    needed = []
    for image, mine in by_image.items():
        objects = np.array([data.boxes[i].bbox for i in mine], np.float64)
        rng = np.random.default_rng((seed, 1, image))
        empty = empty_boxes(rng, known[image], np.array(around[image], np.float64))
        needed.append(Needed(known[image], np.concatenate([objects, empty]), len(mine)))
    order = {image: at for at, image in enumerate(by_image)}
    rows = np.vectorize(lambda i: place.get(int(i), -1), otypes=[np.int64])(chosen)
    pictures = tuple(
        tuple(sorted({order[data.boxes[int(i)].image] for i in draw.flat if i >= 0}))
        for draw in chosen
    )
    return SupportPlan(tuple(needed), rows, pictures)


def empty_boxes(
    rng: np.random.Generator, picture: Picture, objects: Float[np.ndarray, "n 4"]
) -> Float[np.ndarray, "m 4"]:
    """Draw boxes, of the sizes of a picture's objects, that show none of them, or a corner.

    There are at most ``NEGATIVES``, which overlap every object by less than 0.3.
    """
    size = np.array([picture.width, picture.height], np.float64)
    boxes = np.zeros((NEGATIVES * _TRIES, 4))
    shapes = objects[rng.integers(len(objects), size=len(boxes)), 2:]
    boxes[:, 2:] = np.clip(shapes * rng.uniform(0.5, 1.5, (len(boxes), 1)), 1, size)
    boxes[:, :2] = rng.uniform(0, 1, (len(boxes), 2)) * (size - boxes[:, 2:])
    clear: Float[np.ndarray, "m 4"] = boxes[(overlaps(boxes, objects) < 0.3).all(1)][:NEGATIVES]
    return clear


def make_tasks(
    plan: SupportPlan,
    features: Sequence[Float[np.ndarray, "_ dim"]],
    text: Float[np.ndarray, "way dim"],
    logit_scale: float,
) -> tuple[Task, Float[np.ndarray, "draw dim"]]:
    """Lay the features of the boxes out as few-shot tasks, with a leading axis of draws.

    Beside them the unit mean feature of the boxes without an object; zero where there are none.
    """
    pairs = list(zip(plan.needed, features, strict=True))
    objects = np.concatenate([found[: need.objects] for need, found in pairs])
    present = plan.rows >= 0
    support = np.where(present[..., None], objects[plan.rows], 0).astype(np.float32)
    draws = len(plan.rows)
    background = np.zeros((draws, text.shape[1]), np.float32)
    for draw, places in enumerate(plan.pictures):
        mean = np.concatenate([pairs[i][1][pairs[i][0].objects :] for i in places]).sum(0)
        background[draw] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    task = Task(
        support=jnp.asarray(support),
        support_mask=jnp.asarray(present),
        text=jnp.asarray(np.repeat(text[None], draws, axis=0)),
        logit_scale=jnp.full((draws,), logit_scale, jnp.float32),
    )
    return task, background
