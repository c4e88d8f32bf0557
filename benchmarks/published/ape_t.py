"""APE-T in plain PyTorch, from section 3.3 of "Not All Features Matter" (Zhu et al.).

In the order of the published code: every step copies text and keys, adds the residuals to the
chosen channels, and computes the logits from scratch. AdamW with a cosine over all steps, loss
over minibatches of the support.
"""

import torch
from published.ape import choose
from published.loop import labelled, shuffled, train

SETTING = {"alpha": 2.0, "beta": 3.0, "train_alpha": 1.5, "train_beta": 2.0, "rate": 3e-3}
CASES = [SETTING, {**SETTING, "shot": 8, "views": 3}]


def fit(
    task,
    alpha=1.0,
    beta=1.0,
    train_alpha=1.0,
    train_beta=1.0,
    rate=1e-3,
    epochs=30,
    batch=256,
    keep=0.87890625,
    similarity=0.2,
    variance=0.8,
    batches=None,
):
    support, mask, text = (torch.as_tensor(task[name]) for name in ("support", "mask", "text"))
    scale, classes = float(task["logit_scale"]), len(text)
    images, labels = labelled(task)
    one_hot = torch.eye(classes)[labels]
    keys = support[mask]
    channels = choose(text, keep, similarity, variance)
    if batches is None:
        batches = shuffled(*images.shape[:2], epochs, batch)

    residual = torch.zeros(classes, len(channels)).requires_grad_()
    key_weights = torch.ones(len(keys), 1).requires_grad_()
    trained = [residual, key_weights]
    optimizer = torch.optim.AdamW(trained, lr=rate, eps=1e-3, weight_decay=0.1)

    def adapted():
        new_text, new_keys = text.clone(), keys.clone()
        new_text[:, channels] = text[:, channels] + residual
        new_keys[:, channels] = keys[:, channels] + residual[labels]
        return {"text": new_text, "keys": new_keys, "values": one_hot * key_weights}

    def loss(image, label):
        state = {**adapted(), "logit_scale": scale, "alpha": train_alpha, "beta": train_beta}
        return torch.nn.functional.cross_entropy(logits(state, image), label)

    losses = train(trained, optimizer, loss, images, labels, batches)
    return {**adapted(), "logit_scale": scale, "alpha": alpha, "beta": beta, "losses": losses}


def logits(state, query):
    query = torch.as_tensor(query)
    cosines = query @ state["keys"].T
    votes = torch.exp(-(state["beta"] - state["beta"] * cosines)) @ state["values"]
    return state["logit_scale"] * query @ state["text"].T + state["alpha"] * votes
