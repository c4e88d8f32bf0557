"""StatA in plain PyTorch (Zanella et al.), with the hard counts of its published code.

Section 4 of "Realistic Test-Time Adaptation of Vision-Language Models", in the order of that code.
"""

import torch
from published.transclip import answers, neighbours


def refine(logits, features, text, anchor=1.0, steps=10, rounds=5, near=3, weight=1.0):
    y = torch.softmax(logits, 1)
    affinity = neighbours(features, near)
    squares = (features[:, None] - text) ** 2
    start = (y[:, :, None] * squares).sum((0, 1)) / len(y)
    means, variances, z = text, start.expand(text.shape), y
    for step in range(steps + 1):
        distance = ((features[:, None] - means) ** 2 / variances).sum(2)
        z = answers(y**weight, -distance / 2, z, affinity, near, rounds)
        if step == steps:
            return z
        counts = torch.bincount(z.argmax(1), minlength=len(text))
        share = (counts / (anchor + counts))[:, None]
        means = z.T @ features / z.sum(0)[:, None]
        means = share * means / means.norm(dim=1, keepdim=True) + (1 - share) * text
        means = means / means.norm(dim=1, keepdim=True)
        own = (z[:, :, None] * (features[:, None] - means) ** 2).sum(0) / z.sum(0)[:, None]
        variances = share * own + (1 - share) * (start + (text - means) ** 2)
    return z
