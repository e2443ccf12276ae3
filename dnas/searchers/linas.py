"""LINAS of Intel's DyNAS-T, https://arxiv.org/abs/2205.10358: few evaluations, several
objectives."""

import itertools

import numpy as np

from dnas.checks import checked
from dnas.predictors import Predictor, one_hot, ridge
from dnas.searchers.architectures import Picks
from dnas.searchers.guided import Features, drawn
from dnas.searchers.optuna import optuna_search
from dnas.searchers.searcher import Searcher, Value, fronts


@checked
def linas(
    predictor: Predictor | None = None,
    *,
    population: int = 50,
    generations: int = 20,
    features: Features = one_hot,
) -> Searcher:
    """Returns the searcher that evaluates in each round what NSGA-II finds best by predictors, one
    for each objective, that are fitted to all values so far.

    The first population is drawn at random. In each round NSGA-II runs for some generations on the
    predicted means, and those that it met are evaluated which are not known: first those of the
    front, then those of the front without these, and so on (algorithm 1 of the paper). There are as
    many objectives as an evaluation has values; of each more is better.

    Args:
      predictor: ridge regression unless given; the paper chooses it or support vectors by error.
      population: how many a round evaluates, and NSGA-II's population.
      generations: of NSGA-II, in a round.
      features: what the predictor reads of genotypes.

    Raises:
      ValueError: for a population of less than 2, or no generation.
      ModuleNotFoundError: without optuna, or without scikit-learn unless a predictor is given.
    """
    if population < 2 or generations < 1:
        raise ValueError(
            "population is at least 2 and generations at least 1, got"
            f" {population} and {generations}"
        )
    fit, predict = ridge() if predictor is None else predictor

    def run(architectures, rng):
        known: dict[Picks, Value] = {}

        def features_of(cells):
            return features(architectures.space, [architectures.genotype_of(own) for own in cells])

        wanted = drawn(architectures, rng, population)
        while wanted:
            for picks in wanted:
                known[picks] = yield picks
            values = np.array([np.atleast_1d(value) for value in known.values()])
            models = [fit(features_of(known), own) for own in values.T]

            # The same search as on values, on what is predicted instead.
            inner = optuna_search("nsgaii", objectives=len(models), population_size=population)(
                architectures, rng
            )
            predicted, picks = {}, next(inner)
            for _ in range(population * generations):
                if picks not in predicted:
                    row = features_of([picks])
                    predicted[picks] = tuple(float(predict(own, row).mean[0]) for own in models)
                picks = inner.send(predicted[picks])

            fresh = [own for own in predicted if own not in known]
            levels = fronts(np.array([predicted[own] for own in fresh]))
            order = itertools.islice(itertools.chain.from_iterable(levels), population)
            wanted = [fresh[number] for number in order] or drawn(architectures, rng, 1, known)

    return run
