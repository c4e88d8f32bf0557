"""Cross-modal linear probe in plain PyTorch (Lin et al.).

Section 3 of "Multimodality Helps Unimodality": class names are labelled examples beside the
images. AdamW; half of the loss is of the images and half of the texts, here of all texts in every
step.
"""

import torch
from published.loop import labelled, shuffled, train

CASES = [{"views": 0, "rate": 0.05}, {"views": 3, "rate": 0.15}]


def in_published_units(task, rate=0.03, **settings):
    """The rate is a step of the weights here, and times the logit scale there."""
    return settings | {"rate": rate / task["logit_scale"]}


def fit(task, rate=3e-4, epochs=300, batch=256, batches=None):
    images, labels = labelled(task)
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)
    weights = torch.nn.Parameter(text.clone())
    names = torch.arange(len(text))

    def loss(image, label):
        # Each modality is averaged by itself, so that each is one half.
        return sum(
            torch.nn.functional.cross_entropy(scale * rows @ weights.T, own)
            for rows, own in ((image, label), (text, names))
        ).div(2)

    optimizer = torch.optim.AdamW([weights], lr=rate)
    losses = train([weights], optimizer, loss, images, labels, batches)
    return {"weights": weights, "logit_scale": scale, "losses": losses}


def logits(state, query):
    return state["logit_scale"] * torch.as_tensor(query) @ state["weights"].T
