"""A cost model calibrated on measured networks: what a runtime does with dead branches is learned,
not assumed.

The cost of a cell is a sum over what is connected (`structure`), and where all cells of a space can
be listed, plus what `predict_cells` corrects of each: cells that are one network cost the same,
others that are alike about as much. Both parts are exact expectations over independent choices,
multilinear in mix.
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
from dnas.hw_loss.graphs import MOST_CELLS, average_over_cells, count_cells
from dnas.hw_loss.liveness import present_ops
from dnas.hw_loss.process import predict_cells, structures_of_all
from dnas.hw_loss.robust import fit_robustly
from dnas.hw_loss.structure import structure, structures

_MOST_NODES = 1000  # of a cell that is read


class CostModel(NamedTuple):
    """The expected cost of one kind of cell, a function of its mix; from `fit_cost`."""

    spec: CellSpec
    weights: Array  # [K], the cost of each number of `structure`
    # [cells], what measured networks say beyond the structure, in the order of `graphs.all_cells`;
    # [0] if nothing, or if the space is too large to list its cells
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
        numbers = {"weights": self.weights, "table": self.table}
        lists = {name: np.asarray(own, float).tolist() for name, own in numbers.items()}
        return json.dumps({"spec": dataclasses.asdict(self.spec)} | lists)

    @classmethod
    def from_json(cls, text: str) -> "CostModel":
        """Returns the model that `to_json` wrote; ValueError if the text is not such a model."""
        try:
            tree = read_json(text, "the text")
            spec = CellSpec(**{key: _tuples(value) for key, value in tree["spec"].items()})
            if spec.num_inputs + spec.num_nodes > _MOST_NODES:
                raise ValueError(f"its cell has more than {_MOST_NODES} nodes")
            numbers = jax.eval_shape(partial(structure, spec), jnp.zeros(spec.choices.shape))
            weights = _read_numbers(tree, "weights", (numbers.size,))
            table = _read_numbers(tree, "table", (count_cells(spec), 0))
            return cls(spec, weights, table)
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


@checked
def fit_cost(spec: CellSpec, mixes: np.ndarray, costs: np.ndarray | Sequence[float]) -> CostModel:
    """Returns the cost model of measured networks.

    The weights minimise a Huber loss, by iteratively reweighted least squares with a small ridge,
    of errors relative to the cost (up to a tenth of the median): some measurements are off by far
    more than the rest. How much pairs of ops are trusted is chosen by cross-validation, and in
    spaces of up to 2^17 cells whether `predict_cells` is better. Nothing depends on the order of
    the measurements, and all but rounding scales with their unit.

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
    importance = 1 / np.maximum(costs, 0.1 * np.median(costs))
    numbers = structures(spec, mixes)
    is_pair = np.arange(numbers.shape[1]) >= numbers.shape[1] - len(present_ops(spec)) ** 2
    trusts = [np.where(is_pair, trust, 1.0) for trust in (0.0, 0.01, 0.1, 1.0)]
    weights, left_out = fit_robustly(numbers, costs, importance, trusts)
    weights, table = jnp.asarray(weights, jnp.float32), np.zeros(0)
    if count_cells(spec) <= MOST_CELLS:
        predicted, error = predict_cells(spec, _places(spec, mixes), costs, importance)
        if error < 0.95 * np.mean(np.abs(left_out - costs) * importance):
            table = predicted - structures_of_all(spec) @ np.asarray(weights, float)
    return CostModel(spec, weights, jnp.asarray(table, jnp.float32))


def _places(spec: CellSpec, mixes: np.ndarray) -> np.ndarray:
    """Where one-hot mixes [N, E, O] are among `all_cells`, [N]."""
    kept = mixes[:, :, present_ops(spec)]
    columns = np.where(kept.any(axis=-1), 1 + kept.argmax(axis=-1), 0)
    return np.asarray(
        np.ravel_multi_index(tuple(columns.T), (1 + kept.shape[-1],) * len(spec.edges))
    )


def _read_numbers(tree: Any, name: str, sizes: tuple[int, ...]) -> Array:
    """Those of a model in JSON."""
    numbers = np.array(tree[name], float)
    # Which float32 can hold.
    if numbers.ndim != 1 or numbers.size not in sizes or not (np.abs(numbers) < 1e38).all():
        raise ValueError(f"{name} is not a list of {sizes[0]} finite numbers")
    return jnp.asarray(numbers, jnp.float32)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
