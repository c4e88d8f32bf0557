"""CLAP in plain PyTorch (Silva-Rodriguez et al.).

Section 4 of "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models". The
multipliers are the diagonal of softmax(zero-shot logits)^T one-hot over the class counts, all
views of an image being samples; then the probe is trained with the penalty of every class.
"""

import torch
from published.linear_probe import classify, raw_text
from published.loop import labelled, shuffled, train

CASES = [{"views": 0}, {"views": 3}, {"lengths": True}]


def fit(task, rate=0.1, epochs=300, batch=256, momentum=0.9, batches=None):
    images, labels = labelled(task)
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)
    multipliers = class_multipliers(images, labels, text, scale)
    raw = raw_text(task)
    prototypes = torch.nn.Parameter(raw.clone())

    def loss(image, label):
        fit_loss = torch.nn.functional.cross_entropy(classify(image, prototypes, scale), label)
        distance = (prototypes - raw).pow(2).sum(-1)
        return fit_loss + torch.mean(multipliers * distance)

    optimizer = torch.optim.SGD([prototypes], lr=rate, momentum=momentum)
    losses = train([prototypes], optimizer, loss, images, labels, batches)
    return {"prototypes": prototypes, "logit_scale": scale, "losses": losses}


def logits(state, query):
    return classify(torch.as_tensor(query), state["prototypes"], state["logit_scale"])


def class_multipliers(images, labels, text, scale):
    samples = images.flatten(0, 1)
    one_hot = torch.eye(len(text))[labels.repeat_interleave(images.shape[1])]
    probability = torch.softmax(samples @ text.T * scale, dim=-1)
    count = one_hot.sum(0)
    mean = torch.diag(probability.T @ one_hot) / count.clamp_min(1)
    return torch.where(count > 0, mean, torch.ones(()))
