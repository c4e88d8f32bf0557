"""Contrastive pretraining: the loss, the augmentation, the batches, the tokenizer, the loop."""

import json

import contrastive
import icon_augment
import jax
import jax.numpy as jnp
import name_tokenizer
import numpy as np
import pretrain
import pytest
from corpus import encode_names, make_batch, open_corpus
from PIL import Image

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig
from fsclip_jax.errors import UserError
from fsclip_jax.numerics import l2_normalize

SIDE = 48
NAMES = ["blue car", "car", "dog", "red car"]
TEXT = TextConfig(600, 8, 16, 1, 2, 32, embed_dim=8, activation="gelu")
MODEL = ClipConfig(ResNetConfig((1, 1, 1, 1), 4, 32, embed_dim=8, heads=2), TEXT)


# --- loss ---------------------------------------------------------------------------------------


def unit(key, n, dim=6):
    return l2_normalize(jax.random.normal(key, (n, dim)))


def test_with_one_positive_a_row_the_loss_is_clips(key):
    images, texts = unit(key, 5), unit(jax.random.fold_in(key, 1), 5)
    loss, logits = contrastive.contrastive_loss(
        images, texts, jnp.float32(7.0), jnp.eye(5, dtype=bool)
    )
    scores = 7.0 * np.asarray(images) @ np.asarray(texts).T
    rows = np.log(np.exp(scores).sum(1)) - np.diag(scores)
    columns = np.log(np.exp(scores).sum(0)) - np.diag(scores)
    np.testing.assert_allclose(loss, (rows.mean() + columns.mean()) / 2, rtol=1e-5)
    np.testing.assert_allclose(logits, scores, rtol=1e-5)


def test_equal_names_are_not_pushed_apart():
    # Two pairs of one name and one of another, all perfectly embedded.
    x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    names = jnp.array([4, 4, 9])
    shared, _ = contrastive.contrastive_loss(
        x, x, jnp.float32(100.0), names[:, None] == names[None, :]
    )
    apart, _ = contrastive.contrastive_loss(x, x, jnp.float32(100.0), jnp.eye(3, dtype=bool))
    # The best two equal positives can reach is the entropy of their half-half target.
    np.testing.assert_allclose(shared, 2 / 3 * np.log(2), rtol=1e-5)
    grad = jax.grad(
        lambda y: contrastive.contrastive_loss(
            x, y, jnp.float32(1.0), names[:, None] == names[None, :]
        )[0]
    )(x)
    np.testing.assert_allclose(grad[0], grad[1], atol=1e-6)
    assert apart >= shared - 1e-6


def test_the_loss_does_not_depend_on_the_order_of_the_pairs(key):
    images, texts = unit(key, 6), unit(jax.random.fold_in(key, 1), 6)
    names = jnp.array([0, 1, 1, 2, 3, 0])
    order = jnp.array([3, 5, 0, 1, 4, 2])
    losses = [
        contrastive.contrastive_loss(
            images[o], texts[o], jnp.float32(5.0), names[o][:, None] == names[o][None, :]
        )[0]
        for o in (jnp.arange(6), order)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)


# --- augmentation -------------------------------------------------------------------------------


def test_resizing_without_moving_is_pils_bicubic():
    noise = np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3), np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((12, 12)).resize((SIDE, SIDE)))
    weights = icon_augment.resize_weights(jnp.ones(1), jnp.zeros(1), SIDE, 32)
    np.testing.assert_allclose(weights[:, 4:-4].sum(-1), 1.0, atol=2e-2)
    ours = jnp.einsum("rh,hwc,kw->rkc", weights[0], picture / 255.0, weights[0])
    theirs = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC)) / 255
    inner = (slice(3, -3),) * 2
    assert np.abs(np.asarray(ours)[inner] - theirs[inner]).max() < 0.02


