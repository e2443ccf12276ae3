"""RARTS: two sets of weights, one for each half of the data, tied by a spring.
https://arxiv.org/abs/2008.03901."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dnas.base import Arch, Objective, PyTree
from dnas.bilevel.optimizer import BilevelOptimizer, name_metrics
from dnas.checks import checked


class RartsState(NamedTuple):
    copy: PyTree  # y, the weights of the validation side
    weights: optax.OptState
    copy_optimizer: optax.OptState
    arch: optax.OptState


@checked
def rarts(
    weight_optimizer: optax.GradientTransformation,
    arch_optimizer: optax.GradientTransformation,
    *,
    copy_optimizer: optax.GradientTransformation | None = None,
    inner_weight: float = 1.0,
    coupling: float = 10.0,
) -> BilevelOptimizer:
    """Returns the Gauss-Seidel descent of RARTS: a step of the weights w, of their copy y, then of
    arch, each at the newest.

    It descends L_valid(y, arch) + lambda L_train(w, arch) + beta / 2 ||y - w||^2, so that both
    halves of the data drive arch without a second derivative. Metrics of inner are those at w, and
    those of outer ("valid_") at the copy y, each where the gradient of its weights is taken. y
    starts equal to w.

    Args:
      weight_optimizer, copy_optimizer, arch_optimizer: any optax transformations, of w, y and arch;
        y has that of w unless another is given.
      inner_weight: lambda of the paper.
      coupling: beta of the paper. As both grow the problem nears the bilevel one. Their defaults
        are ours: lambda = 1 keeps the learning rate of the weights what it says, and lambda = beta
        = 10 lies near the optimum of the paper's solvable model.

    Raises:
      ValueError: unless both are positive.
    """
    if not (inner_weight > 0 and coupling > 0):
        raise ValueError(
            f"inner_weight and coupling are positive, got {inner_weight} and {coupling}"
        )
    copy_optimizer = weight_optimizer if copy_optimizer is None else copy_optimizer

    def init(weights: PyTree, arch: Arch) -> RartsState:
        copy = jax.tree.map(jnp.copy, weights)  # arrays of its own, so that both may be donated
        return RartsState(
            copy,
            weight_optimizer.init(weights),
            copy_optimizer.init(copy),
            arch_optimizer.init(arch),
        )

    def towards(gradient: PyTree, here: PyTree, there: PyTree, scale: float) -> PyTree:
        return jax.tree.map(lambda g, x, y: scale * g + coupling * (x - y), gradient, here, there)

    def update(inner: Objective, outer: Objective, state: RartsState, weights: PyTree, arch: Arch):
        gradient, inner_metrics = jax.grad(inner, has_aux=True)(weights, arch)
        gradient = towards(gradient, weights, state.copy, inner_weight)
        weight_updates, weight_state = weight_optimizer.update(gradient, state.weights, weights)
        weights = optax.apply_updates(weights, weight_updates)

        gradient, outer_metrics = jax.grad(outer, has_aux=True)(state.copy, arch)
        gradient = towards(gradient, state.copy, weights, 1.0)
        copy_updates, copy_state = copy_optimizer.update(gradient, state.copy_optimizer, state.copy)
        copy = optax.apply_updates(state.copy, copy_updates)

        gradient = jax.grad(
            lambda arch: inner_weight * inner(weights, arch)[0] + outer(copy, arch)[0]
        )(arch)
        arch_updates, arch_state = arch_optimizer.update(gradient, state.arch, arch)
        state = RartsState(copy, weight_state, copy_state, arch_state)
        return weight_updates, arch_updates, state, name_metrics(inner_metrics, outer_metrics)

    return BilevelOptimizer(init, update)
