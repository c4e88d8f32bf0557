"""CLIP-LoRA: parity with PyTorch on both kinds of tower, what its parts promise."""

import dataclasses

import clip_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fsclip_jax.adapters import clip_lora
from fsclip_jax.adapters.catalog import example_task
from fsclip_jax.adapters.clip_lora import ClipLora
from fsclip_jax.adapters.descent import support_rows
from fsclip_jax.adapters.prompt_text import token_bytes
from fsclip_jax.adapters.prompt_training import draw_batch
from fsclip_jax.clip.lora import FrozenImages, dropout_mask, init_lora, merge_lora, wrap_lora
from fsclip_jax.clip.model import abstract_clip, cast_weights
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.text import FrozenText
from fsclip_jax.clip.weights import fill_state
from fsclip_jax.episodes.task import Query, Task, Towers
from fsclip_jax.errors import UserError

KEY = jax.random.key(5)
WAY, SHOT = 4, 3


def weights_of(name):
    """The weights of the case, but the last maps of a ResNet so small that its softmax is soft."""
    last = ("bn3.weight", "bn3.bias", "downsample.1.weight", "downsample.1.bias")
    return {
        key: np.float32(1e-3) * array if "layer4" in key and key.endswith(last) else array
        for key, array in cases.tensors_of(name).items()
    }


