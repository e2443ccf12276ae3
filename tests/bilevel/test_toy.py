"""Every optimiser lands on its own fixed point of a problem whose bilevel optimum is a = w = 1."""

import numpy as np
import optax
import pytest
from bilevel_problems import run
from floats import enable_x64

from dnas.bilevel import (
    alternating,
    conjugate_gradient,
    finite_differences,
    first_order,
    implicit,
    neumann,
    rarts,
    single_level,
    unrolled,
)

RATE = optax.sgd(0.05)


def lands_on(optimizer, weights, arch, steps=2000):
    with enable_x64(True):
        _, *found = run(optimizer, steps)
        np.testing.assert_allclose(found, [weights, arch], atol=1e-6)


@pytest.mark.parametrize("order", ["arch_first", "weights_first"])
def test_first_order_ends_at_two(order):
    lands_on(alternating(first_order(), RATE, RATE, order=order), 2.0, 2.0)


@pytest.mark.parametrize("gradient", [unrolled, finite_differences])
@pytest.mark.parametrize("order", ["arch_first", "weights_first"])
@pytest.mark.parametrize(
    ("xi", "end"), [(0.0, 2.0), (0.1, 1.6666667), (0.25, 1.3333333), (0.5, 1.0)]
)
def test_unrolled_ends_at_two_over_one_plus_two_xi(gradient, order, xi, end):
    lands_on(
        alternating(gradient(), RATE, RATE, virtual_optimizer=optax.sgd(xi), order=order), end, end
    )


@pytest.mark.parametrize("steps", [2, 5])
def test_more_virtual_steps_end_at_two_over_two_less_the_part_that_is_left(steps):
    """w' = a + r^T (w - a) with r = 1 - 2 xi: da = w' - 2 + a (1 - r^T), which is 0 on a = w = 2 /
    (2 - r^T)."""
    end = 2 / (2 - 0.8**steps)
    lands_on(alternating(unrolled(steps), RATE, RATE, virtual_optimizer=optax.sgd(0.1)), end, end)


def test_long_unrolling_ends_at_the_bilevel_optimum():
    lands_on(alternating(unrolled(40), RATE, RATE, virtual_optimizer=optax.sgd(0.25)), 1.0, 1.0)


SOLVERS = {"cg": conjugate_gradient(), "neumann": neumann(terms=40, rate=0.25)}


@pytest.mark.parametrize("solver", SOLVERS)
def test_implicit_ends_at_the_bilevel_optimum(solver):
    lands_on(alternating(implicit(SOLVERS[solver]), RATE, RATE), 1.0, 1.0)


def test_damped_implicit_ends_where_the_damped_curvature_says():
    """With 2 / (2 + d) of the term through the weights: a - 2 + 2 a / (2 + d) = 0."""
    end = 2 / (1 + 2 / (2 + 0.5))
    lands_on(alternating(implicit(conjugate_gradient(), damping=0.5), RATE, RATE), end, end)


@pytest.mark.parametrize(
    ("weight", "weights", "arch"), [(1.0, 2 / 3, 4 / 3), (10.0, 0.974358974, 1.025641026)]
)
def test_single_level_ends_on_its_stationary_point(weight, weights, arch):
    rate = optax.sgd(0.02)
    lands_on(single_level(rate, rate, inner_weight=weight), weights, arch, steps=5000)


@pytest.mark.parametrize(
    ("inner_weight", "coupling", "weights", "arch", "copy"),
    [
        (10.0, 10.0, 1.027027027, 1.081081081, 0.918918919),
        (2.0, 5.0, 0.967741935, 1.290322581, 0.709677419),
    ],
)
def test_rarts_ends_on_its_stationary_point(inner_weight, coupling, weights, arch, copy):
    rate = optax.sgd(0.02)
    optimizer = rarts(rate, rate, inner_weight=inner_weight, coupling=coupling)
    lands_on(optimizer, weights, arch)
    with enable_x64(True):
        np.testing.assert_allclose(run(optimizer)[0].copy, copy, atol=1e-6)


def test_rarts_of_a_stiff_coupling_ends_near_single_level():
    rate = optax.sgd(5e-4)
    with enable_x64(True):
        _, *found = run(rarts(rate, optax.sgd(0.02), coupling=1e3), steps=50_000)
        np.testing.assert_allclose(found, [2 / 3, 4 / 3], atol=2e-3)
