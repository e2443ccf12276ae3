"""A search in which every iterate meets a bound on the cost: Frank-Wolfe on simplexes cut by a
half-space.

HardCoRe-NAS, section 3.3, https://arxiv.org/abs/2102.11646. There is no multiplier and no weight to
tune: arch is the mix itself, each step goes some way towards the corner of the feasible set that
the gradient points at, and the corner is the solution of a linear program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import AnyArray, Arch, Array, Key, Mix, PyTree
from dnas.checks import checked
from dnas.hw_loss.expected import ExpectedCost
from dnas.hw_loss.feasible import cheapest_mix, check_bound

_MARGIN = 1e-6  # of the bound, left free by the linear program for what float32 rounds
_HALVINGS = 12


class FrankWolfeState(NamedTuple):
    step: Array  # []
    key: Key


@checked
def frank_wolfe(
    key: Key, cost: ExpectedCost, bound: float, *, start: int = 0
) -> optax.GradientTransformation:
    """Returns the optimiser of rows on simplexes that keeps cost(rows) <= bound, for `simplex()`
    and `feasible_start`.

    Each step moves one kind of cell, drawn at random, by the share 2 n / (k + 2 n) towards the
    corner that is best for the gradient, n being the number of kinds and k the step. Where the cost
    is linear in the rows of a kind, as in layer-wise spaces, the corner is exact; elsewhere the
    cost is linearised, and the step halved until the bound holds, at last to none.

    Args:
      start: k of the first step. With the paper's 0 that step goes all the way to a corner, with a
        larger one less far, which suits a search whose weights are trained beside arch.

    Raises:
      ValueError: if no genotype of the space meets the bound, naming the range of costs; on update
        without params.

    Example:
      >>> import dnas
      >>> space, sizes = dnas.SPACES["darts"], dict(channels=4, num_cells=3)
      >>> table = dnas.hw_loss.count_table(space, **sizes)
      >>> cost = dnas.hw_loss.expected_cost(table, space.parts(**sizes), metric="params")
      >>> arch = feasible_start(cost, 9000.0)
      >>> optimizer = frank_wolfe(jax.random.key(0), cost, 9000.0)
      >>> gradients = jax.tree.map(jnp.negative, arch)
      >>> updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(arch), arch)
      >>> moved = optax.apply_updates(arch, updates)
      >>> bool(cost({kind: rows["ops"] for kind, rows in moved.items()}) <= 9000.0)
      True
    """
    check_bound(cost, bound)
    choices = cost.layers.choices
    kinds = list(choices)

    def init(params: PyTree) -> FrankWolfeState:
        del params
        return FrankWolfeState(jnp.asarray(start, jnp.int32), key)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None
    ) -> tuple[PyTree, FrankWolfeState]:
        if params is None:
            raise ValueError(
                "frank_wolfe moves rows on the simplex and needs them: call update(gradients,"
                " state, params)"
            )
        next_key, own_key = jax.random.split(state.key)
        chosen = jax.random.randint(own_key, (), 0, len(kinds))
        share = 2 * len(kinds) / (state.step + 2 * len(kinds))
        gradients, rows = _mix_of(updates), _mix_of(params)
        value, slopes = jax.value_and_grad(_scaled(cost, bound))(rows)
        directions = {}
        for number, kind in enumerate(kinds):
            limit = 1 - _MARGIN - value + (slopes[kind] * rows[kind]).sum()
            corner = best_corner(gradients[kind], slopes[kind], limit, choices[kind].allowed)
            directions[kind] = jnp.where(chosen == number, corner - rows[kind], 0.0)
        steps = share * jnp.array([0.5**half for half in range(_HALVINGS)])

        def at(step: Array) -> Mix:
            return {kind: rows[kind] + step * directions[kind] for kind in kinds}

        fits = jax.vmap(lambda step: _scaled(cost, bound)(at(step)))(steps) <= 1
        step = jnp.where(fits.any(), steps[fits.argmax()], 0.0)
        moves = {kind: {"ops": step * direction} for kind, direction in directions.items()}
        return moves, FrankWolfeState(state.step + 1, next_key)

    return optax.GradientTransformation(init, update)


def _mix_of(arch: Arch) -> dict[str, Array]:
    return {kind: rows["ops"] for kind, rows in arch.items()}


def _scaled(cost: ExpectedCost, bound: float):
    return lambda mix: cost(mix) / bound


def best_corner(gradient: Array, slopes: Array, limit: Array | float, allowed: AnyArray) -> Array:
    """Returns the rows [E, O] on simplexes that minimise <gradient, rows> subject to <slopes, rows>
    <= limit.

    It is a linear program, the continuous multiple-choice knapsack, solved exactly through its one
    multiplier l >= 0: for given l every row takes the op of least gradient + l * slope, and choices
    change where two ops of a row draw level. At the l at which the limit is crossed rows change
    over one after the other, the last one as far as is needed, so that at most one row has two
    entries. If the limit cannot be met, every row takes its cheapest op.

    Args:
      gradient, slopes: [E, O]; allowed: bool [E, O], an op of each row at least.

    Example:
      >>> gradient, slopes = (
      ...     jnp.array([[0.0, 1.0], [0.0, 3.0]]),
      ...     jnp.array([[2.0, 1.0], [2.0, 1.0]]),
      ... )
      >>> jax.jit(best_corner)(gradient, slopes, 3.5, jnp.ones((2, 2), bool)).tolist()
      [[0.5, 0.5], [1.0, 0.0]]
    """
    allowed = jnp.asarray(allowed, bool)
    pairs = allowed[:, :, None] & allowed[:, None, :]
    saved = slopes[:, :, None] - slopes[:, None, :]  # by going from the first op to the second
    lost = gradient[:, None, :] - gradient[:, :, None]
    crossing = jnp.where(
        pairs & (saved > 0) & (lost > 0), lost / jnp.where(saved > 0, saved, 1.0), 0.0
    )
    crossing = jnp.sort(crossing.ravel())
    between = (crossing[1:] + crossing[:-1]) / 2
    multipliers = jnp.concatenate([jnp.zeros(1, between.dtype), between, 2 * crossing[-1:] + 1])
    scores = gradient + multipliers[:, None, None] * slopes
    choices = jnp.where(allowed, scores, jnp.inf).argmin(axis=-1)  # [N, E]
    choices = jnp.concatenate([choices, jnp.where(allowed, slopes, jnp.inf).argmin(axis=-1)[None]])
    spent = jnp.take_along_axis(slopes[None], choices[..., None], axis=-1)[..., 0]  # [N + 1, E]
    fits = spent.sum(axis=-1) <= limit
    last = jnp.where(fits.any(), fits.argmax(), len(choices) - 1)
    first = jnp.maximum(last - 1, 0)
    # From the last choice that is too dear to the first that fits, row by row.
    saving = spent[first] - spent[last]
    needed = jnp.where(fits.any(), spent[first].sum() - limit, jnp.inf)
    before = jnp.cumsum(saving) - saving
    share = jnp.clip((needed - before) / jnp.where(saving > 0, saving, 1.0), 0.0, 1.0)
    share = jnp.where(saving > 0, share, (needed > before).astype(share.dtype))
    rows = [
        jax.nn.one_hot(choices[place], gradient.shape[-1], dtype=share.dtype)
        for place in (first, last)
    ]
    return (1 - share)[:, None] * rows[0] + share[:, None] * rows[1]


@checked
def feasible_start(cost: ExpectedCost, bound: float) -> dict[str, dict[str, Array]]:
    """Returns the arch of `simplex()` that is the mix nearest to the uniform one, on the way from
    the cheapest, that costs at most `bound`.

    Where nodes drop edges and there is no `none`, the rows of edges that the cheapest genotype
    drops sum to less than one.

    Raises:
      ValueError: if no genotype of the space meets the bound, naming the range of costs.
    """
    check_bound(cost, bound)
    cheapest, uniform = cheapest_mix(cost), {}
    for kind, choices in cost.layers.choices.items():
        uniform[kind] = choices.allowed / choices.allowed.sum(axis=-1, keepdims=True)
        nothing = choices.allowed & choices.is_nothing
        dropped = cheapest[kind].sum(axis=-1) == 0  # edges that the cheapest genotype does not keep
        for row in np.flatnonzero(dropped & nothing.any(axis=-1)):
            cheapest[kind][row, nothing[row].argmax()] = 1.0

    def between(share: float) -> dict[str, np.ndarray]:
        return {kind: (1 - share) * cheapest[kind] + share * uniform[kind] for kind in uniform}

    limit = max(bound * (1 - _MARGIN), float(cost(cheapest)))
    low, high = 0.0, 1.0
    if float(cost(uniform)) <= limit:
        low = 1.0
    while low < 1 and high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if float(cost(between(middle))) <= limit else (low, middle)
    return {kind: {"ops": jnp.asarray(rows, jnp.float32)} for kind, rows in between(low).items()}
