"""First order: the weights are taken for the best ones already."""

import jax

from dnas.bilevel.optimizer import ArchGradient


def first_order() -> ArchGradient:
    """Returns the gradient of the outer loss at the current weights, DARTS section 2.3 with xi = 0.

    https://arxiv.org/abs/1806.09055. Metrics are those of outer at the current weights.
    """

    def gradient(inner, outer, weights, arch, optimizer, state):
        del inner, optimizer, state
        return jax.grad(outer, argnums=1, has_aux=True)(weights, arch)

    return gradient
