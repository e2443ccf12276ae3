"""The costs of all cells of a space from those of some: what adds up, and which cells are one
network or alike."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dnas.graph import CellSpec
from dnas.hw_loss.graphs import ZEROS, all_cells, count_what_runs, graph_text
from dnas.hw_loss.robust import fit_robustly
from dnas.hw_loss.structure import structures

_TRUSTS = (1.0, 0.1)  # of all numbers, see `fit_robustly`
_LENGTHS = (0.03, 0.1, 0.3, 1.0)  # in deviations of all numbers
_NOISES = (1e-5, 1e-3, 0.01, 0.1, 1.0, 10.0)  # variances, that of the process is 1
_BATCH = 4096


class _Scale(NamedTuple):
    """In what costs add up."""

    of_cost: Callable[[np.ndarray], np.ndarray]
    to_cost: Callable[[np.ndarray], np.ndarray]
    is_log: bool = False


_SCALES = (_Scale(np.asarray, np.asarray), _Scale(np.log, np.exp, is_log=True))


class _Rule(NamedTuple):
    """What a rule for zeros, and a scale, make of measured costs."""

    error: float  # of what is left out, as a cost
    length: float
    noise: float
    graphs: np.ndarray  # [cells, K], where cells are; those that are one network at one place
    added: np.ndarray  # [cells], what adds up, in the scale
    residuals: np.ndarray  # [N], what that leaves of the costs
    deviations: np.ndarray  # [N], how noise grows
    scale: _Scale


def predict_cells(
    spec: CellSpec, places: np.ndarray, costs: np.ndarray, importance: np.ndarray
) -> tuple[np.ndarray, float]:
    """Returns the costs of all cells of a space, [cells], and the mean left-out error times
    importance.

    A cost, or its logarithm, is a weighted sum of what is counted of a cell (`fit_robustly`) and a
    Gaussian process (http://gaussianprocess.org/gpml, section 2.2) with covariance exp(-distance /
    length), where the distance is one of those numbers; noise grows with the cost. Cells that are
    one network may be measured once for all, and which of them was built is not known, so that each
    has the mean of their numbers: their distance is zero. The rule by which a runtime folds zeros,
    which says what is one network, is the one of least error on what is left out, and so are
    length, noise, and whether it is the cost or its logarithm.

    Args:
      places: [N] of the measured cells, among `all_cells`; costs: [N].
      importance: [N], what an error is multiplied by to be comparable with others.
    """
    numbers, networks = _counted(spec)

    def try_rule(zeros: str, scale: _Scale) -> _Rule:
        means, scaled = _means(numbers, networks[zeros]), scale.of_cost(costs)
        trusts = [np.full(means.shape[1], trust) for trust in _TRUSTS]
        # An error of a logarithm is a share of the cost.
        own = np.ones_like(costs) if scale.is_log else importance
        weights, left_out = fit_robustly(means[places], scaled, own, trusts)
        deviations = 1 / own / np.median(1 / own)
        graphs, added = _standardised(means), means @ weights

        def error_of(errors: np.ndarray) -> float:
            found = scale.to_cost(scaled - errors) - costs
            return float(np.mean(np.abs(found) * importance))

        # By what the weights are off where they were not fitted, so that it counts what is left out
        # of both.
        best = _choose(graphs[places], scaled - left_out, deviations, error_of)
        return _Rule(*best, graphs, added, scaled - added[places], deviations, scale)

    rules = [try_rule(zeros, scale) for zeros in ZEROS for scale in _SCALES]
    rule = min(rules, key=lambda own: own.error)
    graphs, added = rule.graphs, rule.added
    own = np.exp(-_distances(graphs[places], graphs[places]) / rule.length)
    noise = rule.noise * np.diag(rule.deviations**2)
    coefficients = np.linalg.solve(own + noise, rule.residuals)
    for rows in np.array_split(np.arange(len(added)), -(-len(added) // _BATCH)):
        across = np.exp(-_distances(graphs[rows], graphs[places]) / rule.length)
        added[rows] += across @ coefficients
    return rule.scale.to_cost(added), rule.error


def _choose(graphs, residuals, deviations, error_of) -> tuple[float, float, float]:
    """The least error on what is left out, and the length and the noise that have it."""
    distances, found = _distances(graphs, graphs), []
    for length in _LENGTHS:
        # One decomposition for all noises: (K + s D)^-1 = D^-1/2 Q (L + s)^-1 Q' D^-1/2 with Q L Q'
        # = D^-1/2 K D^-1/2. What is left out is off by (K + s D)^-1 r / diag of it (section 5.4.2).
        covariance = np.exp(-distances / length) / deviations[:, None] / deviations
        values, vectors = np.linalg.eigh(covariance)
        vectors = vectors / deviations[:, None]
        projected = vectors.T @ residuals
        for noise in _NOISES:
            scales = 1 / (np.maximum(values, 0.0) + noise)
            errors = (vectors @ (scales * projected)) / (vectors**2 @ scales)
            found.append((error_of(errors), length, noise))
    return min(found)


def structures_of_all(spec: CellSpec) -> np.ndarray:
    """Returns the `structure` of each of `all_cells`, [cells, K]."""
    rows = [[[op == own for op in spec.ops] for own in cell] for cell in all_cells(spec)]
    return structures(spec, np.array(rows, np.float32))


@functools.lru_cache(maxsize=2)
def _counted(spec: CellSpec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Numbers of all cells, [cells, K], the first of which is 1, and by each rule [cells], equal
    for those that are one network."""
    cells = all_cells(spec)
    counts = [count_what_runs(spec, cell) for cell in cells]
    keys = sorted(set().union(*counts), key=str)
    built = np.array([[own[key] for key in keys] for own in counts], float)
    networks = {}
    for zeros in ZEROS:
        texts = [graph_text(spec, cell, zeros=zeros) for cell in cells]
        networks[zeros] = np.unique(texts, return_inverse=True)[1].ravel()
    return np.concatenate([structures_of_all(spec), built], axis=1), networks


def _means(numbers: np.ndarray, graphs: np.ndarray) -> np.ndarray:
    """The mean over the cells that are one network, [cells, K]."""
    sums = np.stack([np.bincount(graphs, own) for own in numbers.T], axis=1)
    return (sums / np.bincount(graphs)[:, None])[graphs]


def _standardised(numbers: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1 over all cells, without what is the same in all."""
    spread = numbers.std(axis=0)
    varies = spread > 1e-9
    return (numbers[:, varies] - numbers[:, varies].mean(axis=0)) / spread[varies]


def _distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The root of the mean squared difference, [rows, columns]."""
    from scipy.spatial.distance import cdist

    return cdist(rows, columns) / np.sqrt(max(rows.shape[1], 1))
