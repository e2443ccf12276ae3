"""Which costs the networks of a space can have."""

from typing import NamedTuple

from dnas.checks import checked
from dnas.hw_loss.expected import ExpectedCost
from dnas.hw_loss.program import Found, Limits, Networks, Rows


class FeasibleRange(NamedTuple):
    """The least and the largest cost of the genotypes. Where not exact none is outside, but there
    may be none at the ends."""

    least: float
    largest: float
    exact: bool


@checked
def feasible_range(cost: ExpectedCost) -> FeasibleRange:
    """Returns the least and the largest cost of the genotypes of a space.

    Cells whose output no input reaches do not count. It is exact unless the solver gives up, which
    no space here has made it do, see `program.py`.

    Example:
      >>> import dnas
      >>> space, sizes = dnas.SPACES["darts"], dict(channels=4, num_cells=3)
      >>> table = dnas.hw_loss.count_table(space, **sizes)
      >>> feasible_range(dnas.hw_loss.expected_cost(table, space.parts(**sizes), metric="params"))
      FeasibleRange(least=2198.0, largest=19670.0, exact=True)
    """
    ends, exact = [], True
    for largest in (False, True):
        found = _extreme(cost, largest=largest)
        ends.append(cost.discrete(found.rows) if found.exact else found.bound)
        exact &= found.exact
    return FeasibleRange(ends[0], ends[1], exact)


def cheapest_mix(cost: ExpectedCost) -> Rows:
    """Returns the one-hot mix of a genotype of the least cost; where the range is not exact, of low
    cost."""
    return _extreme(cost, largest=False).rows


def dearest_mix(cost: ExpectedCost, limits: Limits = ()) -> Rows:
    """Returns the one-hot mix of a genotype of the largest cost, as `cheapest_mix` of the least.

    That with most multiply-adds is a baseline that needs no search.

    Args:
      limits: pairs (cost, bound) of costs that it may have at most.

    Raises:
      ValueError: if no genotype meets a bound (it names the range), or none meets all of them.
    """
    if not limits:
        return _extreme(cost, largest=True).rows
    for own, bound in limits:
        check_bound(own, bound)
    networks = Networks(cost.layers.cells, cost.layers.choices)
    return networks.best_within(networks.cost(cost), limits).rows


def check_bound(cost: ExpectedCost, bound: float) -> None:
    """Raises ValueError if no genotype costs at most `bound`, saying which costs there are."""
    own = feasible_range(cost)
    if not bound >= own.least:
        raise ValueError(
            f"no network of the space has a {cost.metric} of at most {bound:g} {cost.unit}; it"
            f" ranges from {own.least:g} to {own.largest:g} {cost.unit}: choose a bound in between,"
            " or smaller networks"
        )


def _extreme(cost: ExpectedCost, *, largest: bool) -> Found:
    networks = Networks(cost.layers.cells, cost.layers.choices)
    found = networks.best(networks.cost(cost), largest=largest)
    if found is None:
        raise ValueError("no genotype of the space has a path from its inputs to its output")
    return found
