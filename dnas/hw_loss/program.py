"""The genotypes of a space as the points of an integer program, in which their costs are linear.

Which option a row has are variables of 0 or 1. What follows from them, whether a node is reached
and needed, whether an op runs, which combination of options a term has, are *facts*: variables tied
to them by linear constraints, so that they are 0 or 1 where those are. So the cheapest network, or
the one that keeps most of a mix within a bound, is what a solver finds: HiGHS, https://highs.dev,
through scipy. Variable 0 is always one; constants are its multiples.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas.choices import Choices
from dnas.graph import CellSpec
from dnas.hw_loss.expected import ExpectedCost
from dnas.parts import Term

Linear = Mapping[int, float]  # {variable: coefficient}
Fact = Linear  # that is 0 or 1 at every genotype
Rows = dict[str, np.ndarray]  # {kind: [E, O]}, the one-hot mix of a genotype
Limits = Sequence[tuple[ExpectedCost, float]]  # (cost, what it may be at most, or is to be)

_ONE = 0
_TRUE: Fact = {_ONE: 1.0}
_FALSE: Fact = {}
# Tolerances of the solver are absolute, 1e-6; in these units they are small shares of a sum.
_UNITS = 1e6
_UNITS_OF_A_LIMIT = 1e4
_MOST_NODES = 20_000  # of its search tree


class Found(NamedTuple):
    """The best genotype by an objective, as far as the solver has got."""

    rows: Rows
    value: float
    bound: float  # no genotype is better than this
    exact: bool  # whether none is better than the one found


class Networks:
    """The genotypes of a space whose cells lead from an input to the output, and what they cost.

    Args:
      cells, choices: of the space.
      picked: {kind: {row: column}} of a genotype, to which the others are alike: as many rows of
        each group are kept, and options that compute nothing are among those of a kind if it has
        one. None for the genotypes that the space usually has.
    """

    def __init__(
        self,
        cells: Mapping[str, CellSpec],
        choices: Mapping[str, Choices],
        picked: Mapping[str, Mapping[int, int]] | None = None,
    ):
        self._program = _Program()
        self._cells, self._choices = cells, choices
        self._options: dict[str, list[list[Fact]]] = {}
        self._there: dict[str, list[Fact]] = {}  # whether a row has an option that computes
        self._entered: dict[str, set[tuple[int, ...]]] = {}  # groups of which one always has
        self._running = functools.cache(self._add_running)
        self._combinations = functools.cache(self._add_combinations)
        for kind, own in choices.items():
            self._add_rows(kind, own, None if picked is None else picked[kind])
        self._reached = {kind: self._add_reached(kind, spec) for kind, spec in cells.items()}
        self._needed = {kind: self._add_needed(kind, spec) for kind, spec in cells.items()}
        for kind, spec in cells.items():
            reached = self._reached[kind]
            self._program.require(total(reached[node] for node in spec.concat), least=1)

    def worth(self, worths: Mapping[str, np.ndarray]) -> Linear:
        """Returns the sum of what the options of a genotype are worth, {kind: [E, O]}."""
        return total(
            _scaled(option, worths[kind][row, column])
            for kind, options in self._options.items()
            for row, own in enumerate(options)
            for column, option in enumerate(own)
        )

    def cost(self, cost: ExpectedCost) -> Linear:
        """Returns what the network of a genotype costs, `ExpectedCost.discrete`."""
        if cost.largest:
            return self._peak(cost)
        found = [_scaled(_TRUE, cost.fixed)]
        found += [_scaled(fact, value) for fact, value in self._parts(cost)]
        if cost.relu:
            relus = self._relus(cost)
            found += [_scaled(fact, cost.relu * numbers / 1000) for fact, numbers in relus]
        return total(found)

    def limit(self, linear: Linear, bound: float) -> None:
        """Leaves the genotypes of which a linear function is at most the bound."""
        unit = _UNITS_OF_A_LIMIT / (max(abs(bound), *map(abs, linear.values())) or 1.0)
        self._program.require(_scaled(linear, unit), most=bound * unit)

    def distance(self, linear: Linear, target: float, tolerance: float) -> Linear:
        """Returns by which share of the target a linear function misses it, beyond a tolerance."""
        missed = self._program.variable(most=math.inf)
        share = total([_scaled(linear, 1 / target), _scaled(_TRUE, -1.0)])
        for sign in (1.0, -1.0):
            above = total([missed, _scaled(share, -sign)])
            self._program.require(
                _scaled(above, _UNITS_OF_A_LIMIT), least=-tolerance * _UNITS_OF_A_LIMIT
            )
        return missed

    def forbid(self, rows: Rows) -> None:
        """Leaves all genotypes but this one."""
        own = [
            self._options[kind][row][column]
            for kind, chosen in rows.items()
            for row, column in np.argwhere(chosen).tolist()
        ]
        self._program.require(total(own), most=len(own) - 1)

    def best(self, objective: Linear, *, largest: bool) -> Found | None:
        """Returns the genotype at which a linear function is least, or largest; None if there is
        none."""
        solved = self._program.solve(objective, largest=largest)
        if solved is None:
            return None
        values, bound, exact = solved
        rows: Rows = {}
        for kind, options in self._options.items():
            rows[kind] = np.array([[_value(option, values) for option in row] for row in options])
            rows[kind] = rows[kind].round()
        return Found(rows, _value(objective, values), bound, exact)

    def best_within(self, objective: Linear, limits: Limits) -> Found:
        """Returns the genotype at which a linear function is largest, of those within all limits.

        Raises:
          ValueError: if there is none.
        """
        for cost, bound in limits:
            self.limit(self.cost(cost), bound)
        while (found := self.best(objective, largest=True)) is not None:
            if all(cost.meets(found.rows, bound) for cost, bound in limits):
                return found
            # The solver takes for within what is above by less than a ten billionth.
            self.forbid(found.rows)
        bounds = ", ".join(f"{cost.metric} {bound:g} {cost.unit}" for cost, bound in limits)
        raise ValueError(
            f"each of the bounds is met by some network, but no network meets all of {bounds}: they"
            " contradict each other. Raise a bound"
        )

    def _add_rows(self, kind: str, choices: Choices, picked: Mapping[int, int] | None) -> None:
        program, numbers = self._program, range(len(choices.rows))
        nothing = choices.is_nothing
        usable = choices.allowed if choices.keep is None else choices.computes
        if picked is not None and any(nothing[column] for column in picked.values()):
            usable = choices.allowed  # also where genotypes usually leave such rows out
        options = [
            [program.variable(whole=True) if may else _FALSE for may in usable[row]]
            for row in numbers
        ]
        sums = [total(own) for own in options]
        there = [total(itertools.compress(own, ~nothing)) for own in options]
        groups = choices.together if choices.keep is not None else [(row,) for row in numbers]
        entered = set()
        for group in groups:
            kept = min(choices.places(group), len(group))
            if picked is not None:
                kept = sum(row in picked for row in group)
            program.require(total(sums[row] for row in group), least=kept, most=kept)
            always_compute = not (usable[list(group)] & nothing).any()
            if kept and always_compute:
                entered.add(group)
            for row in group:
                program.require(sums[row], most=1)
                if kept == len(group) and always_compute:
                    there[row] = _TRUE
        self._options[kind], self._there[kind], self._entered[kind] = options, there, entered

    def _add_reached(self, kind: str, spec: CellSpec) -> list[Fact]:
        """Of each node whether data arrives from an input."""
        reached: list[Fact] = [_TRUE] * spec.num_inputs
        for node in spec.nodes:
            rows = spec.incoming(node)
            sources = [reached[spec.edges[row][0]] for row in rows]
            facts = [
                self._program.all_of([self._there[kind][row], source])
                for row, source in zip(rows, sources, strict=True)
            ]
            if rows in self._entered[kind] and all(source is _TRUE for source in sources):
                reached.append(_TRUE)
            else:
                reached.append(self._program.any_of(facts))
        return reached

    def _add_needed(self, kind: str, spec: CellSpec) -> list[Fact]:
        """Of each node whether data leads on to the output."""
        needed: dict[int, Fact] = dict.fromkeys(spec.concat, _TRUE)
        for node in reversed(range(spec.num_inputs + spec.num_nodes)):
            rows = [row for row, (source, _) in enumerate(spec.edges) if source == node]
            facts = [
                self._program.all_of([self._there[kind][row], needed[spec.edges[row][1]]])
                for row in rows
            ]
            needed.setdefault(node, self._program.any_of(facts))
        return [needed[node] for node in range(len(needed))]

    def _add_running(self, kind: str, live: str) -> list[list[Fact]]:
        """Whether an option computes something and runs, [E][O]."""
        spec, program, running = self._cells[kind], self._program, []
        for row, (source, target) in enumerate(spec.edges):
            computes = self._choices[kind].computes[row]
            own = [
                option if may else _FALSE
                for option, may in zip(self._options[kind][row], computes, strict=True)
            ]
            conditions = [] if live == "all" else [self._needed[kind][target]]
            if live == "path":
                conditions.append(self._reached[kind][source])
            if any(condition is not _TRUE for condition in conditions):
                chosen, own = own, [program.variable() if option else _FALSE for option in own]
                for option, fact in zip(chosen, own, strict=True):
                    program.require(total([option, _scaled(fact, -1.0)]), least=0)
                alive = program.all_of([self._there[kind][row], *conditions])
                program.require(total([*own, _scaled(alive, -1.0)]), least=0, most=0)
            running.append(own)
        return running

    def _add_combinations(self, term: Term) -> dict[tuple[int, ...], Fact]:
        """Whether the rows of a term have the options of these columns."""
        program = self._program
        options = [self._options[kind][row] for kind, row in term.rows]
        usable = [[column for column, own in enumerate(row) if own] for row in options]
        if len(options) == 1:
            return {(column,): options[0][column] for column in usable[0]}
        facts = {columns: program.variable() for columns in itertools.product(*usable)}
        for axis, own in enumerate(options):
            for column in usable[axis]:
                having = [fact for columns, fact in facts.items() if columns[axis] == column]
                program.require(total([*having, _scaled(own[column], -1.0)]), least=0, most=0)
        return facts

    def _parts(self, cost: ExpectedCost) -> Iterator[tuple[Fact, float]]:
        """Whether a part runs, and what it costs, of all that are a choice."""
        for kind, costs in cost.if_run.items():
            running = self._running(kind, cost.live)
            for row, column in np.argwhere(costs).tolist():
                yield running[row][column], float(costs[row, column])
        for own in cost.terms:
            costs = own.costs_of_all_rows(cost.layers.choices)
            for columns, fact in self._combinations(own.term).items():
                yield fact, float(costs[columns])

    def _peak(self, cost: ExpectedCost) -> Linear:
        """The largest cost of a part that runs."""
        program = self._program
        parts = [(fact, value) for fact, value in self._parts(cost) if fact and value > cost.fixed]
        parts.append((_TRUE, cost.fixed))
        # Of one part, which runs, it is the cost, and of none it is less.
        is_largest = [program.variable(whole=True) for _ in parts]
        program.require(total(is_largest), least=1, most=1)
        peak = total(_scaled(own, value) for own, (_, value) in zip(is_largest, parts, strict=True))
        for own, (fact, value) in zip(is_largest, parts, strict=True):
            program.require(total([fact, _scaled(own, -1.0)]), least=0)
            program.require(total([peak, _scaled(fact, -value)]), least=0)
        return peak

    def _relus(self, cost: ExpectedCost) -> Iterator[tuple[Fact, float]]:
        """Whether ReLUs at a node are computed by themselves, and for how many numbers."""
        for kind, groups in cost.relu_groups.items():
            spec, program = self._cells[kind], self._program
            running = self._running(kind, cost.live)
            for begins, sizes in groups:
                pairs = list(zip(running, begins, strict=True))
                through = [total(itertools.compress(own, which)) for own, which in pairs]
                beside = [total(itertools.compress(own, ~which)) for own, which in pairs]
                for node, numbers in enumerate(sizes.tolist()):
                    rows = [row for row, (source, _) in enumerate(spec.edges) if source == node]
                    alone = program.any_of([through[row] for row in rows])
                    if node not in spec.concat:
                        others = program.any_of([beside[row] for row in rows])
                        alone = program.all_of([alone, others])
                    yield alone, numbers


class _Program:
    """Variables from 0 on, some of them whole numbers, and linear constraints."""

    def __init__(self):
        self._most, self._whole = [1.0], [False]
        self._rows: list[Linear] = []
        self._ends: list[tuple[float, float]] = []

    def variable(self, *, whole: bool = False, most: float = 1.0) -> Linear:
        """Returns a new variable."""
        self._most.append(most)
        self._whole.append(whole)
        return {len(self._most) - 1: 1.0}

    def require(self, linear: Linear, *, least: float = -math.inf, most: float = math.inf) -> None:
        """Adds a constraint."""
        self._rows.append(linear)
        self._ends.append((least, most))

    def all_of(self, facts: Iterable[Fact]) -> Fact:
        """Returns the fact that all of these are so."""
        facts = [fact for fact in facts if fact is not _TRUE]
        if not all(facts):
            return _FALSE
        if len(facts) < 2:
            return facts[0] if facts else _TRUE
        found = self.variable()
        for fact in facts:
            self.require(total([fact, _scaled(found, -1.0)]), least=0)
        self.require(total([*facts, _scaled(found, -1.0)]), most=len(facts) - 1)
        return found

    def any_of(self, facts: Iterable[Fact]) -> Fact:
        """Returns the fact that one of these is so, or several."""
        facts = [fact for fact in facts if fact]
        if any(fact is _TRUE for fact in facts):
            return _TRUE
        if len(facts) < 2:
            return facts[0] if facts else _FALSE
        found = self.variable()
        for fact in facts:
            self.require(total([found, _scaled(fact, -1.0)]), least=0)
        self.require(total([*facts, _scaled(found, -1.0)]), least=0)
        return found

    def solve(self, objective: Linear, *, largest: bool) -> tuple[np.ndarray, float, bool] | None:
        """Returns the variables at the best point, what no point is better than, and whether this
        one is that good; None if there is no point."""
        # Not at the top: who only searches need not wait for it.
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        size = len(self._most)
        constant = objective.get(_ONE, 0.0)
        slopes = np.zeros(size)
        for variable, slope in objective.items():
            slopes[variable] = slope
        slopes[_ONE] = 0.0
        unit = _UNITS / (np.abs(slopes).max() or 1.0) * (-1.0 if largest else 1.0)
        entries = [
            (number, variable, slope)
            for number, linear in enumerate(self._rows)
            for variable, slope in linear.items()
        ]
        numbers, variables, coefficients = np.array(entries).T
        matrix = csr_array(
            (coefficients, (numbers.astype(np.int32), variables.astype(np.int32))),
            shape=(len(self._rows), size),
        )
        least, most = np.array(self._ends).T
        ends: Any = (np.eye(1, size)[0], np.array(self._most))
        bounds = Bounds(*ends)
        found: Any = milp(  # scipy carries no types
            unit * slopes,
            integrality=np.array(self._whole, int),
            bounds=bounds,
            constraints=LinearConstraint(matrix, least, most),
            options={"mip_rel_gap": 0.0, "node_limit": _MOST_NODES},
        )
        if found.x is None:
            if found.status == 2:
                return None
            raise RuntimeError(f"the solver has found no network: {found.message}")
        return found.x, constant + float(found.mip_dual_bound) / unit, found.status == 0


def total(linears: Iterable[Linear]) -> Linear:
    """Returns the sum of linear functions."""
    found: dict[int, float] = {}
    for linear in linears:
        for variable, slope in linear.items():
            found[variable] = found.get(variable, 0.0) + slope
    return found


def _scaled(linear: Linear, factor: float) -> Linear:
    return {variable: factor * slope for variable, slope in linear.items()}


def _value(linear: Linear, values: np.ndarray) -> float:
    return sum(slope * float(values[variable]) for variable, slope in linear.items())
