"""GDA in plain PyTorch, from section 3 of "A Hard-to-Beat Baseline ..." (Wang et al., 2024).

In the order of the published code: class means, the covariance of the centred rows, its
precision by the estimate of Kubokawa and Srivastava with a pseudo-inverse, weights and biases.
The views of an image are rows of their own. ``image_counts`` takes ``N`` for the number of
images and not of rows, as the package does. ``alpha`` is in the published unit.
"""

import torch

LEAST_SHOTS = 1
UP_TO_A_NUMBER = True
CASES = [
    {"alpha": 0.1},
    {"alpha": 2.0, "logit_scale": 30.0},
    {"alpha": 0.1, "views": 3},
    {"alpha": 2.0, "views": 3},
]


def in_published_units(task, alpha=0.05):
    """The package's weight of the densities, and its count of images, in those of the code."""
    return {
        "alpha": alpha * (task["mask"].sum() - 1) / task["text"].shape[1],
        "image_counts": True,
    }


def fit(task, alpha=0.05, image_counts=False):
    rows, labels = samples(task)
    views = 1 if task.get("views") is None else task["views"].shape[2]
    number = len(rows) / views if image_counts else len(rows)
    weights, bias = discriminant(rows, labels, len(task["text"]), number)
    return {
        "text": torch.as_tensor(task["text"]),
        "weights": weights,
        "bias": bias,
        "logit_scale": float(task["logit_scale"]),
        "alpha": alpha,
    }


def logits(state, query):
    query = torch.as_tensor(query)
    density = query @ state["weights"].T + state["bias"]
    return state["logit_scale"] * query @ state["text"].T + state["alpha"] * density


def samples(task):
    """Return one row a view, or a shot where there are no views, and the label of each."""
    mask = torch.as_tensor(task["mask"])
    views = task.get("views")
    views = (
        torch.as_tensor(task["support"])[:, :, None] if views is None else torch.as_tensor(views)
    )
    rows = views[mask]
    labels = torch.arange(len(mask))[:, None].expand(mask.shape)[mask]
    return rows.reshape(-1, rows.shape[-1]), labels.repeat_interleave(rows.shape[1])


def discriminant(rows, labels, way, number):
    """Return the weights [C D] and biases [C] of Gaussian classes; every class has a row."""
    means = torch.stack([rows[labels == c].mean(0) for c in range(way)])
    centred = torch.cat([rows[labels == c] - means[c] for c in range(way)])
    dim = rows.shape[1]
    scatter = centred.T @ centred / len(rows) * number
    shrinkage = torch.trace(scatter) / (number - 1) * torch.eye(dim)
    precision = dim * torch.linalg.pinv(scatter + shrinkage)
    weights = means @ precision
    prior = torch.log(torch.tensor(1 / way))
    return weights, prior - torch.einsum("cd,cd->c", weights, means) / 2
