"""What measured networks say beyond their structure: cells that are the same network cost the same,
similar ones alike."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dnas.graph import CellSpec
from dnas.hw_loss.graphs import ZEROS, Cell, graph_text, live_cell

_SIMILARITIES = (0.3, 0.6, 0.85)
_NOISES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SHRINKAGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)


class Residual(NamedTuple):
    """Corrections of the costs that a structure predicts. Without support and known networks there
    are none."""

    # of cells in which one live edge differs; to the power of their number where several do
    similarity: float
    support: tuple[Cell, ...]  # the measured cells, with their live edges only
    coefficients: tuple[float, ...]  # of the similarities to them
    zeros: str  # the rule by which networks are told apart, one of `graphs.ZEROS`
    # {graph: (mean measured cost, how far it replaces the prediction)}.
    known: Mapping[str, tuple[float, float]]

    def correct(self, spec: CellSpec, cells: Sequence[Cell], predicted: np.ndarray) -> np.ndarray:
        """Returns the corrected costs [cells] of discrete cells, given those that their structure
        predicts."""
        found = np.array(predicted, float)
        if self.support:
            live = [live_cell(spec, cell) for cell in cells]
            found += _similarities(spec, live, self.support, self.similarity) @ np.array(
                self.coefficients
            )
        if self.known:
            known = [
                self.known.get(graph_text(spec, cell, zeros=self.zeros), (0.0, 0.0))
                for cell in cells
            ]
            mean, trust = np.array(known).T
            found += trust * (mean - found)
        return found


def fit_residual(
    spec: CellSpec,
    cells: Sequence[Cell],
    costs: np.ndarray,
    predicted: np.ndarray,
    importance: np.ndarray,
) -> Residual:
    """Returns the corrections that predict best what is left out, one measured cell at a time; none
    unless they help.

    The smooth part is a Gaussian process whose covariance is `similarity` to the power of the
    number of live edges that differ; the known part replaces predictions by the mean of what was
    measured of the same network. Noise grows with the cost.
    """
    residuals, noise = (
        costs - predicted,
        (np.maximum(costs, 0.1 * np.median(costs)) / np.median(costs)) ** 2,
    )
    live = [live_cell(spec, cell) for cell in cells]
    smooth = [(np.abs(residuals) @ importance, 0.0, (), np.zeros(len(costs)))]
    for similarity in _SIMILARITIES:
        # One decomposition for all noises: (K + s D)^-1 = D^-1/2 Q (L + s)^-1 Q' D^-1/2 with Q L Q'
        #   = D^-1/2 K D^-1/2.
        root = 1 / np.sqrt(noise)
        values, vectors = np.linalg.eigh(
            root[:, None] * _similarities(spec, live, live, similarity) * root
        )
        vectors = root[:, None] * vectors
        projected = vectors.T @ residuals
        for scale in _NOISES:
            coefficients = vectors @ (projected / (values + scale))
            left_out = residuals - coefficients / (vectors**2 @ (1 / (values + scale)))
            smooth.append(
                (
                    np.abs(residuals - left_out) @ importance,
                    similarity,
                    tuple(coefficients.tolist()),
                    left_out,
                )
            )
    none, best = smooth[0], min(smooth[1:], key=lambda candidate: candidate[0])
    candidates = []
    for _, similarity, coefficients, left_out in (none, best):
        error, zeros, known = _known_networks(spec, cells, costs, predicted + left_out, importance)
        candidates.append(
            (
                error,
                Residual(
                    similarity, tuple(live) if coefficients else (), coefficients, zeros, known
                ),
            )
        )
    (simple_error, simple), (error, full) = candidates
    return full if error < 0.95 * simple_error else simple


def _known_networks(spec, cells, costs, predicted, importance):
    """The error with one left out, the rule for zeros, and {graph: (mean cost, trust)}."""
    best = (np.abs(costs - predicted) @ importance, ZEROS[0], {})
    for zeros in ZEROS:
        texts = [graph_text(spec, cell, zeros=zeros) for cell in cells]
        names, graph, counts = np.unique(texts, return_inverse=True, return_counts=True)
        means = np.bincount(graph, costs) / counts
        # Noise of a measurement grows with what is measured, that of the prediction need not.
        noise = (means / np.median(costs)) ** 2
        others = counts[graph] - 1
        others_mean = np.where(others > 0, (means * counts)[graph] - costs, 0.0) / np.maximum(
            others, 1
        )
        for shrinkage in _SHRINKAGES:
            trust = others / np.maximum(others + shrinkage * noise[graph], 1e-9)
            error = np.abs(costs - predicted - trust * (others_mean - predicted)) @ importance
            if error < 0.99 * best[0]:
                pairs = zip(
                    means.tolist(), (counts / (counts + shrinkage * noise)).tolist(), strict=True
                )
                best = (error, zeros, dict(zip(names.tolist(), pairs, strict=True)))
    return best


def _similarities(
    spec: CellSpec, first: Sequence[Cell], second: Sequence[Cell], similarity: float
) -> np.ndarray:
    numbers = {op: number for number, op in enumerate((None, *spec.ops))}
    one, other = (
        np.array([[numbers[op] for op in cell] for cell in cells], np.int8)
        for cells in (first, second)
    )
    differing = sum(
        (a[:, None] != b[None]).astype(np.int8) for a, b in zip(one.T, other.T, strict=True)
    )
    return (similarity ** np.arange(len(spec.edges) + 1.0))[differing]
