"""CoOp and CoCoOp: parity with PyTorch, the shared beginning, pieces of the work, memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fsclip_jax.adapters import prompt_text
from fsclip_jax.adapters.catalog import example_task
from fsclip_jax.adapters.cocoop import CoCoOp, init_meta_net
from fsclip_jax.adapters.coop import CoOp
from fsclip_jax.adapters.descent import support_rows
from fsclip_jax.adapters.prompt_text import (
    encode_classes,
    first_context,
    lay_out,
    map_pieces,
    shared_count,
)
from fsclip_jax.adapters.prompt_training import draw_batch, prompt_schedule
from fsclip_jax.clip.config import TextConfig
from fsclip_jax.clip.load import find_model, load_clip
from fsclip_jax.clip.text import FrozenText, TextTower
from fsclip_jax.episodes.task import Words
from fsclip_jax.errors import UserError

KEY = jax.random.key(5)
PARAMS = {"lr": jnp.float32(2e-3)}
NAMES = ((1, 2), (3,), (4, 5, 6), (7,), (2, 9))


def words_with(tower, start, end, tail=(8,)):
    longest = max(map(len, NAMES))
    ids = [[*name, *[0] * (longest - len(name))] for name in NAMES]
    return Words(
        ids=jnp.array(ids, jnp.int32),
        lengths=jnp.array([len(name) for name in NAMES], jnp.int32),
        start_id=jnp.int32(start),
        end_id=jnp.int32(end),
        tail_ids=jnp.array(tail, jnp.int32),
        context_ids=jnp.array([9, 8, 7, 9], jnp.int32),
        tower=tower,
    )


@pytest.fixture(scope="module")
def small():
    """Two blocks, so that the beginning runs through one."""
    config = TextConfig(32, 16, 16, 2, 2, 32, embed_dim=8)
    return words_with(FrozenText.of(TextTower(config, rngs=nnx.Rngs(0))), 30, 31)


@pytest.fixture(scope="module")
def mini():
    backbone = load_clip("mini")
    text = nnx.merge(backbone.graphdef, backbone.state).text
    return words_with(FrozenText.of(text), 4094, 4095)


def whole(words, context_of_class, before):
    """The same prompts at full length through the tower as it is, nothing shared or cut."""
    text, rows, ends = words.tower.build(), [], []
    for name, context in zip(NAMES, context_of_class, strict=True):
        start, rest = [words.start_id], [*words.tail_ids, words.end_id]
        parts = [text.embed(jnp.array(part)) for part in (start, name, rest)]
        row = jnp.concatenate([parts[0], context[:before], parts[1], context[before:], parts[2]])
        ends.append(len(row) - 1)
        rows.append(jnp.pad(row, ((0, 16 - len(row)), (0, 0)), constant_values=7.0))
    return text(embeds=jnp.stack(rows), ends=jnp.array(ends))


@pytest.mark.parametrize("class_specific", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_shared_beginning_changes_nothing(small, position, class_specific):
    context = jax.random.normal(KEY, (5, 5, 16) if class_specific else (5, 16))
    begin = small.tower.build().embed(small.start_id)
    before = shared_count(5, position, class_specific)

    def ours(context):
        endings = lay_out(small, 5, position, class_specific)
        return encode_classes(small.tower, begin, context, endings, before)

    def full(context):
        each = jnp.broadcast_to(context, (5, 5, 16))
        out = whole(small, each, shared_count(5, position))
        return out / jnp.linalg.norm(out, axis=-1, keepdims=True)

    def both(context):
        out = []
        for encode in (ours, full):
            text, back = jax.vjp(encode, context)
            out.append((text, back(jnp.zeros_like(text).at[:, 0].set(1))[0]))
        return out

    for mine, theirs in zip(*jax.jit(both)(context), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_pieces_change_nothing(small, monkeypatch):
    context = jax.random.normal(KEY, (4, 16))
    endings = lay_out(small, 4, "end")
    begin = small.tower.build().embed(small.start_id)

    def value_and_grad():
        text, back = jax.vjp(lambda x: encode_classes(small.tower, begin, x, endings, 4), context)
        return text, back(jnp.zeros_like(text).at[:, 0].set(1))[0]

    expected = jax.jit(value_and_grad)()
    piece = 2 * prompt_text.token_bytes(small.tower.build().config) * endings.slots.shape[1]
    monkeypatch.setattr(prompt_text, "PIECE_BYTES", piece)
    again = jax.jit(lambda: value_and_grad())()
    for mine, theirs in zip(again, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_pieces_cover_all_rows():
    x = jnp.arange(14.0).reshape(7, 2)
    for most in range(1, 9):
        np.testing.assert_array_equal(map_pieces(lambda y: 2 * y, x, most), 2 * x)


def test_the_tower_gets_no_gradient(small):
    task, query = example_task(way=5, shot=2, dim=8)

    def loss(tower):
        words = small._replace(tower=tower)
        state = CoOp(steps=1).fit(PARAMS, task._replace(words=words), KEY)
        return CoOp().logits(state, query.features).sum()

    gradient = jax.jit(jax.grad(loss))(small.tower)
    embedding = gradient.state["token_embedding"][...]
    blocks = jax.tree.leaves(gradient.state["blocks"])
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in blocks)
    assert embedding.shape == (32, 16)


def task_of(words, dim, shot=3):
    task, query = example_task(way=5, shot=shot, dim=dim, query=7)
    task = task._replace(
        words=words, logit_scale=jnp.float32(30), support_mask=task.support_mask.at[1, 2].set(False)
    )
    return task, query.features


def torch_inputs(task, adapter, batch_key):
    """The same start and batches for PyTorch."""
    tower_file = find_model("mini") / "open_clip_model.safetensors"
    text_tower = pytest.importorskip("published.text_tower")
    rows = support_rows(task)
    batches = [
        np.asarray(draw_batch(rows, adapter.batch, batch_key, jnp.int32(step)).place)
        for step in range(adapter.steps)
    ]
    words = task.words
    published = {
        "support": np.asarray(task.support),
        "mask": np.asarray(task.support_mask),
        "logit_scale": float(task.logit_scale),
    }
    return published, {
        "tower": text_tower.TextTower(load_file(tower_file), heads=4),
        "names": NAMES,
        "words": {
            "start_id": int(words.start_id),
            "end_id": int(words.end_id),
            "tail": words.tail_ids.tolist(),
        },
        "batches": batches,
        "position": adapter.position,
    }


@pytest.mark.parametrize(
    "adapter",
    [
        CoOp(steps=50, batch=4),
        CoOp(steps=50, context=3, start="random", position="middle"),
        CoOp(steps=50, position="front", class_specific=True),
    ],
    ids=["end", "middle", "own-front"],
)
def test_coop_equals_torch(mini, adapter):
    pytest.importorskip("torch")
    from published import coop

    task, features = task_of(mini, 192)
    context_key, batch_key = jax.random.split(KEY)
    context = first_context(mini, adapter.context, adapter.start, context_key)
    if adapter.class_specific:
        context = jnp.broadcast_to(context, (5, *context.shape))
    published, settings = torch_inputs(task, adapter, batch_key)
    state = coop.fit(published, context=np.asarray(context), **settings)
    weights, losses, _ = jax.jit(adapter.train)(PARAMS, task, KEY)
    np.testing.assert_allclose(losses, state["losses"], rtol=1e-3, atol=1e-4)
    assert losses.min() < 0.7 * losses[0]
    mine = adapter.logits({"weights": weights, "logit_scale": task.logit_scale}, features)
    theirs = coop.logits(state, np.asarray(features)).numpy()
    np.testing.assert_allclose(mine, theirs, atol=30 * 1e-3)


def test_cocoop_equals_torch(mini):
    pytest.importorskip("torch")
    from published import cocoop

    adapter = CoCoOp(steps=50, batch=2)
    task, features = task_of(mini, 192)
    context_key, meta_key, batch_key = jax.random.split(KEY, 3)
    published, settings = torch_inputs(task, adapter, batch_key)
    state = cocoop.fit(
        published,
        context=np.asarray(first_context(mini, 4, "words", context_key)),
        meta_net=jax.tree.map(np.asarray, init_meta_net(meta_key, 192, 128)),
        **settings,
    )
    fitted, losses, _ = jax.jit(adapter.train)(PARAMS, task, KEY)
    np.testing.assert_allclose(losses, state["losses"], rtol=1e-3, atol=1e-4)
    theirs = cocoop.logits(state, np.asarray(features)).numpy()
    np.testing.assert_allclose(jax.jit(adapter.logits)(fitted, features), theirs, atol=30 * 1e-3)


def test_an_epoch_shows_every_present_image_once():
    task, _ = example_task(way=5, shot=4)
    rows = support_rows(task._replace(support_mask=task.support_mask.at[0, 1:].set(False)))
    draws = [draw_batch(rows, 4, KEY, jnp.int32(step)) for step in range(8)]
    first, second = (np.concatenate([d.place for d in part]) for part in (draws[:4], draws[4:]))
    assert len(set(first.tolist())) == len(set(second.tolist())) == 16
    assert (first != second).any()
    assert all(bool(d.weights.all()) for d in draws)


def test_a_step_sees_one_view_of_its_images():
    task, _ = example_task(way=2, shot=2, dim=4)
    views = jnp.broadcast_to(jnp.arange(3.0)[:, None], (2, 2, 3, 4))
    rows = support_rows(task._replace(views=views))
    seen = [np.unique(draw_batch(rows, 9, KEY, jnp.int32(step)).features) for step in range(20)]
    assert all(len(values) == 1 for values in seen)
    assert {float(values[0]) for values in seen} == {0.0, 1.0, 2.0}


def test_the_rate_warms_up_and_falls():
    rate = prompt_schedule(0.002, 200)
    rates = [float(rate(jnp.int32(step))) for step in range(200)]
    np.testing.assert_allclose(rates[:4], 1e-5)
    assert 0.0019 < max(rates) < 0.002
    assert rates[-1] < 1e-6
    assert (np.diff(rates[4:]) < 0).all()


@pytest.mark.parametrize("adapter", [CoOp(), CoCoOp()], ids=lambda adapter: adapter.name)
def test_says_what_is_missing(adapter, small):
    task, _ = example_task(way=5, dim=8)
    with pytest.raises(UserError, match="needs the text tower"):
        adapter.fit(PARAMS, task, KEY)
    long = dataclasses.replace(adapter, context=14)
    with pytest.raises(UserError, match="give context 12 or less"):
        long.fit(PARAMS, task._replace(words=small), KEY)


def test_long_names_are_cut(small):
    long = small._replace(ids=jnp.ones((5, 20), jnp.int32), lengths=jnp.full(5, 20, jnp.int32))
    endings = lay_out(long, 4, "end")
    assert endings.ends.tolist() == [10] * 5  # 4 + 1 come before, and it is the last of 16


def test_memory_does_not_grow_with_the_classes(small, monkeypatch):
    """The gradient of one image's loss; see docs/methods.md for the sizes of ViT-B/16."""
    monkeypatch.setattr(prompt_text, "PIECE_BYTES", 2**20)

    def temporary(way):
        task, _ = example_task(way=way, shot=1, dim=8)
        ids = jnp.ones((way, 3), jnp.int32)
        words = small._replace(ids=ids, lengths=jnp.full(way, 3, jnp.int32))
        train = jax.jit(CoCoOp(steps=1).train)
        compiled = train.lower(PARAMS, task._replace(words=words), KEY).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(200), temporary(800)
    whole_batch = 600 * 6 * prompt_text.token_bytes(small.tower.build().config)
    assert many - few < 0.3 * whole_batch
