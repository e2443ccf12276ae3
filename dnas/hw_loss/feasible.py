"""Which costs the networks of a space can have."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from dnas.choices import Choices
from dnas.graph import CellSpec, live_edges
from dnas.hw_loss.elimination import Factor, best_columns, good_columns
from dnas.hw_loss.expected import ExpectedCost, combine_of

_MOST_UNCERTAIN = 10  # edges that may be `none`, all sets of which are compared


class FeasibleRange(NamedTuple):
    """The least and the largest cost of the genotypes. Where not exact none is outside, but there
    may be none at the ends."""

    least: float
    largest: float
    exact: bool


def feasible_range(cost: ExpectedCost) -> FeasibleRange:
    """Returns the least and the largest cost of the genotypes of a space.

    Cells whose output no input reaches do not count. It is exact for layer-wise spaces, for cells
    whose nodes keep k edges and are all part of the output, as in DARTS, for others of up to 10
    edges that may be `none`, and for terms on several rows unless too many rows hang together, see
    `elimination.py`; where a table is calibrated for ReLUs that ops share, only if the
    cheapest network has none of them and the dearest all.

    Example:
      >>> import dnas
      >>> space, sizes = dnas.SPACES["darts"], dict(channels=4, num_cells=3)
      >>> table = dnas.hw_loss.count_table(space, **sizes)
      >>> feasible_range(dnas.hw_loss.expected_cost(table, space.parts(**sizes), metric="params"))
      FeasibleRange(least=2198.0, largest=19670.0, exact=True)
    """
    (least, cheapest, sure), (largest, dearest, also) = (
        _extreme(cost, largest) for largest in (False, True)
    )
    if cost.relu:  # none at all, and those of all nodes, which no network may have
        largest += cost.most_of_relus()
        sure, also = (
            sure and float(cost(cheapest)) <= least,
            also and float(cost(dearest)) >= largest,
        )
    return FeasibleRange(least, largest, sure and also)


def cheapest_mix(cost: ExpectedCost) -> dict[str, np.ndarray]:
    """Returns the one-hot mix of a genotype of the least cost; where the range is not exact, of low
    cost."""
    return _extreme(cost, largest=False)[1]


def check_bound(cost: ExpectedCost, bound: float) -> None:
    """Raises ValueError if no genotype costs at most `bound`, saying which costs there are."""
    own = feasible_range(cost)
    if not bound >= own.least:
        raise ValueError(
            f"no network of the space has a {cost.metric} of at most {bound:g} {cost.unit}; it"
            f" ranges from {own.least:g} to {own.largest:g} {cost.unit}: choose a bound in between,"
            " or smaller networks"
        )


def _extreme(cost: ExpectedCost, largest: bool) -> tuple[float, dict[str, np.ndarray], bool]:
    """(cost, one-hot mix, whether exact) of the cheapest or the dearest network."""
    costs, mix, exact = [cost.fixed], {}, True
    free = _free_kinds(cost)
    for kind, spec in cost.layers.cells.items():
        if kind not in free:
            of_kind, mix[kind], sure = _extreme_cell(cost, spec, cost.if_run[kind], largest)
            costs.append(of_kind)
            exact &= sure
    of_terms, rows, sure = _extreme_terms(cost, free, largest)
    combine = combine_of(cost.metric)
    return float(combine([*costs, *of_terms])), mix | rows, exact and sure


def _free_kinds(cost: ExpectedCost) -> dict[str, Choices]:
    """The kinds whose rows are independent of each other but for terms: all that are no cells, and
    the cells that a term reads."""
    rows = [row for own in cost.terms for row in own.term.rows]
    named = {kind for kind, _ in rows} | set(cost.layers.dimensions)
    return {kind: own for kind, own in cost.layers.choices.items() if kind in named}


def _extreme_terms(
    cost: ExpectedCost, free: Mapping[str, Choices], largest: bool
) -> tuple[list[float], dict[str, np.ndarray], bool]:
    """(costs of the terms, one-hot rows of the free kinds, whether exact)."""
    allowed = {
        (kind, row): own
        for kind, choices in free.items()
        for row, own in enumerate(choices.allowed)
    }
    factors = [*_factors(cost, free)]
    combine = np.maximum if cost.largest else np.add
    columns = best_columns(factors, allowed, largest=largest, combine=combine)
    if columns is not None:
        costs, exact = [factor.at(columns) for factor in factors], True
    else:  # no network is beyond what each term alone could cost
        columns = good_columns(factors, allowed, largest=largest, combine=combine)
        best = np.max if largest else np.min
        costs, exact = [float(best(factor.costs)) for factor in factors], False
    mix = {kind: np.zeros(own.shape) for kind, own in free.items()}
    for (kind, row), column in columns.items():
        mix[kind][row, column] = 1.0
    for kind, own in free.items():  # of rows that compete, and cost nothing, any have a place
        for group in own.groups if own.keep is not None else ():
            mix[kind][list(group[own.keep :])] = 0.0
    return costs, mix, exact


def _factors(cost: ExpectedCost, free: Mapping[str, Choices]) -> Iterator[Factor]:
    """The terms, each over all rows that it reads, and the ops of free cells."""
    for own in cost.terms:
        costs = own.costs
        for kind, _, columns in own.term.alive:
            runs = np.isin(np.arange(len(free[kind].options)), columns)
            costs = costs[..., None] * runs
        yield Factor(own.term.rows, costs)
    for kind in [kind for kind in cost.if_run if kind in free]:
        costs = cost.chances(kind, np.ones(free[kind].shape)) * cost.if_run[kind]
        yield from (Factor(((kind, row),), own) for row, own in enumerate(costs))


def _extreme_cell(
    cost: ExpectedCost, spec: CellSpec, per_op: np.ndarray, largest: bool
) -> tuple[float, np.ndarray, bool]:
    """(cost, one-hot rows, whether exact) of the cheapest or the dearest cell.

    More edges never cost less, so that the dearest has all of them.
    """
    choices = spec.choices
    runs = choices.computes
    best_op = (
        np.where(runs, per_op, -math.inf).argmax(axis=-1)
        if largest
        else np.where(runs, per_op, math.inf).argmin(axis=-1)
    )
    own = per_op[np.arange(len(spec.edges)), best_op]
    k = choices.keep
    if k is not None:
        sign = -1 if largest else 1
        sets = [
            [
                edge
                for node in spec.nodes
                for edge in sorted(spec.incoming(node), key=lambda edge: sign * own[edge])[:k]
            ]
        ]
        exact = set(spec.concat) == set(spec.nodes)
    else:
        uncertain = np.flatnonzero((choices.allowed & ~runs).any(axis=-1)).tolist()
        certain = sorted(set(range(len(spec.edges))) - set(uncertain))
        exact = largest or len(uncertain) <= _MOST_UNCERTAIN
        sizes = [len(uncertain)] if largest else range(len(uncertain) + 1) if exact else [0]
        sets = [
            [*certain, *chosen]
            for size in sizes
            for chosen in itertools.combinations(uncertain, size)
        ]
    found, combine = [], combine_of(cost.metric)
    for edges in sets:
        there = [spec.edges[edge] for edge in edges]
        alive = live_edges(there, spec.num_inputs, spec.concat, cost.live)
        # Where some nodes are not part of the output, how many edges are kept for nothing depends
        # on which are kept.
        at_most = set(there) if k is not None and not exact else alive
        total = combine(own[edge] for edge in edges if spec.edges[edge] in at_most)
        found.append(
            total if not exact or live_edges(there, spec.num_inputs, spec.concat) else math.inf
        )
    place = int(np.argmin(found))
    rows = np.zeros(per_op.shape)
    rows[sets[place], best_op[sets[place]]] = 1.0
    if k is None:
        for row in np.flatnonzero(rows.sum(axis=-1) == 0):
            rows[row, (choices.allowed[row] & choices.is_nothing).argmax()] = 1.0
    return (0.0 if k is not None and not exact and not largest else found[place]), rows, exact
