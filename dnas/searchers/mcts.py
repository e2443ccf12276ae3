"""Monte Carlo tree search, as DeepArchitect has it: https://arxiv.org/abs/1704.08792, section 5."""

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from dnas.searchers.architectures import DROPPED, Architectures, Picks
from dnas.searchers.searcher import Searcher


def mcts(exploration: float = 1.0) -> Searcher:
    """Returns the searcher that decides row by row, as in a tree, by the mean value of what came of
    each option before: UCT, mean + exploration * sqrt(2 ln N / n) of an option that was taken n
    times of N, and options that were never taken first.

    Each evaluation adds one decision to the tree; what follows it is decided at random. Which rows
    have a place is decided before their options. An architecture may be evaluated again.

    Args:
      exploration: for values from 0 to 1, such as accuracies.

    Raises:
      ValueError: for an exploration below 0.
    """
    if not exploration >= 0:
        raise ValueError(f"exploration is a number from 0 on, got {exploration}")

    def run(architectures, rng):
        # Places in the tree are the options that were taken from the first decision on.
        taken: Counter[tuple[int, ...]] = Counter()
        total: Counter[tuple[int, ...]] = Counter()

        def score(place):
            if not taken[place]:
                return math.inf
            seldom = math.log(taken[place[:-1]]) / taken[place]
            return total[place] / taken[place] + exploration * math.sqrt(2 * seldom)

        def choose(place, number):
            # Below the tree nothing was taken, so that all options are alike.
            scores = [score((*place, option)) for option in range(number)]
            return int(rng.choice(np.flatnonzero(np.equal(scores, max(scores)))))

        while True:
            picks, options = _decided(architectures, choose)
            value = yield picks
            for length in range(len(options) + 1):
                place = options[:length]
                is_new = not taken[place]
                taken[place] += 1
                total[place] += value
                if is_new and length > 0:  # the tree grows by one place
                    break

    return run


def _decided(
    architectures: Architectures, choose: Callable[[tuple[int, ...], int], int]
) -> tuple[Picks, tuple[int, ...]]:
    """Returns an architecture and the options that it took, each of which is chosen by those before
    it and the number of options there."""
    options: tuple[int, ...] = ()
    dropped: set[int] = set()
    for rows, places in architectures.groups:
        ways = [*itertools.combinations(rows, places)]
        options = (*options, choose(options, len(ways)))
        dropped |= set(rows) - set(ways[options[-1]])
    picks = []
    for row, columns in enumerate(architectures.columns):
        if row in dropped:
            picks.append(DROPPED)
            continue
        options = (*options, choose(options, len(columns)))
        picks.append(columns[options[-1]])
    return tuple(picks), options
