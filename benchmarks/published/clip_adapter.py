"""CLIP-Adapter in plain PyTorch, from section 3.2 of "CLIP-Adapter" (Gao et al.).

Two linear layers without biases, a ReLU after each, blended with the image feature and then
normalised. ``start`` holds the two weights that training starts from.
"""

import torch
from published.loop import labelled, shuffled, train

CASES = [{"views": 0}, {"views": 3}]


def fit(
    task,
    ratio=0.2,
    rate=0.1,
    epochs=300,
    batch=256,
    momentum=0.9,
    reduction=4,
    start=None,
    batches=None,
):
    images, labels = labelled(task)
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)
    dim = text.shape[1]
    network = torch.nn.Sequential(
        torch.nn.Linear(dim, dim // reduction, bias=False),
        torch.nn.ReLU(),
        torch.nn.Linear(dim // reduction, dim, bias=False),
        torch.nn.ReLU(),
    )
    if start is not None:
        network[0].weight = torch.nn.Parameter(torch.as_tensor(start["inward"]).clone())
        network[2].weight = torch.nn.Parameter(torch.as_tensor(start["outward"]).clone())
    state = {"network": network, "ratio": ratio, "text": text, "logit_scale": scale}

    def loss(image, label):
        return torch.nn.functional.cross_entropy(logits(state, image), label)

    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum)
    losses = train(list(network.parameters()), optimizer, loss, images, labels, batches)
    return {**state, "losses": losses}


def logits(state, query):
    query = torch.as_tensor(query)
    image = state["ratio"] * state["network"](query) + (1 - state["ratio"]) * query
    image = image / image.norm(dim=-1, keepdim=True)
    return state["logit_scale"] * image @ state["text"].T
