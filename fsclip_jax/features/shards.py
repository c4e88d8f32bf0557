"""Encode the images of a data set shard by shard; finished shards are never done again."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.model import last_projection
from fsclip_jax.data.prompts import TemplateChoice
from fsclip_jax.data.source import ImageSource
from fsclip_jax.errors import UserError, some
from fsclip_jax.features.buckets import bucket_size
from fsclip_jax.features.decode import Chunk, chunk_images, make_decoder, split_rows
from fsclip_jax.features.images import Batcher, Compute, Encoded, image_encoder
from fsclip_jax.features.layout import Rows, partial_name, shard_name
from fsclip_jax.features.progress import Progress
from fsclip_jax.features.projection import Kept, Projection
from fsclip_jax.features.workers import decoded
from fsclip_jax.features.writing import shard_contents, write_shard
from fsclip_jax.hosts import ALONE, Hosts


@dataclass(frozen=True)
class ExtractSettings:
    """How images become features. All but ``batch`` and ``workers`` are part of the bank.

    Attributes:
        views: of each image: the centre crop, and ``views - 1`` augmented ones.
        shard: images a file: what is lost at most when the program is killed.
        prompts: store the vector of every prompt too, not only the class means.
        templates: the data set's own template, or the ensemble.
        prompt_file: sentences for every class in place of the templates.
        patches: store the features of every patch of view 0 too.
        features: ``pre`` stores what is before the last projection, and the projection with it.
        batch: views that go through the tower of a device together.
        workers: processes that decode; 0 decodes in threads, one a core; None chooses.
        decode: ``exact``, or ``draft`` to decode large JPEGs no larger than needed.
    """

    views: int = 1
    dtype: str = "float16"
    seed: int = 0
    shard: int = 1024
    prompts: bool = False
    templates: TemplateChoice = "single"
    prompt_file: Path | None = None
    patches: bool = False
    features: Kept = "post"
    batch: int = 256
    workers: int | None = None
    decode: str = "exact"
    compute: Compute = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name in ("views", "shard", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"--workers is {self.workers}; it must be 0 (threads) or more")
        if self.patches and self.features == "pre":
            raise UserError(
                "--features pre and --patches do not go together, patches are after the "
                "projection: extract two banks"
            )


@dataclass(frozen=True, eq=False)
class Extraction:
    """One extraction, as one process sees it.

    Attributes:
        out: the folder to make; until it is whole it is called ``partial``.
        mesh: the devices of this host; None: the default one.
        hosts: who takes part; shard i is done by the host i modulo their number.
    """

    source: ImageSource
    backbone: Backbone
    settings: ExtractSettings
    out: Path
    mesh: Mesh | None = None
    hosts: Hosts = ALONE

    @property
    def partial(self) -> Path:
        """The folder of the finished shards."""
        return partial_name(self.out)

    @property
    def shards(self) -> list[range]:
        """Images of each shard: consecutive, whatever can be read of them."""
        return list(split_rows(range(len(self.source)), self.settings.shard))


def encode_missing(job: Extraction) -> None:
    """Encode and write the shards of this host that are not there yet."""
    settings, shards, preprocess = job.settings, job.shards, job.backbone.preprocess
    mine = range(job.hosts.index, len(shards), job.hosts.count)
    todo = [i for i in mine if not (job.partial / shard_name(i)).is_file()]
    if not todo:
        return
    views = settings.views
    # The size depends on the whole job, not on what is left: a continued run repeats the bits.
    size = bucket_size(min(len(job.source), settings.shard) * views, settings.batch)
    encode = image_encoder(
        job.backbone, job.mesh,
        patches=settings.patches, features=settings.features, compute=settings.compute, kept=True,
    )  # fmt: skip
    batcher = Batcher(encode, size, job.mesh.size if job.mesh else 1, views)
    at_once = chunk_images(preprocess, views)
    plan = [(index, rows) for index in todo for rows in split_rows(shards[index], at_once)]
    draft = settings.decode == "draft"
    decoder = make_decoder(job.source, preprocess, views, settings.seed, draft=draft)
    writer = _Writer(job)
    total = sum(len(shards[index]) for index in mine)
    done = total - sum(len(shards[index]) for index in todo)
    chunks = decoded(decoder, [rows for _, rows in plan], settings.workers)
    with closing(chunks), Progress(total, "images", "extract", start=done) as progress:
        for (index, rows), chunk in zip(plan, chunks, strict=True):
            writer.note_lost(index, rows, chunk, progress)
            batcher.add(index, chunk.pixels)
            if rows.stop == shards[index].stop:
                batcher.end(index)
            progress.advance(len(rows))
            writer.write(batcher.finished())
            job.hosts.check()
        writer.write(batcher.finished(wait=True))
        if writer.skipped:
            names = some(writer.skipped)
            progress.note(f"skipped {len(writer.skipped)} unreadable image(s): {names}")


def projection_of(backbone: Backbone) -> Projection:
    """Return the last projection of the image tower.

    Raises:
        UserError: it has none, or no text that shares the space behind it.
    """
    found = last_projection(backbone.graphdef, backbone.state)
    if found is None or backbone.tokenizer is None:
        what = "no last projection" if found is None else "no text"
        raise UserError(f"{backbone.id} has {what}: leave --features pre out")
    kernel, bias = found
    return Projection(np.asarray(kernel), np.asarray(bias))


class _Writer:
    """Writes the shards, and keeps count of the images that cannot be read."""

    def __init__(self, job: Extraction) -> None:
        self._job = job
        self._shards = job.shards
        self._lost: dict[int, list[int]] = {}
        self.skipped: list[str] = []
        dim, patches = job.backbone.embed_dim, job.backbone.config.vision.grid**2
        if job.settings.features == "pre":
            dim = len(projection_of(job.backbone).kernel)
        self._empty = Encoded(
            np.zeros((job.settings.views, 0, dim), np.float32),
            np.zeros((0, patches, dim), np.float16) if job.settings.patches else None,
        )

    def note_lost(self, shard: int, rows: range, chunk: Chunk, progress: Progress) -> None:
        for position, reason in chunk.lost:
            self._lost.setdefault(shard, []).append(rows[position])
            progress.note(f"unreadable image skipped: {reason}")

    def write(self, finished: Iterator[tuple[int, Encoded | None]]) -> None:
        source = self._job.source
        for shard, found in finished:
            lost = self._lost.pop(shard, [])
            rows = _rows_of(source, self._shards[shard], lost, found or self._empty)
            skipped = [source.keys[row] for row in lost]
            write_shard(self._job.partial, shard, rows, self._job.settings.dtype, skipped)
            self.skipped += skipped


def _rows_of(source: ImageSource, rows: range, lost: Sequence[int], found: Encoded) -> Rows:
    index = np.setdiff1d(np.arange(rows.start, rows.stop), np.array(lost, np.int64))
    no_family = np.full(len(index), -1, np.int32)
    domains = no_family if source.domains is None else source.domains[index]
    keys = [source.keys[row] for row in index.tolist()]
    patches = None if found.patches is None else np.asarray(found.patches)
    features = np.asarray(found.features)
    return Rows(features, source.labels[index], source.splits[index], keys, domains, patches)


def refuse_lost_classes(job: Extraction) -> None:
    """Refuse a bank in which a class that has images has not one that can be read."""
    source, present, with_lost = job.source, set[int](), []
    for index in range(len(job.shards)):
        path = job.partial / shard_name(index)
        labels, skipped = shard_contents(path)
        present.update(np.unique(labels).tolist())
        if skipped:
            with_lost.append(path)
    lost = sorted(set(np.unique(source.labels).tolist()) - present)
    if not lost:
        return
    for path in with_lost:  # read these again next time, once the images are repaired
        path.unlink()
    raise UserError(
        f"{source.spec}: no image can be read of the class "
        f"{some([source.class_names[label] for label in lost])}: "
        "repair or remove these images, then run the same command again"
    )
