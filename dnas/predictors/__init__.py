"""What measured architectures say of others: predictors of values, and what they read."""

from dnas.predictors.curves import curve_features, final_values
from dnas.predictors.features import one_hot, pairs
from dnas.predictors.predictor import Prediction, Predictor, normal_scores
from dnas.predictors.regressors import forest, gaussian_process, ridge

# By name.
PREDICTORS = {"forest": forest, "gaussian_process": gaussian_process, "ridge": ridge}

__all__ = [
    "PREDICTORS",
    "Prediction",
    "Predictor",
    "curve_features",
    "final_values",
    "forest",
    "gaussian_process",
    "normal_scores",
    "one_hot",
    "pairs",
    "ridge",
]
