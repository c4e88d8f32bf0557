"""Meta-Adapter: text features refined by gated attention over the shots, no tuning per task."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.adapters.base import logits_of_weights
from fsclip_jax.adapters.shots import mix_shots, score_shots
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Array, Bool, Float, Params, PRNGKeyArray, State


def init_params(key: PRNGKeyArray, dim: int) -> Params:
    """Return the parameters before training: Xavier-uniform matrices, gate bias 1.

    ``q_proj.weight`` [dim dim], ``k_proj.weight`` [dim dim], ``alpha_proj.weight`` [1 dim] and
    ``alpha_proj.bias`` [1], the published names; a weight maps as ``y = x W^T + b``.

    Example:
        >>> init_params(jax.random.key(0), 8)["k_proj"]["weight"].shape
        (8, 8)
    """
    xavier = jax.nn.initializers.glorot_uniform()
    q_key, k_key, alpha_key = jax.random.split(key, 3)
    return {
        "q_proj": {"weight": xavier(q_key, (dim, dim), jnp.float32)},
        "k_proj": {"weight": xavier(k_key, (dim, dim), jnp.float32)},
        "alpha_proj": {
            "weight": xavier(alpha_key, (1, dim), jnp.float32),
            "bias": jnp.ones((1,), jnp.float32),
        },
    }


def refine(
    params: Params,
    text: Float[Array, "way dim"],
    support: Float[Array, "way shot dim"],
    mask: Bool[Array, "way shot"],
    *,
    heads: int = 1,
    text_in_keys: bool = True,
) -> Float[Array, "way dim"]:
    """Refine every text feature by attention over the shots of its class.

    The equation is that of :class:`MetaAdapter`. Values are not projected. With several heads, each
    one attends for its own slice of the features. The scores are computed as
    ``(W_k^T W_q w) . X``, which is the same number and never projects the shots: (K + 2) / 2 times
    less work in the projections.

    Features are unit vectors, in and out; the dtype is that of ``text``. A class without a shot
    keeps its text feature.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> task, _ = example_task(way=3)
        >>> params = init_params(jax.random.key(0), 8)
        >>> refine(params, task.text, task.support, task.support_mask).shape
        (3, 8)
    """
    dim = text.shape[-1]
    if dim % heads:
        raise ValueError(f"{heads} heads do not divide {dim} features")
    width = dim // heads
    dtype, text = text.dtype, text.astype(jnp.float32)
    support = support.astype(jnp.float32)

    query = text @ params["q_proj"]["weight"].T
    attended = []
    # A loop, not einsums with an axis for the heads: XLA on a CPU would transpose the support and
    # the gradient of the weights, which costs more than the products themselves.
    for part in (slice(head * width, (head + 1) * width) for head in range(heads)):
        probe = (query[:, part] @ params["k_proj"]["weight"][part]) * width**-0.5
        scores = score_shots(probe, support)
        own = jnp.sum(probe * text, axis=-1, keepdims=True) if text_in_keys else None
        shots, itself = _masked_softmax(scores, mask, own)
        mixed = mix_shots(shots, support[..., part])
        attended.append(mixed + itself * text[:, part])

    alpha = params["alpha_proj"]
    gate = jax.nn.sigmoid(text @ alpha["weight"].T + alpha["bias"][None])
    return l2_normalize(text + gate * jnp.concatenate(attended, axis=-1)).astype(dtype)


def _masked_softmax(
    scores: Float[Array, "way shot"],
    mask: Bool[Array, "way shot"],
    own: Float[Array, "way 1"] | None,
) -> tuple[Float[Array, "way shot"], Float[Array, "way 1"]]:
    """Softmax over the kept shots and, where given, the text; all zero where there is neither."""
    scores = jnp.where(mask, scores, -1e30)
    top = scores.max(-1, keepdims=True, initial=-1e30)
    if own is not None:
        top = jnp.maximum(top, own)
    top = jax.lax.stop_gradient(top)
    shots = jnp.where(mask, jnp.exp(scores - top), 0.0)
    itself = jnp.exp(own - top) if own is not None else jnp.zeros_like(top)
    total = shots.sum(-1, keepdims=True) + itself
    total = jnp.where(total > 0, total, 1.0)
    return shots / total, itself / total


@dataclass(frozen=True)
class MetaAdapter:
    """Text features refined by gated attention over the shots, then ``logit_scale f . w'_c``.

    With ``X_c = [w_c; F_c1 ... F_cK]`` the text feature and the shots of a class::

        a_c  = softmax((W_q w_c) . (W_k X_c) / sqrt(dim / heads))
        w'_c = normalise(w_c + sigmoid(u . w_c + b) sum_j a_cj X_cj)

    Meta-trained once over many tasks; a new task costs one forward pass of :func:`refine`. The
    gate is below one, so the shots never outweigh the text: where the text features are poor, a
    ``prototype`` can be better. The parameters have the published names and PyTorch's
    orientation, ``y = x W^T + b``, so published checkpoints load, and ours load there.

    Attributes:
        heads: attention heads. 1 is the published code; the paper says several.
        text_in_keys: whether the text feature is attended to beside the shots.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(MetaAdapter(heads=2)).shape
        (6, 3)

    Source: Cheng et al., "Meta-Adapter: An Online Few-shot Learner for Vision-Language Model",
    equations 4 and 5; its published code.
    """

    heads: int = 1
    text_in_keys: bool = True

    name: ClassVar[str] = "meta_adapter"
    zero_shot_at: ClassVar[Params] = {"alpha_proj": {"weight": 0.0, "bias": -1e4}}
    logits = logits_of_weights
    meta_learned: ClassVar[bool] = True

    def init(self, key: PRNGKeyArray, dim: int) -> Params:
        """Return the parameters before training; see :func:`init_params`."""
        return init_params(key, dim)

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Refine the text features with the shots."""
        del key
        weights = refine(
            params,
            task.text,
            task.support,
            task.support_mask,
            heads=self.heads,
            text_in_keys=self.text_in_keys,
        )
        return {"weights": weights, "logit_scale": task.logit_scale}


class MetaAdapterModule(nnx.Module):
    """The refinement as a Flax module, to plug into any CLIP-based model.

    Takes the text features of any classifier and returns refined ones of the same shape.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> task, _ = example_task(way=3)
        >>> module = MetaAdapterModule(8, rngs=nnx.Rngs(0))
        >>> module(task.text, task.support, task.support_mask).shape
        (3, 8)
    """

    def __init__(
        self, dim: int, *, heads: int = 1, text_in_keys: bool = True, rngs: nnx.Rngs
    ) -> None:
        self.heads = heads
        self.text_in_keys = text_in_keys
        for name, leaves in init_params(rngs.params(), dim).items():
            setattr(self, name, nnx.Dict({leaf: nnx.Param(x) for leaf, x in leaves.items()}))

    def __call__(
        self,
        text: Float[Array, "way dim"],
        support: Float[Array, "way shot dim"],
        mask: Bool[Array, "way shot"],
    ) -> Float[Array, "way dim"]:
        """Return refined text features."""
        params = nnx.to_pure_dict(nnx.state(self, nnx.Param))
        return refine(params, text, support, mask, heads=self.heads, text_in_keys=self.text_in_keys)
