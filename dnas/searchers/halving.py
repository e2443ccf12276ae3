"""Successive halving, https://arxiv.org/abs/1502.07943."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dnas.checks import at_least, checked
from dnas.genotype import Genotype
from dnas.searchers.architectures import Architectures
from dnas.searchers.random import random_search
from dnas.searchers.searcher import Evaluation
from dnas.space import SearchSpace


@checked
def successive_halving(
    space: SearchSpace,
    train: Callable[[Genotype], Iterator[float]],
    *,
    epochs: int,
    budget: int,
    eta: int = 3,
    shortest: int = 1,
    seed: int = 0,
) -> list[Evaluation]:
    """Returns what trainings of random architectures come to, of which only the best go on, with a
    budget of epochs, in the order in which they end.

    A group of eta**k architectures begins with epochs / eta**k epochs each. Of those that have come
    so far the best one in eta goes on to eta times as many epochs, until one has all of them; then
    comes another group. With k as large as `shortest` allows it is the first bracket of Hyperband,
    algorithm 1 of https://arxiv.org/abs/1603.06560, again and again. The value of an architecture
    is the last that its training has yielded, and its cost the epochs until then: those of cost
    `epochs` were trained to the end.

    Args:
      train: of a genotype, yields its value (an accuracy, say) after each epoch, and trains no
        further than it is asked to, such as `dnas.short_training` returns. It is kept for as long
        as its architecture may go on.
      epochs: of a whole training.
      budget: of epochs, of all trainings.
      eta: what part goes on; above `epochs` each group is one training, which is random search.
      shortest: epochs that every training has.

    Raises:
      ValueError: for numbers below 1, an eta below 2, and a training that yields too few values or
        one that is no finite number.

    Example:
      >>> import dnas, itertools
      >>> history = successive_halving(
      ...     dnas.SPACES["nasbench201"],
      ...     lambda cell: itertools.repeat(cell.count("nor_conv_3x3")["cell"]),
      ...     epochs=9,
      ...     budget=21,
      ... )
      >>> [evaluation.cost for evaluation in history]
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 9.0]
    """
    at_least(1, epochs=epochs, budget=budget, shortest=shortest)
    at_least(2, eta=eta)
    lengths = [epochs]
    while lengths[0] // eta >= shortest:
        lengths.insert(0, lengths[0] // eta)

    architectures = Architectures(space)
    draws = random_search()(architectures, np.random.default_rng(seed))
    history: list[Evaluation] = []
    while budget > 0:
        drawn = itertools.islice(draws, eta ** (len(lengths) - 1))
        genotypes = [architectures.genotype_of(picks) for picks in drawn]
        group = [_Training(genotype, train(genotype), []) for genotype in genotypes]
        if not group:  # all of the space has been seen
            break
        for length in lengths:
            for own in group:
                budget -= _go_on(own, min(length, len(own.curve) + budget))
            best = sorted(group, key=lambda own: own.curve[-1:], reverse=True)
            goes_on = max(1, len(group) // eta) if length < epochs and budget else 0
            history += [_ended(own) for own in best[goes_on:] if own.curve]
            group = best[:goes_on]
    return history


class _Training(NamedTuple):
    """A training on its way."""

    genotype: Genotype
    values: Iterator[float]
    curve: list[float]  # what it has yielded


def _go_on(training: _Training, length: int) -> int:
    """Trains as far as so many epochs; returns how many these were."""
    new = list(itertools.islice(training.values, length - len(training.curve)))
    training.curve.extend(map(float, new))
    if len(training.curve) < length or not np.isfinite(new).all():
        raise ValueError(
            f"the training of {training.genotype} yields {training.curve}; train yields a finite"
            f" number after each of {length} epochs"
        )
    return len(new)


def _ended(training: _Training) -> Evaluation:
    return Evaluation(training.genotype, training.curve[-1], float(len(training.curve)))
