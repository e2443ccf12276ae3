"""A cost model calibrated on measured networks: what a runtime does with dead branches is learned,
not assumed.

The cost of a cell is a sum over what is connected (`structure`), plus what the measured networks
themselves add: cells that are the same network cost the same. Both parts are exact expectations
over independent choices, multilinear in mix.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array
from dnas.checks import checked
from dnas.files import read_json
from dnas.graph import CellSpec
from dnas.hw_loss.graphs import (
    MOST_CELLS,
    ZEROS,
    Cell,
    all_cells,
    average_over_cells,
    count_cells,
    live_cell,
)
from dnas.hw_loss.liveness import expected_liveness, present_ops
from dnas.hw_loss.residual import Residual, fit_residual

_MOST_NODES = 1000  # of a cell that is read
NO_RESIDUAL = Residual(0.0, (), (), ZEROS[0], {})


class CostModel(NamedTuple):
    """The expected cost of one kind of cell, a function of its mix; from `fit_cost`."""

    spec: CellSpec
    weights: Array  # [K], the cost of each number of `structure`
    residual: Residual  # what measured networks say beyond the structure
    # [cells], the corrections that it makes; [0] if none, or if the space is too large to list its
    # cells
    table: Array

    def cost(self, mix: Array) -> Array:
        """Returns the expected cost [] of mix [E, O], in the unit of the measurements. Pure; for
        jit, vmap and grad."""
        expected = self.weights @ structure(self.spec, mix)
        return (
            expected + average_over_cells(self.spec, self.table, mix)
            if self.table.size
            else expected
        )

    def to_json(self) -> str:
        """Returns text from which `from_json` makes the model again."""
        weights = np.asarray(self.weights, float).tolist()
        parts = {"spec": dataclasses.asdict(self.spec), "weights": weights}
        return json.dumps(parts | {"residual": self.residual._asdict()})

    @classmethod
    def from_json(cls, text: str) -> "CostModel":
        """Returns the model that `to_json` wrote; ValueError if the text is not such a model."""
        try:
            tree = read_json(text, "the text")
            spec = CellSpec(**{key: _tuples(value) for key, value in tree["spec"].items()})
            if spec.num_inputs + spec.num_nodes > _MOST_NODES:
                raise ValueError(f"its cell has more than {_MOST_NODES} nodes")
            residual = Residual(**{key: _tuples(value) for key, value in tree["residual"].items()})
            residual = residual._replace(
                # Absent edges may be named by an op that computes nothing.
                support=tuple(live_cell(spec, cell) for cell in residual.support),
                known={graph: _tuples(pair) for graph, pair in residual.known.items()},
            )
            weights = np.array(tree["weights"], float)
            numbers = jax.eval_shape(partial(structure, spec), jnp.zeros(spec.choices.shape))
            # Which float32 can hold.
            if weights.shape != numbers.shape or not (np.abs(weights) < 1e38).all():
                raise ValueError(f"its weights are not {numbers.size} finite numbers")
            model = _make_model(spec, weights, residual)
            if not np.isfinite(model.table).all():
                raise ValueError("its corrections are not finite numbers")
            return model
        except (
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ValueError(
                "this is not a cost model as CostModel.to_json writes it:"
                f" {type(error).__name__}: {error!s:.300}"
            ) from None


def structure(spec: CellSpec, mix: Array) -> Array:
    """Returns [K] expected numbers that a cost is a weighted sum of, see `expected_liveness`.

    They are: 1; whether the cell is connected; sums; live ops, by op; chosen ops, by op, connected
    or not; ops that run on zeros if the runtime does not fold them, by source and op; live ops that
    feed a live op, by both ops (where operators are fused, or find data in a cache).
    """
    found = expected_liveness(spec, mix)
    ops = jnp.array(present_ops(spec), int)
    base = [
        jnp.ones((1,), mix.dtype),
        found.connected[None],
        found.sums[None],
        found.live.sum(axis=0)[ops],
    ]
    base.append(mix.sum(axis=0)[ops])
    for node in spec.nodes:
        rows = [number for number, (source, _) in enumerate(spec.edges) if source == node]
        if rows:
            base.append(found.unfed[jnp.array(rows)].sum(axis=0)[ops])
    # Whether the first op's source is reached, the two ops, and whether the second's target is
    # used: all independent.
    first = jnp.stack(
        [found.reached[source] * mix[number, ops] for number, (source, _) in enumerate(spec.edges)]
    )
    second = jnp.stack(
        [found.used[target] * mix[number, ops] for number, (_, target) in enumerate(spec.edges)]
    )
    pairs = jnp.einsum("eo,ef,fp->op", first, jnp.array(_follows(spec), mix.dtype), second)
    return jnp.concatenate([*base, pairs.ravel()])


@checked
def fit_cost(spec: CellSpec, mixes: np.ndarray, costs: np.ndarray | Sequence[float]) -> CostModel:
    """Returns the cost model of measured networks.

    The weights minimise a Huber loss, by iteratively reweighted least squares with a small ridge,
    of errors relative to the cost (up to a tenth of the median): some measurements are off by far
    more than the rest. How much pairs of ops are trusted is chosen by cross-validation, and so is
    what `fit_residual` adds in spaces of up to 2^17 cells. Nothing depends on the order of the
    measurements, and all but rounding scales with their unit.

    Args:
      mixes: [N, E, O], one-hot rows; zeros, or an op that computes nothing, for an absent edge.
      costs: [N], positive, one network each, in any unit.

    Raises:
      ValueError: for fewer than 20 networks, shapes that do not fit, or costs that are not
        positive.

    Example:
      >>> spec = CellSpec(1, 2, ((0, 1), (1, 2), (0, 2)), ("none", "conv", "pool"), concat=(2,))
      >>> mixes = np.eye(3)[np.random.default_rng(0).integers(0, 3, (40, 3))]
      >>> model = fit_cost(spec, mixes, [1 + float(mix[2, 1]) for mix in mixes])
      >>> round(float(model.cost(jnp.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]))), 2)
      2.0
    """
    mixes, costs = np.asarray(mixes, np.float32), np.asarray(costs, float)
    if (
        mixes.ndim != 3
        or mixes.shape[1:] != (len(spec.edges), len(spec.ops))
        or costs.shape != mixes.shape[:1]
    ):
        raise ValueError(
            f"mixes are [N, {len(spec.edges)}, {len(spec.ops)}] and costs [N]; got {mixes.shape}"
            f" and {costs.shape}"
        )
    if not np.isin(mixes, (0, 1)).all() or mixes.sum(axis=-1).max(initial=0) > 1:
        raise ValueError(
            "every row of a mix is one-hot, or zeros for an absent edge: measured networks are"
            " discrete"
        )
    if len(costs) < 20:
        raise ValueError(f"a cost model needs at least 20 measured networks, got {len(costs)}")
    if not np.isfinite(costs).all() or costs.min() <= 0:
        raise ValueError(
            "costs must be positive and finite; leave out networks that were not measured"
        )
    # In an order of their own, so that the folds do not depend on that of the measurements.
    order = np.lexsort((costs, *mixes.reshape(len(mixes), -1).T))
    mixes, costs = mixes[order], costs[order]
    numbers = _structures(spec, mixes)
    importance = 1 / np.maximum(costs, 0.1 * np.median(costs))
    is_pair = np.arange(numbers.shape[1]) >= numbers.shape[1] - len(present_ops(spec)) ** 2
    candidates = [np.where(is_pair, trust, 1.0) for trust in (0.0, 0.01, 0.1, 1.0)]
    errors = [
        _error(_out_of_fold(numbers, costs, importance, trust), costs, importance)
        for trust in candidates
    ]
    weights = _robust_weights(numbers, costs, importance, candidates[int(np.argmin(errors))])
    residual = NO_RESIDUAL
    if count_cells(spec) <= MOST_CELLS:
        residual = fit_residual(spec, _cells(spec, mixes), costs, numbers @ weights, importance)
    return _make_model(spec, weights, residual)


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


def _make_model(spec, weights, residual) -> CostModel:
    weights, table = jnp.asarray(weights, jnp.float32), np.zeros(0)
    if residual.support or residual.known:
        cells = all_cells(spec)
        rows = np.array(
            [[[op == own for op in spec.ops] for own in cell] for cell in cells],
            np.float32,
        )
        predicted = _structures(spec, rows) @ np.asarray(weights, float)
        table = residual.correct(spec, cells, predicted) - predicted
    return CostModel(spec, weights, residual, jnp.asarray(table, jnp.float32))


def _structures(spec: CellSpec, mixes: np.ndarray) -> np.ndarray:
    # As one computation, which a bare vmap would dispatch op by op.
    numbers = jax.lax.map(
        lambda mix: structure(spec, mix), jnp.asarray(mixes), batch_size=len(mixes)
    )
    return np.asarray(numbers, float)


def _cells(spec: CellSpec, mixes: np.ndarray) -> list[Cell]:
    """The ops of one-hot mixes; a row of zeros is an absent edge."""
    return [[spec.ops[row.argmax()] if row.any() else None for row in mix] for mix in mixes]


def _follows(spec: CellSpec) -> list[list[bool]]:
    return [[target == source for source, _ in spec.edges] for _, target in spec.edges]


def _error(predicted, costs, importance) -> float:
    return float(np.mean(np.abs(predicted - costs) * importance))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