def test_a_shift_and_a_scale_do_what_they_say():
    picture = jnp.zeros((SIDE, 1)).at[SIDE // 2].set(1.0)  # one row, in the middle
    shifted = icon_augment.resize_weights(jnp.ones(1), jnp.full(1, 0.25), SIDE, SIDE)[0] @ picture
    assert int(shifted[:, 0].argmax()) == SIDE // 2 + SIDE // 4
    off = jnp.zeros((SIDE, 1)).at[SIDE // 2 + 8].set(1.0)
    larger = icon_augment.resize_weights(jnp.full(1, 1.25), jnp.zeros(1), SIDE, SIDE)[0] @ off
    assert int(larger[:, 0].argmax()) == SIDE // 2 + 10


def test_ink_and_areas_are_painted_apart(key):
    ink = np.zeros((64, 8, 8), np.uint8)
    areas = np.zeros((64, 8, 8), np.uint8)
    ink[:, 2:6, 2:6], areas[:, 2:6, 2:6] = 255, 8
    ink[:, 3:5, 3:5], areas[:, 3:5, 3:5] = 0, 1
    painted, ground = icon_augment.paint_glyphs(key, jnp.asarray(np.stack([ink, areas], -1)))
    painted, ground = np.asarray(painted), np.asarray(ground)
    np.testing.assert_allclose(painted[:, 0, 0], ground, atol=1e-6)
    hole, stroke = painted[:, 3, 3], painted[:, 2, 2]
    filled = np.abs(hole - ground).max(-1) > 1e-3
    assert 0.3 < filled.mean() < 0.8  # some are filled, some are left open
    assert (np.abs(stroke - hole).max(-1) > 1e-3).mean() > 0.9
    assert 0.6 < (ground == 1).all(-1).mean() < 1.0
    black = (stroke == 0).all(-1) & (hole == 1).all(-1) & (ground == 1).all(-1)
    assert black.any()


def test_white_stays_white_when_colours_vary(key):
    pictures = np.full((32, 4, 4, 3), 255, np.uint8)
    pictures[:, 0, 0] = (200, 100, 0)
    varied, ground = icon_augment.vary_pictures(key, jnp.asarray(pictures))
    assert bool((varied[:, 1:] == 1).all())
    assert bool((ground == 1).all())
    assert len(np.unique(np.asarray(varied[:, 0, 0]).argmax(-1))) > 1  # channels were permuted


def test_augmentation_is_in_range_and_follows_the_key(key):
    rng = np.random.RandomState(0)
    pictures = jnp.asarray(rng.randint(0, 256, (3, SIDE, SIDE, 3), np.uint8))
    glyphs = jnp.asarray(rng.randint(0, 64, (2, SIDE, SIDE, 2), np.uint8))
    a, b = (icon_augment.augment(key, pictures, glyphs, 32) for _ in range(2))
    other = icon_augment.augment(jax.random.fold_in(key, 1), pictures, glyphs, 32)
    assert a.shape == (5, 32, 32, 3)
    assert bool((a == b).all())
    assert not bool((a == other).all())
    assert float(a.min()) >= 0
    assert float(a.max()) <= 1


# --- tokenizer ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return name_tokenizer.train_tokenizer(NAMES * 3, TEXT.vocab_size)


def test_the_end_token_has_the_largest_id(tokenizer):
    vocabulary = tokenizer.get_vocab()
    assert max(vocabulary, key=vocabulary.get) == name_tokenizer.END
    assert tokenizer.get_vocab_size() <= TEXT.vocab_size
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


def test_case_and_breaks_do_not_matter_and_any_text_can_be_written(tokenizer):
    wanted = tokenizer.encode("red car").ids
    assert all(tokenizer.encode(name).ids == wanted for name in ("Red-Car", "red_car", " RED  car"))
    tokens = tokenizer.encode("naïve 漢字 \U0001f697 !?").tokens
    assert tokens.count(name_tokenizer.END) == 1


def test_transformers_reads_the_saved_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    ids = tokenizer.encode("red car").ids
    name_tokenizer.save_tokenizer(tokenizer, tmp_path, 8)
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    row = theirs(["Red car"], padding="max_length", truncation=True, max_length=8)["input_ids"][0]
    assert row == ids + [ids[-1]] * (8 - len(ids))
    assert theirs.eos_token_id == max(theirs.get_vocab().values())


# --- batches and the loop -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.RandomState(0)
    np.save(folder / "pictures.npy", rng.randint(0, 256, (6, SIDE, SIDE, 3), np.uint8))
    np.save(folder / "glyphs.npy", rng.randint(0, 64, (5, SIDE, SIDE, 2), np.uint8))
    (folder / "names.json").write_text(json.dumps(NAMES))
    names = np.full((11, 3), -1, np.int32)
    names[:, 0] = np.arange(11) % len(NAMES)
    names[0, 1] = 3  # the first picture has a synonym
    kind = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2], np.int8)
    weight = np.ones(11, np.float32)
    weight[10] = 0.0
    np.savez(folder / "index.npz", names=names, weight=weight, kind=kind, source=kind)
    np.savez(
        folder / "benchmark.npz",
        pictures=rng.randint(0, 256, (7, SIDE, SIDE, 3), np.uint8),
        labels=np.arange(7, dtype=np.int32) % 2,
        names=np.array(["dog", "red car"]),
    )
    return folder


@pytest.fixture(scope="module")
def corpus(corpus_folder):
    return open_corpus(corpus_folder)


def test_a_batch_follows_the_mix_the_weights_and_the_step(corpus, tokenizer):
    ids = encode_names(corpus, tokenizer, TEXT.context_length)
    batch = make_batch(corpus, ids, 200, 0, 3)
    again = make_batch(corpus, ids, 200, 0, 3)
    other = make_batch(corpus, ids, 200, 0, 4)
    assert len(batch.pictures) == 110  # a quarter and three tenths
    assert len(batch.glyphs) == 90
    assert all((a == b).all() for a, b in zip(batch, again, strict=True))
    assert (batch.names != other.names).any()
    assert not (batch.glyphs == corpus.glyphs[4]).all((1, 2, 3)).any()  # its weight is zero
    assert (batch.ids == ids[batch.names]).all()
    first = (batch.pictures == corpus.pictures[0]).all((1, 2, 3)).nonzero()[0]
    assert set(batch.names[first].tolist()) == {0, 3}  # its own name and its synonym


