"""Predictor-guided search: BANANAS, https://arxiv.org/abs/1910.11858, with any predictor."""

import itertools
from collections.abc import Callable, Collection, Sequence

import numpy as np

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.predictors import Predictor, forest, one_hot
from dnas.searchers.architectures import Architectures, Picks
from dnas.searchers.random import random_search
from dnas.searchers.searcher import Searcher
from dnas.space import SearchSpace

Features = Callable[[SearchSpace, Sequence[Genotype]], np.ndarray]  # -> [N, F]


@checked
def guided_search(
    predictor: Predictor | None = None,
    *,
    draws: bool = True,
    initial: int = 20,
    batch: int = 10,
    parents: int = 5,
    strangers: int = 60,
    features: Features = one_hot,
) -> Searcher:
    """Returns the searcher that evaluates in each round what a predictor, fitted to all values so
    far, expects most of.

    Candidates are the neighbours of the best so far, as many that lie two exchanges away, and some
    at random; those that are known are left out. That they are near the best matters more than the
    predictor does (https://arxiv.org/abs/2103.14727 finds so of BANANAS): over the whole space a
    predictor is no better than random search.

    Args:
      predictor: a forest unless given.
      draws: takes the candidates of which a draw from the normal distribution with the predicted
        mean and spread is highest (independent Thompson sampling, the paper's section 4); those of
        highest mean otherwise.
      initial: how many are evaluated before the first round, at random.
      batch: how many a round evaluates.
      parents: of how many of the best the neighbours are candidates.
      strangers: candidates at random.
      features: what the predictor reads of genotypes.

    Raises:
      ValueError: for fewer than 2 to begin with, or less than 1 in a round.
      ModuleNotFoundError: without scikit-learn, unless a predictor is given.
    """
    if initial < 2 or min(batch, parents) < 1 or strangers < 0:
        raise ValueError(
            "initial is at least 2, batch and parents at least 1, strangers at least 0; got"
            f" {initial}, {batch}, {parents} and {strangers}"
        )
    fit, predict = forest() if predictor is None else predictor

    def run(architectures, rng):
        known: dict[Picks, float] = {}

        def features_of(cells):
            return features(architectures.space, [architectures.genotype_of(own) for own in cells])

        wanted = drawn(architectures, rng, initial)
        while wanted:
            for picks in wanted:
                known[picks] = yield picks
            best = sorted(known, key=known.__getitem__, reverse=True)[:parents]
            near = [picks for parent in best for picks in architectures.neighbours(parent)]
            farther = [architectures.mutate(rng, picks) for picks in near]
            others = drawn(architectures, rng, strangers)
            candidates = [own for own in dict.fromkeys(near + farther + others) if own not in known]
            if not candidates:  # a small space, of which little is left
                wanted = drawn(architectures, rng, 1, known)
                continue
            model = fit(features_of(known), np.array([*known.values()]))
            mean, spread = predict(model, features_of(candidates))
            hopes = rng.normal(mean, spread) if draws else mean
            wanted = [candidates[number] for number in np.argsort(-hopes)[:batch]]

    return run


def drawn(
    architectures: Architectures,
    rng: np.random.Generator,
    number: int,
    known: Collection[Picks] = (),
) -> list[Picks]:
    """Returns so many at random, none twice and none that is known; fewer where there are no
    more."""
    fresh = (picks for picks in random_search()(architectures, rng) if picks not in known)
    return list(itertools.islice(fresh, number))
