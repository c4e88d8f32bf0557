"""Checks on the host, before anything is compiled: can this bank give such episodes?"""

import numpy as np

from fsclip_jax.episodes.sampler import EpisodeSpec
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank


def check_episode(bank: Bank, spec: EpisodeSpec) -> None:
    """Refuse, on the host and before anything is compiled, sizes that a bank cannot give.

    Raises:
        UserError: fewer usable classes than ``way``, or no class large enough for the shots.

    Example:
        >>> import jax.numpy as jnp
        >>> zeros = jnp.zeros
        >>> bank = Bank(zeros((1, 3, 4)), jnp.array([0, 1, 1]), jnp.array([0, 1]),
        ...             jnp.array([1, 2]), -jnp.ones(3, int), zeros((2, 4)), jnp.float32(100))
        >>> check_episode(bank, EpisodeSpec(way=2, shot=1, query=1))
        Traceback (most recent call last):
        ...
        fsclip_jax.errors.UserError: way is 2; 1 of 2 classes has ...
    """
    families, most = _families(bank)
    usable = families >= 2
    count = int(usable.sum())
    if count < spec.way:
        kind = " of two families" if (np.asarray(bank.domains) >= 0).any() else ""
        remedy = f"give a way of {count} or less" if count else "give more images"
        raise UserError(
            f"way is {spec.way}; {count} of {len(usable)} classes {'has' if count == 1 else 'have'}"
            f" two images{kind}, one for the support and one for the query set: {remedy}"
        )
    least, most_shots = spec.min_shot or spec.shot, int(most[usable].max())
    if most_shots < least:
        raise UserError(
            f"at least {least} shots asked for; no class has images for more than {most_shots} "
            f"and a query: give {most_shots} shots or less"
        )


def _families(bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Count the families of each class, and the images left when the smallest one is set aside."""
    labels, domains = np.asarray(bank.labels), np.asarray(bank.domains)
    sizes = np.asarray(bank.sizes)
    domains = np.where(domains >= 0, domains, -1 - np.arange(len(domains)))
    pairs, images = np.unique(np.stack([labels, domains]), axis=1, return_counts=True)
    smallest = sizes.copy()
    np.minimum.at(smallest, pairs[0], images)
    return np.bincount(pairs[0], minlength=len(sizes)), sizes - smallest


def check_shots(
    bank: Bank, shot: int, class_names: tuple[str, ...] = (), *, spare: int = 0
) -> None:
    """Refuse a number of shots that some class of the bank cannot give.

    Without this check such a class is masked where its images end. ``spare`` images must be left
    beside the shots: 1 where the queries come from the same bank.

    Raises:
        UserError: names the smallest class and says how many shots there can be.
    """
    sizes = np.asarray(bank.sizes)
    short = np.flatnonzero(sizes < shot + spare)
    if len(short):
        worst = int(short[sizes[short].argmin()])
        name = repr(class_names[worst]) if class_names else f"number {worst}"
        left, need = int(sizes[worst]) - spare, f"{shot} + {spare}" if spare else str(shot)
        remedy = f"give {left} shots or less, or more images" if left > 0 else "give more images"
        raise UserError(
            f"{len(short)} of {len(sizes)} classes have fewer than {need} images; "
            f"the smallest, {name}, has {sizes[worst]}: {remedy}"
        )
