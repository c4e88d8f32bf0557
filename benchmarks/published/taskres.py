"""TaskRes in plain PyTorch (Yu et al.).

Section 3.3 of "Task Residual for Tuning Vision-Language Models". The text features are raw in the
published code, here unit vectors times their lengths; a scaled residual is added and the sum is
normalised, Adam with weight decay.
"""

import torch
from published.linear_probe import classify, raw_text
from published.loop import labelled, shuffled, train

CASES = [{"rate": 0.02}, {"rate": 0.02, "views": 3}, {"rate": 0.02, "lengths": True}]


def fit(task, alpha=0.5, rate=2e-3, epochs=None, batch=256, batches=None):
    images, labels = labelled(task)
    base, scale = raw_text(task), float(task["logit_scale"])
    if batches is None:
        epochs = epochs or (200 if task["mask"].shape[1] > 4 else 100)
        batches = shuffled(*images.shape[:2], epochs, batch)
    residual = torch.nn.Parameter(torch.zeros_like(base))

    def loss(image, label):
        answer = classify(image, base + alpha * residual, scale)
        return torch.nn.functional.cross_entropy(answer, label)

    optimizer = torch.optim.Adam([residual], lr=rate, weight_decay=5e-4)
    losses = train([residual], optimizer, loss, images, labels, batches)
    return {"prototypes": base + alpha * residual, "logit_scale": scale, "losses": losses}


def logits(state, query):
    return classify(torch.as_tensor(query), state["prototypes"], state["logit_scale"])
