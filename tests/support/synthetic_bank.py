"""A small bank with a known geometry, for the tests of the evaluation."""

import numpy as np
from vectors import unit

from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.layout import Rows
from fsclip_jax.features.writing import Description, write_bank

CLASSES, DIM, VIEWS = 7, 12, 2
COUNTS = {"train": 6, "val": 4, "test": 5}


def synthetic_bank(
    path,
    counts=COUNTS,
    families=None,
    spec="synthetic",
    seed=0,
    backbone=None,
    per_class=None,
    shuffled=False,
) -> StoredBank:
    """Images scatter around one centre a class; the text is a worse guess of that centre.

    ``per_class`` gives the train images of each class; ``families`` makes an artist family of
    every so many images; ``shuffled`` stores the images in random order.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, DIM))
    features, labels, splits, domains = [], [], [], []
    for split, name in enumerate(("train", "val", "test")):
        for label in range(CLASSES):
            count = counts.get(name, 0)
            count = per_class[label] if per_class and name == "train" else count
            for i in range(count):
                image = centres[label] + 1.1 * rng.normal(size=DIM)
                features.append(image + 0.3 * rng.normal(size=(VIEWS, DIM)))
                labels.append(label)
                splits.append(split)
                domains.append(-1 if families is None else 100 * split + i // families)
    domains = np.array(domains, np.int32)
    _, numbered = np.unique(domains, return_inverse=True)
    order = np.arange(len(labels))
    if shuffled:
        order = np.random.default_rng(seed + 1).permutation(order)
    families_of = domains if families is None else numbered.astype(np.int32)
    rows = Rows(
        features=unit(np.stack(features, 1))[:, order],
        labels=np.array(labels, np.int32)[order],
        splits=np.array(splits, np.int8)[order],
        keys=[f"image-{i}" for i in order.tolist()],
        domains=families_of[order],
    )
    return write_bank(
        path,
        rows,
        Description(
            text_features=unit(centres + 1.5 * rng.normal(size=(CLASSES, DIM))),
            class_names=[f"thing {label}" for label in range(CLASSES)],
            domain_names=[]
            if families is None
            else [f"artist {i}" for i in range(numbered.max() + 1)],
            logit_scale=20.0,
            data={"spec": spec, "version": "1"},
            backbone=backbone or {"id": "toy", "sha256": "a" * 64},
            preprocessing={},
            templates=["{}"],
            extra={},
        ),
        dtype="float32",
    )
