"""Gumbel-softmax samples, soft and hard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from dnas.choices import Choices
from dnas.relax import gumbel_hard, gumbel_softmax

DRAWS = 4000
MANY = Choices(("a", "b", "c"), tuple(map(str, range(DRAWS))))  # a row a draw
ROW = jnp.asarray([0.0, 1.0, -0.5])
BOTH = pytest.mark.parametrize("factory", [gumbel_softmax, gumbel_hard])


def draws(relaxation, row=ROW, step=0):
    return np.asarray(
        relaxation.sample(
            jax.random.key(0), {"ops": jnp.tile(row, (DRAWS, 1))}, MANY, jnp.asarray(step)
        )
    )


@BOTH
def test_largest_entries_are_distributed_as_softmax_of_arch(factory):
    counts = np.bincount(draws(factory()).argmax(1), minlength=3)
    assert stats.chisquare(counts, DRAWS * softmax(np.asarray(ROW, float))).pvalue > 1e-3


def test_soft_sample_of_two_ops_has_the_logistic_law_of_the_concrete_distribution():
    """temperature * logit(y_0) - (arch_0 - arch_1) is logistic: https://arxiv.org/abs/1611.00712,
    section 3.2."""
    y = draws(gumbel_softmax(temperature=0.7), jnp.asarray([0.3, -0.4, -1e9])).astype(float)
    logits = 0.7 * np.log(y[:, 0] / y[:, 1]) - 0.7
    assert stats.kstest(logits, stats.logistic.cdf).pvalue > 1e-3


def test_soft_sample_is_uniform_when_hot_and_one_hot_when_cold():
    np.testing.assert_allclose(draws(gumbel_softmax(temperature=1e6)), 1 / 3, atol=1e-4)
    cold = draws(gumbel_softmax(temperature=1e-3))
    assert (cold.max(1) > 0.999).mean() > 0.99
    np.testing.assert_array_equal(cold.argmax(1), draws(gumbel_softmax(temperature=1.0)).argmax(1))


@BOTH
@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
def test_values_and_gradients_are_finite_at_any_temperature(factory, temperature, mix_of):
    arch = jnp.asarray([[0.0, 1e4, -1e4], [0.0, 0.0, 0.0], [-1e9, 0.0, 1.0], [-1e9] * 3])
    mix, gradient = jax.value_and_grad(
        lambda arch: (
            mix_of(factory(temperature=temperature), arch) * jnp.arange(12.0).reshape(4, 3)
        ).sum()
    )(arch)
    assert jnp.isfinite(mix) and jnp.isfinite(gradient).all()


def test_hard_sample_is_exactly_one_hot_at_the_largest_entry_of_the_soft_one():
    hard, soft = draws(gumbel_hard(temperature=0.7)), draws(gumbel_softmax(temperature=0.7))
    np.testing.assert_array_equal(hard, np.eye(3)[soft.argmax(1)])


def test_hard_sample_has_the_gradient_of_the_soft_one(mix_of):
    arch, upstream = jax.random.normal(jax.random.key(1), (2, 4, 3))
    hard, soft = (
        jax.grad(
            lambda arch, factory=factory: (upstream * mix_of(factory(temperature=0.5), arch)).sum()
        )(arch)
        for factory in (gumbel_hard, gumbel_softmax)
    )
    np.testing.assert_array_equal(hard, soft)
    np.testing.assert_allclose(hard.sum(1), 0, atol=1e-6)
    assert hard.any()


@BOTH
def test_a_constant_added_to_a_row_changes_nothing(factory, mix_of):
    arch = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(mix_of(factory(), arch + 3.0), mix_of(factory(), arch), rtol=1e-4)


def test_the_schedule_is_read_at_the_step(mix_of):
    scheduled = gumbel_softmax(temperature=lambda step: 1.0 / (1 + step))
    for step in (0, 3):
        expected = mix_of(gumbel_softmax(temperature=1.0 / (1 + step)), np.eye(4, 3))
        np.testing.assert_array_equal(mix_of(scheduled, np.eye(4, 3), step=step), expected)


@BOTH
def test_read_is_the_softmax_of_arch(factory, choices):
    arch = jnp.eye(4, 3)
    np.testing.assert_array_equal(factory().read({"ops": arch}, choices), jax.nn.softmax(arch))


@BOTH
def test_a_temperature_that_is_not_positive_is_refused(factory):
    with pytest.raises(ValueError, match="positive number or a schedule of the step, got 0"):
        factory(temperature=0)
