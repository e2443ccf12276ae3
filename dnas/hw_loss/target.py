"""How a cost becomes a penalty: forms that are added to the loss or multiply it, and multipliers
that learn their weight.

C is a cost and T its target, both in the unit of the table. Every form is a function of C alone, so
that it takes a latency in milliseconds as well as macs. What has a target is relative to it; the
logarithms of others depend on the unit.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dnas.base import Arch, ArchLoss, Array, Metrics, Mix
from dnas.checks import checked, one_of
from dnas.hw_loss.discrete import discrete_mix
from dnas.hw_loss.expected import ExpectedCost

# Cost [] -> what is added to the loss, or what it is multiplied with.
Penalty = Callable[[Array], Array]


@checked
def arch_loss(cost: Callable[[Mix], Array], penalty: Penalty | None = None) -> ArchLoss:
    """Returns the term (arch, mix) -> penalty(cost(mix)) for `make_search`, which gives it a
    weight.

    Without a penalty it is the cost itself: with a weight w the sum CE + w C, in which w is per
      unit of the cost.

    Example:
      >>> loss = arch_loss(lambda mix: 12.0, relative(10.0))
      >>> round(loss({}, {}), 6)
      0.2
    """

    def term(arch: Arch, mix: Mix) -> Array:
        del arch
        return cost(mix) if penalty is None else penalty(cost(mix))

    return term


def logarithm() -> Penalty:
    """Returns ln C: its gradient is relative to the cost at hand. Single-Path NAS, eq. 5,
    https://arxiv.org/abs/1904.02877."""
    return jnp.log


@checked
def relative(target: float) -> Penalty:
    """Returns C / T - 1: linear, so that T is a unit and no target. ProxylessNAS's released
    "add#linear", weight 0.1.

    https://arxiv.org/abs/1812.00332
    """
    _check_target(target)
    return lambda cost: cost / target - 1


@checked
def hinge(target: float, *, power: float = 1.0) -> Penalty:
    """Returns max(0, C / T - 1)^power: no force below the target."""
    _check_target(target)
    return lambda cost: jax.nn.relu(cost / target - 1) ** power


@checked
def absolute(target: float) -> Penalty:
    """Returns |C / T - 1|: pulls from both sides. TuNAS, eq. 4, https://arxiv.org/abs/2008.06120;
    TF-NAS with weight 0.1."""
    _check_target(target)
    return lambda cost: jnp.abs(cost / target - 1)


@checked
def band(target: float, *, width: float = 0.05) -> Penalty:
    """Returns ln C above (1 + width) T, -ln C below (1 - width) T, and 0 between. TAS,
    https://arxiv.org/abs/1905.09717.

    Its weight in the paper is 2. The value jumps at both ends of the band; the gradient is 1/C, 0
    and -1/C.
    """
    _check_target(target)
    if not 0 <= width < 1:
        raise ValueError(
            f"the band is a share of the target, from 0 to below 1, got width = {width}"
        )

    def penalty(cost: Array) -> Array:
        sign = jnp.where(
            cost > (1 + width) * target, 1.0, jnp.where(cost < (1 - width) * target, -1.0, 0.0)
        )
        return sign * jnp.log(cost)

    return penalty


@checked
def mnasnet(target: float, *, below: float = -0.07, above: float = -0.07) -> Penalty:
    """Returns -w ln(C / T), w being `below` up to the target and `above` beyond: minus the
    logarithm of MnasNet's factor.

    MnasNet, eq. 2, https://arxiv.org/abs/1807.11626, maximises accuracy * (C / T)^w; -ln accuracy
    plus this is minus the logarithm of that. The defaults are its soft constraint; 0 and -1 are the
    hard one.
    """
    _check_target(target)

    def penalty(cost: Array) -> Array:
        return -jnp.where(cost <= target, below, above) * jnp.log(cost / target)

    return penalty


