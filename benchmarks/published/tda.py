"""TDA in plain PyTorch (Karmanov et al.): caches are lists by class.

Section 3 of "Efficient Test-Time Adaptation of Vision-Language Models", in the order of the
published code.
"""

import math

import torch


def refine(
    logits,
    features,
    text,
    shots=3,
    alpha=2.0,
    beta=5.0,
    negative_shots=2,
    negative_alpha=0.117,
    negative_beta=1.0,
    doubt=(0.2, 0.5),
    marked=0.03,
):
    del text
    way, positive, negative, answered = logits.shape[1], {}, {}, []
    for row, feature in zip(logits, features, strict=True):
        chance = torch.softmax(row, 0)
        entropy = float(-(chance * torch.log_softmax(row, 0)).sum())
        told = int(row.argmax())
        own = torch.nn.functional.one_hot(torch.tensor(told), way).to(row)
        enter(positive, told, (entropy, feature, own), shots)
        if doubt[0] < entropy / math.log2(way) < doubt[1]:
            marks = ((chance > marked) & (chance < 1)).to(row)
            enter(negative, told, (entropy, feature, marks), negative_shots)
        said = alpha * read(positive, feature, beta)
        said = said - negative_alpha * read(negative, feature, negative_beta)
        answered.append(torch.softmax(row + said, 0))
    return torch.stack(answered)


def enter(cache, told, entry, size):
    held = cache.setdefault(told, [])
    if len(held) < size:
        held.append(entry)
    elif entry[0] < held[-1][0]:
        held[-1] = entry
    held.sort(key=lambda one: one[0])


def read(cache, feature, beta):
    entries = [entry for held in cache.values() for entry in held]
    if not entries:
        return torch.zeros(())
    keys, values = (torch.stack([entry[place] for entry in entries]) for place in (1, 2))
    return torch.exp(-beta * (1 - keys @ feature)) @ values
