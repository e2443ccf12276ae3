"""The draw of the rows that a group keeps: one after the other, without replacement."""

import itertools
from collections.abc import Callable

import numpy as np

from dnas.base import AnyArray, Array, add_up
from dnas.choices import Choices
from dnas.graph import like, namespace


def make_rates(choices: Choices) -> Callable[[AnyArray], Array]:
    """Returns strengths [E] -> probabilities to be among the rows of a group that are drawn,
    divided by the strengths, [E].

    The k rows that a group keeps are drawn one after the other without replacement, each in
    proportion to its strength; those without any are not drawn. A row that competes with none is a
    group of its own. With all strengths 0 or 1, and at most k ones a group, the probabilities are
    the strengths.
    """
    assert choices.keep is not None
    most = max(len(group) for group in choices.together)
    # All groups at once: a group of fewer rows has others of no strength, which are not drawn
    # either.
    places = np.full((len(choices.together), most), len(choices.rows))
    for place, group in zip(places, choices.together, strict=True):
        place[: len(group)] = group
    order = np.argsort(places.ravel(), kind="stable")[: len(choices.rows)]
    draws = _draws(most, choices.keep)

    def rates(strengths: AnyArray) -> Array:
        xp = namespace(strengths)
        own = xp.concatenate([strengths, xp.zeros(1, strengths.dtype)])[places]  # [groups, n]
        chance = xp.ones((len(own), 1), strengths.dtype)
        terms = []
        for others, steps in draws:
            others, steps = like(strengths, others), like(strengths, steps)
            left = own @ others.T
            chance = chance * xp.where(left > 0, 1 / xp.where(left > 0, left, 1.0), 0.0)
            terms.append(chance @ others)
            chance = xp.einsum("tse,ns,ne->nt", steps, chance, own)
        return add_up(terms).ravel()[order]

    return rates


def _draws(num_edges: int, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For 0, 1, ... k - 1 edges drawn: which are left, [S, n], and which set S becomes which T by
    drawing e, [T, S, n]."""
    sets = [
        list(itertools.combinations(range(num_edges), size))
        for size in range(min(k, num_edges) + 1)
    ]
    draws = []
    for before, after in itertools.pairwise(sets):
        left = np.array(
            [[float(edge not in drawn) for edge in range(num_edges)] for drawn in before]
        )
        steps = [
            [
                [
                    float(set(then) == {*drawn, edge} and edge not in drawn)
                    for edge in range(num_edges)
                ]
                for drawn in before
            ]
            for then in after
        ]
        draws.append((left, np.array(steps)))
    return draws
