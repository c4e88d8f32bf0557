"""Encode the images of a data set once, into a feature bank on disk."""

import atexit
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.data.prompts import ClassPrompts
from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import ImageSource
from fsclip_jax.devices import accelerator_mesh
from fsclip_jax.durable import exclusive, storage_errors, write_file
from fsclip_jax.errors import UserError, tell
from fsclip_jax.features.augment import describe_views
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.identity import DEFAULT_BACKBONE, identity, preprocessing_of, prompts_of
from fsclip_jax.features.layout import MANIFEST
from fsclip_jax.features.shards import (
    Extraction,
    ExtractSettings,
    encode_missing,
    projection_of,
    refuse_lost_classes,
)
from fsclip_jax.features.store import open_bank
from fsclip_jax.features.text import class_text_features
from fsclip_jax.features.writing import Description, finish_bank, refuse_existing
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.json_files import read_json

__all__ = ["ExtractSettings", "bank_for", "default_cache", "extract", "identity", "prompts_of"]

_SETTINGS = "settings.json"
_GO, _DONE = "go", "done"
_SHOWN_WITHIN = 60.0  # seconds
_DEFAULTS = ExtractSettings()


def extract(
    source: ImageSource,
    backbone: Backbone,
    out: Path,
    settings: ExtractSettings,
    mesh: Mesh | None = None,
    prompts: ClassPrompts | None = None,
    hosts: Hosts = ALONE,
) -> StoredBank:
    """Encode every image of a data set into a bank, continuing where an earlier run stopped.

    An unreadable image is skipped, named on the error stream and listed in the manifest.

    Args:
        out: the folder to make. Until it is whole it is called ``out.partial``.
        mesh: the devices of this host, on the axis ``data``; None takes the default one.
        prompts: of every class; ``prompts_of`` of the data set if None.
        hosts: who takes part, all with the same arguments and with ``out`` in a folder that they
            share. Process 0 finishes the bank.

    Raises:
        UserError: something else is there, no image of a class can be read, or the disk is full.
    """
    job = Extraction(source, backbone, settings, out, mesh, hosts)
    if settings.features == "pre":
        projection_of(backbone)  # says so where there is none, before anything is encoded
    prompts = prompts or prompts_of(source, backbone, settings)
    wanted = identity(source, backbone, settings, prompts)
    with hosts.failing_together():
        if hosts.index:
            return _take_part(job, wanted)
        if _is_same_bank(out, wanted):
            hosts.tell("start", _DONE)
            return open_bank(out)
        refuse_existing(out)
        with storage_errors(job.partial):
            job.partial.mkdir(parents=True, exist_ok=True)
        with exclusive(job.partial):
            if _is_same_bank(out, wanted):
                tell([f"another process has written {out} while this one waited"])
                hosts.tell("start", _DONE)
                return open_bank(out)
            _prepare(job.partial, wanted)
            hosts.tell("start", _GO)
            encode_missing(job)
            for other in range(1, hosts.count):
                hosts.hear(f"encoded/{other}")
            refuse_lost_classes(job)
            bank = _finish(job, prompts, wanted)
        hosts.tell("finished")
    return bank


def _take_part(job: Extraction, wanted: dict[str, Any]) -> StoredBank:
    """Encode the share of a process that is not the first, and wait for the bank."""
    if job.hosts.hear("start") == _GO:
        _see(job.partial / _SETTINGS)
        _prepare(job.partial, wanted)
        encode_missing(job)
        job.hosts.tell(f"encoded/{job.hosts.index}")
        job.hosts.hear("finished")
    _see(job.out / MANIFEST)
    return open_bank(job.out)


def _see(file: Path) -> None:
    """Wait for a file of another host: a network file system shows it a moment later."""
    until = time.monotonic() + _SHOWN_WITHIN
    while not file.is_file():
        if time.monotonic() > until:
            raise UserError(
                f"process 0 has written {file}, and this host does not see it: "
                "--out must be in a folder that all hosts share"
            )
        time.sleep(0.1)


def _finish(job: Extraction, prompts: ClassPrompts, wanted: dict[str, Any]) -> StoredBank:
    """Add the text features to the finished shards, and the manifest."""
    source, backbone, settings = job.source, job.backbone, job.settings
    found = class_text_features(backbone, prompts.each) if backbone.tokenizer is not None else None
    about = Description(
        text_features=None if found is None else found.text,
        text_lengths=None if found is None else found.lengths,
        prompt_features=found.each if found and settings.prompts else None,
        prompt_mask=found.mask if found and settings.prompts else None,
        projection=projection_of(backbone) if settings.features == "pre" else None,
        class_names=source.class_names,
        domain_names=source.domain_names,
        logit_scale=backbone.logit_scale,
        data={"spec": source.spec, "version": source.version},
        backbone={"id": backbone.id, "sha256": backbone.sha256},
        preprocessing=preprocessing_of(backbone),
        templates=prompts.templates,
        extra={
            **({"prompt_file": dict(prompts.file)} if prompts.file else {}),
            "augmentation": describe_views(settings.views, settings.seed),
            "settings": wanted,
        },
    )
    bank = finish_bank(job.partial, job.out, about, settings.dtype)
    (job.out / _SETTINGS).unlink(missing_ok=True)
    return bank


