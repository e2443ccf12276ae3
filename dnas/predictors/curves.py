"""Where a training will end, from how it began: https://arxiv.org/abs/1705.10823."""

from typing import Any

import numpy as np

from dnas.predictors.predictor import Prediction
from dnas.predictors.regressors import named_extra


def curve_features(curves: np.ndarray) -> np.ndarray:
    """Returns [N, 3 T - 1] what the paper (section 3.1) and NASLib's lcsvr read of the first T
    values of N trainings: these, their first and second differences, mean and deviation.

    Example:
      >>> curve_features(np.array([[1.0, 3.0, 4.0]])).round(2).tolist()
      [[1.0, 3.0, 4.0, 2.0, 1.0, -1.0, 2.67, 1.25]]
    """
    differences = np.diff(curves, axis=-1)
    moments = np.stack([curves.mean(axis=-1), curves.std(axis=-1)], axis=-1)
    return np.concatenate([curves, differences, np.diff(differences, axis=-1), moments], axis=-1)


def final_values(curves: np.ndarray, begun: np.ndarray) -> Prediction:
    """Returns what the last value of trainings will be that have begun, in the unit of the values:
    the paper's sequential regression models, of which there is one for each length of a beginning.

    Each is ridge regression on `curve_features`, with the penalty of least error on trainings that
    are left out, one at a time; that error is the spread, by a normal distribution. Support vectors
    with a thousand trials of their settings are a little better in the paper.

    Args:
      curves: [N, E], of trainings that have ended, one value an epoch.
      begun: [M, T], the first values of others.

    Raises:
      ValueError: for fewer than 5 curves, or beginnings that are longer than they.
      ModuleNotFoundError: without scikit-learn.
    """
    curves, begun = np.asarray(curves, float), np.asarray(begun, float)
    if curves.ndim != 2 or begun.ndim != 2 or len(curves) < 5:
        raise ValueError(
            "curves are [N, E] of at least 5 trainings and beginnings [M, T]; got"
            f" {curves.shape} and {begun.shape}"
        )
    length = begun.shape[1]
    if not 1 <= length <= curves.shape[1]:
        raise ValueError(f"a beginning has 1 to {curves.shape[1]} values, got {length}")
    with named_extra():
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    regression: Any = RidgeCV(np.logspace(-4, 4, 17))
    model = make_pipeline(StandardScaler(), regression)
    model.fit(curve_features(curves[:, :length]), curves[:, -1])
    mean = model.predict(curve_features(begun))
    return Prediction(mean, np.full(len(mean), np.sqrt(-regression.best_score_)))
