"""The cost of a mix: the expectation over the networks it stands for, in the unit of a table.

It is C(mix) = fixed + sum over kinds, edges e and ops o of mix[e, o] * live[e] * cost[e, o], with
the costs of all layers of a kind added up beforehand; live[e] is the probability that the edge is
on a live path if it is there, see `live_edges.py`. For a layer-wise space, whose edges are all
there, that is the sum of ProxylessNAS (section 3.3, https://arxiv.org/abs/1812.00332) and FBNet
(section 3.2, https://arxiv.org/abs/1812.03443), linear in the mix. A table that was calibrated by
whole networks adds the ReLUs that ops share, see `ExpectedCost.relus`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Mix
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.graph import (
    CellSpec,
    at_most_one,
    check_live,
    expected_live,
    live_edges,
    namespace,
)
from dnas.hw_loss.table import METRICS, CostTable
from dnas.parts import NetworkParts, Part
from dnas.space import SearchSpace, check_genotype

# Published counts are those of networks as they are built, dead branches included.
_BUILT = ("macs", "params")
_ROUNDING = 1e-12  # of a sum: a bound that is the cost of a network itself is met by it


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedCost:
    """What `expected_cost` returns: call it with a mix.

    Args:
      metric, unit: of the cost.
      fixed: what all networks of the space have in common.
      per_op: {kind: [E, O]}, the cost of an op on an edge in all layers of the kind together; for
        peak memory the largest.
      interpolated: the parts whose cost was not measured.
      layers, live: what it was made from.
      relu: what a thousand of the numbers of `relus` cost, in a calibrated table.
    """

    metric: str
    unit: str
    fixed: float
    per_op: Mapping[str, np.ndarray]
    interpolated: tuple[Part, ...]
    layers: NetworkParts
    live: str
    relu: float  # cost of a thousand of the numbers of `relus`
    _running: Mapping[str, Callable[[Array], Array]] = dataclasses.field(repr=False)

    def __call__(self, mix: Mix) -> Array:
        """Returns the cost of a mix {kind: [E, O]}.

        Outside of jit and grad the sum is exact to the last digit of float64, so that counts, too
        large for float32, are the integers they should be.

        Raises:
          ValueError: if the mix does not fit the space.
        """
        for kind, spec in self.layers.cells.items():
            shape, expected = np.shape(mix.get(kind, ())), (len(spec.edges), len(spec.ops))
            if shape != expected:
                raise ValueError(f"the mix of cell {kind!r} has shape {shape}, expected {expected}")
        rows = {kind: mix[kind] for kind in self.layers.cells}
        if any(isinstance(array, jax.core.Tracer) for array in rows.values()):
            return self._traced({kind: jnp.asarray(array) for kind, array in rows.items()})
        return self._exact({kind: np.asarray(array, np.float64) for kind, array in rows.items()})

    def by_op(self, mix: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns what each op adds to the cost of a mix, and under "" what all networks have in
        common; not of peak memory.

        What ReLUs add that ops share is under "relu", where the table is calibrated for them.
        """
        found = {"": self.fixed} | ({"relu": float(self._cost_of_relus(mix))} if self.relu else {})
        for kind, spec in self.layers.cells.items():
            terms = np.asarray(self._terms(kind, np.asarray(mix[kind], np.float64)))
            for op, cost in zip(spec.ops, terms.sum(axis=0), strict=True):
                found[op] = found.get(op, 0.0) + float(cost)
        return found

    def relus(self, mix: Mapping[str, Array]) -> Array:
        """Returns how many numbers go through ReLUs that are computed by themselves, for one image;
        0 for peak memory.

        Ops that begin with a ReLU and read the same node share it. Where nothing else reads a node,
        a runtime computes it with what makes the node. In between one-hot mixes it is what it would
        be if edges were independent of each other.
        """
        cells = self.layers.cells
        return sum(
            _relus_of(cells[kind], groups, self._running[kind](mix[kind]))
            for kind, groups in self._relus.items()
        )

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

    @functools.cached_property
    def _relus(self) -> Mapping[str, list[tuple[np.ndarray, np.ndarray]]]:
        sums = self.metric != "peak_memory"
        return {
            kind: _relued(spec, kind, self.layers)
            for kind, spec in self.layers.cells.items()
            if sums
        }

    def excess(self, mix: Mapping[str, np.ndarray], bound: float) -> float:
        """Returns by which share a discrete mix is above a bound, 0 if it is not; for peak memory
        that of all edges together.

        Of peak memory every edge that is above the bound must come down, though one alone does not
        change the largest.
        """
        rows = {kind: np.asarray(mix[kind], np.float64) for kind in self.layers.cells}
        bound *= 1 + _ROUNDING
        if self.metric != "peak_memory":
            return max(self._exact(rows) - bound, 0.0) / (bound or 1.0)
        edges = np.concatenate([self._terms(kind, own).sum(axis=-1) for kind, own in rows.items()])
        return float(np.maximum(np.array([self.fixed, *edges]) - bound, 0.0).sum()) / (bound or 1.0)

    def _traced(self, rows: Mix) -> Array:
        terms = [self._terms(kind, rows[kind]) for kind in rows]
        if self.metric == "peak_memory":
            return jnp.maximum(
                self.fixed, jnp.concatenate([term.sum(axis=-1) for term in terms]).max()
            )
        return (
            self.fixed
            + sum(term.sum() for term in terms)
            + (self._cost_of_relus(rows) if self.relu else 0.0)
        )

    def _exact(self, rows: Mapping[str, np.ndarray]) -> float:
        terms = [self._terms(kind, rows[kind]) for kind in rows]
        if self.metric == "peak_memory":
            return max(self.fixed, *(float(sum_) for term in terms for sum_ in term.sum(axis=-1)))
        relus = [float(self._cost_of_relus(rows))] if self.relu else []
        return math.fsum(
            [self.fixed, *itertools.chain.from_iterable(term.ravel() for term in terms), *relus]
        )

    def _terms(self, kind: str, rows: Array) -> Array:
        """What each op on each edge adds to the cost, [E, O]."""
        return self._running[kind](rows) * self.per_op[kind]

    def _cost_of_relus(self, rows: Mapping[str, Array]) -> Array:
        return self.relu * (self.relus(rows) / 1000)


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
      ValueError: names every part that the table lacks.

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
    live = ("all" if metric in _BUILT else "path") if live is None else live
    check_live(live)
    distinct = layers.distinct()
    costs = dict(zip(distinct, table.costs(distinct, metric, interpolate=interpolate), strict=True))
    offset, factor, relu = _calibration(table, metric)
    combine = max if metric == "peak_memory" else math.fsum
    per_op, running = {}, {}
    for kind, spec in layers.cells.items():
        own = [layer.choices for layer in layers.layers if layer.kind == kind]
        per_op[kind] = np.array(
            [
                [
                    (
                        factor(spec.ops[op])
                        * combine(
                            [costs[row[edge][op]].mean if row[edge][op] else 0.0 for row in own]
                        )
                        if own
                        else 0.0
                    )
                    for op in range(len(spec.ops))
                ]
                for edge in range(len(spec.edges))
            ]
        )
        running[kind] = _make_running(spec, live, kept_only)
    fixed = offset + combine([factor(part.op) * costs[part].mean for part in layers.fixed])
    interpolated = tuple(part for part, cost in costs.items() if cost.interpolated)
    made = ExpectedCost(
        metric,
        next(iter(METRICS[metric])),
        fixed,
        per_op,
        interpolated,
        layers,
        live,
        relu,
        running,
    )
    if relu:
        # finds out which ops begin with one, which takes a second and should not be in somebody's
        # trace
        made.most_of_relus()
    return made


