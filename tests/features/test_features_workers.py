"""Decoding in threads and in processes, and what a bank depends on and what not."""

import dataclasses
import functools
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from folders import content
from PIL import Image
from tiny_clip import linear_towers, noise, noise_source, tiny_backbone

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.errors import UserError
from fsclip_jax.features import workers as workers_module
from fsclip_jax.features.augment import views_of
from fsclip_jax.features.decode import chunk_images, make_decoder, split_rows
from fsclip_jax.features.extract import extract, identity
from fsclip_jax.features.images import Batcher, Encoded
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.features.workers import decoded, in_processes

SIZE = Preprocess(16)


def test_threads_give_the_views_of_every_image_in_order():
    source = noise_source(23, unreadable={0, 7, 22})
    decoder = make_decoder(source, SIZE, views=2, seed=3)
    chunks = list(split_rows(range(23), 5))
    found = list(decoded(decoder, chunks))
    for rows, chunk in zip(chunks, found, strict=True):
        lost = [rows[position] for position, _ in chunk.lost]
        kept = [row for row in rows if row not in lost]
        assert lost == [row for row in rows if row in {0, 7, 22}]
        expected = [views_of(noise(row), SIZE, source.keys[row], 2, 3) for row in kept]
        np.testing.assert_array_equal(chunk.pixels, np.stack(expected))
    assert found[0].lost == ((0, "img/0.png: is cut short"),)


def test_a_chunk_is_four_megabytes_at_most():
    for size, views in ((8, 1), (224, 1), (224, 5), (1024, 8)):
        images = chunk_images(Preprocess(size), views)
        assert images == 1 or images * views * size * size * 3 <= 4 << 20
        assert 1 <= images <= 256


@dataclasses.dataclass(frozen=True)
class Draft:
    asked: list

    def __call__(self, index, at_least=None):
        self.asked.append(at_least)
        return noise(index)


def test_only_a_source_that_can_is_asked_for_small_images():
    for can, wanted in ((True, 16), (False, None)):
        asked = []
        source = dataclasses.replace(noise_source(4), load=Draft(asked), draft=can)
        list(decoded(make_decoder(source, SIZE, 1, 0, draft=True), [range(4)], 0))
        assert asked == [wanted] * 4


def test_the_identity_knows_what_the_bits_depend_on():
    source, clip = noise_source(), tiny_backbone()
    plain = identity(source, clip, ExtractSettings(compute="float32"))
    assert not {"decode", "compute"} & set(plain)
    assert not {"fit", "resample"} & set(plain["preprocessing"])
    for name, value in (("workers", 3), ("batch", 8), ("decode", "draft"), ("compute", "auto")):
        # The source has no JPEGs, and this is a CPU.
        assert identity(source, clip, ExtractSettings(**{name: value})) == plain
    assert identity(source, clip, ExtractSettings(compute="bfloat16")) != plain
    jpegs = dataclasses.replace(source, draft=True)
    assert identity(jpegs, clip, ExtractSettings()) == plain
    assert identity(jpegs, clip, ExtractSettings(decode="draft")) != plain


def test_bfloat16_is_close_to_float32(tmp_path):
    source, clip = noise_source(6), tiny_backbone()
    exact, quick = (
        extract(source, clip, tmp_path / name, ExtractSettings(compute=name, dtype="float32"))
        for name in ("float32", "bfloat16")
    )
    cosine = (exact.features * quick.features).sum(-1)
    assert cosine.min() > 0.999
    assert np.abs(exact.features - quick.features).max() > 1e-4
    np.testing.assert_array_equal(exact.text_features, quick.text_features)


