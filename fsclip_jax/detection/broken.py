"""Pictures that cannot be read cost themselves: they are left out for all methods alike."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fsclip_jax.data.coco_files import Boxes, Category, Picture, without_pictures
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.detection.crops import read_picture
from fsclip_jax.detection.fitting import Split
from fsclip_jax.detection.support import SupportPlan, plan_support
from fsclip_jax.errors import UserError, some, tell


def unreadable(folder: Path, pictures: Iterable[Picture]) -> dict[int, str]:
    """Return the pictures that are not as annotated, by their ids, with what is wrong."""
    found = {}
    for picture in pictures:
        try:
            read_picture(folder, picture)
        except UnreadableImage as error:
            found[picture.id] = " ".join(str(error).split())
    return found


def leave_out_unreadable(split: Split, what: str) -> tuple[Split, tuple[str, ...]]:
    """Leave the pictures out that cannot be read, and say so.

    Their objects are not counted as missed: no method had a chance to find them.

    Returns:
        The rest, and the names of those left out.

    Raises:
        UserError: none can be read.
    """
    broken = unreadable(split.folder, split.data.pictures)
    names = _told(split.data, broken, split.folder, what)
    return split._replace(data=without_pictures(split.data, broken)), names


def plan_readable(
    split: Split, categories: Sequence[Category], shots: int, draws: int
) -> tuple[SupportPlan, tuple[str, ...]]:
    """Draw the support among boxes of pictures that can be read; only those drawn are opened.

    Raises:
        UserError: see ``support.plan_support``.
    """
    data, names = split.data, tuple[str, ...]()
    while True:
        plan = plan_support(data, categories, shots, draws)
        broken = unreadable(split.folder, [need.picture for need in plan.needed])
        if not broken:
            return plan, names
        names += _told(data, broken, split.folder, "support")
        data = without_pictures(data, broken)


def _told(data: Boxes, broken: Mapping[int, str], folder: Path, what: str) -> tuple[str, ...]:
    if not broken:
        return ()
    reasons = list(broken.values())
    if len(broken) == len(data.pictures):
        raise UserError(
            f"none of the {len(broken)} pictures of {what} in {folder} can be used "
            f"({reasons[0]}); give the folder that {data.source} is of"
        )
    tell([f"{len(broken)} pictures of {what} are left out: {some(reasons)}"])
    return tuple(one.file_name for one in data.pictures if one.id in broken)
