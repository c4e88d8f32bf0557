"""CLIP's own classifier: the text features, and nothing of the support."""

from dataclasses import dataclass
from typing import ClassVar

from fsclip_jax.adapters.base import init_scalars, logits_of_weights
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Params, PRNGKeyArray, State


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification, ``logit_scale * f . w_c``.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(ZeroShot()).shape
        (6, 3)

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", section 3.1.
    """

    name: ClassVar[str] = "zero_shot"
    init = init_scalars
    logits = logits_of_weights

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Keep the text features as the weights of the classifier."""
        del params, key
        return {"weights": task.text, "logit_scale": task.logit_scale}
