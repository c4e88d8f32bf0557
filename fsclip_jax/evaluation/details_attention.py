"""What the Meta-Adapter attends to, and how wide its gate is open."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsclip_jax.report.details import ClassAttention, Shot
from fsclip_jax.typing import Bool, Float, Params

MOST_PER_REASON = 2
"""Classes that are shown for each reason."""

MOST_SHOTS = 8
"""Support images that are shown of a class, the most attended first."""


class Attended(NamedTuple):
    """Attention and gate of every class.

    Attributes:
        weights: share of the attention on each shot, mean over the heads; 0 where there is none.
        text: share on the text feature itself; 0 where it is no key.
    """

    weights: Float[np.ndarray, "way shot"]
    text: Float[np.ndarray, " way"]
    gate: Float[np.ndarray, " way"]


def attention_of(
    params: Params,
    text: Float[np.ndarray, "way dim"],
    support: Float[np.ndarray, "way shot dim"],
    mask: Bool[np.ndarray, "way shot"],
    *,
    heads: int = 1,
    text_in_keys: bool = True,
) -> Attended:
    """Return the attention of a Meta-Adapter and its gate, which ``refine`` keeps to itself.

    In float64, from the equations: with ``X = [w; F_1 ... F_K]`` for one class, and for each head
    its own rows of ``W_q`` and ``W_k``::

        a = softmax((W_q w) . (W_k X) / sqrt(dim / heads))
        g = sigmoid(u . w + b)

    The shares sum to one within a class that has anything to attend to.

    Source: Cheng et al., "Meta-Adapter: An Online Few-shot Learner for Vision-Language Model",
    equations 4 and 5.
    """
    q = np.asarray(params["q_proj"]["weight"], np.float64)
    k = np.asarray(params["k_proj"]["weight"], np.float64)
    words, shots = text.astype(np.float64), support.astype(np.float64)
    width = text.shape[-1] // heads
    # The text is the last key; where it is none it is masked as a missing shot is.
    keys = np.concatenate([shots, words[:, None]], axis=1)
    there = np.concatenate([mask, np.full((len(mask), 1), text_in_keys)], axis=1)
    shares = np.zeros(there.shape)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = np.einsum("wd,wkd->wk", words @ q[part].T @ k[part], keys) / np.sqrt(width)
        scores = np.where(there, scores, -np.inf)
        top = np.max(scores, axis=1, keepdims=True)
        raised = np.where(there, np.exp(scores - np.where(np.isfinite(top), top, 0.0)), 0.0)
        total = raised.sum(1, keepdims=True)
        shares += raised / np.where(total > 0, total, 1.0) / heads
    alpha = params["alpha_proj"]
    u, b = (np.asarray(alpha[name], np.float64) for name in ("weight", "bias"))
    gate = 1.0 / (1.0 + np.exp(-(words @ u[0] + b[0])))
    return Attended(shares[:, :-1], shares[:, -1], gate)


def gates_and_attention(
    attention: Attended,
    names: Sequence[str],
    keys: np.ndarray,
    before: Float[np.ndarray, " way"],
    after: Float[np.ndarray, " way"],
) -> tuple[tuple[float, ...], tuple[ClassAttention, ...]]:
    """Choose classes that are worth a look and say what is attended to in each.

    ``before`` and ``after`` are percent right within each class; ``nan`` where it has no query.
    The gates come ascending, of all classes. Chosen are the classes that gain and lose most, those
    with the most uneven attention, and those with the widest and the narrowest gate.
    """
    there = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
    gain = (after - before)[there]
    peak = attention.weights[there].max(1, initial=0.0)
    gate = attention.gate[there]
    reasons = (
        ("gains most", there[np.argsort(-gain, kind="stable")][: int(np.sum(gain > 0))]),
        ("loses most", there[np.argsort(gain, kind="stable")][: int(np.sum(gain < 0))]),
        ("most uneven attention", there[np.argsort(-peak, kind="stable")]),
        ("widest gate", there[np.argsort(-gate, kind="stable")][:1]),
        ("narrowest gate", there[np.argsort(gate, kind="stable")][:1]),
    )
    chosen: dict[int, str] = {}
    for why, order in reasons:
        fresh = [int(place) for place in order if int(place) not in chosen][:MOST_PER_REASON]
        chosen |= dict.fromkeys(fresh, why)
    shown = []
    for place, why in chosen.items():
        order = np.argsort(-attention.weights[place], kind="stable")
        shots = [
            Shot(str(keys[place, shot]), round(float(attention.weights[place, shot]), 4))
            for shot in order
            if keys[place, shot]
        ]
        shown.append(
            ClassAttention(
                name=names[place],
                why=why,
                gate=round(float(attention.gate[place]), 4),
                text_weight=round(float(attention.text[place]), 4),
                shots=tuple(shots[:MOST_SHOTS]),
                before=round(float(before[place]), 2),
                after=round(float(after[place]), 2),
                left_out=max(0, len(shots) - MOST_SHOTS),
            )
        )
    return tuple(round(float(g), 4) for g in np.sort(attention.gate)), tuple(shown)
