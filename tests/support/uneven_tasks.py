"""Tasks that are not even, and batch orders, for the comparison with the published forms."""

import jax
import jax.numpy as jnp
import numpy as np
import published_forms as forms

from fsclip_jax.adapters.catalog import example_task
from fsclip_jax.adapters.descent import draw_epoch
from fsclip_jax.episodes.task import Prompts
from fsclip_jax.features.projection import Projection


def uneven_task(
    way=7, shot=4, query=24, dim=24, views=0, prompts=0, seed=0, logit_scale=50.0, least=0,
    before=0, lengths=False,
):  # fmt: skip
    """Noisy features with a common part, as CLIP's have; one class has ``least`` shots only."""
    task, queries = example_task(way, shot, query, dim, seed)
    rng = np.random.default_rng(seed + 70)
    common = forms.unit(rng.standard_normal(dim))

    def shift(x, towards):
        return jnp.asarray(forms.unit(0.6 * np.asarray(x) + towards))

    mask = rng.random((way, shot)) < 0.75
    mask[0], mask[1] = False, True
    mask |= np.arange(shot) < least
    task = task._replace(
        support=jnp.where(mask[..., None], shift(task.support, common), 0),
        text=shift(task.text, forms.unit(rng.standard_normal(dim))),
        support_mask=jnp.asarray(mask),
        logit_scale=jnp.float32(logit_scale),
    )
    if lengths:
        task = task._replace(text_lengths=jnp.linspace(2.0, 9.0, way))
    if views:
        noise = 0.2 * rng.standard_normal((way, shot, views, dim))
        seen = forms.unit(np.asarray(task.support)[:, :, None] + noise)
        seen = np.where(mask[..., None, None], seen, 0)
        support = np.where(mask[..., None], forms.unit(seen.mean(2) + 1e-9), 0)
        task = task._replace(
            support=jnp.asarray(support, jnp.float32), views=jnp.asarray(seen, jnp.float32)
        )
    if prompts:
        around = np.asarray(task.text)[:, None] + 0.3 * rng.standard_normal((way, prompts, dim))
        present = np.arange(prompts) < np.maximum(1, prompts - np.arange(way) % 3)[:, None]
        vectors = np.where(present[..., None], forms.unit(around), 0).astype(np.float32)
        task = task._replace(prompts=Prompts(jnp.asarray(vectors), jnp.asarray(present)))
    queries = queries._replace(features=shift(queries.features, common))
    return before_projection(task, queries, before, rng) if before else (task, queries)


def before_projection(task, queries, before, rng):
    """The same task before a projection with a bias, its vectors of many lengths."""
    dim = task.text.shape[1]
    kernel = rng.standard_normal((before, dim)) / np.sqrt(before)
    bias = 0.1 * rng.standard_normal(dim)

    def lift(x):
        x = np.asarray(x, np.float64)
        present = np.any(x != 0, axis=-1, keepdims=True)
        noise = 0.3 * rng.standard_normal((*x.shape[:-1], before))
        length = rng.uniform(0.5, 3, (*x.shape[:-1], 1))
        lifted = length * (x @ np.linalg.pinv(kernel) + noise / np.sqrt(before))
        return jnp.asarray(np.where(present, lifted, 0), jnp.float32)

    task = task._replace(
        support=lift(task.support),
        views=None if task.views is None else lift(task.views),
        projection=Projection(jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)),
    )
    return task, queries._replace(features=lift(queries.features))


def plain(task):
    """The task as the plain forms take it."""
    return {
        "support": np.array(task.support, np.float32),
        "mask": np.array(task.support_mask),
        "text": np.array(task.text, np.float32),
        "logit_scale": float(task.logit_scale),
        "text_lengths": None if task.text_lengths is None else np.array(task.text_lengths),
        "views": None if task.views is None else np.array(task.views, np.float32),
        "prompts": None if task.prompts is None else tuple(map(np.array, task.prompts)),
        "projection": None if task.projection is None else tuple(map(np.array, task.projection)),
    }


def same_batches(task, key, epochs, batch, text_as_shot=False):
    """The minibatches of a descent from this key, as rows among the shots that are present."""
    kept = np.asarray(task.support_mask).reshape(-1)
    if text_as_shot:
        kept = np.concatenate([kept, np.ones(task.text.shape[0], bool)])
    views = 1 if task.views is None else task.views.shape[2]
    place = np.cumsum(kept) - 1
    batches = []
    for epoch_key in jax.random.split(key, epochs):
        drawn = draw_epoch(epoch_key, len(kept), views, batch)
        for index, view, real in zip(*map(np.asarray, drawn), strict=True):
            batches.append((place[index[real & kept[index]]], int(view)))
    return batches
