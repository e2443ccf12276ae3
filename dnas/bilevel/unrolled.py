"""Second order: the gradient of arch through virtual steps of the weights. DARTS,
https://arxiv.org/abs/1806.09055."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Arch, PyTree
from dnas.bilevel.curvature import along_weights
from dnas.bilevel.optimizer import ArchGradient
from dnas.checks import checked


@checked
def unrolled(steps: int = 1) -> ArchGradient:
    """Returns the exact gradient of the outer loss through virtual steps of the weights, DARTS
    section 2.3, eq. 7.

    With w'(arch) the weights after `steps` virtual steps on the inner loss, it is d/d arch
    L_valid(w'(arch), arch): the virtual steps are those of the optimiser and its state, so
    momentum, weight decay and the present learning rate are in them. All of them see the one
    training batch of the step. Metrics are those of outer at the virtual weights w', where its
    gradient is taken.

    For one step it is grad_arch L_valid(w', arch) + grad_arch <grad_w L_train(w, arch), u> with u =
    dL_valid/dw' pulled back through the optimiser's update; DARTS has xi = learning rate, u = -xi
    dL_valid/dw', and takes the second term by finite differences: see `finite_differences`. Kept of
    every step are the weights and the state of the optimiser, nothing of the network: the mixed
    product comes from `along_weights`, so that inner has to be differentiable forward over reverse.

    Raises:
      ValueError: if there is less than one step.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> train = lambda weights, arch: ((weights - arch) ** 2, {})
      >>> valid = lambda weights, arch: (arch * weights - 2 * arch + 1, {})
      >>> sgd = optax.sgd(
      ...     0.1
      ... )  # w' = w - 0.1 * 2 * (w - a), and the gradient is w' - 2 + 2 * 0.1 * a
      >>> gradient, _ = unrolled()(
      ...     train, valid, jnp.asarray(-2.0), jnp.asarray(2.0), sgd, sgd.init(-2.0)
      ... )
      >>> round(float(gradient), 6)
      -2.8
    """
    if steps < 1:
        raise ValueError(
            f"unrolled takes 1 virtual step or more, got {steps}; `first_order()` takes none"
        )

    def gradient(inner, outer, weights, arch, optimizer, state):
        now, steps_back = (weights, state), []
        for _ in range(steps):
            inner_gradient, _ = jax.grad(inner, has_aux=True)(now[0], arch)
            following, step_back = jax.vjp(partial(_apply, optimizer), inner_gradient, *now)
            steps_back.append((now[0], step_back))
            now = following
        (of_weights, of_arch), metrics = jax.grad(outer, argnums=(0, 1), has_aux=True)(now[0], arch)
        # Back from step to step. Only the update of the optimiser is transposed; second derivatives
        # are symmetric, and so the transpose of the inner gradient is its derivative along u.
        of_state = jax.tree.map(_zero_cotangent, now[1])
        for at, step_back in reversed(steps_back):
            u, of_weights, of_state = step_back((of_weights, of_state))
            through = along_weights(inner, at, arch, u)
            of_weights, of_arch = jax.tree.map(jnp.add, (of_weights, of_arch), through)
        return of_arch, metrics

    return gradient


@checked
def finite_differences(scale: float = 0.01) -> ArchGradient:
    """Returns the gradient through one virtual step with its mixed product by central differences,
    DARTS section 2.3, eq. 8.

    With u as in `unrolled()`, the mixed product is (grad_arch L_train(w+, arch) - grad_arch
    L_train(w-, arch)) / (2 eps) at w+- = w +- eps u, around the present weights w, and eps = scale
    / ||u||: an error of order eps^2 against `unrolled()`. Metrics are those of outer at the virtual
    weights.

    Args:
      scale: how far, as a distance over all weights, w+ and w- are from w; 0.01 in the paper.

    Raises:
      ValueError: unless scale is positive.
    """
    if not scale > 0:
        raise ValueError(
            "scale is the distance of the two points from the weights, a positive number; got"
            f" {scale}"
        )

    def gradient(inner, outer, weights, arch, optimizer, state):
        inner_gradient, _ = jax.grad(inner, has_aux=True)(weights, arch)

        virtual, pull_back = jax.vjp(
            lambda gradient: _apply(optimizer, gradient, weights, state)[0], inner_gradient
        )
        (of_weights, direct), metrics = jax.grad(outer, argnums=(0, 1), has_aux=True)(virtual, arch)
        (u,) = pull_back(of_weights)
        norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(u)))
        # u is zero where the virtual step has a rate of zero.
        distance = scale / jnp.where(norm > 0, norm, 1.0)

        def of_arch(sign: float) -> Arch:
            moved = jax.tree.map(lambda leaf, along: leaf + sign * distance * along, weights, u)
            return jax.grad(inner, argnums=1, has_aux=True)(moved, arch)[0]

        # Divided by eps, not multiplied: the slip of several reproductions, which loses this term
        #   without any sign of it.
        return (
            jax.tree.map(
                lambda d, up, down: d + (up - down) / (2 * distance),
                direct,
                of_arch(1.0),
                of_arch(-1.0),
            ),
            metrics,
        )

    return gradient


def _apply(
    optimizer: optax.GradientTransformation, gradient: PyTree, weights: PyTree, state: PyTree
) -> tuple[PyTree, PyTree]:
    updates, state = optimizer.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state


def _zero_cotangent(leaf):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)  # of a step counter
