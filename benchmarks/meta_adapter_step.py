"""A training step of the Meta-Adapter: the published form in PyTorch against ours in JAX.

Both do the whole step in float32: forward, backward, AdamW. The published form projects the text
and the shots of every class with the key weights, K + 1 rows a class; ours never projects a shot.
The gradients of the two are compared first.

    python benchmarks/meta_adapter_step.py

The last line is ``ratio X``, the smallest over the sizes. PyTorch must be installed.
"""

import argparse
import os
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from pairs import add_bound, bound_of, report, run_pairs

from fsclip_jax.adapters.meta_adapter import init_params, refine

LEARNING_RATE, WEIGHT_DECAY, LOGIT_SCALE = 1e-4, 1e-2, 100.0


def unit(rng, *shape):
    x = rng.standard_normal(shape, np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_data(way, shot, dim, batch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, way, batch).astype(np.int32)
    return unit(rng, way, dim), unit(rng, way, shot, dim), unit(rng, batch, dim), labels


# ---------------------------------------------------------------- published form, PyTorch


class PublishedForm(torch.nn.Module):
    """The refinement in the order of the published code."""

    def __init__(self, params):
        super().__init__()
        dim = params["q_proj"]["weight"].shape[0]
        self.q_proj = torch.nn.Linear(dim, dim, bias=False)
        self.k_proj = torch.nn.Linear(dim, dim, bias=False)
        self.alpha_proj = torch.nn.Linear(dim, 1)
        named = {
            f"{module}.{leaf}": torch.tensor(np.asarray(x))
            for module, leaves in params.items()
            for leaf, x in leaves.items()
        }
        self.load_state_dict(named)

    def forward(self, text, support):
        """Return the refined text features."""
        key_value = torch.cat([text[:, None], support], dim=1)
        query = self.q_proj(text)[:, None]
        key = self.k_proj(key_value)
        attention = torch.softmax(query @ key.transpose(1, 2) / text.shape[-1] ** 0.5, dim=-1)
        mixed = (attention @ key_value)[:, 0]
        refined = text + torch.sigmoid(self.alpha_proj(text)) * mixed
        return torch.nn.functional.normalize(refined, dim=-1)


def published_loss(model, text, support, query, labels):
    logits = LOGIT_SCALE * query @ model(text, support).T
    return torch.nn.functional.cross_entropy(logits, labels)


def published_steps(params, data):
    model = PublishedForm(params)
    tensors = [torch.tensor(x) for x in data]
    tensors[-1] = tensors[-1].long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def run(steps):
        for _ in range(steps):
            loss = published_loss(model, *tensors)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return model, tensors, run


# ---------------------------------------------------------------- our form, JAX


def our_loss(params, text, support, query, labels):
    mask = jnp.ones(support.shape[:2], bool)
    logits = LOGIT_SCALE * query @ refine(params, text, support, mask).T
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def our_steps(params, data):
    arrays = jax.device_put(data)
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(arrays, state, _):
        params, moments = state
        gradients = jax.grad(our_loss)(params, *arrays)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), None

    # Several steps a dispatch, as in the training loop. The data are arguments: as constants of
    # the program they could be worked on when it is compiled.
    @partial(jax.jit, static_argnames="steps", donate_argnums=0)
    def update(state, arrays, steps):
        return jax.lax.scan(partial(step, arrays), state, length=steps)[0]

    state = [(jax.tree.map(jnp.copy, params), optimizer.init(params))]

    def run(steps):
        state[0] = jax.block_until_ready(update(state[0], arrays, steps))

    return run


# ---------------------------------------------------------------- comparison


def relative_error(params, data):
    """Return the largest relative error over the gradients of the parameters."""
    model, tensors, _ = published_steps(params, data)
    published_loss(model, *tensors).backward()
    ours = jax.jit(jax.grad(our_loss))(params, *data)
    errors = []
    for name, parameter in model.named_parameters():
        module, leaf = name.split(".")
        theirs = parameter.grad.numpy()
        difference = np.linalg.norm(np.asarray(ours[module][leaf]) - theirs)
        errors.append(difference / np.linalg.norm(theirs))
    return max(errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--shot", type=int, default=16)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    add_bound(parser, 9)
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    params = init_params(jax.random.key(0), args.dim)
    rows = []
    for way in args.way:
        data = make_data(way, args.shot, args.dim, args.batch)
        error = relative_error(params, data)
        print(f"{way} classes: gradients differ by {error:.1e} (relative)")
        if error > 1e-5:
            raise SystemExit("the gradients are not equal to 1e-5")
        _, _, published = published_steps(params, data)
        ours = our_steps(params, data)
        rows.append((f"{way} classes", run_pairs(published, ours, bound_of(args), args.steps)))
    report(rows)


if __name__ == "__main__":
    main()
