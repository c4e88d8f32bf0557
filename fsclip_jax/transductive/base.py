"""What every refinement of answers is: a pure function of the queries of a batch."""

from typing import NamedTuple, Protocol, runtime_checkable

from fsclip_jax.typing import Array, Bool, Float


class Batch(NamedTuple):
    """Queries that are seen together, in the order of their arrival.

    Attributes:
        logits: of the method whose answers are refined.
        features: unit vectors of the queries.
        mask: true where there is a query.
        text: unit text features of the classes; zero where there is no text.
    """

    logits: Float[Array, "query way"]
    features: Float[Array, "query dim"]
    mask: Bool[Array, " query"]
    text: Float[Array, "way dim"]


@runtime_checkable
class Refinement(Protocol):
    """A frozen dataclass whose fields are its settings."""

    @property
    def name(self) -> str:
        """As rows and ``--refine`` call it."""
        ...

    @property
    def online(self) -> bool:
        """True if queries are answered one after the other, by those before."""
        ...

    @property
    def needs_text(self) -> bool:
        """True if it is anchored to the text features."""
        ...

    def refine(self, batch: Batch) -> Float[Array, "query way"]:
        """Return the logarithms of the refined probabilities."""
        ...
