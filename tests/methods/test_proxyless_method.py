"""ProxylessNAS."""

import jax.numpy as jnp
import numpy as np
import pytest
from published_values import BARE, DARTS, TINY, settings_of, steps_of

from dnas.methods import proxyless

# methods.md 4.1; search/imagenet_arch_search.py of mit-han-lab/proxylessnas: 40 epochs of warm-up
# and 120
TABLE = DARTS | dict(
    epochs=160,
    batch_size=256,
    min_learning_rate=0.0,
    nesterov=True,
    weight_decay=4e-5,
    clip=None,
    warmup=40 / 160,
    arch_every=5,
    order="weights_first",
    arch_learning_rate=1e-3,
    arch_b1=0.0,
    arch_weight_decay=0.0,
    paths="full",
    warmup_learning_rate=0.05,
)


@pytest.mark.parametrize("space", ["proxylessnas", "darts"])
def test_settings_are_the_published_ones(space):
    assert settings_of(proxyless, space, TABLE) == TABLE


def test_only_its_own_networks_are_trained_with_its_decay():
    """search/imagenet_run_exp.py; those of cells are trained as DARTS's."""
    assert set(proxyless.retraining) == {"chain"}
    recipe = proxyless.retraining["chain"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["learning_rate"]) == (300, 256, 0.05)
    assert (recipe["weight_decay"], recipe["nesterov"]) == (4e-5, True)
    assert recipe["label_smoothing"] == 0.1


def course_of(epochs, steps_per_epoch, **changes):
    """The rates of the weights, and when arch moves."""
    method = proxyless(
        TINY["chain"], steps_per_epoch=steps_per_epoch, epochs=epochs, **BARE, **changes
    )
    arch = {"layers": {"ops": jnp.zeros((2, 3))}}
    optimizer = method.optimizer(epochs, steps_per_epoch)
    return steps_of(optimizer, arch, epochs * steps_per_epoch)[:2]


def test_the_warm_up_and_the_search_have_a_cosine_each_that_falls_step_by_step():
    rates, moved = course_of(8, 5)

    def cosine(rate, steps):
        return rate * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2

    np.testing.assert_allclose(
        rates, np.concatenate([cosine(0.05, 10), cosine(0.025, 30)]), rtol=1e-4, atol=1e-8
    )
    # Two epochs of warm-up and one more without arch, then every fifth step.
    assert moved == [False] * 15 + 5 * [False, False, False, False, True]


def test_without_a_warm_up_there_is_one_cosine_and_arch_moves_at_once():
    rates, moved = course_of(2, 5, warmup=0.0)
    assert rates[0] == pytest.approx(0.025) and moved == 2 * [False, False, False, False, True]


def test_two_paths_keep_the_mass_of_the_pair():
    """Of three logits of zero two are drawn and have a gradient: exp sums to two after the step."""
    for paths, sums in (("two", 2.0), ("full", None)):
        method = proxyless(TINY["chain"], steps_per_epoch=2, paths=paths, warmup=0.0, arch_every=1)
        optimizer, weights = method.optimizer(1, 2), jnp.zeros(1)
        arch = {"layers": {"ops": jnp.zeros((1, 3))}}

        def loss(weights, arch):
            ops = arch["layers"]["ops"]
            return weights.sum() + ops[0, 0] - 5 * ops[0, 1], {}

        state = optimizer.init(weights, arch)
        moved = optimizer.update(loss, loss, state, weights, arch)[1]["layers"]["ops"][0]
        assert moved[2] == 0 and moved[0] < 0 < moved[1]
        if sums is not None:
            np.testing.assert_allclose(jnp.exp(moved[:2]).sum(), sums, rtol=1e-6)
