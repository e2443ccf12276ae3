"""Geometry-aware search, GAEA: arch lives on the simplex itself. https://arxiv.org/abs/2004.07802"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array, Key, Logits, PyTree
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, present, value_at


def simplex() -> Relaxation:
    """Returns the relaxation mix = arch, whose rows are on the simplex; it draws nothing at random.

    To be optimised by `exponentiated_gradient` only, which keeps them there; arch starts uniform.
    Where ops have been dropped from an edge, they get 0 and the others are divided by their sum; an
    edge without ops gets zeros. Arch losses that read logits (entropy, beta decay) do not fit this
    relaxation.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = simplex().sample(key, simplex().init(key, choices), choices, 0)
      >>> mix.shape, float(mix[0, 0])
      ((14, 8), 0.125)
    """

    def init(key: Key, choices: Choices) -> Logits:
        del key
        return {"ops": jnp.full(choices.shape, 1 / len(choices.options))}

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del key, choices, step
        kept = present(arch["ops"])
        rows = jnp.where(kept, arch["ops"], 0.0)
        # A whole row is not divided, so that its gradient is that of the identity; nor is an empty
        # one.
        partial = kept.any(axis=-1, keepdims=True) & ~kept.all(axis=-1, keepdims=True)
        return rows / jnp.where(partial, rows.sum(axis=-1, keepdims=True), 1.0)

    return Relaxation(init, sample)


class ExponentiatedGradientState(NamedTuple):
    step: Array  # []


@checked
def exponentiated_gradient(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    *,
    floor: float = 1e-5,
    compete: np.ndarray | None = None,
) -> optax.GradientTransformation:
    """Returns the optimiser a_k <- a_k exp(-learning_rate g_k) / sum_j a_j exp(-learning_rate g_j)
    of rows on the simplex.

    GAEA, https://arxiv.org/abs/2004.07802: mirror descent with the entropy as mirror map, that is
    the row that minimises <g, a> + KL(a || old a) / learning_rate. Entries below `floor` are then
    raised to it and rows divided by their sum again, so that no op is lost for good.

    Args:
      learning_rate: a number or a schedule.
      floor: the released code has 1e-5 for ops, and 0 for edges.
      compete: bool [E, E], for arrays [E] whose entries are on several simplexes, such as edge
        weights: which entries are on the same one, as `Choices.compete` has it. Not given, arrays
        are rows [E, O].

    Raises:
      ValueError: on update without params, or for an array that is not as `compete` says: parts of
        arch of other shapes need an optimiser of their own by `optax.multi_transform`.

    Example:
      >>> import jax.numpy as jnp
      >>> optimizer, arch = exponentiated_gradient(1.0), jnp.full((1, 2), 0.5)
      >>> updates, _ = optimizer.update(
      ...     jnp.log(jnp.array([[1.0, 3.0]])), optimizer.init(arch), arch
      ... )
      >>> [round(float(number), 4) for number in (arch + updates)[0]]
      [0.75, 0.25]
    """

    def total(values: Array) -> Array:
        if compete is None:
            return values.sum(axis=-1, keepdims=True)
        return jnp.asarray(compete, values.dtype) @ values

    def least(values: Array) -> Array:
        if compete is None:
            return values.min(axis=-1, keepdims=True)
        return jnp.where(compete, values, jnp.inf).min(axis=-1)

    def init(params: PyTree) -> ExponentiatedGradientState:
        del params
        return ExponentiatedGradientState(jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None
    ) -> tuple[PyTree, ExponentiatedGradientState]:
        if params is None:
            raise ValueError(
                "exponentiated_gradient multiplies arch and needs it: call update(gradients, state,"
                " params)"
            )
        rate = value_at(state.step, learning_rate)

        def change(gradient: Array, rows: Array) -> Array:
            if rows.ndim != (2 if compete is None else 1):
                raise ValueError(
                    "exponentiated_gradient updates rows [E, O] on the simplex, or with compete"
                    f" arrays [E], got an array of shape {rows.shape}; give it another optimiser by"
                    " optax.multi_transform"
                )
            # A constant added to the exponents of a simplex cancels: the largest becomes 0, and
            # none overflows.
            products = rows * jnp.exp(-rate * (gradient - least(gradient)))
            products = jnp.maximum(products / total(products), floor)
            return products / total(products) - rows

        return jax.tree.map(change, updates, params), ExponentiatedGradientState(state.step + 1)

    return optax.GradientTransformation(init, update)
