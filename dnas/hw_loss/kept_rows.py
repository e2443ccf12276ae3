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
    proportion to its strength; those without any are not drawn. With all strengths 0 or 1, and at
    most k ones a group, the probabilities are the strengths.
    """
    assert choices.keep is not None
    most = max(len(group) for group in choices.groups)
    # All groups at once: a group of fewer rows has others of no strength, which are not drawn
    # either.
    places = np.full((len(choices.groups), most), len(choices.rows))
    for place, group in zip(places, choices.groups, strict=True):
        place[: len(group)] = group
    order = np.argsort(places.ravel(), kind="stable")
    inside = np.sort(np.concatenate([np.array(group, int) for group in choices.groups]))
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
        found = add_up(terms).ravel()[order[: len(inside)]]
        if len(inside) == len(strengths):
            return found
        alone = xp.ones(len(strengths) - len(inside), strengths.dtype)  # which compete with none
        rows = np.r_[inside, np.setdiff1d(np.arange(len(strengths)), inside)]
        return xp.concatenate([found, alone])[np.argsort(rows)]

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
