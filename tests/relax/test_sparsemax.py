"""Sparsemax is the Euclidean projection onto the simplex."""

import jax
import jax.numpy as jnp
import numpy as np
from floats import enable_x64

from dnas.relax import sparsemax

ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def test_rows_are_the_nearest_points_of_the_simplex(mix_of):
    """Of 3000 other points of the simplex, none is nearer."""
    others = np.random.default_rng(1).dirichlet([0.5] * 3, 3000)
    mix = np.asarray(mix_of(sparsemax(), ARCH))
    for row, point in zip(np.asarray(ARCH), mix, strict=True):
        assert np.square(point - row).sum() <= np.square(others - row).sum(1).min() + 1e-6
    np.testing.assert_allclose(mix.sum(1), 1, rtol=1e-6)
    assert (mix >= 0).all() and (mix == 0).any()


def test_points_of_the_simplex_stay_where_they_are(mix_of):
    points = np.random.default_rng(1).dirichlet([1.0] * 3, 4)
    np.testing.assert_allclose(mix_of(sparsemax(), points), points, atol=1e-6)


def test_two_ops_are_a_clipped_line(mix_of):
    for difference in (-3.0, -0.4, 0.0, 0.7, 2.0):
        mix = mix_of(sparsemax(), np.tile([difference, 0.0, -1e9], (4, 1)))
        expected = np.clip((1 + difference) / 2, 0, 1)
        np.testing.assert_allclose(mix[0], [expected, 1 - expected, 0], atol=1e-6)


def test_jacobian_is_that_of_the_support(mix_of):
    """diag(s) - s s' / |S| with s the indicator of the support."""
    arch = jnp.asarray([[0.0, 0.2, -0.3], [0.0, 5.0, 0.0], [0.5, 0.6, -3.0], [1.0, 1.0, 1.0]])
    jacobian = jax.jacobian(lambda arch: mix_of(sparsemax(), arch))(arch)
    for row, mix in enumerate(mix_of(sparsemax(), arch)):
        s = (np.asarray(mix) > 0).astype(float)
        np.testing.assert_allclose(
            jacobian[row, :, row], np.diag(s) - np.outer(s, s) / s.sum(), atol=1e-6
        )


def test_gradient_agrees_with_finite_differences():
    with enable_x64(True):
        arch, weights = (
            jnp.asarray(np.random.default_rng(seed).normal(size=(4, 3))) for seed in (0, 1)
        )

        def product(arch):
            return (weights * sparsemax().sample(None, {"ops": arch}, None, 0)).sum()

        gradient = jax.grad(product)(arch)
        for index in np.ndindex(4, 3):
            change = product(arch.at[index].add(1e-6)) - product(arch.at[index].add(-1e-6))
            np.testing.assert_allclose(gradient[index], change / 2e-6, atol=1e-7)


def test_a_constant_added_to_a_row_changes_nothing(mix_of):
    np.testing.assert_allclose(
        mix_of(sparsemax(), ARCH + 100), mix_of(sparsemax(), ARCH), atol=1e-5
    )