def _calibration(table: CostTable, metric: str) -> tuple[float, Callable[[str], float], float]:
    """The offset of a network, the factor of an op, and the cost of a thousand numbers of ReLUs."""
    own = table.calibrations.get(metric)
    return (
        (0.0, lambda op: 1.0, 0.0)
        if own is None
        else (own.offset, own.factor, own.relu * table.batch)
    )


def _make_running(spec: CellSpec, live: str, kept_only: bool) -> Callable[[Array], Array]:
    """Returns rows [E, O] -> the probability that an edge has an op and it runs, [E, O]."""
    choices = spec.choices
    rates = _make_rates(choices) if choices.keep is not None and kept_only else None
    certain = np.zeros(len(choices.rows))
    certain[spec.live_rows(range(len(choices.rows)), live)] = 1.0

    def liveness(there: Array) -> Array:
        if choices.always.all():
            return certain
        return expected_live(spec, there, live=live, kept=choices.keep is not None)

    def running(rows: Array) -> Array:
        rows = rows * choices.computes
        there = rows.sum(axis=-1)
        if rates is not None:
            rates_of_edges = rates(there)
            rows, there = rows * rates_of_edges[:, None], there * rates_of_edges
        return rows * liveness(at_most_one(namespace(rows), there))[:, None]

    return running


