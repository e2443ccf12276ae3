"""How a genotype is brought within bounds, or to targets: the weakest choices that matter are
exchanged."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dnas.base import Mix
from dnas.genotype import Genotype
from dnas.hw_loss.expected import ExpectedCost
from dnas.hw_loss.feasible import cheapest_mix, check_bound
from dnas.space import SearchSpace, genotype_of, one_hot_mix, picked_of

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

    before = {kind: [column for _, column in own] for kind, own in draft.picked.items()}
    # What each exchanged place should have if it may, the best first.
    first: dict[tuple[str, int], list[int]] = {}
    for kind, place, _ in draft.lower(excess):
        first.setdefault((kind, place), [before[kind][place]])
    if excess(draft.chosen) > 0 and draft.may_become_any():
        # The way out takes several exchanges at once: to the cheapest network, and back below as
        # far as the limits allow. Where other edges are needed, they then get the strongest ops
        # that the limits allow.
        for kind, rows in cheapest_mix(limits[0][0]).items():
            wanted = draft.become(kind, rows)
            if space.choices[kind].keep is not None:  # other edges than those exchanged before
                first = {key: columns for key, columns in first.items() if key[0] != kind}
            for place, columns in enumerate(wanted):
                first.setdefault((kind, place), columns)
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
        for column in first[kind, place]:
            if column == draft.picked[kind][place][1]:
                break
            if (
                draft.stays_connected(kind, place, column)
                and draft.value_with(excess, kind, place, column) == 0
            ):
                draft.exchange(kind, place, column)
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


Exchange = tuple[str, int, int]  # kind, place among the rows that are picked, new column


class _Draft:
    """A genotype whose options are exchanged, with its one-hot mix."""

    def __init__(self, space: SearchSpace, genotype: Genotype, mix: Mix):
        self.space, self._concat = space, genotype.concat
        self.picked = picked_of(space, genotype)
        self.chosen = {
            kind: np.array(rows, np.float64) for kind, rows in one_hot_mix(space, genotype).items()
        }
        self._weights = {kind: np.asarray(mix[kind], np.float64) for kind in self.picked}

    def genotype(self) -> Genotype:
        return genotype_of(self.space, self.picked, self._concat)

    def lower(self, value: Callable[[dict], float], *, pairs: bool = False) -> Iterator[Exchange]:
        """Exchanges options until the value is zero or no exchange lowers it, with `pairs` no two
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
        for exchange in self._exchanges():
            if exchange[:2] in [own[:2] for own in before] or not self.stays_connected(*exchange):
                continue
            if (left := self.value_with(value, *exchange)) < current:
                all_lost = lost + max(self.lost_by(*exchange), 0.0)
                found.append((all_lost / (current - left), left, (*before, exchange)))
        return found

    def _lower_by_two(self, value: Callable[[dict], float], current: float) -> list:
        """The same for two exchanges at once; the first among those that lose least, where there
        are many."""
        firsts = sorted(self._exchanges(), key=lambda own: (self.lost_by(*own), own))
        found = []
        for exchange in firsts[: max(_MOST_PAIRS // len(firsts), 1)]:
            if self.stays_connected(*exchange):
                kind, place, _ = exchange
                lost, old = max(self.lost_by(*exchange), 0.0), self.picked[kind][place][1]
                self.exchange(*exchange)
                found += self._lower_by_one(value, current, lost, (exchange,))
                self.exchange(kind, place, old)
        return found

    def value_with(
        self, value: Callable[[dict], float], kind: str, place: int, column: int
    ) -> float:
        row, old = self.picked[kind][place]
        self.chosen[kind][row, [old, column]] = 0.0, 1.0
        found = value(self.chosen)
        self.chosen[kind][row, [old, column]] = 1.0, 0.0
        return found

    def lost_by(self, kind: str, place: int, column: int) -> float:
        """The mix that an exchange loses."""
        row, old = self.picked[kind][place]
        return self._weights[kind][row, old] - self._weights[kind][row, column]

    def exchange(self, kind: str, place: int, column: int) -> None:
        row, old = self.picked[kind][place]
        self.chosen[kind][row, old] = 0.0
        self.chosen[kind][row, column] = 1.0
        self.picked[kind][place] = row, column

    def may_become_any(self) -> bool:
        """Whether exchanges lead to every genotype: rows are kept by their group, or all of them
        are listed, those that compute nothing too."""
        return all(
            choices.keep is not None or len(self.picked[kind]) == len(choices.rows)
            for kind, choices in self.space.choices.items()
        )

    def become(self, kind: str, rows: np.ndarray) -> list[list[int]]:
        """Takes the options of one-hot rows; returns for each place the columns that it should
        rather have, the best first: the one before, or where other rows are kept than before those
        that compute, the one of the largest weight first."""
        choices = self.space.choices[kind]
        if choices.keep is None:
            before = [[column] for _, column in self.picked[kind]]
            for place, (row, _) in enumerate(self.picked[kind]):
                self.exchange(kind, place, int(rows[row].argmax()))
            return before
        kept = np.flatnonzero(rows.any(axis=-1)).tolist()
        self.chosen[kind] = np.array(rows)
        self.picked[kind] = [(row, int(rows[row].argmax())) for row in kept]
        usable = np.where(choices.computes, self._weights[kind], -np.inf)
        orders = {row: np.argsort(-usable[row], kind="stable").tolist() for row in kept}
        return [[own for own in orders[row] if choices.computes[row, own]] for row in kept]

    def stays_connected(self, kind: str, place: int, column: int) -> bool:
        """Whether an input reaches the output of a cell after an exchange for what computes
        nothing."""
        choices = self.space.choices[kind]
        if kind not in self.space.cells or not choices.is_nothing[column]:
            return True
        there = [
            row
            for own, (row, option) in enumerate(self.picked[kind])
            if own != place and not choices.is_nothing[option]
        ]
        return bool(self.space.cells[kind].live_rows(there))

    def _exchanges(self) -> Iterator[Exchange]:
        """Every other option that a place may have; one that computes nothing only where rows may
        have such."""
        for kind, picked in self.picked.items():
            choices = self.space.choices[kind]
            usable = choices.allowed if choices.keep is None else choices.computes
            for place, (row, column) in enumerate(picked):
                for other in np.flatnonzero(usable[row]).tolist():
                    if other != column:
                        yield kind, place, other
