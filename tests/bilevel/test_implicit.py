"""Implicit gradients are those through the best weights, and their series is unrolling from
there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_problems import smooth_problem
from floats import enable_x64

from dnas.bilevel import conjugate_gradient, implicit, neumann, unrolled

SIZE, RATE = 4, 0.1


def convex_problem():
    """(inner, outer, best weights of an arch, Hessian): L_t = w'Hw / 2 - w'Ba, solved by w = H^-1 B
    a; L_v is not convex."""
    random = np.random.default_rng(0)
    root, mixed, target = (
        random.normal(size=(SIZE, SIZE)),
        random.normal(size=(SIZE, 3)),
        random.normal(size=SIZE),
    )
    hessian = root @ root.T / SIZE + 0.5 * np.eye(SIZE)

    def inner(weights, arch):
        return weights @ hessian @ weights / 2 - weights @ mixed @ arch, {}

    def outer(weights, arch):
        return jnp.sin(weights - target).sum() + (arch**2).sum() * weights[0], {}

    return inner, outer, lambda arch: jnp.linalg.solve(hessian, mixed @ arch), hessian


def gradient_at_best_weights(arch_gradient, rate=RATE):
    inner, outer, best, _ = convex_problem()
    arch, descent = jnp.asarray([0.3, -1.0, 0.7]), optax.sgd(rate)
    return arch_gradient(inner, outer, best(arch), arch, descent, descent.init(best(arch)))[0]


def true_gradient():
    _, outer, best, _ = convex_problem()
    return jax.grad(lambda arch: outer(best(arch), arch)[0])(jnp.asarray([0.3, -1.0, 0.7]))


SOLVERS = {"cg": conjugate_gradient(tolerance=1e-12), "neumann": neumann(terms=500, rate=RATE)}


@pytest.mark.parametrize("solver", SOLVERS)
def test_implicit_at_the_best_weights_equals_the_gradient_through_them(solver):
    with enable_x64(True):
        np.testing.assert_allclose(
            gradient_at_best_weights(implicit(SOLVERS[solver])), true_gradient(), atol=1e-9
        )


def test_implicit_equals_long_unrolling_on_a_convex_problem():
    with enable_x64(True):
        exact = gradient_at_best_weights(implicit(SOLVERS["cg"]))
        lengths = [gradient_at_best_weights(unrolled(steps), rate=0.4) for steps in (1, 100)]
        np.testing.assert_allclose(lengths[1], exact, atol=1e-6)
        assert abs(lengths[0] - exact).max() > 1e-2


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_terms_of_the_series_are_virtual_steps_from_the_best_weights(terms):
    with enable_x64(True):
        series = gradient_at_best_weights(implicit(neumann(terms=terms, rate=RATE)))
        np.testing.assert_allclose(series, gradient_at_best_weights(unrolled(terms)), atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_solve_trees_with_the_damped_hessian(solver):
    *_, hessian = convex_problem()
    damped = hessian + 0.3 * np.eye(SIZE)
    with enable_x64(True):
        vector = np.arange(1.0, SIZE + 1)

        def product(tree):
            whole = damped @ jnp.concatenate([tree["a"], tree["b"]])
            return {"a": whole[:1], "b": whole[1:]}

        found = SOLVERS[solver](
            product, {"a": jnp.asarray(vector[:1]), "b": jnp.asarray(vector[1:])}
        )
        expected = np.linalg.solve(damped, vector)
        np.testing.assert_allclose(np.concatenate([found["a"], found["b"]]), expected, atol=1e-9)


def test_damping_is_added_to_the_exact_hessian():
    """Against dense second derivatives, at weights that are not the best ones, of a problem that is
    not quadratic."""
    with enable_x64(True):
        inner, outer, weights, arch = smooth_problem()
        flat, restore = jax.flatten_util.ravel_pytree(weights)

        def loss(objective):
            return lambda flat, rows: objective(restore(flat), {"cell": rows})[0]

        @jax.jit
        def dense(*both):
            hessian = jax.hessian(loss(inner))(*both) + 5.0 * jnp.eye(flat.size)
            mixed = jax.jacobian(jax.grad(loss(inner)), 1)(*both)
            of_weights, direct = jax.grad(loss(outer), (0, 1))(*both)
            return direct - jnp.tensordot(jnp.linalg.solve(hessian, of_weights), mixed, 1)

        solver = conjugate_gradient(steps=50, tolerance=1e-12)
        found, metrics = jax.jit(
            lambda *both: implicit(solver, damping=5.0)(inner, outer, *both, None, None)
        )(weights, arch)
        np.testing.assert_allclose(found["cell"], dense(flat, arch["cell"]), atol=1e-9)
        np.testing.assert_allclose(metrics["loss"], outer(weights, arch)[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neumann(terms=0), "terms=0"),
        (lambda: neumann(rate=0.0), "rate=0.0"),
        (lambda: conjugate_gradient(steps=0), "got 0"),
        (lambda: implicit(damping=-1.0), "got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
