"""The cost of a mix: the expectation over the networks it stands for, in the unit of a table.

It is C(mix) = fixed + sum over the edges e and ops o of cells of mix[e, o] * live[e] * cost[e, o]
+ sum over terms of the contraction of their costs with the rows that they depend on. live[e] is the
probability that an edge is on a live path if it is there, see `dnas.graph`. For a layer-wise space,
whose edges are all there, that is the sum of ProxylessNAS (section 3.3,
https://arxiv.org/abs/1812.00332) and FBNet (section 3.2, https://arxiv.org/abs/1812.03443), linear
in the mix; with terms, for kernels and widths and depths, it is multilinear. A table that was
calibrated by whole networks adds the ReLUs that ops share, see `relus.py`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from dnas.base import AnyArray, Array, Mix, add_up, enable_x64
from dnas.choices import Choices
from dnas.graph import CellSpec, at_most_one, check_live, expected_live, like, namespace
from dnas.hw_loss.kept_rows import make_rates
from dnas.hw_loss.relus import ReluGroups, expected_relus, relu_groups
from dnas.hw_loss.table import METRICS, CostTable
from dnas.parts import NetworkParts, Part, Term

# Published counts are those of networks as they are built, dead branches included.
_BUILT = ("macs", "params")
_ROUNDING = 1e-12  # of a sum: a bound that is the cost of a network itself is met by it


class TermCost(NamedTuple):
    """A `Term`, and what each of its parts costs, an axis a row."""

    term: Term
    costs: np.ndarray

    def contributions(self, chances: Mapping[str, AnyArray]) -> AnyArray:
        """Returns what each combination of options adds to the cost, of the shape of the costs."""
        found = like(next(iter(chances.values())), self.costs)
        for axis, (kind, row) in enumerate(self.term.at):
            shape = [1] * self.costs.ndim
            shape[axis] = -1
            found = found * chances[kind][row].reshape(shape)
        for kind, row, columns in self.term.alive:
            found = found * chances[kind][row][np.array(columns)].sum()
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedCost:
    """What `expected_cost` returns: call it with a mix.

    Args:
      metric, unit: of the cost.
      fixed: what all networks of the space have in common.
      if_run: {kind: [E, O]} of cells, the cost of an op on an edge that runs, in all layers of the
        kind together; for peak memory the largest.
      terms: what depends on several rows.
      interpolated: the parts whose cost was not measured.
      layers, live: what it was made from.
      relu: what a thousand of the numbers of `relus` cost, in a calibrated table.
    """

    metric: str
    unit: str
    fixed: float
    if_run: Mapping[str, np.ndarray]
    terms: tuple[TermCost, ...]
    interpolated: tuple[Part, ...]
    layers: NetworkParts
    live: str
    relu: float
    _chances: Mapping[str, Callable[[AnyArray], AnyArray]] = dataclasses.field(repr=False)

    @property
    def largest(self) -> bool:
        """Whether the cost is the largest of its parts, as peak memory is, and not their sum."""
        return self.metric == "peak_memory"

    def __call__(self, mix: Mix) -> Array:
        """Returns the cost of a mix {kind: [E, O]}.

        Outside of jit and grad the sum is exact to the last digit of float64, so that counts, too
        large for float32, are the integers they should be.

        Raises:
          ValueError: if the mix does not fit the space.
        """
        rows = self._checked(mix)
        if any(isinstance(array, Tracer) for array in rows.values()):
            return self._traced({kind: jnp.asarray(array) for kind, array in rows.items()})
        # A number, which is as good as an array of no axes to whoever asks for the cost.
        exact = self._exact({kind: np.asarray(own, np.float64) for kind, own in rows.items()})
        return cast(Array, exact)

    def per_op(self, mix: Mix) -> dict[str, np.ndarray]:
        """Returns {kind: [E, O]}, the gradient of the cost at a mix, in float64: what an option
        costs while all other rows are as they are.

        It is the same everywhere where the cost is linear, as in layer-wise spaces. Inside of jit
        take `jax.grad(cost)`.
        """
        with enable_x64(True):
            rows = self._checked(mix)
            rows = {kind: jnp.asarray(np.asarray(own, np.float64)) for kind, own in rows.items()}
            gradient = jax.grad(self._traced)(rows)
            return {kind: np.asarray(own) for kind, own in gradient.items()}

    def by_op(self, mix: Mix) -> dict[str, float]:
        """Returns what each op adds to the cost of a mix, and under "" what all networks have in
        common; not of peak memory.

        What ReLUs add that ops share is under "relu", where the table is calibrated for them.
        """
        chances = self._run({kind: np.asarray(mix[kind], np.float64) for kind in self._chances})
        found = {"": self.fixed} | (
            {"relu": float(self._cost_of_relus(chances))} if self.relu else {}
        )
        for kind, costs in self.if_run.items():
            added = (chances[kind] * costs).sum(axis=0)
            for op, cost in zip(self.layers.cells[kind].ops, added, strict=True):
                found[op] = found.get(op, 0.0) + float(cost)
        for own in self.terms:
            for part, cost in zip(
                own.term.parts.ravel(), own.contributions(chances).ravel(), strict=True
            ):
                if part is not None:
                    found[part.op] = found.get(part.op, 0.0) + float(cost)
        return found

    def relus(self, mix: Mix) -> AnyArray:
        """Returns how many numbers go through ReLUs that are computed by themselves, for one image;
        0 for peak memory.

        In between one-hot mixes it is what it would be if edges were independent of each other.
        """
        return self._relus_that_run(self._run({kind: mix[kind] for kind in self._chances}))

    def most_of_relus(self) -> float:
        """Returns what they would cost if every node had one that a candidate can begin with: no
        network has more."""
        numbers = 0.0
        for kind, groups in self._relus.items():
            sources = np.array([source for source, _ in self.layers.cells[kind].edges])
            numbers += sum(
                sizes[np.unique(sources[begins.any(axis=-1)])].sum() for begins, sizes in groups
            )
        return self.relu * (numbers / 1000)

    def excess(self, mix: Mix, bound: float) -> float:
        """Returns by which share a discrete mix is above a bound, 0 if it is not; for peak memory
        that of all edges together.

        Of peak memory everything that is above the bound must come down, though one alone does not
        change the largest.
        """
        rows = {kind: np.asarray(mix[kind], np.float64) for kind in self._chances}
        bound *= 1 + _ROUNDING
        if not self.largest:
            return max(self._exact(rows) - bound, 0.0) / (bound or 1.0)
        peaks = np.array([self.fixed, *self._peaks(self._run(rows))])
        return float(np.maximum(peaks - bound, 0.0).sum()) / (bound or 1.0)

    def chances(self, kind: str, rows: AnyArray) -> AnyArray:
        """Returns the probabilities [E, O] that a row has an option and it runs, for the rows of
        the mix of one kind."""
        return self._chances[kind](rows)

    def _checked(self, mix: Mix) -> dict[str, AnyArray]:
        for kind, choices in self.layers.choices.items():
            shape = np.shape(mix.get(kind, ()))
            if shape != choices.shape:
                raise ValueError(
                    f"the mix of cell {kind!r} has shape {shape}, expected {choices.shape}"
                )
        return {kind: mix[kind] for kind in self._chances}

    def _run(self, rows: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """The probabilities [E, O] that a row has an option and it runs."""
        return {kind: self._chances[kind](own) for kind, own in rows.items()}

    def _added(self, chances: Mapping[str, AnyArray]) -> list[AnyArray]:
        """What every op of cells and every combination of options of terms adds to the cost."""
        cells = [chances[kind] * like(chances[kind], costs) for kind, costs in self.if_run.items()]
        return [*cells, *(own.contributions(chances) for own in self.terms)]

    def _peaks(self, chances: Mapping[str, AnyArray]) -> Iterable[AnyArray]:
        """What every edge and every term needs; the largest of it is the peak."""
        for kind, costs in self.if_run.items():
            yield from (chances[kind] * like(chances[kind], costs)).sum(axis=-1)
        yield from (own.contributions(chances).sum() for own in self.terms)

    def _traced(self, rows: Mix) -> Array:
        chances = self._run(rows)
        if self.largest:
            return jnp.maximum(self.fixed, jnp.stack([*self._peaks(chances)]).max())
        total = self.fixed + add_up(jnp.asarray(own.sum()) for own in self._added(chances))
        return total + self._cost_of_relus(chances) if self.relu else total

    def _exact(self, rows: Mapping[str, np.ndarray]) -> float:
        chances = self._run(rows)
        if self.largest:
            return float(max(self.fixed, *self._peaks(chances)))
        added = itertools.chain.from_iterable(own.ravel() for own in self._added(chances))
        relus = [float(self._cost_of_relus(chances))] if self.relu else []
        return math.fsum([self.fixed, *added, *relus])

    def _cost_of_relus(self, chances: Mapping[str, AnyArray]) -> AnyArray:
        return self.relu * (self._relus_that_run(chances) / 1000)

    def _relus_that_run(self, chances: Mapping[str, AnyArray]) -> AnyArray:
        return add_up(
            expected_relus(self.layers.cells[kind], groups, chances[kind])
            for kind, groups in self._relus.items()
        )

    @functools.cached_property
    def _relus(self) -> Mapping[str, ReluGroups]:
        if self.largest:
            return {}
        cells = self.layers.cells.items()
        return {kind: relu_groups(spec, kind, self.layers) for kind, spec in cells}


def expected_cost(
    table: CostTable,
    layers: NetworkParts,
    *,
    metric: str | None = None,
    live: str | None = None,
    interpolate: bool = False,
    kept_only: bool = True,
) -> ExpectedCost:
    """Returns the function from a mix to its expected cost; everything that does not depend on the
    mix is computed once.

    At a `one_hot_mix` it is the `genotype_cost`. In between it is the expectation of that cost,
    each weight being the probability that its edge has its op:

    * where every edge keeps an op, edges are independent, and the weight of `none`, and what a row
      lacks to one, is the probability that an edge is not there. A row need not sum to one: with
      independent sigmoids each op counts as far as it is on, and an edge is there with the sum of
      its weights, at most 1;
    * where a node keeps k of its edges, as in DARTS, they are drawn one after the other without
      replacement, in proportion to what their rows hold besides `none`, and the op independently,
      in proportion to its weight: the draw of `sample_genotype`. So a mix has the cost of k edges a
      node, as its genotype will. With kept_only=False all edges count with their weights, the sum
      that is usual in the literature; for DARTS it is about twice the cost of the genotype.

    What depends on several rows, a `Term`, counts for each combination of their options with the
    product of the weights; that is its expectation where rows are independent of each other.

    Peak memory is the largest over all parts, not the sum: at least what a network needs, since it
      knows of each part alone.

    Args:
      layers: what the networks are made of, `space.parts(...)` at the size that is going to be
        deployed.
      metric: of the table; it may be left out if there is one.
      live: what counts as running, see `live_edges`; "all" for macs and params unless given, "path"
        for others.
      interpolate: whether parts that were not measured may be interpolated between sizes; the
        result names them.

    Raises:
      ValueError: names every part that the table lacks; for a term that does not fit the choices.

    Example:
      >>> import dnas
      >>> space, sizes = dnas.SPACES["darts"], dict(channels=4, num_cells=3)
      >>> table, layers = dnas.hw_loss.count_table(space, **sizes), space.parts(**sizes)
      >>> cost = expected_cost(table, layers, metric="macs")
      >>> genotype = dnas.PUBLISHED["DARTS_V2"]
      >>> int(cost(dnas.one_hot_mix(space, genotype))) == dnas.count_network(
      ...     space, genotype, **sizes
      ... ).macs
      True
    """
    metric = table.metric(metric)
    live = live_of(metric, live)
    _check_terms(layers)
    distinct = layers.distinct()
    costs = dict(zip(distinct, table.costs(distinct, metric, interpolate=interpolate), strict=True))
    offset, factor, relu = calibration_of(table, metric)
    combine = combine_of(metric)

    def calibrated(part: Part | None) -> float:
        return 0.0 if part is None else factor(part.op) * costs[part].mean

    if_run, chances = {}, {}
    for kind, spec in layers.cells.items():
        own = [layer.parts for layer in layers.layers if layer.kind == kind]
        if_run[kind] = np.zeros(spec.choices.shape)
        for edge, op in np.ndindex(spec.choices.shape):
            parts = [row[edge][op] for row in own]
            total = combine([0.0 if part is None else costs[part].mean for part in parts])
            if_run[kind][edge, op] = factor(spec.ops[op]) * total
        chances[kind] = _make_chances(spec.choices, spec, live, kept_only)
    for kind, choices in layers.dimensions.items():
        chances[kind] = _make_chances(choices, None, live, kept_only)
    terms = tuple(
        TermCost(term, np.vectorize(calibrated, otypes=[float])(term.parts))
        for term in layers.terms
    )
    made = ExpectedCost(
        metric,
        next(iter(METRICS[metric])),
        offset + combine([calibrated(part) for part in layers.fixed]),
        if_run,
        terms,
        tuple(part for part, cost in costs.items() if cost.interpolated),
        layers,
        live,
        relu,
        chances,
    )
    if relu:
        # Sums what ops share once, here and not in somebody's trace.
        made.most_of_relus()
    return made


def live_of(metric: str, live: str | None) -> str:
    """Returns what counts as running, by default of the metric; ValueError if it is no such."""
    if live is None:
        return "all" if metric in _BUILT else "path"
    check_live(live)
    return live


def combine_of(metric: str) -> Callable[[Iterable[float]], float]:
    """Returns what makes one cost of several: their sum, for peak memory the largest."""
    if metric == "peak_memory":
        return lambda costs: max(costs, default=0.0)
    return math.fsum


def calibration_of(table: CostTable, metric: str) -> tuple[float, Callable[[str], float], float]:
    """Returns the offset of a network, the factor of an op, and the cost of a thousand numbers of
    ReLUs."""
    own = table.calibrations.get(metric)
    if own is None:
        return 0.0, lambda op: 1.0, 0.0
    return own.offset, own.factor, own.relu * table.batch


def _check_terms(layers: NetworkParts) -> None:
    choices = layers.choices
    for term in layers.terms:
        for kind, row in term.rows:
            if kind not in choices or not 0 <= row < len(choices[kind].rows):
                raise ValueError(f"a term depends on row {row} of {kind!r}, which does not exist")
            is_cell = kind in layers.cells
            if choices[kind].may_be_dropped.any() or (is_cell and not choices[kind].always.all()):
                raise ValueError(
                    f"a term depends on {kind!r}, some rows of which may be left out; terms take"
                    " rows that are always there"
                )
        shape = tuple(len(choices[kind].options) for kind, _ in term.at)
        if term.parts.shape != shape:
            raise ValueError(
                f"the parts of a term on the rows {term.at} have shape {term.parts.shape}, expected"
                f" {shape}: an option a place"
            )


def _make_chances(
    choices: Choices, spec: CellSpec | None, live: str, kept_only: bool
) -> Callable[[Array], Array]:
    """Returns rows [E, O] -> the probability that a row has an option and it runs, [E, O].

    Args:
      spec: of a cell, in which only what is on a live path runs.
    """
    rates = make_rates(choices) if choices.keep is not None and kept_only else None
    certain = np.ones(len(choices.rows))
    if spec is not None and choices.always.all():
        certain[:] = 0.0
        certain[spec.live_rows(range(len(choices.rows)), live)] = 1.0

    def liveness(there: Array) -> Array:
        if spec is None or choices.always.all():
            return like(there, certain)
        there = at_most_one(namespace(there), there)
        return expected_live(spec, there, live=live, kept=choices.keep is not None)

    def chances(rows: Array) -> Array:
        rows = rows * (choices.allowed if spec is None else choices.computes)
        there = rows.sum(axis=-1)
        if rates is not None:
            rates_of_rows = rates(there)
            rows, there = rows * rates_of_rows[:, None], there * rates_of_rows
        return rows * liveness(there)[:, None]

    return chances
