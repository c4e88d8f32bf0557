"""APE in plain PyTorch, from sections 3.1 and 3.2 of "Not All Features Matter" (Zhu et al.).

The order is that of the published code: choose channels, cut all features down to them,
renormalise, weigh the one-hot matrix of the cache by the divergences, and add its votes to the
zero-shot logits of the whole features. The criterion is of the text features, by a loop over the
pairs of classes.
"""

import torch

CASES = [
    {"alpha": 1.0, "beta": 1.0, "gamma": 0.1, "logit_scale": 100.0},
    {"alpha": 3.0, "beta": 7.0, "gamma": 1.0, "shot": 1, "seed": 2},
    {"alpha": 2.0, "beta": 0.5, "gamma": 0.0, "logit_scale": 30.0, "seed": 1},
    {"alpha": 3.0, "beta": 7.0, "gamma": 1.0, "way": 40, "shot": 3, "seed": 3},
    {"alpha": 3.0, "beta": 7.0, "gamma": 1.0, "keep": 0.4, "similarity": 0.2, "variance": 0.8},
]


def fit(task, alpha=1.0, beta=1.0, gamma=0.1, keep=0.78125, similarity=0.7, variance=0.3):
    support, mask, text = (torch.as_tensor(task[name]) for name in ("support", "mask", "text"))
    channels = choose(text, keep, similarity, variance)
    one_hot = torch.eye(len(text)).repeat_interleave(support.shape[1], dim=0)[mask.reshape(-1)]
    keys = unit(support[mask][:, channels])
    looks = torch.softmax(keys @ unit(text[:, channels]).T, dim=1)
    divergence = torch.sum(one_hot * torch.log2((one_hot + 1e-6) / (looks + 1e-6)), dim=1)
    return {
        "text": text,
        "channels": channels,
        "keys": keys,
        "values": one_hot * torch.exp(gamma * divergence)[:, None],
        "logit_scale": float(task["logit_scale"]),
        "alpha": alpha,
        "beta": beta,
    }


def logits(state, query):
    query = torch.as_tensor(query)
    cosines = unit(query[:, state["channels"]]) @ state["keys"].T
    votes = torch.exp(-(state["beta"] - state["beta"] * cosines)) @ state["values"]
    return state["logit_scale"] * query @ state["text"].T + state["alpha"] * votes


def choose(text, keep, similarity, variance):
    """Return the channels with the largest ``-similarity S + variance V``."""
    classes, dim = text.shape
    between, pairs = torch.zeros(dim), 0
    for i in range(classes):
        for j in range(classes):
            if i != j:
                between += text[i] * text[j]
                pairs += 1
    criterion = -similarity * between / max(pairs, 1) + variance * text.var(dim=0)
    return torch.topk(criterion, round(keep * dim)).indices


def unit(x):
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
