"""RoBoT: the mixture of scores whose best architecture is best, https://arxiv.org/abs/2403.07591."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.predictors.regressors import named_extra
from dnas.searchers.searcher import Searcher

_CANDIDATES = 1000  # mixtures of which a round takes one
_CURIOSITY = 2.576  # deviations that are hoped for


@checked
def robot(
    pool: Sequence[Genotype],
    scores: Mapping[str, Sequence[float]],
    *,
    rounds: int = 20,
) -> Searcher:
    """Returns the searcher that looks for the weights of a sum of scores, and then goes down the
    order of the best sum: algorithm 1 of the paper.

    Weights are from [-1, 1], one for each score, whose values count by their ranks. In each round
    the architecture is evaluated that a sum has first; what a sum is worth is its value. The next
    weights are those of 1,000 at random with the highest mean + 2.576 deviations of a Gaussian
    process (the first are random), as in Bayesian optimisation with a confidence bound. Rounds that
    lead to an architecture that is known cost nothing. After them the architectures are evaluated
    that come next in the order of the best weights, of equal ones the last, until the budget ends.

    Ranks stand in for the paper's scores between 0 and 1, of which one outlier leaves nothing to
    tell the others apart by.

    Args:
      pool: the architectures, such as those that `dnas scores` has scored.
      scores: {name: [len(pool)], more is better}; minus infinity ranks last.
      rounds: how many weights are tried.

    Raises:
      ValueError: for no architecture or score, not a score for each architecture, or no round.
      ModuleNotFoundError: without scikit-learn.
    """
    sizes = {name: len(own) for name, own in scores.items()}
    if not pool or not scores or set(sizes.values()) != {len(pool)}:
        raise ValueError(
            f"a pool of architectures has each score of each of them, got {len(pool)} architectures"
            f" and so many of each score: {sizes}"
        )
    if rounds < 1:
        raise ValueError(f"rounds is a number of at least 1, got {rounds}")
    ranks = np.stack([_ranks(np.asarray(own, np.float64)) for own in scores.values()])
    with named_extra():
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern

    def run(architectures, rng):
        cells = [architectures.picks_of(genotype) for genotype in pool]
        known: dict[int, float] = {}
        weights, worth = [], []
        for number in range(rounds):
            tried = rng.uniform(-1, 1, (_CANDIDATES, len(ranks)))
            own = tried[0]
            if number > 1:
                # A step function without noise: weights that agree on an architecture are equal.
                process = GaussianProcessRegressor(Matern(nu=2.5), alpha=1e-6, normalize_y=True)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a length at its bound is an answer
                    process.fit(np.array(weights), np.array(worth))
                found: Any = process.predict(tried, return_std=True)
                own = tried[int(np.argmax(found[0] + _CURIOSITY * found[1]))]
            first = int(np.argmax(own @ ranks))
            if first not in known:
                known[first] = yield cells[first]
            weights.append(own)
            worth.append(known[first])
        best = max(range(rounds), key=lambda number: (worth[number], number))
        for place in np.argsort(-(weights[best] @ ranks), kind="stable"):
            if place not in known:
                yield cells[place]

    return run


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, mean ones of ties."""
    from scipy import stats

    return (stats.rankdata(values) - 1) / max(len(values) - 1, 1)
