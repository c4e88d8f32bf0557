"""Banks of made-up features in which shots are worth more than text."""

from pathlib import Path

import numpy as np
import pytest

from fsclip_jax.features.importing import import_npz
from fsclip_jax.training.config import TrainConfig


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def write_npz(path, *, classes=20, images=9, views=1, dim=16, families=False, seed=0, **arrays):
    """Classes scatter around their centres; the text of a class is far from its centre.

    Of every three images two are ``train`` and one is ``val``.
    """
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(classes, dim)))
    labels = np.repeat(np.arange(classes, dtype=np.int32), images)
    one = rng.normal(size=(len(labels), dim)) * 0.1
    noise = one + rng.normal(size=(views, len(labels), dim)) * 0.05 * (views > 1)
    content = {
        "features": unit(centres[labels] + noise).astype(np.float32),
        "labels": labels,
        "text_features": unit(centres + 0.35 * rng.normal(size=centres.shape)).astype(np.float32),
        "split": np.array(["train", "train", "val"])[np.arange(len(labels)) % 3],
        "class_names": np.array([f"thing {i}" for i in range(classes)]),
        "logit_scale": np.float32(20.0),
    }
    if families:
        content["domain"] = np.array(["oil", "ink", "wax"])[np.arange(len(labels)) % 3]
    np.savez(path, **(content | arrays))
    return path


@pytest.fixture(scope="session")
def make_bank(tmp_path_factory):
    """Make a bank; the same settings give the same one."""
    made = {}

    def make(**settings):
        name = repr(sorted(settings.items()))
        if name not in made:
            folder = tmp_path_factory.mktemp("bank")
            npz = write_npz(folder / "features.npz", **settings)
            made[name] = import_npz(npz, folder / "bank", dtype="float32").bank
        return made[name]

    return make


@pytest.fixture(scope="session")
def stored(make_bank):
    return make_bank()


@pytest.fixture(scope="session")
def recipe(stored):
    """Settings of a run that takes seconds."""
    return TrainConfig(
        data=f"bank:{stored.path}",
        classes="all",
        steps=12,
        way=5,
        shot=3,
        query=2,
        batch=2,
        learning_rate=1e-2,
        warmup_steps=2,
        steps_per_dispatch=2,
        eval_every=4,
        checkpoint_every=4,
        val_episodes=8,
    )


@pytest.fixture(scope="session")
def config_file(tmp_path_factory, recipe):
    """The recipe as a file, for the command."""
    fields = {k: v for k, v in vars(recipe).items() if not isinstance(v, Path)}
    path = tmp_path_factory.mktemp("recipe") / "tiny.py"
    body = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    head = "from fsclip_jax.training.config import TrainConfig"
    path.write_text(f"{head}\n\ntrain = TrainConfig({body})\n")
    return path
