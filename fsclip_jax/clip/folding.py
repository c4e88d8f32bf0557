"""What a family folds into its weights once they are frozen, and takes apart to be saved."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.families import family_of
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.weights import leaf_paths
from fsclip_jax.typing import Params


def fold_norms(
    config: ClipConfig, graphdef: nnx.GraphDef, state: Params
) -> tuple[ClipConfig, nnx.GraphDef, Params]:
    """Fold the batch norms of a ResNet into its convolutions; any other CLIP stays as it is."""
    folded, leaves = family_of(config).fold(config, leaf_paths(state))
    if folded == config:
        return config, graphdef, state
    graphdef, abstract = abstract_clip(folded)
    return folded, graphdef, _arrange(abstract, leaves)


def unfold_norms(config: ClipConfig, state: Params) -> tuple[ClipConfig, Params]:
    """Undo ``fold_norms``, for files whose layout has norms: the features are the same."""
    plain, leaves = family_of(config).unfold(config, leaf_paths(state))
    return (
        (config, state) if plain == config else (plain, _arrange(abstract_clip(plain)[1], leaves))
    )


def _arrange(abstract: Params, leaves: Mapping[str, Any]) -> Params:
    return jax.tree.unflatten(
        jax.tree.structure(abstract), [leaves[path] for path in leaf_paths(abstract)]
    )
