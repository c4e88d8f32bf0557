"""Checks on the host, before anything is compiled: can this bank give such episodes?"""

import numpy as np

from fsclip_jax.episodes.sampler import EpisodeSpec, usable_classes
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank


def check_episode(bank: Bank, spec: EpisodeSpec) -> None:
    """Refuse, on the host and before anything is compiled, sizes that a bank cannot give.

    Args:
        bank: the bank to draw from.
        spec: sizes of the episodes.

    Raises:
        UserError: fewer usable classes than ``way``, or no class large enough for the shots.

    Example:
        >>> import jax.numpy as jnp
        >>> zeros = jnp.zeros
        >>> bank = Bank(zeros((1, 3, 4)), jnp.array([0, 1, 1]), jnp.array([0, 1]),
        ...             jnp.array([1, 2]), -jnp.ones(3, int), zeros((2, 4)), jnp.float32(100))
        >>> from fsclip_jax.episodes.sampler import EpisodeSpec
        >>> check_episode(bank, EpisodeSpec(way=2, shot=1, query=1))
        Traceback (most recent call last):
        ...
        fsclip_jax.errors.UserError: way is 2; 1 of 2 classes has ...
    """
    usable = np.asarray(usable_classes(bank))
    sizes = np.asarray(bank.sizes)
    count, families = int(usable.sum()), bool((np.asarray(bank.domains) >= 0).any())
    if count < spec.way:
        what = "two images of different families" if families else "two images"
        remedy = f"give a way of {count} or less" if count else "give more images"
        raise UserError(
            f"way is {spec.way}; {count} of {len(sizes)} classes "
            f"{'has' if count == 1 else 'have'} {what}, one to learn from and one to ask: {remedy}"
        )
    least, largest = spec.min_shot or spec.shot, int(sizes[usable].max())
    if largest <= least:
        raise UserError(
            f"shot is {least}; the largest class has {largest} images, and one must be left to "
            f"ask: give {largest - 1} shots or less"
        )


def check_shots(
    bank: Bank, shot: int, class_names: tuple[str, ...] = (), *, spare: int = 0
) -> None:
    """Refuse a number of shots that some class of the bank cannot give.

    Without this check such a class is masked where its images end.

    Args:
        bank: the bank that the shots are drawn from.
        shot: support images a class.
        class_names: name of each class of the bank, for the message.
        spare: images that must be left beside the shots; 1 where the queries come from the
            same bank.

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
