"""Curvature of the outer loss with respect to arch, from exact Hessian-vector products.

RobustDARTS watches its largest eigenvalue, https://arxiv.org/abs/1909.09656. No Hessian is ever
formed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from dnas.base import Array, Key, PyTree
from dnas.checks import checked, one_of

HessianVectorProduct = Callable[[PyTree], PyTree]
METHODS = ("lanczos", "power")


def forward_mode(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Returns the same function of arrays with derivatives in forward mode: for `jax.jvp`,
    `jax.jacfwd` and `jax.linearize`.

    Supernets have a reverse mode of their own (`jax.custom_vjp`), which saves memory and time, and
    then JAX offers no forward mode, with "can't apply forward-mode differentiation". The value that
    comes with a reverse mode is free of it, and is as fast as the function.

    Example:
      >>> import jax
      >>> square = jax.custom_vjp(lambda x: x**2)
      >>> square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
      >>> float(jax.jacfwd(forward_mode(square))(3.0))
      6.0
    """
    return lambda *args: jax.vjp(function, *args)[0]


def hessian_vector_product(loss: Callable[[PyTree], Array], arch: PyTree) -> HessianVectorProduct:
    """Returns the function v -> H v, where H is the Hessian of a scalar loss at arch and v a tree
    like arch.

    Exact: the derivative of the gradient along v, forward over reverse.

    Example:
      >>> import jax.numpy as jnp
      >>> product = hessian_vector_product(
      ...     lambda arch: arch["a"] ** 2 * arch["b"], {"a": 3.0, "b": 5.0}
      ... )
      >>> {name: float(value) for name, value in product({"a": 1.0, "b": 1.0}).items()}
      {'a': 16.0, 'b': 6.0}
    """

    def product(vector: PyTree) -> PyTree:
        return jax.jvp(jax.grad(loss), (arch,), (vector,))[1]

    return product


@checked
def dominant_eigenvalue(
    product: HessianVectorProduct,
    like: PyTree,
    key: Key,
    *,
    steps: int = 30,
    method: str = "lanczos",
) -> Array:
    """Returns the largest eigenvalue of a symmetric operator: the largest by value, not by
    magnitude, as RobustDARTS does.

    Works under jit; the number of products is fixed. The result is never above the largest
    eigenvalue, but for rounding.

    Args:
      product: v -> H v on trees like `like`, for instance a `hessian_vector_product`.
      like: a tree of floating arrays with the shapes of v, such as arch.
      key: of the vector to start from.
      steps: products H v. Lanczos is exact with as many as there are entries, or distinct
        eigenvalues.
      method: "lanczos", with full reorthogonalisation; or "power", power iteration, which needs far
        more steps. It finds the largest magnitude first; where that is a negative eigenvalue, the
        second half of the steps is given to H minus it.

    Raises:
      ValueError: for a method that does not exist, or fewer than two steps.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> diagonal = jnp.array([-7.0, 1.0, 3.0])
      >>> float(dominant_eigenvalue(lambda v: diagonal * v, diagonal, jax.random.key(0)).round(4))
      3.0
    """
    one_of(METHODS, method=method)
    if steps < 2:
        raise ValueError(f"an eigenvalue takes at least two products, got steps={steps}")
    flat, unravel = ravel_pytree(like)

    def flat_product(vector: Array) -> Array:
        return ravel_pytree(product(unravel(vector)))[0]

    start = jax.random.normal(key, flat.shape, flat.dtype)
    if method == "power":
        return _power_iteration(flat_product, start, steps)
    return _lanczos(flat_product, start, min(steps, flat.size))


def _lanczos(product: Callable[[Array], Array], start: Array, steps: int) -> Array:
    """The largest eigenvalue of the tridiagonal matrix of Lanczos, Golub and Van Loan, Matrix
    Computations, section 10.1."""
    basis = jnp.zeros((steps, start.size), start.dtype).at[0].set(start / jnp.linalg.norm(start))

    def step(carry, j):
        basis, scale = carry
        image = product(basis[j])
        diagonal = jnp.vdot(basis[j], image)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        # Against all earlier vectors, not the last two, and twice: in float32 they lose their
        #   orthogonality otherwise.
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        length = jnp.linalg.norm(image)
        # Nothing is left but rounding once the space of the start vector is exhausted: no direction
        #   to go on in.
        length = jnp.where(length > 10 * jnp.finfo(start.dtype).eps * scale, length, 0.0)
        following = jnp.where(length > 0, image / jnp.where(length > 0, length, 1.0), 0.0)
        basis = basis.at[j + 1].set(following, mode="drop")
        return (basis, scale), (diagonal, length, jnp.any(basis[j] != 0))

    _, (diagonal, lengths, found) = jax.lax.scan(
        step, (basis, jnp.zeros((), start.dtype)), jnp.arange(steps)
    )
    # Steps past the end stand apart from the others, with a value that is not above the largest
    # eigenvalue.
    diagonal = jnp.where(found, diagonal, diagonal[0])
    beside = lengths[:-1]
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))[-1]


def _power_iteration(product: Callable[[Array], Array], start: Array, steps: int) -> Array:
    def iterate(start: Array, shift: Array, steps: int) -> tuple[Array, Array]:
        """The last unit vector and its Rayleigh quotient, for H - shift."""

        def step(vector, _):
            vector = vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)
            image = product(vector) - shift * vector
            return image, jnp.vdot(vector, image)

        vector, quotients = jax.lax.scan(step, start, length=steps)
        return vector, quotients[-1]

    vector, value = iterate(start, jnp.zeros((), start.dtype), steps // 2)
    shift = jnp.minimum(value, 0.0)
    _, value = iterate(jnp.where(shift < 0, start, vector), shift, steps - steps // 2)
    return value + shift
