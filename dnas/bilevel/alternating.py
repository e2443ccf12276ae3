"""How the two levels are optimised: min_arch L_valid(w*(arch), arch) with w*(arch) = argmin_w L_train(w, arch).

DARTS, section 2.3, eqs. 3 and 4, https://arxiv.org/abs/1806.09055. Here "inner" is the loss on the training batch and
"outer" the loss on the validation batch; both map (weights, arch) to (loss, metrics).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dnas.base import Arch, Array, Metrics, Objective, PyTree

# (inner, outer, weights, arch, learning_rate) -> (gradient of arch, metrics of outer)
ArchGradient = Callable[[Objective, Objective, PyTree, Arch, Array], tuple[Arch, Metrics]]


class BilevelOptimizer(NamedTuple):
    """A pair of pure functions that optimises weights and arch together.

    `init(weights, arch)` returns a state; `update(inner, outer, state, weights, arch)` returns (weight_updates,
    arch_updates, state, metrics), the updates to be added by `optax.apply_updates`. Metrics come back because the loss and
    accuracy of a step are known where its gradient is taken: without them each step would pay for another forward pass.
    """

    init: Callable[[PyTree, Arch], PyTree]
    update: Callable[..., tuple[PyTree, Arch, PyTree, Metrics]]


class AlternatingState(NamedTuple):
    step: Array  # []
    weights: optax.OptState
    arch: optax.OptState


def first_order() -> ArchGradient:
    """Returns the gradient of the outer loss at the current weights, DARTS section 2.3 with xi = 0."""

    def gradient(inner, outer, weights, arch, learning_rate):
        del inner, learning_rate
        return jax.grad(outer, argnums=1, has_aux=True)(weights, arch)

    return gradient


def alternating(
    arch_gradient: ArchGradient,
    weight_optimizer: optax.GradientTransformation,
    arch_optimizer: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
) -> BilevelOptimizer:
    """Returns DARTS's alternation: a step of arch on the outer loss, then a step of the weights at the new arch.

    Algorithm 1 of DARTS. Metrics are those of the inner loss under their own names, and those of the outer loss under
    "valid_" and the name.

    Args:
      arch_gradient: such as `first_order()`.
      weight_optimizer, arch_optimizer: any optax transformation.
      learning_rate: of the weights, a number or a schedule; what unrolled gradients take their virtual step with.
    """

    def init(weights: PyTree, arch: Arch) -> AlternatingState:
        return AlternatingState(jnp.zeros((), jnp.int32), weight_optimizer.init(weights), arch_optimizer.init(arch))

    def update(inner: Objective, outer: Objective, state: AlternatingState, weights: PyTree, arch: Arch):
        rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
        gradient, outer_metrics = arch_gradient(inner, outer, weights, arch, rate)
        arch_updates, arch_state = arch_optimizer.update(gradient, state.arch, arch)
        arch = optax.apply_updates(arch, arch_updates)

        gradient, inner_metrics = jax.grad(inner, has_aux=True)(weights, arch)
        weight_updates, weight_state = weight_optimizer.update(gradient, state.weights, weights)

        metrics = inner_metrics | {f"valid_{name}": value for name, value in outer_metrics.items()}
        return weight_updates, arch_updates, AlternatingState(state.step + 1, weight_state, arch_state), metrics

    return BilevelOptimizer(init, update)


def cosine_by_epoch(
    epochs: int, steps_per_epoch: int, *, learning_rate: float = 0.025, min_learning_rate: float = 0.001
) -> optax.Schedule:
    """Returns the cosine schedule of DARTS, which changes once an epoch: epoch e of n has
    min + (max - min) * (1 + cos(pi * e / n)) / 2, so that the whole first epoch runs at the maximum.

    Example:
      >>> schedule = cosine_by_epoch(50, 10)
      >>> [round(float(schedule(step)), 6) for step in (0, 9, 10, 499)]
      [0.025, 0.025, 0.024976, 0.001024]
    """
    fall = optax.cosine_decay_schedule(1.0, epochs)
    return lambda step: min_learning_rate + (learning_rate - min_learning_rate) * fall(step // steps_per_epoch)


def sgd(
    learning_rate: optax.ScalarOrSchedule, *, momentum: float = 0.9, weight_decay: float = 3e-4, clip: float = 5.0
) -> optax.GradientTransformation:
    """Returns the weight optimiser of DARTS: the gradient clipped to a global norm, then weight decay, then momentum."""
    return optax.chain(
        optax.clip_by_global_norm(clip), optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum)
    )


def arch_adam(
    learning_rate: optax.ScalarOrSchedule = 3e-4, *, b1: float = 0.5, b2: float = 0.999, weight_decay: float = 1e-3
) -> optax.GradientTransformation:
    """Returns the arch optimiser of DARTS: Adam with the decay added to the gradient, not decoupled from it."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1, b2))


def darts_optimizer(
    epochs: int,
    steps_per_epoch: int,
    *,
    arch_gradient: ArchGradient | None = None,
    learning_rate: float = 0.025,
    min_learning_rate: float = 0.001,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float = 5.0,
    arch_learning_rate: float = 3e-4,
    arch_weight_decay: float = 1e-3,
) -> BilevelOptimizer:
    """Returns the optimiser of DARTS with its published settings for CIFAR-10 (section 3.1 and appendix A.1).

    Args:
      epochs, steps_per_epoch: of the search, for the cosine schedule of the weights.
      arch_gradient: `first_order()` unless given.
    """
    schedule = cosine_by_epoch(epochs, steps_per_epoch, learning_rate=learning_rate, min_learning_rate=min_learning_rate)
    return alternating(
        first_order() if arch_gradient is None else arch_gradient,
        sgd(schedule, momentum=momentum, weight_decay=weight_decay, clip=clip),
        arch_adam(arch_learning_rate, weight_decay=arch_weight_decay),
        schedule,
    )
