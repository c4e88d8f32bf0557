"""Tip-X in plain PyTorch, from section 3.2 of "SuS-X" (Udandarao et al.), in the published order.

The divergences of a query from all keys are formed pair by pair over the classes, a batch of
queries at a time; then they are rescaled to the range of the cosines, and the one-hot matrix
sums them over the shots.

``scaled_by="queries"`` is the published rescaling, by the extremes over all queries that are asked
together; ``"support"`` takes the extremes over all pairs of support images.
"""

import torch

BATCH_ELEMENTS = 20_000_000

CASES = [
    {"alpha": 1.0, "beta": 5.5, "gamma": 1.0, "logit_scale": 100.0},
    {"alpha": 0.0, "beta": 1.0, "gamma": 7.0, "shot": 1, "seed": 2},
    {"alpha": 20.0, "beta": 30.0, "gamma": 0.1, "logit_scale": 30.0, "seed": 1},
    {"alpha": 1.0, "beta": 5.5, "gamma": 1.0, "way": 40, "shot": 3, "seed": 3},
]


def fit(
    task,
    alpha=1.0,
    beta=5.5,
    gamma=1.0,
    temperature=0.5,
    scaled_by="support",
):
    support, mask, text = (torch.as_tensor(task[name]) for name in ("support", "mask", "text"))
    one_hot = torch.eye(len(text)).repeat_interleave(support.shape[1], dim=0)[mask.reshape(-1)]
    keys = support[mask]
    state = {
        "text": text,
        "keys": keys,
        "one_hot": one_hot,
        "logit_scale": float(task["logit_scale"]),
        "signatures": signatures(keys, text, temperature),
        "temperature": temperature,
        "alpha": alpha,
        "beta": beta,
        "gamma": gamma,
    }
    if scaled_by == "support" and len(keys):
        divergences = divergence(state["signatures"], state["signatures"])
        state["ranges"] = extremes(divergences, keys @ keys.T)
    return state


def logits(state, query):
    query = torch.as_tensor(query)
    zero_shot = state["logit_scale"] * query @ state["text"].T
    if not len(state["keys"]):
        return zero_shot
    cosines = query @ state["keys"].T
    cache = torch.exp(-(state["beta"] - state["beta"] * cosines)) @ state["one_hot"]
    own = signatures(query, state["text"], state["temperature"])
    divergences = divergence(own, state["signatures"])
    low, high, floor, ceiling = state.get("ranges") or extremes(divergences, cosines)
    closeness = (high - divergences) / (high - low).clamp_min(1e-12)
    inter_modal = (closeness * (ceiling - floor) + floor) @ state["one_hot"]
    return zero_shot + state["gamma"] * inter_modal + state["alpha"] * cache


def signatures(images, text, temperature):
    return torch.softmax(images @ text.T / temperature, dim=-1)


def divergence(first, second):
    """KL of every row of ``first`` from every row of ``second``."""
    rows = max(1, BATCH_ELEMENTS // second.numel())
    parts = []
    for some in first.split(rows):
        pairs = some[:, None, :] * (some.log()[:, None, :] - second.log()[None, :, :])
        parts.append(pairs.sum(-1))
    return torch.cat(parts)


def extremes(divergences, cosines):
    return divergences.min(), divergences.max(), cosines.min(), cosines.max()