def test_a_folder_without_a_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"build_corpus\.py"):
        open_corpus(tmp_path)


RECIPE = contrastive.ContrastiveConfig(
    steps=24, batch=20, warmup_steps=1, learning_rate=5e-3, ema_decay=0.5
)


@pytest.fixture(scope="module")
def start():
    """The graph, a state on the host, and one compiled step for all tests."""
    graphdef, state = contrastive.init_contrastive(MODEL, RECIPE)
    step = contrastive.make_step(graphdef, MODEL, RECIPE)
    return graphdef, jax.tree.map(np.asarray, state), step


@pytest.fixture
def run(start, monkeypatch):
    """``pretrain`` with the compiled step."""
    graphdef, state, step = start

    def blank(model, config):
        assert (model, config) == (MODEL, RECIPE)
        return graphdef, jax.tree.map(jnp.array, state)

    monkeypatch.setattr(pretrain, "init_contrastive", blank)
    monkeypatch.setattr(pretrain, "make_step", lambda *_: step)
    return lambda *args: pretrain.pretrain(MODEL, RECIPE, *args)


def test_one_batch_can_be_learned_by_heart(corpus, tokenizer, key, start):
    ids = encode_names(corpus, tokenizer, TEXT.context_length)
    _, state, step = start
    state = jax.tree.map(jnp.array, state)
    batch = make_batch(corpus, ids, RECIPE.batch, 0, 0)
    losses = []
    for _ in range(RECIPE.steps):
        state, metrics = step(state, batch, key)
        losses.append(float(metrics.loss))
    assert np.mean(losses[-4:]) < 0.95 * losses[0]
    assert int(state.step) == RECIPE.steps


def test_the_mean_weights_follow_the_weights(corpus, tokenizer, key, start):
    ids = encode_names(corpus, tokenizer, TEXT.context_length)
    _, before, step = start
    batch = make_batch(corpus, ids, RECIPE.batch, 0, 0)
    state, _ = step(jax.tree.map(jnp.array, before), batch, key)
    after, _ = step(jax.tree.map(jnp.copy, state), batch, key)

    def check(mean, old, new, kept):
        np.testing.assert_allclose(mean, kept * old + (1 - kept) * np.asarray(new), atol=1e-5)

    # A young mean keeps (1 + step) / (10 + step) of what it was, until that reaches the decay.
    for field, mean in (("params", "mean_params"), ("stats", "mean_stats")):
        old, new = getattr(before, mean), getattr(state, field)
        jax.tree.map(lambda *a: check(*a, 0.1), getattr(state, mean), old, new)
        old, new = getattr(state, mean), getattr(after, field)
        jax.tree.map(lambda *a: check(*a, 2 / 11), getattr(after, mean), old, new)


def test_a_stopped_run_continues_bit_for_bit(corpus, corpus_folder, tmp_path, run, monkeypatch):
    loop = pretrain.LoopConfig(log_every=8, eval_every=12, checkpoint_every=10)
    zero_shot = corpus_folder / "benchmark.npz"
    _, wanted = run(loop, corpus, zero_shot, tmp_path / "whole")
    real = pretrain.make_batch

    def dies(corpus, ids, size, seed, step):
        if step == 15:
            raise KeyboardInterrupt
        return real(corpus, ids, size, seed, step)

    monkeypatch.setattr(pretrain, "make_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        run(loop, corpus, zero_shot, tmp_path / "parts")
    monkeypatch.setattr(pretrain, "make_batch", real)
    _, resumed = run(loop, corpus, zero_shot, tmp_path / "parts")
    same = jax.tree.map(lambda a, b: bool((a == b).all()), wanted, resumed)
    assert all(jax.tree.leaves(same))
    log = (tmp_path / "whole" / "log.jsonl").read_text()
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row["step"] for row in rows if "top1" in row] == [12, 24]
    assert [row["step"] for row in rows if "loss" in row] == [8, 16, 24]
    log = (tmp_path / "parts" / "log.jsonl").read_text()
    assert json.loads(log.splitlines()[-1]) == rows[-1]


def test_zero_shot_accuracy_counts_ranks(corpus_folder, tokenizer, start):
    data = pretrain.open_zero_shot(corpus_folder / "benchmark.npz", tokenizer, 32)
    graphdef, state, _ = start
    weights = pretrain.mean_weights(graphdef, jax.tree.map(jnp.array, state))
    small, large = (pretrain.zero_shot_accuracy(graphdef, weights, data, n) for n in (4, 16))
    assert small == large
    assert small["top5"] == 100.0  # there are two classes
