"""Encode the images of a data set shard by shard; finished shards are never done again."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.prompts import TemplateChoice
from fsclip_jax.data.source import ImageSource
from fsclip_jax.errors import UserError
from fsclip_jax.features.buckets import bucket_size
from fsclip_jax.features.decode import Chunk, chunk_images, make_decoder, split_rows
from fsclip_jax.features.hosts import ALONE, Hosts
from fsclip_jax.features.images import Batcher, Compute, Encoded, image_encoder
from fsclip_jax.features.layout import Rows, shard_name
from fsclip_jax.features.progress import Progress
from fsclip_jax.features.workers import decoded
from fsclip_jax.features.writing import shard_contents, write_shard

_NAMED = 5


@dataclass(frozen=True)
class ExtractSettings:
    """How images become features. All but ``batch`` and ``workers`` are part of the bank.

    Attributes:
        views: of each image: the centre crop, and ``views - 1`` augmented ones.
        dtype: in which features are stored, ``float16`` or ``float32``.
        seed: of the augmented views.
        shard: images a file: what is lost at most when the program is killed.
        prompts: store the vector of every prompt too, not only the class means.
        templates: the data set's own template, or the ensemble.
        prompt_file: sentences for every class in place of the templates.
        patches: store the features of every patch of view 0 too.
        batch: views that go through the tower of a device together.
        workers: processes that decode; 0 decodes in threads, one a core; None chooses.
        decode: ``exact``, or ``draft`` to decode large JPEGs no larger than needed.
        compute: what the image tower computes in; see ``Compute``.
    """

    views: int = 1
    dtype: str = "float16"
    seed: int = 0
    shard: int = 1024
    prompts: bool = False
    templates: TemplateChoice = "single"
    prompt_file: Path | None = None
    patches: bool = False
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


def _ranges(n: int, size: int) -> list[range]:
    """Images of each shard: consecutive, whatever can be read of them."""
    return [range(low, min(low + size, n)) for low in range(0, n, size)]


def encode_missing(
    source: ImageSource,
    backbone: Backbone,
    partial: Path,
    settings: ExtractSettings,
    mesh: Mesh | None,
    hosts: Hosts = ALONE,
) -> None:
    """Encode and write the shards of this host that are not there yet.

    Args:
        hosts: who takes part; shard i is done by the host i modulo their number.
    """
    shards = _ranges(len(source.keys), settings.shard)
    mine = range(hosts.index, len(shards), hosts.count)
    todo = [i for i in mine if not (partial / shard_name(i)).is_file()]
    if not todo:
        return
    views, preprocess = settings.views, backbone.preprocess
    # The size depends on the whole job, not on what is left: a continued run repeats the bits.
    size = bucket_size(min(len(source.keys), settings.shard) * views, settings.batch)
    encode = image_encoder(backbone, mesh, patches=settings.patches, compute=settings.compute)
    batcher = Batcher(encode, size, mesh.size if mesh else 1, views)
    at_once = chunk_images(preprocess, views)
    plan = [(index, rows) for index in todo for rows in split_rows(shards[index], at_once)]
    decoder = make_decoder(
        source, preprocess, views, settings.seed, draft=settings.decode == "draft"
    )
    job = _Job(source, backbone, partial, settings, shards)
    total = sum(len(shards[index]) for index in mine)
    done = total - sum(len(shards[index]) for index in todo)
    chunks = decoded(decoder, [rows for _, rows in plan], settings.workers)
    with closing(chunks), Progress(total, "images", "extract", start=done) as progress:
        for (index, rows), chunk in zip(plan, chunks, strict=True):
            job.note_lost(index, rows, chunk, progress)
            batcher.add(index, chunk.pixels)
            if rows.stop == shards[index].stop:
                batcher.end(index)
            progress.advance(len(rows))
            job.write(batcher.finished())
            hosts.check()
        job.write(batcher.finished(wait=True))
        job.sum_up(progress)


class _Job:
    """Keeps count of the images that cannot be read, and writes the shards."""

    def __init__(
        self,
        source: ImageSource,
        backbone: Backbone,
        partial: Path,
        settings: ExtractSettings,
        shards: Sequence[range],
    ) -> None:
        self._source, self._partial, self._settings = source, partial, settings
        self._shards = shards
        self._lost: dict[int, list[int]] = {}
        self._skipped: list[str] = []
        dim, patches = backbone.embed_dim, backbone.config.vision.grid**2
        self._empty = Encoded(
            np.zeros((settings.views, 0, dim), np.float32),
            np.zeros((0, patches, dim), np.float16) if settings.patches else None,
        )

    def note_lost(self, shard: int, rows: range, chunk: Chunk, progress: Progress) -> None:
        for position, reason in chunk.lost:
            self._lost.setdefault(shard, []).append(rows[position])
            progress.note(f"unreadable image skipped: {reason}")

    def write(self, finished: Iterator[tuple[int, Encoded | None]]) -> None:
        for shard, found in finished:
            lost = self._lost.pop(shard, [])
            rows = _rows_of(self._source, self._shards[shard], lost, found or self._empty)
            skipped = [self._source.keys[row] for row in lost]
            write_shard(self._partial, shard, rows, self._settings.dtype, skipped)
            self._skipped += skipped

    def sum_up(self, progress: Progress) -> None:
        count = len(self._skipped)
        if count:
            more = f" and {count - _NAMED} more" if count > _NAMED else ""
            names = ", ".join(self._skipped[:_NAMED])
            progress.note(f"skipped {count} unreadable image(s): {names}{more}")


def _rows_of(source: ImageSource, rows: range, lost: Sequence[int], found: Encoded) -> Rows:
    index = np.setdiff1d(np.arange(rows.start, rows.stop), np.array(lost, np.int64))
    no_family = np.full(len(index), -1, np.int32)
    domains = no_family if source.domains is None else source.domains[index]
    keys = [source.keys[row] for row in index.tolist()]
    patches = None if found.patches is None else np.asarray(found.patches)
    features = np.asarray(found.features)
    return Rows(features, source.labels[index], source.splits[index], keys, domains, patches)


def refuse_lost_classes(source: ImageSource, partial: Path, shard: int) -> None:
    """Refuse a bank in which a class that has images has not one that can be read."""
    paths = [partial / shard_name(i) for i in range(len(_ranges(len(source.keys), shard)))]
    present: set[int] = set()
    with_lost = []
    for path in paths:
        labels, skipped = shard_contents(path)
        present.update(np.unique(labels).tolist())
        if skipped:
            with_lost.append(path)
    lost = sorted(set(np.unique(source.labels).tolist()) - present)
    if not lost:
        return
    for path in with_lost:  # read these again next time, once the images are repaired
        path.unlink()
    names = [source.class_names[label] for label in lost[:_NAMED]]
    more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    raise UserError(
        f"{source.spec}: no image can be read of the class {', '.join(names)}{more}: "
        "repair or remove these images, then run the same command again"
    )
