"""TransCLIP in plain PyTorch (Zanella et al.), without labelled shots.

Section 4 of "Boosting Vision-Language Models with Transduction", in the order of the published
code. The affinity is a full matrix here, and Gaussians are evaluated query by query.
"""

import torch


def refine(logits, features, text, steps=10, rounds=5, near=3, confident=8, weight=1.0):
    del text
    y = torch.softmax(logits, 1)
    affinity = neighbours(features, near)
    top = torch.topk(y, confident, dim=0).indices
    means = torch.stack(
        [(y[top[:, c], c, None] * features[top[:, c]]).mean(0) for c in range(y.shape[1])]
    )
    means = means / means.norm(dim=1, keepdim=True)
    variance = torch.full((features.shape[1],), 1 / features.shape[1])
    z = y
    for step in range(steps + 1):
        distance = ((features[:, None] - means) ** 2 / variance).sum(2)
        z = answers(y**weight, -distance / 2, z, affinity, near, rounds)
        if step < steps:
            means = z.T @ features / z.sum(0)[:, None]
            means = means / means.norm(dim=1, keepdim=True)
            squares = (features[:, None] - means) ** 2
            variance = (z[:, :, None] * squares).sum((0, 1)) / z.sum()
    return z


def answers(prior, density, z, affinity, near, rounds, temperature=50.0):
    for _ in range(rounds):
        pull = density + temperature / (2 * near) * (affinity.T @ z + affinity @ z)
        z = prior * torch.exp((pull - pull.max(1, keepdim=True).values) / temperature)
        z = z / z.sum(1, keepdim=True)
    return z


def neighbours(features, near):
    """Cosines of each row to its nearest, the first of which is itself."""
    cosines = features @ features.T
    index = torch.topk(cosines, near + 1).indices[:, 1:]
    kept = torch.zeros_like(cosines)
    return kept.scatter(1, index, cosines.gather(1, index))
