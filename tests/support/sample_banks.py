"""Small random banks to write, spoil and read back."""

import numpy as np

from fsclip_jax.features.layout import Rows
from fsclip_jax.features.writing import Description


def random_rows(seed=0, views=2, n=13, dim=6, classes=4, families=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(views, n, dim)).astype(np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    domains = rng.integers(families, size=n) if families else np.full(n, -1)
    return Rows(
        features,
        rng.integers(classes, size=n).astype(np.int32),
        rng.integers(3, size=n).astype(np.int8),
        [f"class/{row}.png" for row in range(n)],
        domains.astype(np.int32),
    )


def description(dim=6, classes=4, families=0, **changes):
    text = np.random.default_rng(9).normal(size=(classes, dim)).astype(np.float32)
    known = {
        "text_features": text / np.linalg.norm(text, axis=-1, keepdims=True),
        "text_lengths": np.linspace(2, 9, classes, dtype=np.float32),
        "class_names": [f"name {index}" for index in range(classes)],
        "domain_names": [f"family {index}" for index in range(families)],
        "logit_scale": 100.0,
        "data": {"spec": "test", "version": "1"},
        "backbone": {"id": "tiny", "sha256": "0" * 64},
        "preprocessing": {},
        "templates": ["a {}"],
        "extra": {"augmentation": {}},
    }
    return Description(**known | changes)
