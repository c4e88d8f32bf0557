"""The refinements by name. A new one is one file and one line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from fsclip_jax.transductive.base import Refinement
from fsclip_jax.transductive.stata import StatA
from fsclip_jax.transductive.tda import Tda
from fsclip_jax.transductive.transclip import TransClip

REFINEMENTS: Mapping[str, Callable[..., Refinement]] = MappingProxyType(
    {"transclip": TransClip, "stata": StatA, "tda": Tda}
)
"""Each entry makes the refinement from its settings."""