@pytest.mark.parametrize("devices", [1, 3])
def test_batches_follow_from_the_shard_alone(devices):
    """Whatever was encoded before in the same run, a shard lies in the same batches."""
    sent = []

    def encode(pixels):
        sent.extend(np.split(pixels[:, 0, 0, 0].copy(), devices))
        return Encoded(pixels[:, 0, 0].astype(np.float32))

    sizes = {0: 3, 1: 0, 2: 4, 3: 9, 4: 1}
    batcher = Batcher(encode, 4, devices, 1)
    out = {}
    for shard, n in sizes.items():
        values = 10 * shard + 1 + np.arange(n)
        pixels = np.broadcast_to(values[:, None, None, None, None], (n, 1, 2, 2, 3))
        for low in range(0, n, 2):
            batcher.add(shard, pixels[low : low + 2].astype(np.uint8))
        batcher.end(shard)
        out.update(batcher.finished())
    out.update(batcher.finished(wait=True))
    assert list(out) == list(sizes)
    for shard, n in sizes.items():
        found = out[shard]
        rows = [] if found is None else found.features[0, :, 0].tolist()
        assert rows == (10 * shard + 1 + np.arange(n)).tolist()
    full = [batch.tolist() for batch in sent if batch.any()]
    assert full == [
        [1, 2, 3, 0],
        [21, 22, 23, 24],
        [31, 32, 33, 34],
        [35, 36, 37, 38],
        [39, 0, 0, 0],
        [41, 0, 0, 0],
    ]


def test_too_little_shared_memory(monkeypatch):
    decoder = make_decoder(noise_source(64), SIZE, 1, 0)
    monkeypatch.setattr(workers_module, "_shared_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"--workers 2 needs .* MB of shared memory"):
        decoded(decoder, [range(64)], 2)
    monkeypatch.setattr(workers_module, "cores", lambda: 8)
    monkeypatch.setattr(workers_module, "_MANY_IMAGES", 10)
    taken = []
    for name in ("in_processes", "in_threads"):
        fake = functools.partial(lambda name, *_: taken.append(name) or (_ for _ in ()), name)
        monkeypatch.setattr(workers_module, name, fake)
    decoded(decoder, [range(64)])
    monkeypatch.setattr(workers_module, "_shared_memory", lambda: 1 << 40)
    decoded(decoder, [range(64)])
    decoded(decoder, [range(9)])
    decoded(decoder, [range(64)], 0)
    assert taken == ["in_threads", "in_processes", "in_threads", "in_threads"]


def test_a_number_of_workers_below_zero():
    with pytest.raises(UserError, match="--workers is -1"):
        ExtractSettings(workers=-1)


@pytest.mark.slow
def test_a_bank_has_the_same_bits_from_worker_processes(tmp_path, monkeypatch, capsys):
    linear_towers(monkeypatch.setattr)
    source, clip = noise_source(40, unreadable={3, 30}), tiny_backbone()
    settings = ExtractSettings(views=2, shard=9, batch=4)
    for workers in (0, 2):
        extract(
            source, clip, tmp_path / str(workers), dataclasses.replace(settings, workers=workers)
        )
    assert content(tmp_path / "0") == content(tmp_path / "2")
    said = capsys.readouterr().err
    assert said.count("unreadable image skipped: img/30.png: is cut short") == 2
    assert not [c for c in multiprocessing.active_children() if "grain" in c.name]


def _facts(index):
    """An image that tells about the process that made it."""
    from jax._src import xla_bridge

    if index == 3:
        time.sleep(1)  # what is done before is on its way
        os.kill(os.getpid(), signal.SIGKILL)
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    facts = [xla_bridge.backends_are_initialized(), ignored, os.getpid() != PARENT]
    return Image.new("RGB", (16, 16), tuple(int(fact) for fact in facts))


PARENT = os.getppid() if multiprocessing.parent_process() else os.getpid()


@pytest.mark.slow
def test_a_worker_that_dies_is_told_in_one_line():
    source = dataclasses.replace(noise_source(4), load=_facts)
    chunks = in_processes(make_decoder(source, SIZE, 1, 0), [range(1), range(1, 4)], 1)
    # It has no backend of JAX, does not hear Ctrl-C, and is not this process.
    assert next(chunks).pixels[0, 0, 0, 0].tolist() == [0, 1, 1]
    with pytest.raises(UserError, match=r"a process that decodes images died \(exit code -9\)"):
        next(chunks)
