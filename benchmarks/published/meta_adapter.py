"""Meta-Adapter in plain PyTorch, from equations 4 and 5 of its paper (Cheng et al.).

In the order of the published code: the text joins the shots, all of them are projected to keys,
one attention a class, a gate from the text. Every class must have all its shots.
"""

import torch

LEAST_SHOTS = 1000  # all there are: a class with fewer has no place in the stack


def fit(task, params=None):
    support, text = (torch.as_tensor(task[name]) for name in ("support", "text"))
    way, shot, dim = support.shape
    if params is None:
        params = start(dim)
    rows = torch.cat([text[:, None], support], dim=1)
    query = (text @ params["q_proj.weight"].T)[:, None]
    keys = (rows.reshape(way * (shot + 1), dim) @ params["k_proj.weight"].T).reshape(rows.shape)
    attention = torch.softmax(query @ keys.transpose(1, 2) / dim**0.5, dim=-1)
    mixed = (attention @ rows)[:, 0]
    gate = torch.sigmoid(text @ params["alpha_proj.weight"].T + params["alpha_proj.bias"])
    weights = torch.nn.functional.normalize(text + gate * mixed, dim=-1)
    return {"weights": weights, "logit_scale": float(task["logit_scale"])}


def logits(state, query):
    return state["logit_scale"] * torch.as_tensor(query) @ state["weights"].T


def start(dim):
    bound = (3 / dim) ** 0.5
    return {
        "q_proj.weight": torch.empty(dim, dim).uniform_(-bound, bound),
        "k_proj.weight": torch.empty(dim, dim).uniform_(-bound, bound),
        "alpha_proj.weight": torch.empty(1, dim).uniform_(-bound, bound),
        "alpha_proj.bias": torch.ones(1),
    }
