"""Perturbations of the mix during weight steps, SmoothDARTS. https://arxiv.org/abs/2002.05283"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dnas.base import Array, Key, Mix, PyTree, epoch_of
from dnas.checks import checked
from dnas.relax.relaxation import straight_through, value_at

# (key, step, loss of a mix, mix) -> the mix that the weights are trained at. The loss is a function
# of the mix alone: who differentiates what follows stops the gradients of all else in it, or pays
# for second derivatives that are not used.
Perturbation = Callable[[Key, Array, Callable[[Mix], Array], Mix], Mix]


@checked
def perturbation_radius(
    epochs: int, steps_per_epoch: int, *, start: float = 0.03, end: float = 0.3
) -> optax.Schedule:
    """Returns the radius of SmoothDARTS, which changes once an epoch: epoch e of n has start + (end
    - start) * e / n.

    Example:
      >>> schedule = perturbation_radius(50, 10)
      >>> [round(float(schedule(step)), 4) for step in (0, 9, 10, 499)]
      [0.03, 0.03, 0.0354, 0.2946]
    """
    rise = optax.linear_schedule(start, end, epochs)
    return lambda step: rise(epoch_of(step, steps_per_epoch))


@checked
def random_perturbation(radius: optax.ScalarOrSchedule = 0.3) -> Perturbation:
    """Returns SDARTS-RS: each entry of the mix moves by a number uniform in [-radius, radius], and
    rows go back to the simplex.

    https://arxiv.org/abs/2002.05283. Entries are clipped to [0, 1], then rows divided by their sum;
    ops that have no weight stay without. A row that does not sum to one, such as that of an edge
    with a weight, is perturbed as its multiple that does. The result has the gradient of the mix,
    as though the perturbation were a constant; with radius 0 it is the mix.

    Args:
      radius: a number or a schedule of the step, see `perturbation_radius`.

    Raises:
      ValueError: if the radius is a negative number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> mix = {"cell": jnp.array([[0.5, 0.5, 0.0]])}
      >>> moved = random_perturbation(0.1)(jax.random.key(0), 0, lambda mix: 0.0, mix)["cell"]
      >>> bool((moved != mix["cell"]).any()), float(moved[0, 2]), float(moved.sum().round(5))
      (True, 0.0, 1.0)
    """
    _check(radius)

    def perturb(key: Key, step: Array, loss: Callable[[Mix], Array], mix: Mix) -> Mix:
        del loss
        size = value_at(step, radius)
        return _constant_move(mix, _moved(mix, _uniform(key, mix, size)), size)

    return perturb


@checked
def adversarial_perturbation(
    radius: optax.ScalarOrSchedule = 0.3, *, steps: int = 7
) -> Perturbation:
    """Returns SDARTS-ADV: the mix within `radius` that raises the loss most, as far as projected
    gradient ascent finds it.

    https://arxiv.org/abs/2002.05283: from a random start, `steps` steps of 2 * radius / steps along
    the sign of the gradient, after each of which the move is clipped to the radius and rows return
    to the simplex as in `random_perturbation`. If the loss has not risen in the end, the mix stays
    as it was. Costs `steps` gradients and two evaluations of the loss.

    Args:
      radius: a number or a schedule of the step, see `perturbation_radius`.
      steps: 7 in the paper.

    Raises:
      ValueError: if the radius is a negative number or steps is below 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> mix = {"cell": jnp.array([[0.5, 0.5, 0.0]])}
      >>> loss = lambda mix: mix["cell"][0, 0]
      >>> moved = adversarial_perturbation(0.1)(jax.random.key(0), 0, loss, mix)["cell"]
      >>> [round(float(number), 2) for number in moved[0]]
      [0.6, 0.4, 0.0]
    """
    _check(radius)
    if steps < 1:
        raise ValueError(f"the attack takes at least one step, got steps = {steps}")

    def perturb(key: Key, step: Array, loss: Callable[[Mix], Array], mix: Mix) -> Mix:
        size = value_at(step, radius)
        clean = lax.stop_gradient(mix)

        def ascend(_, attack: Mix) -> Mix:
            gradient = jax.grad(loss)(attack)
            # Moves are those of rows that sum to one: divided by the sums of the rows.
            move = jax.tree.map(
                lambda new, g, old: jnp.clip(
                    (new - old) / _row_sums(old) + 2 * size / steps * jnp.sign(g), -size, size
                ),
                attack,
                gradient,
                clean,
            )
            return _moved(clean, move)

        attack = lax.fori_loop(0, steps, ascend, _moved(clean, _uniform(key, clean, size)))
        risen = loss(attack) > loss(clean)
        return _constant_move(
            mix, jax.tree.map(lambda new, old: jnp.where(risen, new, old), attack, clean), size
        )

    return perturb


def _check(radius: optax.ScalarOrSchedule) -> None:
    if not callable(radius) and radius < 0:
        raise ValueError(
            "the radius of a perturbation is a number from 0 on or a schedule of the step, got"
            f" {radius}"
        )


def _uniform(key: Key, mix: Mix, size: Array | float) -> PyTree:
    leaves, tree = jax.tree.flatten(mix)
    keys = jax.random.split(key, len(leaves))
    draws = [
        jax.random.uniform(part, rows.shape, rows.dtype, -1.0, 1.0)
        for part, rows in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, [size * draw for draw in draws])


def _row_sums(rows: Array) -> Array:
    """Sums over the ops of [E, O] or [E, O, B]; one for a row of zeros."""
    sums = rows.sum(axis=1, keepdims=True)
    return jnp.where(sums > 0, sums, 1.0)


def _moved(mix: Mix, move: PyTree) -> Mix:
    def rows_moved(rows: Array, move: Array) -> Array:
        kept = rows > 0
        moved = jnp.where(kept, rows / _row_sums(rows) + move, -jnp.inf)
        clipped = jnp.clip(moved, 0.0, 1.0)
        # Where a move takes all the weight of a row, the op that lost least gets it.
        strongest = kept & (moved == moved.max(axis=1, keepdims=True))
        clipped = jnp.where(
            clipped.sum(axis=1, keepdims=True) > 0, clipped, strongest.astype(rows.dtype)
        )
        return (
            clipped
            / _row_sums(clipped)
            * jnp.where(kept.any(axis=1, keepdims=True), _row_sums(rows), 0.0)
        )

    return jax.tree.map(rows_moved, mix, move)


def _constant_move(mix: Mix, moved: Mix, size: Array | float) -> Mix:
    return jax.tree.map(
        lambda old, new: straight_through(jnp.where(size > 0, new, old), old), mix, moved
    )
