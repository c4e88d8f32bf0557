"""Ridge regression in plain PyTorch, from the normal equations.

One row a shot and one column a class: centre both matrices, solve for the weights, and put the
means back into the bias.
"""

import torch

CASES = [{"penalty": 0.01}, {"penalty": 0.1}, {"penalty": 3.0}]


def fit(task, penalty=0.1):
    support, mask = torch.as_tensor(task["support"]), torch.as_tensor(task["mask"])
    way, shot, dim = support.shape
    rows = support[mask]
    labels = torch.eye(way).repeat_interleave(shot, dim=0)[mask.reshape(-1)]
    mean, frequency = rows.mean(0), labels.mean(0)
    x, y = rows - mean, labels - frequency
    weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(dim), x.T @ y)
    return {
        "weights": weights,
        "bias": frequency - mean @ weights,
        "logit_scale": float(task["logit_scale"]),
    }


def logits(state, query):
    return state["logit_scale"] * (torch.as_tensor(query) @ state["weights"] + state["bias"])
