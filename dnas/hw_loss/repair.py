"""How a genotype is brought within bounds: the weakest choices that cost much are exchanged."""

from collections.abc import Sequence

import numpy as np

from dnas.base import Mix
from dnas.genotype import Edge, Genotype
from dnas.hw_loss.expected import ExpectedCost
from dnas.hw_loss.feasible import cheapest_mix, check_bound
from dnas.hw_loss.live_edges import live_edges
from dnas.space import SearchSpace, one_hot_mix

Limits = Sequence[tuple[ExpectedCost, float]]  # (cost, what it may be at most)


def repair(space: SearchSpace, genotype: Genotype, mix: Mix, limits: Limits) -> Genotype:
    """Returns the genotype with as few and as weak choices exchanged as it takes to meet every limit.

    One op after the other is exchanged on its edge, each time that which loses the least mix for the excess that it takes
    away, summed over the limits. Where nodes keep some of their edges and no exchange of ops does it, the edges of the cheapest
    genotype take their place. At the end, exchanges that turn out not to be needed are taken back, those that regain most
    first, as far as the limits allow. A genotype within the limits comes back as it is, and no cell loses the last path
    from its inputs to its output.

    Args:
      mix: {kind: [E, O]}, what the genotype was read from: an exchange loses the difference of the weights of two ops.
      limits: pairs (cost, bound), such as a latency and an energy. The cost is that of discrete networks, no expectation.

    Raises:
      ValueError: if the genotype does not fit the space, no genotype meets a bound (it names the range), or exchanging one op
        at a time does not do, as where the limits contradict each other.
    """
    for cost, bound in limits:
        check_bound(cost, bound)
    cells = {kind: list(edges) for kind, edges in genotype.cells.items()}
    chosen = {kind: np.array(rows, np.float64) for kind, rows in one_hot_mix(space, genotype).items()}
    weights = {kind: np.asarray(mix[kind], np.float64) for kind in cells}

    def columns(kind: str, place: int, op: str) -> tuple[int, int, int]:
        spec, edge = space.cells[kind], cells[kind][place]
        return spec.edges.index(edge[:2]), spec.ops.index(edge.op), spec.ops.index(op)

    def excess() -> float:
        return sum(cost.excess(chosen, bound) for cost, bound in limits)

    def excess_with(kind: str, place: int, op: str) -> float:
        row, old, new = columns(kind, place, op)
        chosen[kind][row, [old, new]] = 0.0, 1.0
        found = excess()
        chosen[kind][row, [old, new]] = 1.0, 0.0
        return found

    def regained_by(kind: str, place: int, op: str) -> float:
        row, old, new = columns(kind, place, op)
        return weights[kind][row, new] - weights[kind][row, old]

    def exchange(kind: str, place: int, op: str) -> None:
        row, old, new = columns(kind, place, op)
        chosen[kind][row, [old, new]] = 0.0, 1.0
        cells[kind][place] = cells[kind][place]._replace(op=op)

    current, first = excess(), {}
    while current > 0:
        found = []
        for kind, place, op in _exchanges(space, cells):
            row, _, new = columns(kind, place, op)
            if op == "none" and not _connected(space, cells[kind], kind, without=place):
                continue
            if chosen[kind][row, new] == 0 and (left := excess_with(kind, place, op)) < current:
                found.append((max(-regained_by(kind, place, op), 0.0) / (current - left), left, kind, place, op))
        if not found:
            break
        _, current, kind, place, op = min(found)
        first.setdefault((kind, place), [cells[kind][place].op])
        exchange(kind, place, op)
    if current > 0 and _all_edges_listed(space, cells):
        # The way out takes several exchanges at once: to the cheapest network, and back below as far as the limits allow.
        for kind, rows in cheapest_mix(limits[0][0]).items():
            for place, edge in enumerate(cells[kind]):
                first.setdefault((kind, place), [edge.op])
                exchange(kind, place, space.cells[kind].ops[rows[space.cells[kind].edges.index(edge[:2])].argmax()])
    elif current > 0 and space.edges_per_node is not None:
        # Other edges are needed: those of the cheapest network, which then get the strongest ops that the limits allow.
        first = {}
        for kind, rows in cheapest_mix(limits[0][0]).items():
            spec, chosen[kind] = space.cells[kind], rows
            usable = np.where(spec.allowed & (np.array(spec.ops) != "none"), weights[kind], -np.inf)
            kept = np.flatnonzero(rows.any(axis=-1))
            cells[kind] = [Edge(*spec.edges[row], spec.ops[rows[row].argmax()]) for row in kept]
            for place, row in enumerate(kept):
                order = np.argsort(-usable[row], kind="stable")
                first[kind, place] = [spec.ops[op] for op in order if usable[row][op] > -np.inf]
    if excess() > 0:
        costs = ", ".join(f"{float(cost(chosen)):g} {cost.unit} for a bound of {bound:g}" for cost, bound in limits)
        raise ValueError(
            f"exchanging ops ends at {costs}; the bounds may contradict each other. Raise a bound, or search with a penalty"
        )
    for kind, place in sorted(first, key=lambda key: -regained_by(*key, first[key][0])):
        for op in first[kind, place]:  # the best first
            if op == cells[kind][place].op:
                break
            connected = op != "none" or _connected(space, cells[kind], kind, without=place)
            if connected and excess_with(kind, place, op) == 0:
                exchange(kind, place, op)
                break
    return Genotype(genotype.space, cells, genotype.concat)


def _all_edges_listed(space: SearchSpace, cells) -> bool:
    """Whether every edge may turn to any of its ops: nodes do not choose among their edges, and those of `none` are listed."""
    return space.edges_per_node is None and all(len(edges) == len(space.cells[kind].edges) for kind, edges in cells.items())


def _connected(space: SearchSpace, edges: Sequence[Edge], kind: str, without: int) -> bool:
    """Whether an input still reaches the output if one edge is left out."""
    spec = space.cells[kind]
    there = {edge[:2] for place, edge in enumerate(edges) if edge.op != "none" and place != without}
    return bool(live_edges(there, spec.num_inputs, spec.concat))


def _exchanges(space: SearchSpace, cells) -> list[tuple[str, int, str]]:
    """(kind, number of the edge, op) of every op that an edge may have; `none` only where edges may be left out."""
    found = []
    for kind, edges in cells.items():
        spec = space.cells[kind]
        for place, edge in enumerate(edges):
            allowed = spec.allowed[spec.edges.index(edge[:2])]
            ops = [op for op, may in zip(spec.ops, allowed, strict=True) if may]
            found += [(kind, place, op) for op in ops if op != "none" or space.edges_per_node is None]
    return found
