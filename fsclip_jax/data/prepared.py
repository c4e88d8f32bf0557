"""Where TFDS has prepared a data set, found by looking at folders: TFDS is not imported."""

import os
import re
from pathlib import Path

from fsclip_jax.data.catalog import KNOWN_SETS, find_builder, find_known
from fsclip_jax.data.published import KnownSet, TfdsBuilder
from fsclip_jax.errors import UserError, suggestion

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_INFO = "dataset_info.json"


def tfds_dir() -> Path:
    """Return TFDS's folder of data sets: ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``."""
    given = os.environ.get("TFDS_DATA_DIR")
    return Path(given).expanduser() if given else Path.home() / "tensorflow_datasets"


def builder_folder(builder: TfdsBuilder, data_dir: Path) -> Path:
    """Return the folder that TFDS prepares the pinned version in."""
    return data_dir / builder.name / builder.config / builder.version


def is_prepared(folder: Path) -> bool:
    """Say whether TFDS has prepared a data set in a folder, in whatever format."""
    return (folder / _INFO).is_file()


def find_prepared(name: str, known: KnownSet | None, spec: str) -> Path:
    """Find the folder of a prepared data set, of the pinned version or else the newest.

    Raises:
        UserError: the name is unknown, or nothing is prepared.
    """
    builder, _, config = name.partition("/")
    base = tfds_dir() / builder
    if known and known.tfds:
        config = config or known.tfds.config
        folder = base / config / known.tfds.version
        if is_prepared(folder):
            return folder
        others = _versions(base / config)
        found = (
            f"{base / config} has version {others[-1].name} only"
            if others
            else (f"it is not prepared in {tfds_dir()}")
        )
        raise UserError(
            f"{spec}: {found}; version {known.tfds.version} is needed: "
            f"{prepare_command(folder, known)}"
        )
    if not base.is_dir():
        raise _unknown(builder, spec)
    versions = _versions(base / config)
    if versions:
        return versions[-1]
    configs = sorted(one.name for one in base.iterdir() if one.is_dir() and _versions(one))
    if len(configs) == 1 and not config:
        return _versions(base / configs[0])[-1]
    if configs:
        raise UserError(
            f"{spec}: {builder} is prepared with the configurations {', '.join(configs)}; "
            f"write tfds:{builder}/{configs[0]}{suggestion(config, configs) if config else ''}"
        )
    raise UserError(f"{spec}: nothing is prepared in {base}: {prepare_command(base, None)}")


def prepare_command(folder: Path, known: KnownSet | None) -> str:
    """Return the command that prepares a data set as ArrayRecord."""
    if known and known.tfds:
        name = f"{known.tfds.spec}:{known.tfds.version}"
    else:
        parts = folder.parts[len(tfds_dir().parts) :] if folder.is_relative_to(tfds_dir()) else ()
        name = "/".join(part for part in parts if not _VERSION.fullmatch(part)) or folder.name
    return f"pip install 'fsclip-jax[tf]' && tfds build {name} --file_format=array_record"


def _versions(folder: Path) -> list[Path]:
    """Folders of versions that are prepared, the newest last."""
    if not folder.is_dir():
        return []
    found = [one for one in folder.iterdir() if _VERSION.fullmatch(one.name) and is_prepared(one)]
    return sorted(found, key=lambda one: tuple(map(int, one.name.split("."))))


def _unknown(builder: str, spec: str) -> UserError:
    known = find_known(builder)
    if known and known.tfds:
        return UserError(
            f"{spec}: TFDS calls {known.title} {known.tfds.spec}; write tfds:{known.tfds.spec}"
        )
    if known:
        return UserError(
            f"{spec}: TFDS does not have the images of {known.title}; "
            f"use coop:{known.name}@ROOT (`fsclip datasets {known.name}` says more)"
        )
    import tensorflow_datasets as tfds

    builders = tfds.list_builders(with_community_datasets=False)
    if builder in builders:
        return UserError(
            f"{spec}: {builder} is not prepared in {tfds_dir()}: "
            f"{prepare_command(tfds_dir() / builder, find_builder(builder))}"
        )
    ours = [one.tfds.name for one in KNOWN_SETS if one.tfds]
    here = [one.name for one in tfds_dir().iterdir()] if tfds_dir().is_dir() else []
    hint = suggestion(builder, ours + here) or suggestion(builder, builders)
    return UserError(
        f"{spec}: TFDS has no builder {builder!r}, and nothing of that name is prepared in "
        f"{tfds_dir()}; `fsclip datasets` lists the published sets{hint}"
    )
