"""Which published data sets are on this machine, found by looking at folders."""

from dataclasses import dataclass
from pathlib import Path

from fsclip_jax.data.coop import find_base
from fsclip_jax.data.prepared import builder_folder, is_prepared
from fsclip_jax.data.published import CoopFolder, KnownSet, TfdsBuilder
from fsclip_jax.json_files import read_json

_LISTS = tuple(f"images_variant_{split}.txt" for split in ("train", "val", "test"))


@dataclass(frozen=True)
class LocalCopy:
    """Where a data set is, or what is missing there."""

    spec: str = ""
    found: str = ""


def find_copies(known: KnownSet, root: Path | None, data_dir: Path) -> tuple[LocalCopy, ...]:
    """Look for a data set in CoOp's layout and among those that TFDS has prepared.

    Only the presence of folders and lists is looked at: whether every image is there is checked
    when the set is opened. ``root`` holds all data sets in CoOp's layout, or is the folder of this
    one.

    Example:
        >>> from fsclip_jax.data.catalog import find_known
        >>> find_copies(find_known("dtd"), None, Path("nowhere"))
        ()
    """
    places = (
        _in_coop(known, known.coop, root) if known.coop and root else LocalCopy(),
        _in_tfds(known.tfds, data_dir) if known.tfds else LocalCopy(),
    )
    return tuple(place for place in places if place.found)


def _in_coop(known: KnownSet, coop: CoopFolder, root: Path) -> LocalCopy:
    base = find_base(coop, root)
    if base is None:
        return LocalCopy()
    needed = {
        "json": (coop.split,),
        "aircraft": (*_LISTS, "variants.txt"),
        "imagenet": (f"{coop.images}/train", f"{coop.images}/val"),
    }.get(coop.layout, ())
    missing = [name for name in needed if not (base / name).exists()]
    if missing:
        return LocalCopy(found=f"{base} lacks {missing[0]}")
    return LocalCopy(f"coop:{known.name}@{root}", f"{base}")


def _in_tfds(builder: TfdsBuilder, data_dir: Path) -> LocalCopy:
    folder = builder_folder(builder, data_dir)
    if not is_prepared(folder):
        return LocalCopy()
    try:
        info = read_json(folder / "dataset_info.json")
        formats = [info.get("fileFormat"), *info.get("alternativeFileFormats", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        return LocalCopy(found=f"{folder} is damaged")
    if "array_record" not in formats:
        return LocalCopy(found=f"{folder} is prepared as {formats[0]}, not as array_record")
    return LocalCopy(f"tfds:{builder.spec}", f"{folder}")