@checked
def log_power(
    *, alpha: float = 0.2, beta: float = 0.6, target: float | None = None, least: float
) -> Penalty:
    """Returns the factor alpha (ln C)^beta of FBNet, eq. 2, https://arxiv.org/abs/1812.03443, which
    multiplies the loss.

    With a target it is alpha (ln C / ln T)^beta, ProxylessNAS's released "mul#log", there with beta
    = 0.3 or 0.6. The unit of the cost matters: its numbers must be above 1, or the power is not a
    number.

    Args:
      least: the least cost in the space, see `feasible_range`.

    Raises:
      ValueError: if the least cost or the target is not above 1.

    Example:
      >>> round(float(log_power(least=2.0)(20.0)), 4)
      0.3863
    """
    if not least > 1 or (target is not None and not target > 1):
        raise ValueError(
            f"the logarithm of a cost of {least} to the power of {beta} is not a number; give it in"
            " a smaller unit, in which the least cost and the target are above 1 (the target is"
            f" {target})"
        )
    unit = 1.0 if target is None else math.log(target)
    return lambda cost: alpha * (jnp.log(cost) / unit) ** beta


@checked
def excess_power(target: float, *, power: float = 1.0) -> Penalty:
    """Returns the factor (1 + max(0, C / T - 1))^power, which multiplies the loss: 1 up to the
    target."""
    _check_target(target)
    return lambda cost: (1 + jax.nn.relu(cost / target - 1)) ** power


class Constraint(NamedTuple):
    """Targets that a search learns to meet, for `make_search`: costs, and the multiplier that
    weighs their violation."""

    costs: tuple[ExpectedCost, ...]
    multiplier: "Multiplier"  # with a target for each cost

    def penalty(self, multipliers: Array, mix: Mix) -> Array:
        """Returns what is added to the outer objective, []."""
        return self.multiplier.penalty(multipliers, self._of(mix))

    def follow(
        self, multipliers: Array, mix: Mix, moved: Array | bool = True
    ) -> tuple[Array, Metrics]:
        """Returns the next multipliers, and {"latency": that of the genotype, "latency_expected":
        ..., "latency_weight": ...}.

        Args:
          mix: what a selection would read now.
          moved: whether arch has; the multipliers wait where it has not, as in a warm-up.
        """
        discrete, expected = self._of(discrete_mix(self.costs[0].layers, mix)), self._of(mix)
        multipliers = jnp.where(
            moved, self.multiplier.update(multipliers, discrete, expected), multipliers
        )
        found = {}
        for cost, *own in zip(self.costs, discrete, expected, multipliers, strict=True):
            found |= dict(
                zip(
                    (cost.metric, f"{cost.metric}_expected", f"{cost.metric}_weight"),
                    own,
                    strict=True,
                )
            )
        return multipliers, found

    def _of(self, mix: Mix) -> Array:
        return jnp.stack([cost(mix) for cost in self.costs])


class Multiplier(NamedTuple):
    """A weight that follows the violation of a target.

    `update` takes what the genotype costs that would be read off now, since only that is what the
    user gets, and the expectation, for multipliers that watch it; `penalty` is to be
    differentiated, at the expectation.
    """

    init: Callable[[], Array]  # () -> multipliers [M]
    # (multipliers, discrete cost [M], expected cost [M]) -> multipliers.
    update: Callable[..., Array]
    penalty: Callable[[Array, Array], Array]  # (multipliers, expected cost [M]) -> scalar


@checked
def lightnas(target: float | Sequence[float], *, learning_rate: float = 5e-4) -> Multiplier:
    """Returns LightNAS's: penalty l (C / T - 1), l <- l + learning_rate (C / T - 1), for equality.

    l starts at 0, and goes back there when its sign opposes the violation: above the target with l
    < 0, below with l > 0. Released code of https://arxiv.org/abs/2208.08007, which feeds it the
    cost of the discrete network.

    Args:
      target: one, or several for as many costs.
    """
    targets = _targets(target)

    def update(multipliers: Array, discrete: Array, expected: Array) -> Array:
        del expected
        violation = discrete / targets - 1
        moved = multipliers + learning_rate * violation
        return jnp.where(moved * violation < 0, 0.0, moved)

    return Multiplier(
        lambda: jnp.zeros(len(targets)),
        update,
        lambda own, cost: (own * (cost / targets - 1)).sum(),
    )


