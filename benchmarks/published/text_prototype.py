"""Text and class mean added, in plain PyTorch: an untrained Meta-Adapter with even attention."""

import torch

CASES = [{"gate": 5.0}]


def fit(task, gate=0.73):
    support, mask, text = (torch.as_tensor(task[name]) for name in ("support", "mask", "text"))
    weights = []
    for shots, kept, own in zip(support, mask, text, strict=True):
        mixed = own + gate * torch.cat([own[None], shots[kept]]).mean(0)
        weights.append(mixed / mixed.norm())
    return {"weights": torch.stack(weights), "logit_scale": float(task["logit_scale"])}


def logits(state, query):
    return state["logit_scale"] * torch.as_tensor(query) @ state["weights"].T
