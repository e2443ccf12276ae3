"""What an optimiser of the two levels is: min_arch L_valid(w*(arch), arch) with w*(arch) = argmin_w
L_train(w, arch).

DARTS, section 2.2, eqs. 3 and 4, https://arxiv.org/abs/1806.09055. Here "inner" is the loss on the
training batch and "outer" the loss on the validation batch; both map (weights, arch) to (loss,
metrics).
"""

from collections.abc import Callable
from typing import NamedTuple

import optax

from dnas.base import Arch, Metrics, Objective, PyTree

# (inner, outer, weights, arch, optimizer, state) -> (gradient of arch, metrics of outer).
# `optimizer` is the optax transformation of a virtual step of the weights and `state` the state it
# would start from; neither is changed.
ArchGradient = Callable[
    [Objective, Objective, PyTree, Arch, optax.GradientTransformation, optax.OptState],
    tuple[Arch, Metrics],
]


class BilevelOptimizer(NamedTuple):
    """A pair of pure functions that optimises weights and arch together.

    `init(weights, arch)` returns a state; `update(inner, outer, state, weights, arch)` returns
    (weight_updates, arch_updates, state, metrics), the updates to be added by
    `optax.apply_updates`. Metrics come back because the loss and accuracy of a step are known where
    its gradient is taken: without them each step would pay for another forward pass. They are those
    of inner under their own names and those of outer under "valid_" and the name, the same in every
    step.
    """

    init: Callable[[PyTree, Arch], PyTree]
    update: Callable[..., tuple[PyTree, PyTree, PyTree, Metrics]]


def name_metrics(inner: Metrics, outer: Metrics) -> Metrics:
    """Returns the metrics of inner under their own names and those of outer under "valid_" and the
    name."""
    return inner | {f"valid_{name}": value for name, value in outer.items()}
