"""What the readers of folders left out: counted by kind, and named."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from os.path import splitext
from typing import TypeAlias

from fsclip_jax.errors import some
from fsclip_jax.pixels import HEIC_ENDINGS, NEEDS_HEIC, reads_heic

Passed: TypeAlias = dict[str, list[str]]
"""Names that were passed over, by the reason; ``BY_ENDING`` is one."""

BY_ENDING = "files by their ending"
UNREAD = "unreadable folders"

_ONE = {
    UNREAD: "unreadable folder",
    "unreadable files": "unreadable file",
    "links to folders": "link to a folder",
    "folders within class folders": "folder within class folders",
    "pictures outside of the class folders": "picture outside of the class folders",
    "names that lead to no regular file": "name that leads to no regular file",
    "files without an ending": "file without an ending",
    "other files": "other file",
}
"""What a single one of a kind is called."""

_MOST_KINDS = 20
_LONGEST = 10  # letters of an ending; what is longer is part of a name


def pass_over(passed: Passed, why: str, names: Iterable[str]) -> None:
    """Note names by a reason."""
    if names := list(names):
        passed.setdefault(why, []).extend(names)


def passed_over(passed: Passed) -> Iterator[str]:
    """Say what was passed over, a sentence a reason."""
    for why, names in passed.items():
        names = sorted(set(names))
        kinds = f", {shown(count_kinds({why: names}))}" if why == BY_ENDING else ""
        yield f"passed over {len(names)} {why}{kinds}: {some(names)}"


def needs_heic(name: str) -> bool:
    """Say whether a file would be a picture if there were a reader of HEIC."""
    return name.lower().endswith(HEIC_ENDINGS) and not reads_heic()


def count_kinds(passed: Passed) -> dict[str, int]:
    """Count what was passed over by its kind, files by their endings.

    Example:
        >>> count_kinds({BY_ENDING: ["a.MOV", "b.mov", "c"], UNREAD: ["d"]})
        {'.mov': 2, 'files without an ending': 1, 'unreadable folders': 1}
    """
    kinds = {why: len(set(names)) for why, names in passed.items() if why != BY_ENDING}
    endings = Counter(map(_ending, set(passed.get(BY_ENDING, ()))))
    often = sorted(endings, key=lambda ending: (-endings[ending], ending))
    counted = {ending: endings[ending] for ending in often[:_MOST_KINDS]}
    if len(often) > _MOST_KINDS:
        counted["other files"] = sum(endings[ending] for ending in often[_MOST_KINDS:])
    return counted | kinds


def _ending(name: str) -> str:
    ending = splitext(name)[1].lower()
    return ending if 1 < len(ending) <= _LONGEST else "files without an ending"


def shown(kinds: Mapping[str, int]) -> str:
    """Say what was left out, in the words of a summary.

    Example:
        >>> shown({".mov": 2, "unreadable folders": 1})
        '2 .mov, 1 unreadable folder'
    """
    parts = []
    for kind, count in kinds.items():
        name = _ONE.get(kind, kind) if count == 1 else kind
        hint = f" (install {NEEDS_HEIC})" if needs_heic(kind) else ""
        parts.append(f"{count} {name}{hint}")
    return some(parts, 8)
