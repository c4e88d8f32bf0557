"""TIMO in plain PyTorch, from "Text and Image Are Mutually Beneficial" (arXiv 2412.11375).

In the order of the published code: class by class, score the prompts by the mean shot and take
their weighted mean for the text; then GDA on the shots and the prompts times their scores, one row
a prompt and one an image. Where an image has several views each is a row, and a prompt is as many.
``alpha`` weighs the densities and is in the published unit of GDA.
"""

import torch
from published.gda import discriminant, logits, samples
from torch.nn.functional import normalize

__all__ = ["fit", "logits"]

LEAST_SHOTS = 1
UP_TO_A_NUMBER = True
CASES = [
    {"alpha": 0.5, "gamma": 50.0},
    {"alpha": 0.5, "gamma": 1.0, "views": 5},
    {"alpha": 0.5, "gamma": 100.0, "views": 2},
]


def in_published_units(task, alpha=0.05, gamma=50.0):
    """The package's weight of the densities in that of the code; a prompt is an image."""
    images = task["mask"].sum() + task["prompts"][1].sum()
    return {"alpha": alpha * (images - 1) / task["text"].shape[1], "gamma": gamma}


def fit(task, alpha=0.05, gamma=50.0):
    support, mask = torch.as_tensor(task["support"]), torch.as_tensor(task["mask"])
    vectors, there = (torch.as_tensor(x) for x in task["prompts"])
    views = 1 if task.get("views") is None else task["views"].shape[2]
    text, rows, labels = [], [], []
    for c in range(len(mask)):
        prompts = vectors[c][there[c]]
        score = prompts @ normalize(support[c][mask[c]].mean(0), dim=0)
        weights = torch.softmax(gamma * score / score.norm(), dim=0)
        text.append(normalize(weights @ prompts, dim=0))
        rows.append((score[:, None] * prompts).repeat(views, 1))
        labels.append(torch.full((views * len(prompts),), c))
    images, image_labels = samples(task)
    rows = torch.cat([*rows, images])
    labels = torch.cat([*labels, image_labels])
    weights, bias = discriminant(rows, labels, len(mask), len(rows) / views)
    return {
        "text": torch.stack(text),
        "weights": weights,
        "bias": bias,
        "logit_scale": float(task["logit_scale"]),
        "alpha": alpha,
    }
