"""Tip-Adapter in plain PyTorch, from section 3.1 of its paper (Zhang et al.).

In the order of the published code: keys as a flat matrix, labels one-hot, and for the queries an
affinity, its exponential and a product with the one-hot matrix.
"""

import torch

CASES = [{"alpha": 2.0, "beta": 1.0}, {"alpha": 0.5, "beta": 20.0, "shot": 1}]


def fit(task, alpha=1.0, beta=5.5):
    support, mask, text = (torch.as_tensor(task[name]) for name in ("support", "mask", "text"))
    labels = torch.arange(len(text))[:, None].expand(mask.shape)[mask]
    return {
        "text": text,
        "keys": support[mask].T.contiguous(),
        "values": torch.nn.functional.one_hot(labels, len(text)).float(),
        "logit_scale": float(task["logit_scale"]),
        "alpha": alpha,
        "beta": beta,
    }


def logits(state, query):
    query = torch.as_tensor(query)
    affinity = query @ state["keys"]
    cache = torch.exp(-(state["beta"] - state["beta"] * affinity)) @ state["values"]
    return state["logit_scale"] * query @ state["text"].T + state["alpha"] * cache
