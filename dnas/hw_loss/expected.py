"""The cost of a mix: the expectation over the networks it stands for, in the unit of a table.

A mix stands for the genotypes that `sample_genotype` draws from it. With p[e, o] the probability
that such a genotype has op o on edge e, the cost is C(mix) = fixed + sum over the edges e and ops o
of cells of p[e, o] * live[e] * cost[e, o] + sum over terms of the contraction of their costs with
the rows that they depend on. live[e] is the probability that an edge is on a live path if it is
there, see `dnas.graph`. For a layer-wise space, whose edges are all there, that is the sum of
ProxylessNAS (section 3.3, https://arxiv.org/abs/1812.00332) and FBNet (section 3.2,
https://arxiv.org/abs/1812.03443), linear in p; with terms, for kernels and widths and depths, it is
multilinear. A table that was calibrated by whole networks adds the ReLUs that ops share, see
`relus.py`.
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
from dnas.checks import checked
from dnas.choices import Choices
from dnas.graph import CellSpec, at_most_one, check_live, expected_live, like, namespace
from dnas.hw_loss.kept_rows import make_rates
from dnas.hw_loss.relus import ReluGroups, expected_relus, relu_groups
from dnas.hw_loss.table import METRICS, CostTable
from dnas.parts import NetworkParts, Part, Term

# Published counts are those of networks as they are built, dead branches included.
_BUILT = ("macs", "params")
_ROUNDING = 1e-12  # of a sum: a bound that is the cost of a network itself is met by it

_Chances = Callable[[AnyArray], AnyArray]  # rows [E, O] -> probabilities [E, O]


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

    def costs_of_all_rows(self, choices: Mapping[str, Choices]) -> np.ndarray:
        """Returns the costs with an axis for each of `term.rows`, those that it stands under
        among them."""
        costs = self.costs
        for kind, _, columns in self.term.alive:
            costs = costs[..., None] * np.isin(np.arange(len(choices[kind].options)), columns)
        return costs


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
    # of rows of a mix, and of rows that are kept as they are: the probabilities that a row has an
    # option and it runs
    _chances: Mapping[str, _Chances] = dataclasses.field(repr=False)
    _chances_if_kept: Mapping[str, _Chances] = dataclasses.field(repr=False)

    @property
    def largest(self) -> bool:
        """Whether the cost is the largest of its parts, as peak memory is, and not their sum."""
        return self.metric == "peak_memory"

    def __call__(self, mix: Mix) -> Array:
        """Returns the cost of a mix {kind: [E, O]}, [], see `expected_cost`.

        Outside of jit and grad the sum is exact to the last digit of float64, so that counts, too
        large for float32, are the integers they should be.

        Raises:
          ValueError: if the mix does not fit the space.
        """
        rows = self._checked(mix)
        if any(isinstance(array, Tracer) for array in rows.values()):
            return self._traced({kind: jnp.asarray(array) for kind, array in rows.items()})
        # A number, which is as good as an array of no axes to whoever asks for the cost.
        exact = self._exact(
            self._run({kind: np.asarray(own, np.float64) for kind, own in rows.items()})
        )
        return cast(Array, exact)

    def discrete(self, mix: Mix) -> float:
        """Returns the cost of the network that a genotype's `one_hot_mix` is, exactly: all of its
        rows are there, however many a genotype of the space usually keeps."""
        rows = {kind: np.asarray(own, np.float64) for kind, own in self._checked(mix).items()}
        return self._exact(self._run(rows, kept=True))

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

    def meets(self, mix: Mix, bound: float) -> bool:
        """Returns whether the network of a genotype's `one_hot_mix` costs at most the bound, but
        for rounding."""
        return self.discrete(mix) <= bound * (1 + _ROUNDING)

    def _checked(self, mix: Mix) -> dict[str, AnyArray]:
        for kind, choices in self.layers.choices.items():
            shape = np.shape(mix.get(kind, ()))
            if shape != choices.shape:
                raise ValueError(
                    f"the mix of cell {kind!r} has shape {shape}, expected {choices.shape}"
                )
        return {kind: mix[kind] for kind in self._chances}

    def _run(self, rows: Mapping[str, AnyArray], *, kept: bool = False) -> dict[str, AnyArray]:
        """The probabilities [E, O] that a row has an option and it runs; `kept`: all rows are."""
        chances = self._chances_if_kept if kept else self._chances
        return {kind: chances[kind](own) for kind, own in rows.items()}

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

    def _exact(self, chances: Mapping[str, AnyArray]) -> float:
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
            for kind, groups in self.relu_groups.items()
        )

    @functools.cached_property
    def relu_groups(self) -> Mapping[str, ReluGroups]:
        """Which candidates of cells begin with a ReLU, and the numbers at each node."""
        if self.largest:
            return {}
        cells = self.layers.cells.items()
        return {kind: relu_groups(spec, kind, self.layers) for kind, spec in cells}


@checked
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

    At a `one_hot_mix` it is the `genotype_cost`. In between it is the expectation of that cost over
    the genotypes that `sample_genotype` draws from the mix, each of which has options in proportion
    to their weights. So the cost does not depend on what a row sums to:

    * where every edge keeps an op, edges are independent, `none` is the probability that an edge is
      not there, and a row without any weight is an edge that has been dropped;
    * where a node keeps k of its edges, as in DARTS, they are drawn one after the other without
      replacement, in proportion to what their rows hold besides `none`, and the op independently,
      in proportion to its weight. So a mix has the cost of k edges a node, as its genotype will.

    With kept_only=False all rows count with their weights as they are, the sum that is usual in the
    literature; for DARTS it is about twice the cost of the genotype, and with independent sigmoids
    as many times it as there are ops that are on.

    What depends on several rows, a `Term`, counts for each combination of their options with the
    product of the weights; that is its expectation where rows are independent of each other.

    It is exact but for three cases, in which it was off by as much on random graphs and mixes
    (tests/hw_loss/test_approximations.py):

    * where nodes keep k of their edges and not all nodes are part of the output, whether two nodes
      are read is taken to be independent: up to 4.3 % too little with k = 1 and 2.3 % with k = 2,
      where the last node alone is the output (in spaces that come with dnas all nodes are);
    * the numbers that go through ReLUs of their own, in a calibrated table, are those of edges
      that are live independently of each other: up to 0.4 % of a cost of which ReLUs are a
      twentieth;
    * peak memory, which is the largest over all parts and not the sum, is the largest of their
      expectations, which was 0.56 to 1 of the expected largest. At a `one_hot_mix` it is at
      least what a network needs, since it knows of each part alone.

    Args:
      layers: what the networks are made of, `space.parts(...)` at the size that is going to be
        deployed.
      metric: of the table; it may be left out if there is one.
      live: what counts as running, see `live_edges`; "all" for macs and params unless given, "path"
        for others.
      kept_only: whether rows are brought to what a genotype keeps of them, see above.
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

    if_run, chances, chances_if_kept = {}, {}, {}
    for kind, spec in layers.cells.items():
        own = [layer.parts for layer in layers.layers if layer.kind == kind]
        if_run[kind] = np.zeros(spec.choices.shape)
        for edge, op in np.ndindex(spec.choices.shape):
            parts = [row[edge][op] for row in own]
            total = combine([0.0 if part is None else costs[part].mean for part in parts])
            if_run[kind][edge, op] = factor(spec.ops[op]) * total
    for kind, choices in layers.choices.items():
        spec = layers.cells.get(kind)
        chances[kind] = _make_chances(choices, spec, live, drawn=kept_only)
        chances_if_kept[kind] = _make_chances(choices, spec, live, drawn=False)
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
        chances_if_kept,
    )
    if relu:
        # Sums what ops share once, here and not in somebody's trace.
        _ = made.relu_groups
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


def _make_chances(choices: Choices, spec: CellSpec | None, live: str, *, drawn: bool) -> _Chances:
    """Returns rows [E, O] -> the probability that a row has an option and it runs, [E, O].

    Args:
      spec: of a cell, in which only what is on a live path runs.
      drawn: whether genotypes are drawn from the rows, which then need not sum to one. Otherwise
        the rows are the probabilities that they have their options.
    """
    kept = choices.keep is not None
    usable = choices.computes if kept else choices.allowed
    rates = make_rates(choices) if kept else _rates_of_one
    certain = np.ones(len(choices.rows))
    if spec is not None and choices.always.all():
        certain[:] = 0.0
        certain[spec.live_rows(range(len(choices.rows)), live)] = 1.0

    def liveness(there: Array) -> Array:
        if spec is None or choices.always.all():
            return like(there, certain)
        there = at_most_one(namespace(there), there)
        return expected_live(spec, there, live=live, kept=kept)

    def chances(rows: AnyArray) -> AnyArray:
        rows = rows * like(rows, usable)
        there = rows.sum(axis=-1)
        if drawn:
            rates_of_rows = rates(there)
            rows, there = rows * rates_of_rows[:, None], there * rates_of_rows
        if spec is not None and not kept:
            # What computes nothing has been drawn among the rest; it neither costs nor leads on.
            rows = rows * like(rows, choices.computes)
            there = rows.sum(axis=-1)
        return rows * liveness(there)[:, None]

    return chances


def _rates_of_one(sums: AnyArray) -> Array:
    """Sums of rows [E] -> what brings them to one; rows without any weight stay without.

    A row that sums to one but for rounding stays as it is to the last bit, and its gradient is that
    of the sum, the same along the simplex.
    """
    xp = namespace(sums)
    is_other = (sums > 0) & (abs(sums - 1) > 1e-5)
    return xp.where(is_other, 1 / xp.where(is_other, sums, 1.0), 1.0)
