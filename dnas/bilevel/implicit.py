"""Implicit differentiation: the gradient of arch through the best weights, as though they had been
reached.

Lorraine et al. 2020, https://arxiv.org/abs/1911.02590; for architectures iDARTS,
https://arxiv.org/abs/2106.10784.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dnas.base import PyTree
from dnas.bilevel.curvature import along_weights
from dnas.bilevel.optimizer import ArchGradient
from dnas.checks import checked

# (product, vector) -> an approximate solution x of product(x) = vector, where product is linear and
# symmetric.
Solver = Callable[[Callable[[PyTree], PyTree], PyTree], PyTree]


@checked
def neumann(*, terms: int = 5, rate: float = 0.025) -> Solver:
    """Returns a solver by the Neumann series A^-1 v ~ rate * sum_{k < terms} (1 - rate A)^k v.

    Lorraine et al., section 4 and algorithm 3; iDARTS, eq. 9. It converges where the eigenvalues of
    A lie between 0 and 2 / rate, and where they do not, it is what unrolling so many steps of
    gradient descent gives. The defaults are not a paper's: the rate is that of DARTS's weights,
    with as many products as a step may well cost.

    Args:
      terms: of the series; one less than the number of products. One term is rate * v.
      rate: of the gradient descent that the series unrolls, per unit of curvature.

    Raises:
      ValueError: unless terms is 1 or more and rate is positive.
    """
    if terms < 1 or not rate > 0:
        raise ValueError(
            f"a Neumann series has 1 term or more and a positive rate, got terms={terms} and"
            f" rate={rate}"
        )

    def solve(product, vector):
        def add_term(_, carry):
            term, total = carry
            term = jax.tree.map(lambda a, b: a - rate * b, term, product(term))
            return term, jax.tree.map(jnp.add, total, term)

        _, total = jax.lax.fori_loop(0, terms - 1, add_term, (vector, vector))
        return jax.tree.map(lambda leaf: rate * leaf, total)

    return solve


@checked
def conjugate_gradient(*, steps: int = 10, tolerance: float = 1e-5) -> Solver:
    """Returns a solver by conjugate gradients, one product a step.

    It needs a positive definite matrix: choose a damping in `implicit` above the size of the most
      negative eigenvalue.

    Args:
      steps: at the most.
      tolerance: ends earlier when the residual is below tolerance times the norm of the vector.

    Raises:
      ValueError: unless steps is 1 or more.
    """
    if steps < 1:
        raise ValueError(f"conjugate gradients take 1 step or more, got {steps}")

    def solve(product, vector):
        return jax.scipy.sparse.linalg.cg(product, vector, tol=tolerance, maxiter=steps)[0]

    return solve


@checked
def implicit(solver: Solver | None = None, *, damping: float = 0.0) -> ArchGradient:
    """Returns the gradient through the best weights by the implicit function theorem, Lorraine et
    al., theorem 1.

    d L_valid/d arch - v (H + damping)^-1 d2 L_train/dw d arch, with v = d L_valid/dw and the
    Hessian H = d2 L_train/dw2, all of them exact and at the present weights: the nearer these are
    to the best ones, the truer it is. `alternating` with arch_every=T puts T steps of the weights
    between two such gradients, as iDARTS does. Metrics are those of outer at the present weights.

    Args:
      solver: of (H + damping) x = v, `neumann()` unless given, or `conjugate_gradient()`.
      damping: added to the Hessian. A weight decay is a part of the inner problem that the loss
        does not show: give it here.

    Raises:
      ValueError: if damping is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> train = lambda weights, arch: ((weights - arch) ** 2, {})  # the best weight is arch
      >>> valid = lambda weights, arch: (arch * weights - 2 * arch + 1, {})
      >>> exact = implicit(conjugate_gradient())
      >>> gradient, _ = exact(train, valid, jnp.asarray(3.0), jnp.asarray(3.0), None, None)
      >>> float(gradient)  # of (arch - 1)^2
      4.0
    """
    if not damping >= 0:
        raise ValueError(f"damping is added to the Hessian and is not negative, got {damping}")
    solver = neumann() if solver is None else solver

    def gradient(inner, outer, weights, arch, optimizer, state):
        del optimizer, state
        (of_weights, direct), metrics = jax.grad(outer, argnums=(0, 1), has_aux=True)(weights, arch)

        def product(vector: PyTree) -> PyTree:
            along = along_weights(inner, weights, arch, vector)[0]
            return jax.tree.map(lambda h, x: h + damping * x, along, vector)

        through_weights = along_weights(inner, weights, arch, solver(product, of_weights))[1]
        return jax.tree.map(jnp.subtract, direct, through_weights), metrics

    return gradient
