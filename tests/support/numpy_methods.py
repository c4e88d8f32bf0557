"""The methods once more, in NumPy and one query at a time, as a second opinion."""

import numpy as np


def unit(x):
    return x / np.linalg.norm(x)


def scores(name, params, support, mask, text, scale, query):
    """Score of every class for one query; ``support`` [way shot dim], ``mask`` [way shot]."""
    out = np.zeros(len(text))
    for c in range(len(text)):
        shots = [support[c, k] for k in range(support.shape[1]) if mask[c, k]]
        if name == "zero_shot":
            out[c] = scale * query @ text[c]
        elif name == "prototype":
            out[c] = scale * query @ (unit(np.mean(shots, axis=0)) if shots else text[c])
        elif name == "text_prototype":
            out[c] = scale * query @ unit(text[c] + params["gate"] * np.mean([text[c], *shots], 0))
        elif name == "tip_adapter":
            near = sum(np.exp(-params["beta"] * (1 - query @ shot)) for shot in shots)
            out[c] = scale * query @ text[c] + params["alpha"] * near
        elif name.startswith("meta_adapter"):
            out[c] = scale * query @ _refined(params, text[c], shots)
    return out


def _refined(params, text, shots):
    keys = np.stack([text, *shots])
    asked = params["q_proj"]["weight"] @ text
    logits = (keys @ params["k_proj"]["weight"].T) @ asked / np.sqrt(len(text))
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    gate = 1 / (
        1 + np.exp(-(params["alpha_proj"]["weight"][0] @ text + params["alpha_proj"]["bias"][0]))
    )
    return unit(text + gate * weights @ keys)


def right(name, params, support, mask, text, scale, queries, labels):
    """Number of queries that are classified right, and the least margin of any decision."""
    count, margin = 0, np.inf
    for query, label in zip(queries, labels, strict=True):
        scored = scores(name, params, support, mask, text, scale, query)
        count += int(scored.argmax() == label)
        top = np.sort(scored)
        margin = min(margin, top[-1] - top[-2])
    return count, margin
