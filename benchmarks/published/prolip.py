"""ProLIP in plain PyTorch (Fahes et al., section 3).

The last projection of the image tower as a linear layer whose bias is frozen; cross-entropy of the
shots under the texts plus the squared Frobenius distance to the start, Adam with an epsilon of
1e-4, every shot in every step.
"""

import torch
from published.loop import labelled, shuffled, train

CASES = [
    {"views": 0, "before": 40, "rate": 1e-3},
    {"views": 3, "before": 40, "rate": 1e-2, "strength": 0.1},
    {"views": 0, "before": 40, "rate": 1e-2, "squared": True},
]


def fit(task, rate=1e-4, strength=1.0, squared=False, epochs=300, batch=16_384, batches=None):
    images, labels = labelled(task)
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    kernel, bias = (torch.as_tensor(part) for part in task["projection"])
    counts = torch.as_tensor(task["mask"]).sum(1).float()
    shots = float(counts[counts > 0].mean())
    held = strength / (shots**2 if squared else shots)
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)
    layer = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        layer.weight.copy_(kernel.T)
        layer.bias.copy_(bias)
    layer.bias.requires_grad_(False)

    def loss(image, label):
        unit = torch.nn.functional.normalize(layer(image), dim=-1)
        fidelity = torch.nn.functional.cross_entropy(scale * unit @ text.T, label)
        return fidelity + held * (layer.weight - kernel.T).pow(2).sum()

    optimizer = torch.optim.Adam([layer.weight], lr=rate, eps=1e-4)
    losses = train([layer.weight], optimizer, loss, images, labels, batches)
    return {"layer": layer, "text": text, "logit_scale": scale, "losses": losses}


def logits(state, query):
    unit = torch.nn.functional.normalize(state["layer"](torch.as_tensor(query)), dim=-1)
    return state["logit_scale"] * unit @ state["text"].T
