"""Softmax, the relaxation of DARTS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.choices import Choices
from dnas.relax import softmax

KEY = jax.random.key(0)
ARCH = np.random.default_rng(0).normal(size=(4, 3))


def test_softmax_is_its_equation(mix_of):
    expected = np.exp(ARCH) / np.exp(ARCH).sum(1, keepdims=True)
    np.testing.assert_allclose(mix_of(softmax(), ARCH), expected, rtol=1e-5)


def test_softmax_rows_sum_to_one_however_large_arch_is(mix_of):
    for scale in (0.0, 1.0, 1e4):
        mix = mix_of(softmax(), scale * ARCH)
        assert (mix >= 0).all()
        np.testing.assert_allclose(mix.sum(1), 1.0, rtol=1e-6)


def test_softmax_of_equal_logits_is_uniform(mix_of):
    np.testing.assert_allclose(mix_of(softmax(), np.full((4, 3), 7.0)), 1 / 3, rtol=1e-6)


def test_softmax_does_not_see_a_constant_added_to_a_row(mix_of):
    np.testing.assert_allclose(
        mix_of(softmax(), ARCH + np.asarray([[1.0], [-2.0], [50.0], [0.0]])),
        mix_of(softmax(), ARCH),
        rtol=1e-4,
    )


def test_softmax_ends_at_one_hot(mix_of):
    mix = mix_of(softmax(), 1e4 * np.eye(4, 3))
    np.testing.assert_array_equal(mix[:3], np.eye(3))


def test_softmax_gradient_is_the_one_of_the_paper(mix_of):
    """dL/da_i = p_i (dL/dp_i - sum_j p_j dL/dp_j), whose rows sum to zero."""
    upstream = np.random.default_rng(1).normal(size=(4, 3))
    gradient = jax.grad(lambda arch: (upstream * mix_of(softmax(), arch)).sum())(
        jnp.asarray(ARCH, jnp.float32)
    )
    mix = np.asarray(mix_of(softmax(), ARCH))
    np.testing.assert_allclose(
        gradient, mix * (upstream - (mix * upstream).sum(1, keepdims=True)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(gradient.sum(1), 0.0, atol=1e-6)


def test_softmax_over_identity_and_zero_halves_the_input(mix_of):
    """With x = 1 on {identity, zero} and arch = 0: y = 1/2, dy/darch = (1/4, -1/4)."""
    y, gradient = jax.value_and_grad(
        lambda arch: (jax.nn.softmax(arch) * jnp.asarray([1.0, 0.0])).sum()
    )(jnp.zeros(2))
    by_mix, by_arch = jax.value_and_grad(
        lambda row: mix_of(softmax(), jnp.tile(row, (4, 1)))[0] @ jnp.asarray([1.0, 0.0, 0.0])
    )(jnp.asarray([0.0, 0.0, -1e9]))
    np.testing.assert_allclose([y, *gradient], [0.5, 0.25, -0.25])
    np.testing.assert_allclose([by_mix, *by_arch], [0.5, 0.25, -0.25, 0.0])


@pytest.mark.parametrize("scale", [1e-3, 0.5])
def test_softmax_starts_from_normal_logits_of_the_given_scale(scale):
    wide = Choices(tuple(f"op{number}" for number in range(5000)), ("row",))
    arch = softmax(init_scale=scale).init(KEY, wide)["ops"]
    np.testing.assert_allclose([arch.mean() / scale, arch.std() / scale], [0.0, 1.0], atol=0.05)


def test_softmax_starts_at_the_scale_of_the_paper(choices):
    np.testing.assert_array_equal(
        softmax().init(KEY, choices)["ops"], softmax(init_scale=1e-3).init(KEY, choices)["ops"]
    )
