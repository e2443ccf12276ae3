"""GAEA: arch on the simplex, and the exponentiated gradient that keeps it there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.relax import exponentiated_gradient, simplex

ROWS = jnp.asarray(np.random.default_rng(0).dirichlet([1.0] * 3, 4), jnp.float32)
GRADIENT = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)


def stepped(optimizer, rows, gradient):
    updates, _ = optimizer.update(gradient, optimizer.init(rows), rows)
    return optax.apply_updates(rows, updates)


def test_mix_is_arch_and_its_gradient_that_of_the_identity(mix_of):
    np.testing.assert_array_equal(mix_of(simplex(), ROWS), ROWS)
    gradient = jax.grad(lambda arch: (GRADIENT * mix_of(simplex(), arch)).sum())(ROWS)
    np.testing.assert_array_equal(gradient, GRADIENT)


def test_ops_that_are_left_share_the_weight_of_those_dropped(mix_of):
    mix = mix_of(simplex(), ROWS.at[:2, 1].set(-1e9).at[3].set(-1e9))
    np.testing.assert_allclose(
        mix[:2], ROWS[:2] * jnp.asarray([1, 0, 1]) / (1 - ROWS[:2, 1:2]), rtol=1e-5
    )
    np.testing.assert_array_equal(mix[2], ROWS[2])
    np.testing.assert_array_equal(mix[3], 0)


def test_arch_starts_uniform(choices):
    np.testing.assert_allclose(simplex().init(jax.random.key(0), choices)["ops"], 1 / 3, rtol=1e-6)


def test_step_is_the_equation_of_the_paper():
    expected = ROWS * jnp.exp(-0.3 * GRADIENT)
    new = stepped(exponentiated_gradient(0.3), ROWS, GRADIENT)
    np.testing.assert_allclose(new, expected / expected.sum(1, keepdims=True), rtol=1e-4)


def test_step_is_mirror_descent():
    """No other point of the simplex has a smaller <g, a> + KL(a || old) / rate."""
    others = np.random.default_rng(2).dirichlet([1.0] * 3, 3000)
    new = np.asarray(stepped(exponentiated_gradient(0.5), ROWS, GRADIENT), float)
    for old, g, row in zip(np.asarray(ROWS), np.asarray(GRADIENT), new, strict=True):

        def objective(points, old=old, g=g):
            return points @ g + (points * np.log(points / old)).sum(-1) / 0.5

        assert objective(row) <= objective(others).min() + 1e-5


def test_rows_stay_on_the_simplex_and_above_the_floor():
    rows, optimizer = ROWS, exponentiated_gradient(5.0)
    state = optimizer.init(rows)
    for step in range(20):
        gradient = 100 * jax.random.normal(jax.random.key(step), rows.shape)
        updates, state = optimizer.update(gradient, state, rows)
        rows = optax.apply_updates(rows, updates)
        np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-5)
        assert (rows > 0.99e-5).all()


def test_a_uniform_gradient_changes_nothing():
    np.testing.assert_allclose(
        stepped(exponentiated_gradient(0.5), ROWS, jnp.full((4, 3), 7.0)), ROWS, rtol=1e-5
    )


def test_arrays_that_hold_several_simplexes_move_on_each_as_a_row_does(choices):
    """Edges 0 and 1 enter one node, 2 and 3 another: two rows of two."""
    edges, gradient = jnp.asarray([0.3, 0.7, 0.6, 0.4]), GRADIENT[:, 0]
    apart = stepped(exponentiated_gradient(0.3, compete=choices.compete), edges, gradient)
    rows = stepped(exponentiated_gradient(0.3), edges.reshape(2, 2), gradient.reshape(2, 2))
    np.testing.assert_allclose(apart, rows.ravel(), rtol=1e-6)


def test_an_op_at_the_floor_can_come_back():
    rows = jnp.asarray([[1 - 2e-5, 1e-5, 1e-5]])
    optimizer = exponentiated_gradient(1.0)
    state = optimizer.init(rows)
    for _ in range(15):
        updates, state = optimizer.update(jnp.asarray([[0.0, -1.0, 0.0]]), state, rows)
        rows = optax.apply_updates(rows, updates)
    assert rows[0, 1] > 0.9


def test_the_rate_may_be_a_schedule():
    scheduled = exponentiated_gradient(lambda step: jnp.where(step == 0, 0.0, 0.3))
    first, state = scheduled.update(GRADIENT, scheduled.init(ROWS), ROWS)
    second, _ = scheduled.update(GRADIENT, state, ROWS)
    np.testing.assert_allclose(first, 0, atol=1e-6)
    np.testing.assert_allclose(
        ROWS + second, stepped(exponentiated_gradient(0.3), ROWS, GRADIENT), rtol=1e-6
    )


def test_arch_without_rows_and_updates_without_arch_are_refused(choices):
    of_edges = exponentiated_gradient(compete=choices.compete)
    with pytest.raises(ValueError, match=r"compete arrays \[E\], got an array of shape \(4, 3"):
        of_edges.update(GRADIENT, of_edges.init(ROWS), ROWS)
    optimizer = exponentiated_gradient()
    with pytest.raises(
        ValueError, match=r"got an array of shape \(4,\); give it another optimiser"
    ):
        optimizer.update(jnp.zeros(4), optimizer.init(jnp.zeros(4)), jnp.zeros(4))
    with pytest.raises(ValueError, match="needs it"):
        optimizer.update(GRADIENT, optimizer.init(ROWS))