def _is_same_bank(out: Path, wanted: dict[str, Any]) -> bool:
    return (out / MANIFEST).is_file() and _alike(open_bank(out).manifest.get("settings"), wanted)


def _alike(found: Any, wanted: dict[str, Any]) -> bool:
    """Tell whether settings are the same; banks did not always keep the lengths of their text."""
    added = {name: value for name, value in wanted.items() if name == "text_lengths"}
    return isinstance(found, dict) and added | found == wanted


def _prepare(partial: Path, wanted: dict[str, Any]) -> None:
    """Make sure that what an earlier run left belongs to this bank."""
    file = partial / _SETTINGS
    try:
        found = read_json(file)
    except (OSError, ValueError):
        found = None
    if found is None and not any(partial.glob("shard-*")):
        write_file(file, json.dumps(wanted, indent=1).encode())
    elif not _alike(found, wanted):
        differs = sorted(
            k for k in wanted if not isinstance(found, dict) or found.get(k) != wanted[k]
        )
        raise UserError(
            f"{partial} is an unfinished bank made otherwise ({', '.join(differs)} differ): "
            "remove it, or choose another --out"
        )


def bank_for(
    data: str | ImageSource,
    backbone: str | Backbone | None = None,
    settings: ExtractSettings = _DEFAULTS,
    cache: Path | None = None,
) -> StoredBank:
    """Open the bank of a data set, extracting it once if need be.

    ``bank:DIR`` is opened as it is, with what it holds. Of anything else the bank is kept
    in ``cache`` under a name made of data, backbone and a hash of all that its content depends
    on: changed images, weights, views or templates give another bank.

    Args:
        data: its name, or the images where they are opened already.
        backbone: the CLIP, loaded or by its name; None means ``mini``. With ``bank:DIR`` these two
            mean whatever made the bank, as ``mini`` is what configurations say when nobody chose;
            anything else must be what the bank says.

    Raises:
        UserError: a data set or backbone that is unknown, a bank of another backbone, or prompts
            for a bank, which has its own.
    """
    spec = data if isinstance(data, str) else data.spec
    kind, _, place = spec.partition(":")
    if kind == "bank":
        if not place:
            raise UserError("--data bank: names no folder; write bank:DIR")
        if settings.prompt_file or settings.templates != "single":
            flag = "--prompt-file" if settings.prompt_file else "--templates"
            raise UserError(
                f"{flag} does not go with {spec}, which has its text features already: give the "
                "images, or extract a bank with that flag"
            )
        return _open_given(Path(place), backbone.id if isinstance(backbone, Backbone) else backbone)
    source = open_source(data) if isinstance(data, str) else data
    clip = backbone
    if not isinstance(clip, Backbone):
        clip = load_clip(clip or DEFAULT_BACKBONE)
    prompts = prompts_of(source, clip, settings)
    tell((*source.notes, *prompts.notes))
    wanted = json.dumps(identity(source, clip, settings, prompts))
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    out = (cache or default_cache()) / f"{_slug(kind)}-{_slug(clip.id)}-{digest[:16]}"
    return extract(source, clip, out, settings, accelerator_mesh(), prompts)


def default_cache() -> Path:
    """Return the folder of extracted banks: ``$FSCLIP_CACHE``, else in the user's cache.

    Where nobody named a folder and the user has no home that can be written to, as in many
    containers, it is a temporary one, gone with the process; a note says so once.

    Raises:
        UserError: the folder that ``$FSCLIP_CACHE`` names cannot be made.
    """
    given, base = os.environ.get("FSCLIP_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(given) if given else Path(base or Path.home() / ".cache", "fsclip_jax/banks")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} may not be written to")
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        if not given:
            return _cache_of_this_process(str(error))
        raise UserError(
            f"extracted features cannot be kept ({error}): set FSCLIP_CACHE to another folder"
        ) from error
    return folder


@functools.cache
def _cache_of_this_process(why: str) -> Path:
    try:
        folder = tempfile.mkdtemp(prefix="fsclip-")
    except OSError as error:
        raise UserError(
            f"extracted features cannot be kept ({why}; {error}): set FSCLIP_CACHE to a folder"
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tell([f"extracted features are kept for this run only ({why}); FSCLIP_CACHE=DIR keeps them"])
    return Path(folder)


def _open_given(path: Path, backbone: str | None) -> StoredBank:
    bank = open_bank(path)
    stored = bank.manifest["backbone"].get("id")
    if backbone not in (None, DEFAULT_BACKBONE, stored):
        raise UserError(
            f"the bank {path} was made with the backbone {stored}, not {backbone}: "
            "leave --backbone out, or extract a bank with that backbone"
        )
    return bank


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", Path(name).name).strip("-.") or "x"
