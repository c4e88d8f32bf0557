"""Text features of classes: the zero-shot weights."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fsclip_jax.clip.config import TextConfig
from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.model import encode_text
from fsclip_jax.clip.text import cut_to_longest
from fsclip_jax.errors import UserError
from fsclip_jax.features.buckets import bucket_size, padded
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Params


def encode_prompts(
    backbone: Backbone, prompts: Sequence[str], batch: int = 256
) -> Float[np.ndarray, "n dim"]:
    """Encode prompts in batches of one size, so that there is one compile.

    Args:
        backbone: a loaded CLIP.
        prompts: at least one text.
        batch: texts that go through the tower together.

    Returns:
        Unit vectors, float32.
    """

    @jax.jit
    def encode(state: Params, ids: jax.Array) -> jax.Array:
        return l2_normalize(encode_text(backbone.graphdef, state, ids))

    ids = np.asarray(backbone.tokenizer(list(prompts)), np.int32)
    if isinstance(backbone.config.text, TextConfig):  # causal, read where the prompt ends
        ids = cut_to_longest(ids, backbone.config.text)
    size = bucket_size(len(ids), batch)
    parts = [
        encode(backbone.state, jnp.asarray(padded(ids[low : low + size], size)))
        for low in range(0, len(ids), size)
    ]
    return np.concatenate([np.asarray(part) for part in parts])[: len(ids)]


def class_text_features(
    backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], batch: int = 256
) -> tuple[Float[np.ndarray, "classes dim"], Float[np.ndarray, "templates classes dim"]]:
    """Encode every class under every template and average over the templates.

    ``t_c = normalize(mean_p normalize(E(template_p(name_c))))``.

    Args:
        backbone: a loaded CLIP.
        class_names: name of each class.
        templates: prompts with ``{}`` in the place of the name.
        batch: texts that go through the tower together.

    Returns:
        Unit text features, and the unit vector of every prompt.

    Raises:
        UserError: there is no template, or one without ``{}``.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, section 3.1.4.
    """
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates:
        given = repr(wrong[0]) if wrong else "no template"
        raise UserError(f"a prompt template needs {{}} where the class name goes; given: {given}")
    prompts = [template.replace("{}", name) for template in templates for name in class_names]
    each = encode_prompts(backbone, prompts, batch)
    each = each.reshape(len(templates), len(class_names), -1)
    mean = each.mean(0)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True), each
