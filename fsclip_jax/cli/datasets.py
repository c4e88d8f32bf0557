"""``fsclip datasets``: the published data sets, which are here, and how to get the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fsclip_jax.cli.listing import print_lines, print_table
from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError

if TYPE_CHECKING:
    from fsclip_jax.data.local_copies import LocalCopy
    from fsclip_jax.data.published import KnownSet

_HEAD = ("name", "classes", "train", "val", "test", "on this machine")


@dataclass(frozen=True)
class DatasetsConfig:
    """List the published data sets, say which are here and how to get the others."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A data set: say all about it, and how to get it. Without: list all."""
    root: Path | None = None
    """Folder that holds data sets in CoOp's layout, to be looked at."""
    tfds_dir: Path | None = None
    """TFDS's folder of prepared data sets; $TFDS_DATA_DIR or ~/tensorflow_datasets if not given."""
    classes: bool = False
    """With a name: print the names of its classes, one a line, and nothing else."""


def main(argv: Sequence[str]) -> int:
    """List the data sets, or say all about one."""
    config = parse(DatasetsConfig, argv, prog="fsclip datasets")
    from fsclip_jax.data.catalog import KNOWN_SETS, find_builder, find_known, name_hint
    from fsclip_jax.data.local_copies import find_copies
    from fsclip_jax.data.names import class_names
    from fsclip_jax.data.prepared import tfds_dir

    root = config.root.expanduser() if config.root else None
    if root and not root.is_dir():
        raise UserError(f"--root {config.root} is no folder; give the one that holds the data sets")
    data_dir = (config.tfds_dir or tfds_dir()).expanduser()
    if not config.name:
        if config.classes:
            raise UserError(
                "--classes needs the name of a data set: fsclip datasets NAME --classes"
            )
        _print_all([(known, find_copies(known, root, data_dir)) for known in KNOWN_SETS])
        return 0
    known = find_known(config.name) or find_builder(config.name)
    if known is None:
        names = ", ".join(one.name for one in KNOWN_SETS)
        raise UserError(
            f"unknown data set {config.name!r}; accepted are {names}{name_hint(config.name)}"
        )
    if config.classes and not class_names(known):
        raise UserError(f"{known.name} comes without a list; its images name the classes")
    places = find_copies(known, root, data_dir)
    if config.classes:
        print(*class_names(known), sep="\n")
    else:
        print_lines(*_about(known, places))
    return 0


def _print_all(found: "Sequence[tuple[KnownSet, Sequence[LocalCopy]]]") -> None:

    rows = [
        (
            known.name,
            *map(str, (known.classes, *known.sizes)),
            _where(places) or "-",
        )
        for known, places in found
    ]
    print_table(_HEAD, rows, right=_HEAD[1:5])
    print_lines(
        "",
        "`fsclip datasets NAME` says how to get a data set and what it is.",
        "`--root DIR` looks for CoOp's folders in DIR; without it only TFDS's folder is looked at.",
        "Other data: folder:DIR, any tfds:NAME with image and label, hf:NAME (docs/data.md).",
    )


def _where(places: "Sequence[LocalCopy]") -> str:
    return "; ".join(place.spec or f"not ready: {place.found}" for place in places)


def _about(known: "KnownSet", places: "Sequence[LocalCopy]") -> Iterator[str]:
    """All that is known of a data set, a fact a line."""
    from fsclip_jax.data.names import class_names

    names, shown = class_names(known), f"{known.classes}, named by the images"
    if names:
        shown = f"{known.classes}: {', '.join(names[:5])}, ... (--classes prints all)"
    if len(names) > known.classes:
        shown = f"{known.classes} of ImageNet's {len(names)} (--classes prints all)"
    yield f"{known.name}: {known.title}"
    yield f"  from: {known.citation}"
    yield f"  classes: {shown}"
    yield "  images: " + ", ".join(
        f"{size} {split}" for split, size in zip(("train", "val", "test"), known.sizes, strict=True)
    )
    yield f'  template: "{known.templates[0]}"; --templates ensemble takes {len(known.ensemble)}'
    if known.note:
        yield f"  note: {known.note}"
    yield f"  here: {_where(places) or 'not found; --root DIR says where to look for CoOp folders'}"
    yield f"  images from: {known.url}"
    yield from _coop(known)
    yield from _tfds(known)
    yield from _published(known)


def _coop(known: "KnownSet") -> Iterator[str]:
    coop = known.coop
    if coop is None:
        return
    below = {
        "json": coop.split,
        "aircraft": "variants.txt, images_variant_{train,val,test}.txt",
        "imagenet": "images/{train,val}/n01440764/...; classnames.txt if you have it",
        "wnid": f"{coop.images}/n01440764/...; classnames.txt if you have it",
        "numbered": f"{coop.images}/0/...; classnames.txt if you have it",
    }[coop.layout]
    images = coop.images or "{cars_train,cars_test}"
    yield f"  put into ROOT/{coop.folder}: {images}/, {below}"
    yield "  then:"
    yield f"    $ fsclip extract --data coop:{known.name}@ROOT --backbone ID --out BANK"


def _tfds(known: "KnownSet") -> Iterator[str]:
    from fsclip_jax.data.prepared import prepare_command

    if known.tfds is None:
        yield "  TFDS: does not have these images"
        return
    note = f" ({known.tfds.note})" if known.tfds.note else ""
    yield f"  or with TFDS, once{note}:"
    yield f"    $ {prepare_command(Path(), known)}"
    split = f"@{known.coop.split}" if known.coop and known.coop.split else ""
    also = f", with CoOp's split --data tfds:{known.tfds.spec}{split}" if split else ""
    yield f"  then: --data tfds:{known.tfds.spec}{also}"


def _published(known: "KnownSet") -> Iterator[str]:
    """How to compare with the published row, and what it says."""
    row = known.rn50
    if row is None:
        return
    seven = "" if known.in_ensemble else " --templates ensemble"
    yield (
        "  a published row: extract with `--backbone timm/resnet50_clip.openai` `--views 10`"
        f"{seven}, then:"
    )
    yield (
        "    $ fsclip eval --data bank:BANK --protocol full_way "
        f"--methods {' '.join(row._fields)} --shots 16"
    )
    numbers = ", ".join(f"{name} {value:.2f}" for name, value in row._asdict().items())
    yield f"  published, RN50, 16 shots, %: {numbers} (docs/data.md has sources and caveats)"
