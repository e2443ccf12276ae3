"""Scores without training: what networks are worth at their initialisation."""

from functools import partial

import numpy as np

from dnas.cells.norms import NO_NORMS
from dnas.scores.correlations import eigenvalue_score, hidden_covariance, jacob_cov
from dnas.scores.fisher import fisher, supernet_of_copies
from dnas.scores.gradients import gradsign, zico
from dnas.scores.macs import counted, macs
from dnas.scores.naswot import log_determinant, naswot
from dnas.scores.saliency import grad_norm, grasp, snip, synflow
from dnas.scores.score import (
    LAST,
    Measure,
    Score,
    live_mix,
    make_scorer,
    sampled_supernet,
    unrolled_supernet,
)
from dnas.scores.zen import gaussian_supernet, zen

_IMAGES = ("images",)

# By name.
SCORES = {
    "grad_norm": Score(grad_norm),
    "snip": Score(snip),
    "grasp": Score(grasp),
    "synflow": Score(
        synflow,
        value=lambda flow: float(np.log(flow)) if flow > 0 else LAST,
        network=partial(sampled_supernet, norms=NO_NORMS),
        wide=True,
        inputs=_IMAGES,
    ),
    "jacob_cov": Score(jacob_cov, value=eigenvalue_score, inputs=_IMAGES),
    "naswot": Score(naswot, value=log_determinant, network=unrolled_supernet, inputs=_IMAGES),
    "gradsign": Score(gradsign),
    "zico": Score(zico),
    "fisher": Score(fisher, network=supernet_of_copies, inputs=_IMAGES),
    "zen": Score(zen, network=gaussian_supernet, inputs=_IMAGES),
    "hidden_covariance": Score(hidden_covariance, value=eigenvalue_score, inputs=("tokens",)),
    "macs": Score(macs, network=counted, wide=True, inputs=_IMAGES),
}

__all__ = [
    "LAST",
    "SCORES",
    "Measure",
    "Score",
    "eigenvalue_score",
    "fisher",
    "gaussian_supernet",
    "grad_norm",
    "gradsign",
    "grasp",
    "hidden_covariance",
    "jacob_cov",
    "live_mix",
    "log_determinant",
    "macs",
    "make_scorer",
    "naswot",
    "sampled_supernet",
    "snip",
    "supernet_of_copies",
    "synflow",
    "unrolled_supernet",
    "zen",
    "zico",
]
