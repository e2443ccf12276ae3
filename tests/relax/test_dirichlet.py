"""The Dirichlet relaxation of DrNAS."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from dnas.choices import Choices
from dnas.relax import dirichlet
from dnas.relax.dirichlet import concentration

DRAWS = 4000
MANY = Choices(("a", "b", "c"), tuple(map(str, range(DRAWS))))  # a row a draw
ROW = jnp.asarray([0.5, -1.0, 0.0])


def draws(row, seed=0):
    return dirichlet().sample(jax.random.key(seed), {"ops": jnp.tile(row, (DRAWS, 1))}, MANY, 0)


def mean(row):
    return concentration(row) / concentration(row).sum()


def test_concentration_is_elu_plus_one():
    logits = jnp.asarray([0.0, 1.0, -1.0, 3.5])
    np.testing.assert_allclose(concentration(logits), [1, 2, 0.3678794, 4.5], rtol=1e-6)
    np.testing.assert_allclose(concentration(logits), jax.nn.elu(logits) + 1, rtol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(concentration))(logits), [1, 1, 0.3678794, 1], rtol=1e-6
    )


def test_rows_are_positive_and_sum_to_one():
    mix = draws(ROW)
    assert (mix > 0).all()
    np.testing.assert_allclose(mix.sum(1), 1, rtol=1e-5)


def test_each_weight_has_its_beta_marginal():
    mix, own = np.asarray(draws(ROW)), np.asarray(concentration(ROW))
    for op in range(3):
        assert stats.kstest(mix[:, op], stats.beta(own[op], own.sum() - own[op]).cdf).pvalue > 1e-3


def test_logits_of_zero_are_uniform_on_the_simplex():
    assert stats.kstest(np.asarray(draws(jnp.zeros(3)))[:, 0], stats.beta(1, 2).cdf).pvalue > 1e-3


def test_pathwise_gradient_agrees_with_the_derivative_of_the_mean():
    def average(arch, op):
        return dirichlet().sample(jax.random.key(0), {"ops": arch}, MANY, 0)[:, op]

    for op in range(3):
        each = jax.grad(lambda arch, op=op: average(arch, op).sum())(jnp.tile(ROW, (DRAWS, 1)))
        expected = jax.grad(lambda row, op=op: mean(row)[op])(ROW)
        error = np.asarray(each.std(0)) / DRAWS**0.5
        assert (np.abs(each.mean(0) - expected) < 4 * error).all()
        assert (error < 0.02).all()


def test_pathwise_gradient_of_a_draw_is_finite_for_small_and_large_concentrations():
    for scale in (-200.0, -30.0, -8.0, -3.0, 100.0):
        arch = scale + jax.random.normal(jax.random.key(1), (DRAWS, 3))
        mix, gradient = jax.value_and_grad(
            lambda arch: (dirichlet().sample(jax.random.key(0), {"ops": arch}, MANY, 0) ** 2).sum()
        )(arch)
        assert jnp.isfinite(mix) and jnp.isfinite(gradient).all()


def test_read_is_the_mean(choices):
    arch = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    np.testing.assert_allclose(
        dirichlet().read({"ops": arch}, choices), jax.vmap(mean)(arch), rtol=1e-5
    )


def test_ops_that_are_absent_leave_the_distribution_of_the_others_alone(choices):
    row = ROW.at[1].set(-1e9)
    mix, own = np.asarray(draws(row)), np.asarray(concentration(ROW))
    assert (mix[:, 1] == 0).all()
    assert stats.kstest(mix[:, 0], stats.beta(own[0], own[2]).cdf).pvalue > 1e-3
    read = dirichlet().read({"ops": jnp.tile(row, (4, 1))}, choices)[0]
    np.testing.assert_allclose(
        read, [own[0] / (own[0] + own[2]), 0, own[2] / (own[0] + own[2])], rtol=1e-5
    )
    gradient = jax.grad(
        lambda arch: (dirichlet().sample(jax.random.key(0), {"ops": arch}, MANY, 0)[:, 0]).sum()
    )(jnp.tile(row, (DRAWS, 1)))
    assert (gradient[:, 1] == 0).all() and gradient[:, 0].any()