def task_of(name):
    """Three shots of four classes for one of the CLIPs of the parity tests."""
    graphdef, abstract = abstract_clip(cases.config_of(name))
    state = fill_state(abstract, weights_of(name), cases.entries_of(name))
    model, rng = nnx.merge(graphdef, state), np.random.default_rng(3)
    size = model.vision.config.image_size
    centres = rng.integers(0, 256, (WAY, 1, 8, 8, 3)).repeat(size // 8, 2).repeat(size // 8, 3)
    pixels = np.clip(centres + rng.normal(0, 20, (WAY, SHOT + 2, size, size, 3)), 0, 255)
    pixels = pixels.astype(np.uint8).reshape(WAY, SHOT + 2, -1)
    towers = Towers(
        FrozenImages.of(model.vision, Preprocess(size)),
        FrozenText.of(model.text),
        jnp.asarray(cases.ids_of(name)),
    )
    mask = jnp.ones((WAY, SHOT), bool).at[1, 2].set(False)
    task = Task(
        jnp.asarray(pixels[:, :SHOT]), mask, jnp.zeros((WAY, 8)), jnp.float32(30), towers=towers
    )
    query = jnp.asarray(pixels[:, SHOT:].reshape(2 * WAY, -1))
    return task, Query(query, jnp.arange(2 * WAY) // 2, jnp.ones(2 * WAY, bool))


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("name", ["open_clip_vit", "open_clip_rn"])
def test_twenty_steps_equal_pytorch(name, dropout):
    torch = pytest.importorskip("torch")
    from published import clip_lora as published

    torch.set_num_threads(1)
    task, query = task_of(name)
    adapter = ClipLora(steps=7, batch=4, dropout=dropout)  # 21 steps
    params = {"lr": jnp.float32(5e-3)}
    start_key, batch_key, drop_key = jax.random.split(KEY, 3)
    rows = support_rows(task)

    def factors(step, tower):
        own = jax.random.split(jax.random.fold_in(drop_key, step))[tower]
        own = jax.random.fold_in(own, 0)  # the one piece of the work

        def factor(path, x):
            shape = tuple(x.shape)
            if path == last[tower]:  # ours asks at the one position that is read
                shape = (shape[0], 1, shape[2])
            if path == "attnpool.q_proj":
                shape = (shape[0], shape[2])
            kept = np.array(dropout_mask(own, path, shape, dropout), np.float32)
            kept = kept[:, None] if path == "attnpool.q_proj" else kept
            return torch.tensor(kept / (1 - dropout))

        return factor if dropout else None

    last = ["blocks.1.attention.q_proj"] * 2
    steps = [
        (
            np.asarray(draw_batch(rows, 4, batch_key, jnp.int32(i)).place).tolist(),
            factors(i, 0),
            factors(i, 1),
        )
        for i in range(21)
    ]
    weights, config = weights_of(name), cases.config_of(name)
    quick = config.text.activation == "quick_gelu"
    kind = published.Vit if name == "open_clip_vit" else published.ResNet
    image = kind(weights, config.vision.heads, quick)
    text = published.Text(weights, config.text.heads, quick)

    def in_torch(flat):
        x = np.array(task.towers.image.images(flat)).transpose(0, 3, 1, 2)
        return torch.tensor(x)

    data = {
        "images": in_torch(rows.features[:, 0]),
        "labels": torch.tensor(np.array(rows.labels)).long(),
        "prompt_ids": np.array(task.towers.prompt_ids),
        "logit_scale": 30.0,
    }
    start = jax.tree.map(np.array, adapter.start(task.towers, start_key))
    theirs = published.fit(image, text, start, data, steps, lr=5e-3)

    trained = jax.jit(adapter.train)(params, task, KEY)
    np.testing.assert_allclose(trained.losses, theirs["losses"], rtol=1e-3, atol=1e-3)
    assert trained.losses[-4:].mean() < 0.7 * trained.losses[:4].mean()  # it does train
    for tower, matrices in theirs["lora"].items():
        for path, each in matrices.items():
            for part, tensor in each.items():
                expected = tensor.detach().numpy()
                # As a whole: Adam moves numbers without a gradient by the noise of their rounding.
                away = np.linalg.norm(trained.params[tower][path][part] - expected)
                assert away < 1e-3 * np.linalg.norm(expected)
    logits = jax.jit(lambda p, t, q: adapter.logits(adapter.fit(p, t, KEY), q))
    with torch.no_grad():
        expected = published.logits(theirs, in_torch(query.features)).numpy()
    np.testing.assert_allclose(logits(params, task, query.features), expected, atol=30 * 1e-3)


@pytest.mark.parametrize("name", ["open_clip_vit", "open_clip_rn"])
def test_a_merged_tower_equals_the_matrices_beside_it(name):
    task, query = task_of(name)
    image = task.towers.image
    lora = init_lora(KEY, image.state, 2)
    lora = jax.tree.map(lambda x: x + 0.05, lora)

    @jax.jit
    def both(lora, pixels):
        beside = wrap_lora(image.build(), lora, 0.7)(image.images(pixels))
        merged = dataclasses.replace(image, state=merge_lora(image.state, lora, 0.7))
        return beside, merged.build()(image.images(pixels)), image.build()(image.images(pixels))

    beside, merged, before = both(lora, query.features)
    largest = np.abs(before).max()
    np.testing.assert_allclose(beside, merged, atol=1e-4 * largest)
    assert np.abs(merged - before).max() > 0.01 * largest


def test_pieces_change_nothing_but_what_is_dropped(monkeypatch):
    task, _ = task_of("open_clip_vit")
    adapter, params = ClipLora(steps=2, batch=4, dropout=0.0), {"lr": jnp.float32(5e-3)}
    losses, scans = [], []
    two_images = 2 * token_bytes(task.towers.image.build().config) * 5
    for most in (clip_lora.ON_CPU, two_images):
        monkeypatch.setattr(clip_lora, "ON_CPU", most)
        traced = jax.jit(lambda: adapter.train(params, task, KEY).losses).trace()
        losses.append(traced.lower().compile()())
        scans.append(str(traced.jaxpr).count("scan["))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert scans[0] < scans[1]  # of images and of prompts, there and back


def test_a_mask_drops_its_share_and_no_two_are_alike():
    masks = [
        np.asarray(dropout_mask(jax.random.key(seed), path, (100, 100), 0.25))
        for seed, path in [
            (0, "blocks.0.attention.q_proj"),
            (0, "blocks.0.attention.k_proj"),
            (1, "blocks.0.attention.q_proj"),
        ]
    ]
    for mask in masks:
        assert abs(mask.mean() - 0.75) < 0.02
    assert (masks[0] != masks[1]).any()
    assert (masks[0] != masks[2]).any()


def test_without_pictures_it_says_what_to_do():
    task, _ = example_task(way=3)
    with pytest.raises(UserError, match="give --data emoji, folder:DIR") as caught:
        ClipLora(steps=1).fit({"lr": jnp.float32(0)}, task, KEY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["open_clip_vit", "open_clip_rn"])
def test_towers_in_bfloat16_train_alike(name):
    task, _ = task_of(name)
    adapter, params = ClipLora(steps=2, batch=4, dropout=0.0), {"lr": jnp.float32(5e-3)}
    image, text = (
        dataclasses.replace(tower, state=cast_weights(tower.state, jnp.bfloat16))
        for tower in (task.towers.image, task.towers.text)
    )
    half = task._replace(towers=task.towers._replace(image=image, text=text))
    losses, matrices = jax.jit(lambda p, t: adapter.train(p, t, KEY)[1::-1])(params, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(matrices)} == {jnp.dtype("float32")}
    expected = jax.jit(lambda p, t: adapter.train(p, t, KEY).losses)(params, task)
    # bfloat16 keeps 8 bits, of logits up to 30.
    np.testing.assert_allclose(losses[:4], expected[:4], atol=0.3)
