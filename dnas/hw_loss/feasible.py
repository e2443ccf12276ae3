"""Which costs a space can have, and how a genotype is brought within a bound."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dnas.base import Mix
from dnas.genotype import Edge, Genotype
from dnas.hw_loss.expected import ExpectedCost
from dnas.hw_loss.live_edges import live_edges
from dnas.space import CellSpec, SearchSpace, one_hot_mix

_MOST_UNCERTAIN = 10  # edges that may be `none`, all sets of which are compared


class FeasibleRange(NamedTuple):
    """The least and the largest cost of any genotype. Where not exact, no genotype is outside, but none may be at the ends."""

    least: float
    largest: float
    exact: bool


def feasible_range(cost: ExpectedCost) -> FeasibleRange:
    """Returns the least and the largest cost of the genotypes of a space.

    It is exact for layer-wise spaces, for cells whose nodes keep k edges and are all part of the output, as in DARTS, and for
    others of up to 10 edges that may be `none`, all sets of which are compared.

    Example:
      >>> import dnas
      >>> space, sizes = dnas.SPACES["darts"], dict(channels=4, num_cells=3)
      >>> table = dnas.hw_loss.count_table(space, **sizes)
      >>> feasible_range(dnas.hw_loss.expected_cost(table, space.parts(**sizes), metric="params"))
      FeasibleRange(least=6102.0, largest=22294.0, exact=True)
    """
    ends = [_extreme(cost, largest) for largest in (False, True)]
    return FeasibleRange(ends[0][0], ends[1][0], ends[0][2] and ends[1][2])


def cheapest_mix(cost: ExpectedCost) -> dict[str, np.ndarray]:
    """Returns the one-hot mix of a genotype of the least cost; where the range is not exact, of low cost."""
    return _extreme(cost, largest=False)[1]


def check_bound(cost: ExpectedCost, bound: float) -> None:
    """Raises ValueError if no genotype costs at most `bound`, saying which costs there are."""
    own = feasible_range(cost)
    if not bound >= own.least:
        raise ValueError(
            f"no network of the space has a {cost.metric} of at most {bound:g} {cost.unit}; it ranges from {own.least:g} to "
            f"{own.largest:g} {cost.unit}: choose a bound in between, or smaller networks"
        )


def _extreme(cost: ExpectedCost, largest: bool) -> tuple[float, dict[str, np.ndarray], bool]:
    total, mix, exact = [cost.fixed], {}, True
    for kind, spec in cost.layers.cells.items():
        of_kind, mix[kind], sure = _extreme_cell(cost, spec, cost.per_op[kind], largest)
        total.append(of_kind)
        exact &= sure
    return _sum(cost)(total), mix, exact


def _sum(cost: ExpectedCost) -> Callable[[list[float]], float]:
    return (lambda numbers: float(max(numbers))) if cost.metric == "peak_memory" else math.fsum


def _extreme_cell(cost, spec: CellSpec, per_op: np.ndarray, largest: bool) -> tuple[float, np.ndarray, bool]:
    """(cost, one-hot rows, whether exact) of the cheapest or the dearest cell."""
    worst = -math.inf if largest else math.inf
    runs = spec.allowed & (np.array(spec.ops) != "none")
    best_op = np.where(runs, per_op, worst)
    best_op = best_op.argmax(axis=-1) if largest else best_op.argmin(axis=-1)
    own = per_op[np.arange(len(spec.edges)), best_op]
    k = cost.layers.edges_per_node
    if k is not None:
        sign = -1 if largest else 1
        kept = [edge for node in spec.nodes for edge in sorted(spec.incoming(node), key=lambda edge: sign * own[edge])[:k]]
        sets, exact = [kept], set(spec.concat) == set(spec.nodes)
    else:
        uncertain = np.flatnonzero((spec.allowed & ~runs).any(axis=-1)).tolist()
        exact = len(uncertain) <= _MOST_UNCERTAIN
        certain = sorted(set(range(len(spec.edges))) - set(uncertain))
        sizes = range(len(uncertain) + 1) if exact else [0, len(uncertain)]
        sets = [[*certain, *chosen] for size in sizes for chosen in itertools.combinations(uncertain, size)]
    found = []
    for edges in sets:
        alive = live_edges([spec.edges[edge] for edge in edges], spec.num_inputs, spec.concat, cost.live)
        found.append(_sum(cost)([0.0, *(own[edge] for edge in edges if spec.edges[edge] in alive)]))
    place = int(np.argmax(found) if largest else np.argmin(found))
    rows = np.zeros(per_op.shape)
    for edge in range(len(spec.edges)):
        if edge in sets[place]:
            rows[edge, best_op[edge]] = 1.0
        elif k is None:
            rows[edge, spec.ops.index("none")] = 1.0
    return found[place], rows, exact


def repair(cost: ExpectedCost, space: SearchSpace, genotype: Genotype, mix: Mix, bound: float) -> Genotype:
    """Returns the genotype with as few and as weak choices switched as it takes to cost at most `bound`.

    One op after the other is exchanged on its edge: that which loses the least mix for the cost that it saves, of which no
    more counts than is still needed. At the end, switches that turn out not to be needed are taken back, the largest loss
    first. A genotype within the bound comes back as it is.

    Args:
      cost: that of the bound; it is asked for the cost of discrete genotypes, not for expectations.
      mix: {kind: [E, O]}, what the genotype was read from: the weight that an op loses to another is what a switch costs.

    Raises:
      ValueError: if the genotype does not fit the space, no genotype of the space meets the bound (it names the range), or
        exchanging ops does not do, because the edges would have to change as well.
    """
    check_bound(cost, bound)
    cells = {kind: list(edges) for kind, edges in genotype.cells.items()}

    def now() -> Genotype:
        return Genotype(genotype.space, {kind: tuple(edges) for kind, edges in cells.items()}, genotype.concat)

    def price() -> float:
        return float(cost(one_hot_mix(space, now())))

    def with_op(kind: str, place: int, op: str) -> float:
        kept, cells[kind][place] = cells[kind][place], cells[kind][place]._replace(op=op)
        found = price()
        cells[kind][place] = kept
        return found

    switched = []
    current = price()
    while current > bound:
        switches = []
        for kind, edges in cells.items():
            spec, rows = space.cells[kind], np.asarray(mix[kind], float)
            for place, (source, target, op) in enumerate(edges):
                row = spec.edges.index((source, target))
                for other, may in zip(spec.ops, spec.allowed[row], strict=True):
                    if may and other != op and (other != "none" or space.edges_per_node is None):
                        found = with_op(kind, place, other)
                        saved = current - found
                        lost = max(rows[row, spec.ops.index(op)] - rows[row, spec.ops.index(other)], 0.0)
                        if saved > 0:
                            switches.append((lost / min(saved, current - bound), -saved, kind, place, other, lost, found))
        if not switches:
            raise ValueError(
                f"exchanging ops brings the {cost.metric} down to {current:g} {cost.unit} and no further, above the bound of "
                f"{bound:g}; other edges would have to be chosen. Raise the bound, or search with a penalty"
            )
        *_, kind, place, other, lost, current = min(switches)
        switched.append((lost, kind, place, cells[kind][place].op))
        cells[kind][place] = Edge(*cells[kind][place][:2], other)
    first = {}
    for lost, kind, place, op in switched:  # an edge may have been switched more than once
        first.setdefault((kind, place), (lost, op))
    for (kind, place), (_, op) in sorted(first.items(), key=lambda item: -item[1][0]):
        if with_op(kind, place, op) <= bound:
            cells[kind][place] = cells[kind][place]._replace(op=op)
    return now()
