"""Trained adapters: read, checked against the features at hand, and only where they are needed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.adapters.checkpoint import WEIGHTS_FILE, restore_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.fitting.card import Origin
from fsclip_jax.fitting.sharing import write_adapter
from fsclip_jax.hub import Push, find_files, parse_id, push_folder
from fsclip_jax.typing import Params

FILES = (WEIGHTS_FILE,)
"""What is fetched of an adapter on the hub; its description is in it."""

_WHAT = "trained adapter"


@dataclass(frozen=True)
class FeatureSpec:
    """The features that methods are to be fitted to.

    Attributes:
        backbone: ``id`` and ``sha256`` of what made them, as far as they are known.
    """

    dim: int
    backbone: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A trained adapter.

    ``FewShotClassifier(checkpoint=...)`` and ``--checkpoint`` take the same places.

    Attributes:
        path: where it is from.
        meta: its description: backbone, data, training.
    """

    path: Path
    adapter: Adapter
    params: Params
    meta: Mapping[str, Any]

    @classmethod
    def from_pretrained(
        cls, repo_or_folder: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> "Checkpoint":
        """Read an adapter of a folder, or of a repository of the hub; safetensors, nothing else.

        Args:
            repo_or_folder: a workdir of ``fsclip train``, a file of weights, or ``OWNER/NAME``; a
                folder of that name wins.

        Raises:
            UserError: there is none, it is damaged or of another kind, or it cannot be had.
        """
        found = find_files(repo_or_folder, FILES, _WHAT, revision=revision, token=token)
        return cls(Path(repo_or_folder), *restore_adapter(found))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> str:
        """Upload it with its card to the Hugging Face hub; return the address of the commit.

        Args:
            private: whether only its owner sees a repository that is made now.
            revision: a branch, made if it is not there.
            token: that of ``hf auth login`` if None.

        Raises:
            UserError: there is no token, or the hub refuses or cannot be reached.
        """
        origin = Origin(self.adapter, self.params, self.meta, checkpoint=self.path)
        with TemporaryDirectory() as place:
            write_adapter(Path(place), origin)
            return push_folder(Path(place), Push(repo_id, private, revision, token), _WHAT)


def read_checkpoint(path: Path, features: FeatureSpec | None = None) -> Checkpoint:
    """Read a trained adapter, for features at hand where they are given.

    Raises:
        UserError: there is none, it is damaged, or it is of features of another width or backbone.
    """
    found = _find(path)
    if features is None:
        return Checkpoint(path, *restore_adapter(found))
    known = features.backbone.get("sha256")
    adapter, params, meta = restore_adapter(found, dim=features.dim, backbone_sha256=known)
    mine, theirs = meta.get("backbone"), features.backbone.get("id")
    same_file = bool(known) and known == meta.get("backbone_sha256")
    unknown = (None, "", "unknown")
    if not same_file and mine not in unknown and theirs not in unknown and mine != theirs:
        raise UserError(
            f"checkpoint {path} was trained on the backbone {mine}, the features are of {theirs}; "
            "use the same backbone for both"
        )
    return Checkpoint(path, adapter, params, meta)


def _find(path: Path) -> Path:
    """Find what may be on the hub; a name below a folder that is here is only sought there."""
    if not path.exists() and (parse_id(path.as_posix()) is None or path.parent.is_dir()):
        raise UserError(
            f"no checkpoint at {path}; give the workdir of a finished `fsclip train`, a file of "
            "weights, or OWNER/NAME of the Hugging Face hub"
        )
    return find_files(path, FILES, _WHAT)


def find_checkpoints(
    given: Sequence[Path],
    features: FeatureSpec,
    wanted: Collection[str],
    workdir: Path | None = None,
) -> tuple[Checkpoint, ...]:
    """Read the trained adapters that were given, or those in a workdir that are wanted.

    Args:
        given: train workdirs; if there are none, ``workdir`` is looked into, and its subfolders
            named after a method.
        wanted: methods that a checkpoint serves. Of a workdir no other one is looked at: it may
            lie there from an experiment on other features.

    Raises:
        UserError: there is no checkpoint where one was given, two are of the same method, or see
            :func:`read_checkpoint`.
    """
    found: dict[str, Checkpoint] = {}
    places = given or (_in_workdir(workdir, wanted) if workdir is not None and wanted else [])
    for checkpoint in (read_checkpoint(path, features) for path in places):
        other = found.setdefault(checkpoint.adapter.name, checkpoint)
        if other is not checkpoint:
            raise UserError(
                f"{other.path} and {checkpoint.path} both hold a {other.adapter.name}; give "
                "--checkpoint with one folder per method"
            )
    return tuple(found.values())


def _in_workdir(workdir: Path, wanted: Collection[str]) -> list[Path]:
    """Folders of finished trainings of these methods."""
    named = [workdir / name for name in ADAPTERS if name in wanted]
    places = [folder for folder in (workdir, *named) if (folder / WEIGHTS_FILE).is_file()]
    return [folder for folder in places if folder != workdir or _method_in(folder) in wanted]


def _method_in(folder: Path) -> str:
    return read_checkpoint(folder).adapter.name


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a report says of a checkpoint, as JSON values."""
    meta = checkpoint.meta
    data, classes = trained_on(meta)
    described = {
        "path": str(checkpoint.path),
        "method": checkpoint.adapter.name,
        "trained_on": (data or {}).get("spec"),
        "classes": classes,
        "step": meta.get("step"),
        "val_accuracy": meta.get("val_accuracy"),
        "sha256": meta.get("sha256"),
    }
    return {name: value for name, value in described.items() if value is not None}


def trained_on(meta: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str | None]:
    """Data and classes that an adapter was trained on, as far as its description says."""
    data, train = meta.get("data"), meta.get("train")
    classes = train.get("classes") if isinstance(train, Mapping) else None
    return (data if isinstance(data, Mapping) else None), classes
