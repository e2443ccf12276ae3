"""The optimisers of weights and of arch that DARTS uses, and both together."""

import functools

import jax
import optax

from dnas.bilevel.alternating import alternating, first_order
from dnas.bilevel.optimizer import ArchGradient, BilevelOptimizer
from dnas.bilevel.schedules import cosine_by_epoch
from dnas.checks import checked


@checked
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Returns the weight optimiser of DARTS: the gradient clipped to a global norm, then weight
    decay, then momentum.

    clip=None leaves the clipping out and the structure of the state as it is: such a one can be the
    virtual optimiser of `alternating` beside one that clips.
    """
    clipping = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    return optax.chain(
        clipping,
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum, nesterov=nesterov),
    )


@checked
def arch_adam(
    learning_rate: optax.ScalarOrSchedule = 3e-4,
    *,
    b1: float = 0.5,
    b2: float = 0.999,
    weight_decay: float = 1e-3,
) -> optax.GradientTransformation:
    """Returns the arch optimiser of DARTS: Adam with the decay added to the gradient, not decoupled
    from it."""
    adam = _promoting(optax.adam(learning_rate, b1, b2))
    return optax.chain(optax.add_decayed_weights(weight_decay), adam)


def _promoting(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """The transformation with JAX's usual promotion of types: optax's Adam raises a float to a
    whole number of steps, which the strict one (JAX_NUMPY_DTYPE_PROMOTION) refuses."""

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return transformation.update(updates, state, params)

    return optax.GradientTransformation(transformation.init, update)


@checked
def darts_optimizer(
    epochs: int,
    steps_per_epoch: int,
    *,
    arch_gradient: ArchGradient | None = None,
    learning_rate: float = 0.025,
    min_learning_rate: float = 0.001,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
    nesterov: bool = False,
    arch_learning_rate: float = 3e-4,
    arch_weight_decay: float = 1e-3,
    warmup_epochs: int = 0,
    arch_every: int = 1,
    order: str = "arch_first",
) -> BilevelOptimizer:
    """Returns the optimiser of DARTS with its published settings for CIFAR-10 (section 3.1 and
    appendix A.1).

    The virtual step of an unrolled arch gradient has the momentum, the weight decay and the present
    learning rate of the weights, and is not clipped.

    Args:
      epochs, steps_per_epoch: of the search, for the cosine schedule of the weights.
      arch_gradient: `first_order()` unless given; DARTS of the second order is `unrolled()`.
      warmup_epochs: at the start, in which arch stays as it is; 15 of 50 in PC-DARTS.
      arch_every, order: as in `alternating`.
    """
    schedule = cosine_by_epoch(
        epochs, steps_per_epoch, learning_rate=learning_rate, min_learning_rate=min_learning_rate
    )
    of_weights = functools.partial(
        sgd, schedule, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )
    return alternating(
        first_order() if arch_gradient is None else arch_gradient,
        of_weights(clip=clip),
        arch_adam(arch_learning_rate, weight_decay=arch_weight_decay),
        virtual_optimizer=of_weights(clip=None),
        warmup_steps=warmup_epochs * steps_per_epoch,
        arch_every=arch_every,
        order=order,
    )


@checked
def recurrent_optimizer(
    epochs: int,
    steps_per_epoch: int,
    *,
    arch_gradient: ArchGradient | None = None,
    learning_rate: float = 20.0,
) -> BilevelOptimizer:
    """Returns the optimiser of DARTS's recurrent search: plain SGD on gradients of norm 0.25 at
    most, Adam for arch.

    Its virtual step, for a second-order arch gradient, is clipped as the real one is, unlike that
    of the convolutional search. Adam's first decay rate is 0.9 here, where that search has 0.5.
    """
    del epochs, steps_per_epoch
    weights = sgd(learning_rate, momentum=0.0, weight_decay=5e-7, clip=0.25)
    gradient = first_order() if arch_gradient is None else arch_gradient
    return alternating(gradient, weights, arch_adam(3e-3, b1=0.9, weight_decay=1e-3))
