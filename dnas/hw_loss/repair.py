"""How a genotype is brought within bounds, or to targets: the weakest choices that matter are
exchanged."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dnas.base import Mix
from dnas.genotype import Edge, Genotype
from dnas.graph import live_edges
from dnas.hw_loss.expected import ExpectedCost
from dnas.hw_loss.feasible import cheapest_mix, check_bound
from dnas.space import SearchSpace, one_hot_mix

_MOST_PAIRS = 5000  # of exchanges that are tried, a cost each

Limits = Sequence[tuple[ExpectedCost, float]]  # (cost, what it may be at most, or is to be)


def repair(space: SearchSpace, genotype: Genotype, mix: Mix, limits: Limits) -> Genotype:
    """Returns the genotype with as few and as weak choices exchanged as it takes to meet every
    limit.

    One op after the other is exchanged on its edge, each time that which loses the least mix for
    the excess that it takes away, summed over the limits. Where nodes keep some of their edges and
    no exchange of ops does it, the edges of the cheapest genotype take their place. At the end,
    exchanges that turn out not to be needed are taken back, those that regain most first, as far as
    the limits allow. A genotype within the limits comes back as it is, and no cell loses the last
    path from its inputs to its output.

    Args:
      mix: {kind: [E, O]}, what the genotype was read from: an exchange loses the difference of the
        weights of two ops.
      limits: pairs (cost, bound), such as a latency and an energy. The cost is that of discrete
        networks, no expectation.

    Raises:
      ValueError: if the genotype does not fit the space, no genotype meets a bound (it names the
        range), or exchanging one op at a time does not do, as where the limits contradict each
        other.
    """
    for cost, bound in limits:
        check_bound(cost, bound)
    draft = _Draft(space, genotype, mix)

    def excess(chosen) -> float:
        return sum(cost.excess(chosen, bound) for cost, bound in limits)

    first: dict[
        tuple[str, int], list[str]
    ] = {}  # what each exchanged edge should have if it may, the best first
    for kind, place, _ in draft.lower(excess):
        first.setdefault((kind, place), [genotype.cells[kind][place].op])
    if excess(draft.chosen) > 0 and draft.all_edges_listed():
        # The way out takes several exchanges at once: to the cheapest network, and back below as
        #   far as the limits allow.
        for kind, rows in cheapest_mix(limits[0][0]).items():
            for place, edge in enumerate(draft.cells[kind]):
                first.setdefault((kind, place), [edge.op])
                draft.exchange(
                    kind,
                    place,
                    space.cells[kind].ops[rows[space.cells[kind].edges.index(edge[:2])].argmax()],
                )
    elif excess(draft.chosen) > 0 and any(own.keep is not None for own in space.choices.values()):
        # Other edges are needed: those of the cheapest network, which then get the strongest ops
        #   that the limits allow.
        first = {(kind, place): ops for kind, rows in cheapest_mix(limits[0][0]).items()
                 for place, ops in enumerate(draft.take_edges(kind, rows))}  # fmt: skip
    if excess(draft.chosen) > 0:
        costs = ", ".join(
            f"{float(cost(draft.chosen)):g} {cost.unit} for a bound of {bound:g}"
            for cost, bound in limits
        )
        raise ValueError(
            f"exchanging ops ends at {costs}; the bounds may contradict each other. Raise a bound,"
            " or search with a penalty"
        )
    for kind, place in sorted(first, key=lambda key: draft.lost_by(*key, first[key][0])):
        for op in first[kind, place]:
            if op == draft.cells[kind][place].op:
                break
            if (
                draft.stays_connected(kind, place, op)
                and draft.value_with(excess, kind, place, op) == 0
            ):
                draft.exchange(kind, place, op)
                break
    return draft.genotype()


def approach(
    space: SearchSpace, genotype: Genotype, mix: Mix, targets: Limits, *, tolerance: float = 0.01
) -> Genotype:
    """Returns the genotype with as few and as weak choices exchanged as it takes to come near every
    target, from both sides.

    One op after the other is exchanged on its edge, each time that which loses the least mix for
    what it takes off the distance to the targets, relative and summed over them, until no more than
    `tolerance` is left. Where no single exchange comes nearer, two at once may. A genotype that
    near comes back as it is.

    Args:
      mix, targets: as `repair` has mix and limits.
      tolerance: largest distance of a cost from its target, as a share of it.

    Raises:
      ValueError: if the genotype does not fit the space, or a target is below what any genotype
        costs (it names the range).
    """
    for cost, target in targets:
        check_bound(cost, target)
    draft = _Draft(space, genotype, mix)

    def distance(chosen) -> float:
        return sum(
            max(abs(float(cost(chosen)) / target - 1) - tolerance, 0.0) for cost, target in targets
        )

    for _ in draft.lower(distance, pairs=True):
        pass
    return draft.genotype()


class _Draft:
    """A genotype whose ops are exchanged, with its one-hot mix."""

    def __init__(self, space: SearchSpace, genotype: Genotype, mix: Mix):
        self.space, self._name, self._concat = space, genotype.space, genotype.concat
        self.cells = {kind: list(edges) for kind, edges in genotype.cells.items()}
        self.chosen = {
            kind: np.array(rows, np.float64) for kind, rows in one_hot_mix(space, genotype).items()
        }
        self._weights = {kind: np.asarray(mix[kind], np.float64) for kind in self.cells}

    def genotype(self) -> Genotype:
        return Genotype(self._name, self.cells, self._concat)

    def lower(
        self, value: Callable[[dict], float], *, pairs: bool = False
    ) -> Iterator[tuple[str, int, str]]:
        """Exchanges ops until the value is zero or no exchange lowers it, with `pairs` no two
        either; yields each exchange."""
        current = value(self.chosen)
        while current > 0:
            found = self._lower_by_one(value, current) or (
                self._lower_by_two(value, current) if pairs else []
            )
            if not found:
                return
            _, current, exchanges = min(found)
            for exchange in exchanges:
                self.exchange(*exchange)
                yield exchange

    def _lower_by_one(
        self, value: Callable[[dict], float], current: float, lost: float = 0.0, before: tuple = ()
    ) -> list:
        """(mix lost for what is taken off, value left, exchanges) of every exchange that lowers the
        value."""
        found = []
        for kind, place, op in self._exchanges():
            if (kind, place) in [own[:2] for own in before] or not self.stays_connected(
                kind, place, op
            ):
                continue
            if (left := self.value_with(value, kind, place, op)) < current:
                all_lost = lost + max(self.lost_by(kind, place, op), 0.0)
                found.append((all_lost / (current - left), left, (*before, (kind, place, op))))
        return found

    def _lower_by_two(self, value: Callable[[dict], float], current: float) -> list:
        """The same for two exchanges at once; the first among those that lose least, where there
        are many."""
        firsts = sorted(self._exchanges(), key=lambda own: (self.lost_by(*own), own))
        found = []
        for kind, place, op in firsts[: max(_MOST_PAIRS // len(firsts), 1)]:
            if self.stays_connected(kind, place, op):
                lost, old = max(self.lost_by(kind, place, op), 0.0), self.cells[kind][place].op
                self.exchange(kind, place, op)
                found += self._lower_by_one(value, current, lost, ((kind, place, op),))
                self.exchange(kind, place, old)
        return found

    def value_with(self, value: Callable[[dict], float], kind: str, place: int, op: str) -> float:
        row, old, new = self._columns(kind, place, op)
        self.chosen[kind][row, [old, new]] = 0.0, 1.0
        found = value(self.chosen)
        self.chosen[kind][row, [old, new]] = 1.0, 0.0
        return found

    def lost_by(self, kind: str, place: int, op: str) -> float:
        """The mix that an exchange loses."""
        row, old, new = self._columns(kind, place, op)
        return self._weights[kind][row, old] - self._weights[kind][row, new]

    def exchange(self, kind: str, place: int, op: str) -> None:
        row, old, new = self._columns(kind, place, op)
        self.chosen[kind][row, old] = 0.0
        self.chosen[kind][row, new] = 1.0
        self.cells[kind][place] = self.cells[kind][place]._replace(op=op)

    def take_edges(self, kind: str, rows: np.ndarray) -> list[list[str]]:
        """Takes edges and ops of one-hot rows; returns for each edge its ops, those of the largest
        weight first."""
        spec, self.chosen[kind] = self.space.cells[kind], np.array(rows)
        kept = np.flatnonzero(rows.any(axis=-1))
        self.cells[kind] = [Edge(*spec.edges[row], spec.ops[rows[row].argmax()]) for row in kept]
        usable = np.where(spec.choices.computes, self._weights[kind], -np.inf)
        orders = [np.argsort(-usable[row], kind="stable") for row in kept]
        return [
            [spec.ops[op] for op in order if usable[row, op] > -np.inf]
            for row, order in zip(kept, orders, strict=True)
        ]

    def all_edges_listed(self) -> bool:
        """Whether every edge may turn to any of its ops: nodes keep all of them, and those of
        `none` are listed."""
        return all(own.keep is None for own in self.space.choices.values()) and all(
            len(edges) == len(self.space.cells[kind].edges) for kind, edges in self.cells.items()
        )

    def stays_connected(self, kind: str, place: int, op: str) -> bool:
        """Whether an input reaches the output of the cell after an exchange for `none`."""
        if op not in self.space.choices[kind].nothing:
            return True
        spec = self.space.cells[kind]
        there = {
            edge[:2]
            for own, edge in enumerate(self.cells[kind])
            if edge.op not in spec.choices.nothing and own != place
        }
        return bool(live_edges(there, spec.num_inputs, spec.concat))

    def _columns(self, kind: str, place: int, op: str) -> tuple[int, int, int]:
        spec, edge = self.space.cells[kind], self.cells[kind][place]
        return spec.edges.index(edge[:2]), spec.ops.index(edge.op), spec.ops.index(op)

    def _exchanges(self) -> Iterator[tuple[str, int, str]]:
        """(kind, number of the edge, op) of every other op that an edge may have; `none` only where
        edges may be left out."""
        for kind, edges in self.cells.items():
            spec = self.space.cells[kind]
            for place, edge in enumerate(edges):
                allowed = spec.choices.allowed[spec.edges.index(edge[:2])]
                for op, may in zip(spec.ops, allowed, strict=True):
                    if (
                        may
                        and op != edge.op
                        and (
                            op not in spec.choices.nothing or self.space.choices[kind].keep is None
                        )
                    ):
                        yield kind, place, op
