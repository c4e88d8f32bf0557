"""Attn-Adapter: attention over the shots of a class and over the patches of the query."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.text_prototype import UNTRAINED_GATE
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Bool, Float, Params, PRNGKeyArray, State

QUERIES_AT_ONCE = 256
"""Queries whose patches are looked at together: the hidden vectors of all would not fit."""


def init_branch(key: PRNGKeyArray, dim: int, hidden: int, gate: float) -> Params:
    """Return one branch before training: Xavier-uniform layers, and a gate that is constant.

    ``query`` and ``key`` each have ``fc1`` [hidden dim] and ``fc2`` [dim hidden], and ``gate`` is
    [dim dim]; a weight maps as ``y = x W^T + b``. The second layer of the keys has no bias: it
    would add the same to every score, which a softmax does not see.

    Example:
        >>> init_branch(jax.random.key(0), 8, 4, 0.5)["key"]["fc1"]["weight"].shape
        (4, 8)
    """
    xavier = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(key, 4)

    def perceptron(first: PRNGKeyArray, second: PRNGKeyArray, *, biased: bool) -> Params:
        out = {"bias": jnp.zeros((dim,), jnp.float32)} if biased else {}
        return {
            "fc1": {
                "weight": xavier(first, (hidden, dim), jnp.float32),
                "bias": jnp.zeros((hidden,), jnp.float32),
            },
            "fc2": {"weight": xavier(second, (dim, hidden), jnp.float32), **out},
        }

    return {
        "query": perceptron(keys[0], keys[1], biased=True),
        "key": perceptron(keys[2], keys[3], biased=False),
        "gate": {
            "weight": jnp.zeros((dim, dim), jnp.float32),
            "bias": jnp.full((dim,), gate, jnp.float32),
        },
    }


def look(
    params: Params,
    at: Float[Array, "*batch dim"],
    around: Float[Array, "*batch seen dim"],
    mask: Bool[Array, "*batch seen"] | None = None,
) -> Float[Array, "*batch dim"]:
    """Add to each vector what it attends to among the vectors around it.

    With ``Q`` and ``K`` two-layer perceptrons (ReLU), ``p`` a linear map and ``x_j`` the vectors
    around ``y``::

        a   = softmax_j(K(x_j) . Q(y) / sqrt(dim))
        y'  = normalise(y + p(y) * sum_j a_j x_j)

    Values are not projected. The second layer of ``K`` is applied to ``Q(y)``, from the other
    side: the same scores, and each ``x_j`` meets one layer only.

    ``mask`` is true where a vector is present; what has none around it stays as it is. In float32.

    Example:
        >>> params = init_branch(jax.random.key(0), 2, 4, gate=1.0)
        >>> y = look(params, jnp.array([1.0, 0.0]), jnp.array([[0.0, 1.0]]))
        >>> [round(value, 4) for value in y.tolist()]
        [0.7071, 0.7071]
    """
    at, around = at.astype(jnp.float32), around.astype(jnp.float32)
    query, key, gate = params["query"], params["key"], params["gate"]
    projected = _hidden(query, at) @ query["fc2"]["weight"].T + _along(query["fc2"]["bias"], at)
    probe = projected @ key["fc2"]["weight"]
    scores = jnp.einsum("...nh,...h->...n", _hidden(key, around), probe) * at.shape[-1] ** -0.5
    if mask is None:
        weights = jax.nn.softmax(scores, axis=-1)
    else:  # where nothing is present the softmax is even, and all of it is cut
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1) * mask
    mixed = jnp.einsum("...n,...nd->...d", weights, around)
    opened = at @ gate["weight"].T + _along(gate["bias"], at)
    return l2_normalize(at + opened * mixed)


def _hidden(perceptron: Params, x: Array) -> Array:
    layer = perceptron["fc1"]
    x = x @ layer["weight"].T
    return jax.nn.relu(x + _along(layer["bias"], x))


def _along(bias: Float[Array, " out"], like: Array) -> Array:
    return bias.reshape((1,) * (like.ndim - 1) + (-1,))


@dataclass(frozen=True)
class AttnAdapter:
    """Text that attends to the shots of its class; a query that attends to its own patches.

    With ``w_c`` the text and ``F_c`` the shots of a class, ``f`` a query and ``l`` its patches,
    and :func:`look` with parameters of its own for either branch::

        w'_c = look(w_c, F_c)        memory branch
        f'   = look(f, l)            local-global branch, where the bank holds patches
        logits = s f' . w'_c

    Meta-trained once over many tasks; a new task costs one forward pass. Before training the
    gate of the memory branch is 0.73, that of an untrained Meta-Adapter, and attention is almost
    even: ``text_prototype`` without the text in the mean. The gate of the local-global branch is
    0: the query as it is. A gate of 0 in both is zero-shot.

    The gate is linear, as the projector of the equation: unlike a sigmoid it may exceed one, so
    the shots can outweigh the text, and it learns at 0 as fast as anywhere.

    Attributes:
        hidden: width between the two layers of a perceptron. Not known of the published one.
        local: whether there is a local-global branch; without it patches are not looked at.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(AttnAdapter(hidden=4)).shape
        (6, 3)

    Source: "Attn-Adapter" (arXiv 2509.03895), memory and local-global attention adapters.
    """

    hidden: int = 256
    local: bool = True

    name: ClassVar[str] = "attn_adapter"
    zero_shot_at: ClassVar[Params] = {"memory": {"gate": {"weight": 0.0, "bias": 0.0}}}
    meta_learned: ClassVar[bool] = True
    reads_patches: ClassVar[bool] = True

    def init(self, key: PRNGKeyArray, dim: int) -> Params:
        """Return the branches before training; see :func:`init_branch`."""
        memory_key, local_key = jax.random.split(key)
        params = {"memory": init_branch(memory_key, dim, self.hidden, UNTRAINED_GATE)}
        if self.local:
            params["local"] = init_branch(local_key, dim, self.hidden, 0.0)
        return params

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Let the text features look at the shots."""
        del key
        weights = look(params["memory"], task.text, task.support, task.support_mask)
        state = {"weights": weights, "logit_scale": task.logit_scale}
        return {**state, "local": params["local"]} if self.local else state

    def logits(
        self,
        state: State,
        query: Float[Array, "query dim"],
        patches: Float[Array, "query patch dim"] | None = None,
    ) -> Float[Array, "query way"]:
        """Return the scaled cosine of every query, refined by its patches, and every weight."""
        if self.local and patches is not None:
            if len(query) <= QUERIES_AT_ONCE:
                query = look(state["local"], query, patches)
            else:
                query = jax.lax.map(
                    lambda image: look(state["local"], *image),
                    (query, patches),
                    batch_size=QUERIES_AT_ONCE,
                )
        return cosine_logits(query, state["weights"], state["logit_scale"])
