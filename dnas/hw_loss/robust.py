"""Linear regression of costs which gross errors of some measurements do not spoil."""

from collections.abc import Sequence

import numpy as np


def fit_robustly(
    numbers: np.ndarray, costs: np.ndarray, importance: np.ndarray, trusts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights [K] of the numbers of each network, and what weights predict of networks [N]
    that they were not fitted to.

    They minimise a Huber loss, by iteratively reweighted least squares with a small ridge.

    Args:
      numbers: [N, K], the first of which is 1; costs: [N].
      importance: [N], what an error is multiplied by to be comparable with others.
      trusts: candidates [K] of how far each number may be relied on. One of trust below 1 is shrunk
        the more, one of 0 is left out. The candidate of least error is taken, in five folds.
    """
    left_out = [_out_of_fold(numbers, costs, importance, trust) for trust in trusts]
    errors = [float(np.mean(np.abs(own - costs) * importance)) for own in left_out]
    best = int(np.argmin(errors))
    return _robust_weights(numbers, costs, importance, trusts[best]), left_out[best]


def _robust_weights(numbers, costs, importance, trust, *, ridge=1e-6, threshold=0.5, iterations=30):
    """Weights of the numbers; those of which trust is below 1 are shrunk the more, those of which
    it is 0 left out."""
    centre, spread = numbers.mean(axis=0), numbers.std(axis=0)
    kept = (trust > 0) & (spread > 1e-6)  # which the constant is not
    scale = trust[kept] / spread[kept]
    inputs = np.c_[np.ones(len(costs)), (numbers[:, kept] - centre[kept]) * scale]
    now = importance**2
    penalty = np.diag(np.r_[0.0, np.full(kept.sum(), ridge * now.sum())])
    for _ in range(iterations):
        weighted = inputs.T * now
        found = np.linalg.solve(weighted @ inputs + penalty, weighted @ costs)
        errors = np.abs(inputs @ found - costs) * importance
        # An error of 1 % is never gross, so that the scale of errors does not shrink away where
        # there are none.
        now = importance**2 / np.maximum(
            1, errors / (threshold * max(1.4826 * np.median(errors), 0.02))
        )
    weights = np.zeros(len(trust))
    weights[kept] = found[1:] * scale
    weights[0] = found[0] - weights @ centre
    return weights


def _out_of_fold(numbers, costs, importance, trust, *, folds=5):
    """Predictions of every network by weights that were fitted without it."""
    predicted = np.empty(len(costs))
    fold = np.arange(len(costs)) % folds
    for number in range(folds):
        rest = fold != number
        predicted[~rest] = numbers[~rest] @ _robust_weights(
            numbers[rest], costs[rest], importance[rest], trust
        )
    return predicted
