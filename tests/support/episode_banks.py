"""Small banks whose features tell which image they belong to, and the rules of an episode."""

import jax.numpy as jnp
import numpy as np
from vectors import unit

from fsclip_jax.features.bank import Bank


def make_bank(sizes, domains=None, *, views=1, dim=6, seed=0):
    sizes = np.asarray(sizes, np.int32)
    n = int(sizes.sum())
    rng = np.random.default_rng(seed)

    def vectors(*shape):
        return jnp.asarray(unit(rng.normal(size=shape).astype(np.float32)))

    return Bank(
        features=vectors(views, n, dim),
        labels=jnp.asarray(np.repeat(np.arange(len(sizes)), sizes), jnp.int32),
        starts=jnp.asarray(np.cumsum(sizes) - sizes, jnp.int32),
        sizes=jnp.asarray(sizes),
        domains=jnp.asarray(np.full(n, -1) if domains is None else domains, jnp.int32),
        text=vectors(len(sizes), dim),
        logit_scale=jnp.float32(100.0),
    )


def families_of(bank, rows):
    """Family of each row; a row without one is a family of its own."""
    domains = np.asarray(bank.domains)[rows]
    return np.where(domains >= 0, domains, -1 - np.asarray(rows))


def assert_follows_the_rules(bank, spec, episode):
    """Check one episode against the contract, slot by slot."""
    e = type(episode)(*(np.asarray(leaf) for leaf in episode))
    labels = np.asarray(bank.labels)
    n_families = [len(set(families_of(bank, np.flatnonzero(labels == c)))) for c in e.classes]

    assert len(set(e.classes.tolist())) == spec.way, "a class was drawn twice"
    assert min(n_families) >= 2, "a class was drawn that cannot give support and query"
    for mask, rows in ((e.support_mask, e.support), (e.query_mask, e.query)):
        assert (np.diff(mask.astype(int), axis=1) <= 0).all(), "masks do not truncate"
        assert (rows[~mask] == 0).all()
    drawn = np.concatenate([e.support[e.support_mask], e.query[e.query_mask]])
    assert len(set(drawn.tolist())) == len(drawn), "an image was drawn twice"

    capacities = []
    for i, label in enumerate(e.classes):
        support, query = e.support[i][e.support_mask[i]], e.query[i][e.query_mask[i]]
        assert (labels[support] == label).all(), "support of another class"
        assert (labels[query] == label).all(), "query of another class"
        assert len(support), "no support image"
        assert len(query), "no query image"
        ours, theirs = set(families_of(bank, support)), set(families_of(bank, query))
        assert not ours & theirs, "support and query share a family"

        everything = families_of(bank, np.flatnonzero(labels == label))
        available = np.isin(everything, list(ours)).sum()
        assert len(support) == min(spec.shot, available) or len(support) < spec.shot
        others = np.isin(everything, list(theirs)).sum()
        assert len(theirs) == min(spec.query, n_families[i] - len(ours))
        assert len(query) == min(spec.query, others), "query images were left out"
        capacities.append((len(support), len(ours), n_families[i], available))

    # One number of shots for the whole episode explains how much every class gives.
    lowest = spec.shot if spec.min_shot is None else spec.min_shot
    assert any(
        all(
            families == min(shots, total - 1) and given == min(shots, available)
            for given, families, total, available in capacities
        )
        for shots in range(lowest, spec.shot + 1)
    ), f"no number of shots explains {capacities}"