def _relued(spec: CellSpec, kind: str, layers: NetworkParts) -> list[tuple[np.ndarray, np.ndarray]]:
    """(which candidates begin with a ReLU [E, O], numbers at each node [nodes]), for the layers of
    a kind together."""
    groups: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for layer in layers.layers:
        if layer.kind != kind:
            continue
        begins = np.array(
            [
                [part is not None and layers.begins_with_relu(part) for part in row]
                for row in layer.choices
            ]
        )
        _, sizes = groups.setdefault(
            begins.tobytes(), (begins, np.zeros(spec.num_inputs + spec.num_nodes))
        )
        of_layer = np.zeros_like(sizes)
        for (source, _), row in zip(spec.edges, layer.choices, strict=True):
            of_layer[source] = max(
                (part.height * part.width * part.channels_in for part in row if part), default=0
            )
        sizes += of_layer
    return list(groups.values())


def _relus_of(
    spec: CellSpec, groups: Sequence[tuple[np.ndarray, np.ndarray]], running: Array
) -> Array:
    """The expected numbers that go through ReLUs of their own, of what runs with the probabilities
    [E, O]."""
    xp = namespace(running)
    nodes = np.arange(spec.num_inputs + spec.num_nodes)
    leaves = np.array([source for source, _ in spec.edges]) == nodes[:, None]  # [nodes, E]

    def none(chances: Array) -> Array:
        """That no edge which leaves a node does something, [nodes]."""
        return xp.where(leaves, 1 - chances, 1.0).prod(axis=-1)

    found = xp.zeros((), running.dtype)
    for begins, sizes in groups:
        through = (running * begins).sum(axis=-1)
        both = running.sum(axis=-1)
        is_read = 1 - none(through)
        alone = xp.where(
            np.isin(nodes, spec.concat), is_read, is_read - none(both - through) + none(both)
        )
        found = found + (alone * sizes).sum()
    return found


def _make_rates(choices: Choices) -> Callable[[Array], Array]:
    """Returns strengths [E] -> probabilities to be among the rows of a group that are drawn,
    divided by the strengths, [E].

    The k rows that a group keeps are drawn one after the other without replacement, each in
    proportion to its strength; those without any are not drawn. With all strengths 0 or 1, and at
    most k ones a group, the probabilities are the strengths.
    """
    most = max(len(group) for group in choices.groups)
    # All groups at once: a group of fewer rows has others of no strength, which are not drawn
    # either.
    places = np.full((len(choices.groups), most), len(choices.rows))
    for place, group in zip(places, choices.groups, strict=True):
        place[: len(group)] = group
    order = np.argsort(places.ravel(), kind="stable")
    inside = np.sort(np.concatenate([np.array(group, int) for group in choices.groups]))
    draws = _draws(most, choices.keep)

    def rates(strengths: Array) -> Array:
        xp = namespace(strengths)
        own = xp.concatenate([strengths, xp.zeros(1, strengths.dtype)])[places]  # [groups, n]
        chance, rate = xp.ones((len(own), 1), strengths.dtype), 0.0
        for others, steps in draws:
            left = own @ others.T
            chance = chance * xp.where(left > 0, 1 / xp.where(left > 0, left, 1.0), 0.0)
            rate = rate + chance @ others
            chance = xp.einsum("tse,ns,ne->nt", steps, chance, own)
        found = rate.ravel()[order[: len(inside)]]
        if len(inside) == len(strengths):
            return found
        alone = xp.ones(len(strengths) - len(inside), strengths.dtype)  # which compete with none
        rows = np.r_[inside, np.setdiff1d(np.arange(len(strengths)), inside)]
        return xp.concatenate([found, alone])[np.argsort(rows)]

    return rates


