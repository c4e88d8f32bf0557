"""LP++ in plain PyTorch (Huang et al.).

Sections 3 and 4 of "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP". Full-batch
descent: a visual classifier that starts at the sums of the shots, and one weight of the text for
each class; step sizes from an eigendecomposition of F^T F and from the cosines of images and text.
``2.5 logit_scale`` is the published 250.
"""

import torch
from published.loop import labelled

CASES = [{"momentum": 0.0}, {"momentum": 0.9}]


def fit(task, iterations=300, momentum=0.9, blend_every=10):
    _, labels = labelled(task)
    features = torch.as_tensor(task["support"])[torch.as_tensor(task["mask"])]
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    count, classes = len(features), len(text)
    one_hot = torch.eye(classes)[labels]
    to_text = features @ text.T

    per_class = one_hot.sum(0)
    means = (one_hot * to_text).sum(0)[per_class > 0] / per_class[per_class > 0]
    blend = torch.nn.Parameter(2.5 * scale * means.mean() * torch.ones(1, classes))
    weights = torch.nn.Parameter(one_hot.T @ features)
    step_w = 4 * count / torch.linalg.eigvalsh(features.T @ features)[-1]
    step_a = count / (4 * to_text.pow(2).sum(0).max())

    optimizer = torch.optim.SGD([weights], lr=float(step_w), momentum=momentum)
    losses = []
    for iteration in range(iterations):
        answer = features @ weights.T + torch.ones(count, 1) @ blend * to_text
        loss = torch.nn.functional.cross_entropy(answer, labels)
        optimizer.zero_grad()
        blend.grad = None
        loss.backward()
        optimizer.step()
        if (iteration + 1) % blend_every == 0:
            blend.data -= step_a * blend.grad
        losses.append(loss.item())
    return {
        "weights": weights.detach(),
        "blend": blend.detach(),
        "text": text,
        "losses": losses,
    }


def logits(state, query):
    query = torch.as_tensor(query)
    return query @ state["weights"].T + state["blend"] * (query @ state["text"].T)
