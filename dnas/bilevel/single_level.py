"""One level: weights and arch descend one loss together."""

from typing import NamedTuple

import jax
import optax

from dnas.base import Arch, Array, Metrics, Objective, PyTree
from dnas.bilevel.optimizer import BilevelOptimizer, name_metrics
from dnas.checks import checked


class SingleLevelState(NamedTuple):
    weights: optax.OptState
    arch: optax.OptState


@checked
def single_level(
    weight_optimizer: optax.GradientTransformation,
    arch_optimizer: optax.GradientTransformation,
    *,
    inner_weight: float = 1.0,
    outer_weight: float = 1.0,
) -> BilevelOptimizer:
    """Returns joint descent on inner_weight * inner + outer_weight * outer, with one gradient for
    weights and arch.

    By default all images train both. With a weight of zero a batch has no gradient taken, only its
    metrics by a forward pass. SNAS, section 2.1, https://arxiv.org/abs/1812.09926, descends the
    loss of one batch: outer_weight=0 is the training loss alone; but arch losses belong to the
    outer objective, so with such a term it is inner_weight=0.

    Args:
      weight_optimizer, arch_optimizer: any optax transformation.
      inner_weight, outer_weight: of the two objectives. lambda and 1 in RARTS,
        https://arxiv.org/abs/2008.03901, whose single-level problem this is.

    Raises:
      ValueError: if a weight is negative or both are zero.
    """
    if not (inner_weight >= 0 and outer_weight >= 0 and inner_weight + outer_weight > 0):
        raise ValueError(
            f"the two weights are not negative nor both zero, got {inner_weight} and {outer_weight}"
        )

    def init(weights: PyTree, arch: Arch) -> SingleLevelState:
        return SingleLevelState(weight_optimizer.init(weights), arch_optimizer.init(arch))

    def update(
        inner: Objective, outer: Objective, state: SingleLevelState, weights: PyTree, arch: Arch
    ):
        def loss(weights: PyTree, arch: Arch):
            inner_loss, inner_metrics = _weighted(inner, inner_weight, weights, arch)
            outer_loss, outer_metrics = _weighted(outer, outer_weight, weights, arch)
            return inner_loss + outer_loss, name_metrics(inner_metrics, outer_metrics)

        gradients, metrics = jax.grad(loss, argnums=(0, 1), has_aux=True)(weights, arch)
        weight_updates, weight_state = weight_optimizer.update(gradients[0], state.weights, weights)
        arch_updates, arch_state = arch_optimizer.update(gradients[1], state.arch, arch)
        return weight_updates, arch_updates, SingleLevelState(weight_state, arch_state), metrics

    return BilevelOptimizer(init, update)


def _weighted(
    objective: Objective, weight: float, weights: PyTree, arch: Arch
) -> tuple[Array, Metrics]:
    if weight == 0:  # or the compiler would run the backward pass of a zero
        weights, arch = jax.lax.stop_gradient((weights, arch))
    loss, metrics = objective(weights, arch)
    return weight * loss, metrics
