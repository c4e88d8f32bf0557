"""SS-Text+ in plain PyTorch (Silva-Rodriguez et al., few shots without balance or validation).

Not the solution but the objective: the gradient of the linear part of the cross-entropy plus the
penalty of every class is set to zero, class by class.
"""

import torch

CASES = [{"shot": 1}, {"shot": 9}, {"repel": True}]


def fit(task, repel=False):
    support, mask, text = (torch.as_tensor(task[name]) for name in ("support", "mask", "text"))
    scale, total = float(task["logit_scale"]), int(mask.sum())
    weights = []
    for shots, kept, own in zip(support, mask, text, strict=True):
        own_shots = shots[kept]
        if not len(own_shots):
            weights.append(own)
            continue
        penalty = 1 / len(own_shots)
        pull = -scale / total * own_shots.sum(0)  # the slope of the linear part
        weights.append(own - pull / penalty)  # where pull + penalty (w - own) = 0
    weights = torch.stack(weights)
    if repel:
        away = 2 * weights - weights.mean(0)
        away = away / away.norm(dim=-1, keepdim=True)
        weights = torch.where(mask.any(1)[:, None], weights - away, weights)
    return {"weights": weights, "logit_scale": scale}


def logits(state, query):
    unit = state["weights"] / state["weights"].norm(dim=-1, keepdim=True)
    return state["logit_scale"] * torch.as_tensor(query) @ unit.T
