"""Predictors of scikit-learn, https://scikit-learn.org: pip install 'dnas[predictors]'."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from dnas.checks import checked
from dnas.predictors.predictor import Prediction, Predictor, normal_scores


def ridge() -> Predictor:
    """Returns linear regression with a penalty on the squares of the weights, whose size is that of
    most marginal likelihood (MacKay, https://doi.org/10.1162/neco.1992.4.3.415).

    On `pairs` of features it learns which options go together.

    Raises:
      ModuleNotFoundError: without scikit-learn.
    """
    with named_extra():
        from sklearn.linear_model import BayesianRidge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    def make() -> Any:
        # Centred here, since older releases forget to where they say how far off a prediction is.
        return make_pipeline(StandardScaler(with_std=False), BayesianRidge())

    return _predictor(make, lambda model, features: model.predict(features, return_std=True))


@checked
def forest(trees: int = 60, *, seed: int = 0) -> Predictor:
    """Returns extremely randomised trees, https://doi.org/10.1007/s10994-006-6226-1; the spread is
    the deviation between trees.

    A split is the best among a third of the features: where these are zeros and ones, thresholds
    leave nothing to chance, and with all features at hand all trees were one.

    Raises:
      ModuleNotFoundError: without scikit-learn.
      ValueError: for fewer than 2 trees, which have no deviation.

    Example:
      >>> predictor, features = forest(), np.eye(4)
      >>> model = predictor.fit(features, [0.1, 0.9, 0.4, 0.5])
      >>> predictor.predict(model, features).mean.argsort().tolist()
      [0, 2, 3, 1]
    """
    if trees < 2:
        raise ValueError(f"trees is a number of at least 2, got {trees}")
    with named_extra():
        from sklearn.ensemble import ExtraTreesRegressor

    def predict(model: Any, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        each = np.stack([tree.predict(features) for tree in model.estimators_])
        return each.mean(axis=0), each.std(axis=0, ddof=1)

    def make() -> Any:
        return ExtraTreesRegressor(trees, max_features=1 / 3, random_state=seed)

    return _predictor(make, predict)


def gaussian_process() -> Predictor:
    """Returns the Gaussian process that takes architectures to be alike in so far as they share
    options.

    On `one_hot` features its covariance is exp(-d / length^2) where d rows have different options,
    the kernel of Hamming's distance. Size, length and noise are those of most marginal likelihood.

    Raises:
      ModuleNotFoundError: without scikit-learn.
    """
    with named_extra():
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    def make() -> Any:
        kernel = ConstantKernel(1.0) * RBF(2.0) + WhiteKernel(0.1)
        return GaussianProcessRegressor(kernel)

    return _predictor(make, lambda model, features: model.predict(features, return_std=True))


def _predictor(make, predict) -> Predictor:
    """A predictor of what is made, fitted to normal scores."""

    def fit(features, values):
        features, scores = np.asarray(features, float), normal_scores(values)
        if features.ndim != 2 or features.shape[0] != len(scores) or len(scores) < 2:
            raise ValueError(
                "features are [N, F] and values [N], one row and one value each of at least 2"
                f" architectures; got {features.shape} and {scores.shape}"
            )
        with warnings.catch_warnings():
            # That a length or a noise is at its bound is an answer, where there is no noise, say.
            warnings.simplefilter("ignore")
            return make().fit(features, scores)

    return Predictor(fit, lambda model, features: Prediction(*predict(model, features)))


@contextlib.contextmanager
def named_extra() -> Iterator[None]:
    """Says which extra scikit-learn comes with, where it is not there."""
    try:
        yield
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "scikit-learn is not installed: pip install 'dnas[predictors]'"
        ) from None
