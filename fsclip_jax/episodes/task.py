"""What an adapter sees of an episode, and what it is judged on."""

from typing import NamedTuple

from fsclip_jax.typing import Array, Bool, Float, Int


class Task(NamedTuple):
    """One few-shot task: all that ``fit`` may look at.

    Attributes:
        support: unit features of the support images; rows that are not present are zero.
        support_mask: true where a shot is present. Classes may differ in their number of shots.
        text: unit text features (zero-shot weights), one vector a class.
        logit_scale: inverse temperature of the backbone, a scalar (100 for OpenAI's models).
    """

    support: Float[Array, "*batch way shot dim"]
    support_mask: Bool[Array, "*batch way shot"]
    text: Float[Array, "*batch way dim"]
    logit_scale: Float[Array, "*batch"]


class Query(NamedTuple):
    """The images of an episode that the adapter has not seen.

    Attributes:
        features: unit features of the query images.
        labels: index of the class within the task, 0 to way - 1.
        mask: true where a query image is present.
    """

    features: Float[Array, "*batch query dim"]
    labels: Int[Array, "*batch query"]
    mask: Bool[Array, "*batch query"]
