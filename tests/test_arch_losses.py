"""Terms of the outer objective against formulas written out, and their limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import enable_x64
from scipy import stats
from scipy.special import digamma, gammaln, logsumexp, softmax

from dnas import arch_losses
from dnas.arch_losses import (
    beta_decay,
    beta_decay_schedule,
    dirichlet_kl,
    entropy,
    l2,
    quantnas_entropy_schedule,
    zero_one,
)
from dnas.base import ABSENT
from dnas.choices import Choices
from dnas.relax import dirichlet

ROWS = np.random.default_rng(0).normal(size=(4, 5))
OTHER = np.random.default_rng(1).normal(size=(2, 3))  # kinds may differ in their ops
ARCH = {
    "normal": {"ops": jnp.asarray(ROWS, jnp.float32)},
    "reduce": {"ops": jnp.asarray(OTHER, jnp.float32), "edges": jnp.ones(2)},
}
LOSSES = {
    "entropy": entropy(),
    "beta_decay": beta_decay(),
    "zero_one": zero_one(),
    "zero_one l1": zero_one(form="l1"),
    "l2": l2(),
    "dirichlet_kl": dirichlet_kl(),
}


def kl(row):
    own = np.where(row > 0, row + 1, np.exp(row))
    total = own.sum()
    return (
        gammaln(total)
        - gammaln(own).sum()
        - gammaln(len(own))
        + ((own - 1) * (digamma(own) - digamma(total))).sum()
    )


# The last: edges of one.
EQUATIONS = {
    "entropy": lambda rows: sum(stats.entropy(softmax(row)) for row in rows),
    "beta_decay": lambda rows: np.mean([logsumexp(row) for row in rows]),
    "zero_one": lambda rows: (
        -np.mean(np.concatenate([1 / (1 + np.exp(-row)) - 0.5 for row in rows]) ** 2)
    ),
    "zero_one l1": lambda rows: (
        -np.mean(np.abs(np.concatenate([1 / (1 + np.exp(-row)) - 0.5 for row in rows])))
    ),
    "l2": lambda rows: 0.5 * sum((row**2).sum() for row in rows) + 0.5 * 2,
    "dirichlet_kl": lambda rows: sum(kl(row) for row in rows),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_its_equation_over_the_edges_of_all_kinds(name):
    np.testing.assert_allclose(LOSSES[name](ARCH, {}), EQUATIONS[name]([*ROWS, *OTHER]), rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_what_has_been_dropped_does_not_count(name):
    """Ops of one edge, and a whole edge, are as though they were not there; their gradient is zero,
    all of it finite."""
    logits = ARCH["normal"]["ops"].at[0, 1:3].set(ABSENT).at[2].set(ABSENT)
    arch = ARCH | {"normal": {"ops": logits}}
    left = [ROWS[0, [0, 3, 4]], ROWS[1], ROWS[3], *OTHER]
    loss, gradient = jax.value_and_grad(LOSSES[name])(arch, {})
    np.testing.assert_allclose(loss, EQUATIONS[name](left), rtol=1e-4)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    of_normal = gradient["normal"]["ops"]
    assert (of_normal[0, 1:3] == 0).all() and (of_normal[2] == 0).all() and of_normal[1].any()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name):
    with enable_x64(True):
        rows = jnp.asarray(ROWS)
        gradient = jax.grad(lambda rows: LOSSES[name]({"cell": {"ops": rows}}, {}))(rows)
        for index in ((0, 0), (1, 3), (3, 4)):
            change = [
                LOSSES[name]({"cell": {"ops": rows.at[index].add(move)}}, {})
                for move in (1e-5, -1e-5)
            ]
            np.testing.assert_allclose(
                gradient[index], (change[0] - change[1]) / 2e-5, rtol=1e-5, atol=1e-8
            )


@pytest.mark.parametrize("name", LOSSES)
def test_losses_work_under_jit_and_vmap(name):
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), ARCH)
    losses = jax.jit(jax.vmap(lambda arch: LOSSES[name](arch, {})))(stacked)
    alone = [LOSSES[name](ARCH, {}), LOSSES[name](jax.tree.map(lambda leaf: 2 * leaf, ARCH), {})]
    np.testing.assert_allclose(losses, jnp.stack(alone), rtol=1e-4)


def test_entropy_is_largest_when_uniform_and_zero_when_one_hot():
    assert math.isclose(
        entropy()({"cell": {"ops": jnp.zeros((3, 5))}}, {}), 3 * math.log(5), rel_tol=1e-5
    )
    assert abs(entropy()({"cell": {"ops": 1e4 * jnp.eye(3, 5)}}, {})) < 1e-6


def test_beta_decay_at_zero_is_the_logarithm_of_the_number_of_ops_with_a_uniform_gradient():
    loss, gradient = jax.value_and_grad(beta_decay())({"cell": {"ops": jnp.zeros((1, 5))}}, {})
    assert math.isclose(loss, 1.609438, rel_tol=1e-6)
    np.testing.assert_allclose(gradient["cell"]["ops"], 1 / 5, rtol=1e-6)


def test_gradient_of_beta_decay_is_softmax_over_the_number_of_edges():
    gradient = jax.grad(beta_decay())(ARCH, {})
    np.testing.assert_allclose(gradient["normal"]["ops"], softmax(ROWS, axis=1) / 6, rtol=1e-4)
    np.testing.assert_allclose(gradient["reduce"]["ops"], softmax(OTHER, axis=1) / 6, rtol=1e-4)


def test_zero_one_is_zero_at_one_half_and_least_at_the_ends():
    ends = jnp.asarray([[100.0, -100.0, 100.0]])
    assert zero_one()({"cell": {"ops": jnp.zeros((2, 3))}}, {}) == 0
    assert (
        zero_one()({"cell": {"ops": ends}}, {}) == -0.25
        and zero_one(form="l1")({"cell": {"ops": ends}}, {}) == -0.5
    )
    with pytest.raises(ValueError, match="form 'l3' does not exist; choose from: l2, l1"):
        zero_one(form="l3")


def test_gradient_of_l2_is_arch():
    jax.tree.map(np.testing.assert_array_equal, jax.grad(l2())(ARCH, {}), ARCH)


def test_dirichlet_kl_is_zero_at_zero_and_the_expected_log_ratio_elsewhere():
    assert abs(dirichlet_kl()({"cell": {"ops": jnp.zeros((3, 5))}}, {})) < 1e-4
    row = np.asarray([0.8, -0.5, 0.1])
    draws = dirichlet().sample(
        jax.random.key(0),
        {"ops": jnp.tile(jnp.asarray(row), (4000, 1))},
        Choices(tuple("abc"), tuple(map(str, range(4000)))),
        0,
    )
    own = np.where(row > 0, row + 1, np.exp(row))
    draws = np.asarray(draws, float)
    # Dir(1) of 3 has density 2.
    ratios = stats.dirichlet.logpdf((draws / draws.sum(1, keepdims=True)).T, own) - math.log(2)
    assert (
        abs(ratios.mean() - dirichlet_kl()({"cell": {"ops": jnp.asarray(row)[None]}}, {}))
        < 4 * ratios.std() / 4000**0.5
    )


def test_beta_decay_schedule_rises_from_zero_once_an_epoch():
    schedule = beta_decay_schedule(100, 7)
    np.testing.assert_allclose(
        [schedule(7 * epoch + 6) for epoch in (0, 1, 50, 99)], [0, 0.5, 25, 49.5]
    )


def test_quantnas_schedule_is_the_released_one():
    """20 epochs, 9 of them warm-up: two more without, then linear times logarithmic."""
    schedule = quantnas_entropy_schedule(20, 7)
    expected = [0.0] * 11 + [
        1e-3 * (e - 9) / 10 * math.log(e - 2 - 9 + 2, 20 - 2 - 9 + 1) for e in range(11, 20)
    ]
    np.testing.assert_allclose(
        [schedule(7 * epoch + 6) for epoch in range(20)], expected, rtol=1e-5
    )
    np.testing.assert_allclose(schedule(7 * 100), 1e-3, rtol=1e-5)
    assert jnp.isfinite(jax.vmap(schedule)(jnp.arange(200))).all()
    with pytest.raises(ValueError, match="got 9 epochs of it out of 10"):
        quantnas_entropy_schedule(10, 7)


def test_every_loss_of_the_module_is_tested_here():
    public = {
        name
        for name, value in vars(arch_losses).items()
        if getattr(value, "__module__", "") == arch_losses.__name__
    }
    losses = {
        name for name in public if not name.startswith("_") and not name.endswith("_schedule")
    }
    assert losses == {name.split()[0] for name in LOSSES}
