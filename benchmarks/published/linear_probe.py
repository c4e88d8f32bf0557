"""Zero-shot initialised linear probe in plain PyTorch (ZS-LP of Silva-Rodriguez et al.).

Section 3.2 of "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models": the
prototypes start at the raw text features, here unit vectors times their lengths or, where these
are not known, a twentieth of the scale, and the logits are cosines. ``text_as_shot`` adds the text
features to the images, as cross-modal adaptation does.
"""

import torch
from published.loop import labelled, shuffled, train

CASES = [
    {"views": 0},
    {"views": 3},
    {"lengths": True},
    {"text_as_shot": True},
    {"text_as_shot": True, "views": 3},
]


def fit(
    task,
    rate=0.1,
    epochs=300,
    batch=256,
    momentum=0.9,
    text_as_shot=False,
    batches=None,
):
    images, labels = labelled(task)
    text, scale = torch.as_tensor(task["text"]), float(task["logit_scale"])
    if text_as_shot:
        images = torch.cat([images, text[:, None].expand(-1, images.shape[1], -1)])
        labels = torch.cat([labels, torch.arange(len(text))])
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)
    prototypes = torch.nn.Parameter(raw_text(task))

    def loss(image, label):
        return torch.nn.functional.cross_entropy(classify(image, prototypes, scale), label)

    optimizer = torch.optim.SGD([prototypes], lr=rate, momentum=momentum)
    losses = train([prototypes], optimizer, loss, images, labels, batches)
    return {"prototypes": prototypes, "logit_scale": scale, "losses": losses}


def logits(state, query):
    return classify(torch.as_tensor(query), state["prototypes"], state["logit_scale"])


def raw_text(task):
    """The text features as the tower gives them."""
    lengths = task.get("text_lengths")
    lengths = task["logit_scale"] / 20 if lengths is None else torch.as_tensor(lengths)[:, None]
    return torch.as_tensor(task["text"]) * lengths


def classify(image, prototypes, scale):
    unit = prototypes / prototypes.norm(dim=-1, keepdim=True)
    return image @ unit.T * scale