@checked
def lagrangian(
    target: float | Sequence[float],
    *,
    rate: float = 0.1,
    equality: bool = False,
    watch: str = "discrete",
) -> Multiplier:
    """Returns dual ascent: penalty m g with g = C / T - 1, and m <- max(0, m + rate g).

    Args:
      target: one, or several for as many costs: latency and energy and params at once.
      equality: reach the target from both sides; m may then be negative.
      watch: which cost m follows: that of the genotype, "discrete"; "expected"; or "worst", the
        larger of both.

    Raises:
      ValueError: for a target or rate that is not positive, or another `watch`.

    Example:
      >>> dual = lagrangian(10.0, rate=0.5)
      >>> multipliers = dual.update(dual.init(), jnp.array([14.0]), jnp.array([11.0]))
      >>> (
      ...     round(float(multipliers[0]), 6),
      ...     round(float(dual.penalty(multipliers, jnp.array([11.0]))), 6),
      ... )
      (0.2, 0.02)
    """
    targets, follow = _targets(target), _ascent(rate, equality, watch)

    def penalty(multipliers: Array, cost: Array) -> Array:
        return (multipliers * (cost / targets - 1)).sum()

    return Multiplier(
        lambda: jnp.zeros(len(targets)), lambda *args: follow(targets, *args), penalty
    )


@checked
def augmented_lagrangian(
    target: float | Sequence[float],
    *,
    rho: float = 1.0,
    equality: bool = False,
    watch: str = "discrete",
) -> Multiplier:
    """Returns the method of multipliers: penalty rho/2 (max(0, g + m/rho)^2 - (m/rho)^2), g = C / T
    - 1, m as in `lagrangian`.

    Its gradient with respect to C is max(0, m + rho g) / T. For equality the penalty is m g + rho/2
    g^2.

    Args:
      rho: weight of the square, and rate of m; the rest as in `lagrangian`.

    Raises:
      ValueError: as `lagrangian`.
    """
    targets, follow = _targets(target), _ascent(rho, equality, watch)

    def penalty(multipliers: Array, cost: Array) -> Array:
        shifted = cost / targets - 1 + multipliers / rho
        shifted = shifted if equality else jax.nn.relu(shifted)
        return (rho / 2 * (shifted**2 - (multipliers / rho) ** 2)).sum()

    return Multiplier(
        lambda: jnp.zeros(len(targets)), lambda *args: follow(targets, *args), penalty
    )


def _ascent(rate: float, equality: bool, watch: str) -> Callable[..., Array]:
    watched: dict[str, Callable[[Array, Array], Array]] = {
        "discrete": lambda discrete, expected: discrete,
        "expected": lambda discrete, expected: expected,
        "worst": lambda discrete, expected: jnp.maximum(discrete, expected),
    }
    one_of(watched, watch=watch)
    if not rate > 0:
        raise ValueError(f"the rate of a multiplier is positive, got {rate}")

    def follow(targets: Array, multipliers: Array, discrete: Array, expected: Array) -> Array:
        moved = multipliers + rate * (watched[watch](discrete, expected) / targets - 1)
        return moved if equality else jnp.maximum(moved, 0.0)

    return follow


def _check_target(target: float) -> None:
    if not (isinstance(target, (int, float)) and 0 < target < math.inf):
        raise ValueError(f"a target is a positive number in the unit of the cost, got {target!r}")


def _targets(target: float | Sequence[float]) -> Array:
    targets = list(target) if isinstance(target, Sequence) else [target]
    if not targets:
        raise ValueError("at least one target is needed")
    for own in targets:
        _check_target(own)
    return jnp.asarray(targets, jnp.float32)


# Each entry makes, of a target, what is added to the loss of arch, with a weight; what that loss is
# multiplied with; or the multiplier of a constraint.
PENALTIES = {
    "hinge": hinge,
    "relative": relative,
    "absolute": absolute,
    "band": band,
    "mnasnet": mnasnet,
}
FACTORS = {"excess_power": excess_power, "log_power": log_power}
MULTIPLIERS = {
    "lagrangian": lagrangian,
    "augmented_lagrangian": augmented_lagrangian,
    "lightnas": lightnas,
}
