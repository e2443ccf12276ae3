"""Products with second derivatives of the inner loss."""

import jax

from dnas.base import Arch, Objective, PyTree


def along_weights(inner: Objective, weights: PyTree, arch: Arch, u: PyTree) -> tuple[PyTree, Arch]:
    """Returns how fast the gradient of inner changes as the weights move along u: d2 inner/dw2 u
    and d2 inner/d arch dw u.

    Exact, forward over reverse: a jax.jvp of the gradient, which keeps nothing of what it computes
    on the way. The gradient of both is taken even where that of arch is wanted alone. A
    jax.custom_vjp, which a kernel of a supernet may be, has a forward mode only once its own
    gradient has been taken; what is not used is not compiled.

    Example:
      >>> import jax.numpy as jnp
      >>> inner = lambda weights, arch: (weights**2 * arch, {})
      >>> [
      ...     float(x)
      ...     for x in along_weights(inner, jnp.asarray(3.0), jnp.asarray(5.0), jnp.asarray(1.0))
      ... ]
      [10.0, 6.0]
    """
    return jax.jvp(
        lambda weights: jax.grad(inner, (0, 1), has_aux=True)(weights, arch)[0], (weights,), (u,)
    )[1]