def _draws(num_edges: int, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For 0, 1, ... k - 1 edges drawn: which are left, [S, n], and which set S becomes which T by
    drawing e, [T, S, n]."""
    sets = [
        list(itertools.combinations(range(num_edges), size))
        for size in range(min(k, num_edges) + 1)
    ]
    draws = []
    for before, after in itertools.pairwise(sets):
        left = np.array(
            [[float(edge not in drawn) for edge in range(num_edges)] for drawn in before]
        )
        steps = [
            [
                [
                    float(set(then) == {*drawn, edge} and edge not in drawn)
                    for edge in range(num_edges)
                ]
                for drawn in before
            ]
            for then in after
        ]
        draws.append((left, np.array(steps)))
    return draws


def genotype_cost(
    table: CostTable,
    space: SearchSpace,
    genotype: Genotype,
    *,
    metric: str | None = None,
    live: str | None = None,
    interpolate: bool = False,
    **sizes,
) -> float:
    """Returns what the network of a genotype costs by the table: the sum over its parts, for peak
    memory the largest.

    Args:
      metric, live, interpolate: as `expected_cost` has them.
      sizes: what `space.parts` takes, such as channels and num_cells; the published network unless
        given.

    A table that was compared with whole networks counts as its `Calibration` has it, here and in
    `expected_cost`.

    Raises:
      ValueError: if the genotype does not fit the space, or concatenates other nodes than its cells
        do; names every part that the network has and the table lacks.

    Example:
      >>> import dnas
      >>> space, genotype = dnas.SPACES["darts"], dnas.PUBLISHED["DARTS_V2"]
      >>> table = dnas.hw_loss.count_table(space, channels=4, num_cells=3)
      >>> genotype_cost(table, space, genotype, metric="params", channels=4, num_cells=3)
      2858.0
    """
    check_genotype(space, genotype)
    metric = table.metric(metric)
    live = ("all" if metric in _BUILT else "path") if live is None else live
    check_live(live)
    layers = space.parts(**sizes)
    offset, factor, relu = _calibration(table, metric)
    groups = {
        None: list(layers.fixed)
    }  # by kind and edge, since `expected_cost` adds up the layers of a kind first
    relus = 0
    for layer in layers.layers:
        spec, edges = layers.cells[layer.kind], genotype.cells[layer.kind]
        if set(genotype.concat_of(layer.kind)) != set(spec.concat):
            raise ValueError(
                f"cell {layer.kind!r} of the genotype concatenates"
                f" {genotype.concat_of(layer.kind)}, but the networks of the space {space.name!r},"
                f" whose parts a table has, concatenate {spec.concat}"
            )
        there = [edge for edge in edges if edge.op not in spec.choices.nothing]
        running = live_edges({edge[:2] for edge in there}, spec.num_inputs, spec.concat, live)
        readers: dict[int, list[Part]] = {}
        for edge in there:
            if edge[:2] in running:
                part = layer.choices[spec.edges.index(edge[:2])][spec.ops.index(edge.op)]
                groups.setdefault((layer.kind, edge), []).append(part)
                readers.setdefault(edge.source, []).append(part)
        if relu:
            relus += sum(
                _numbers_of_relu(own, node in spec.concat, layers) for node, own in readers.items()
            )
    parts = list(itertools.chain.from_iterable(groups.values()))
    costs = dict(zip(parts, table.costs(parts, metric, interpolate=interpolate), strict=True))
    combine = max if metric == "peak_memory" else math.fsum
    fixed = offset + combine([factor(part.op) * costs[part].mean for part in groups.pop(None)])
    chosen = [
        factor(edge.op) * combine([costs[part].mean for part in group])
        for (_, edge), group in groups.items()
    ]
    return float(combine([fixed, *chosen, *([relu * (relus / 1000)] if relu else [])]))


def _numbers_of_relu(readers: Sequence[Part], is_output: bool, layers: NetworkParts) -> int:
    """How many numbers go through a ReLU of its own at the node that these read."""
    begin = [layers.begins_with_relu(part) for part in readers]
    alone = any(begin) and (is_output or not all(begin))
    return readers[0].height * readers[0].width * readers[0].channels_in if alone else 0
