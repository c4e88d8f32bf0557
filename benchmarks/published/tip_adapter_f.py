"""Tip-Adapter-F in plain PyTorch, from section 3.2 of "Tip-Adapter" (Zhang et al.).

In the order of the published code: the keys are the weight of a linear layer, the affinities are
multiplied with the one-hot matrix of the labels, AdamW with eps 1e-4.
"""

import torch
from published.loop import labelled, shuffled, train

SETTING = {"train_alpha": 2.0, "train_beta": 1.0, "alpha": 1.5, "beta": 3.0}
CASES = [SETTING, {**SETTING, "views": 3}]


def fit(
    task,
    alpha=1.0,
    beta=5.5,
    train_alpha=1.0,
    train_beta=5.5,
    rate=1e-3,
    epochs=20,
    batch=256,
    batches=None,
):
    images, labels = labelled(task)
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)
    keys = torch.as_tensor(task["support"])[torch.as_tensor(task["mask"])]
    layer = torch.nn.Linear(text.shape[1], len(keys), bias=False)
    layer.weight = torch.nn.Parameter(keys.clone())
    one_hot = torch.eye(len(text))[labels]

    def loss(image, label):
        affinity = layer(image)
        cache = torch.exp(-(train_beta - train_beta * affinity)) @ one_hot
        zero_shot = scale * image @ text.T
        return torch.nn.functional.cross_entropy(zero_shot + cache * train_alpha, label)

    optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, eps=1e-4)
    losses = train([layer.weight], optimizer, loss, images, labels, batches)
    return {
        "text": text,
        "keys": layer.weight,
        "values": one_hot,
        "logit_scale": scale,
        "alpha": alpha,
        "beta": beta,
        "losses": losses,
    }


def logits(state, query):
    query = torch.as_tensor(query)
    affinity = query @ state["keys"].T
    cache = torch.exp(-(state["beta"] - state["beta"] * affinity)) @ state["values"]
    return state["logit_scale"] * query @ state["text"].T + cache * state["alpha"]
