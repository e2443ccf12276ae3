"""FBNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_values import DARTS, TINY, settings_of, small_search

import dnas
from dnas.methods import fbnet

# methods.md 3.4, from the paper and JunrQ/NAS
TABLE = DARTS | dict(
    epochs=90,
    batch_size=192,
    learning_rate=0.1,
    min_learning_rate=0.0,
    weight_decay=1e-4,
    clip=None,
    warmup=10 / 90,
    arch_every=4,
    order="weights_first",
    arch_learning_rate=0.01,
    arch_b1=0.9,
    arch_weight_decay=5e-4,
    temperature=5.0,
    temperature_end=pytest.approx(0.091121, rel=1e-4),
    samples=6,
)


@pytest.mark.parametrize("space", ["fbnet", "darts"])
def test_settings_are_the_published_ones(space):
    assert settings_of(fbnet, space, TABLE) == TABLE
    assert not fbnet.retraining  # final networks are trained without its decay


def test_the_temperature_falls_by_its_factor_an_epoch():
    """methods.md 10.2. Two samples of one draw differ by the temperature alone."""
    space = dnas.SPACES["fbnet"]
    relaxation, choices = fbnet(space, steps_per_epoch=10).relaxation, space.choices["layers"]
    arch, key = {"ops": jnp.zeros(choices.shape)}, jax.random.key(0)
    for epoch, temperature in ((0, 5.0), (10, 3.188141), (45, 0.659969), (89, 0.091121)):
        expected = dnas.gumbel_softmax(temperature=temperature).sample(key, arch, choices, 0)
        found = relaxation.sample(key, arch, choices, jnp.asarray(10 * epoch))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


def test_the_genotype_is_the_best_of_those_drawn_in_the_end():
    _, result = small_search("fbnet", "darts")
    assert 0 <= result.history[-1]["sample_accuracy"] <= 1
    assert set(np.unique(result.mix["reduce"])) == {0.0, 1.0}
    assert fbnet(TINY["chain"], steps_per_epoch=2, samples=0).rule is None


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="falls exponentially is positive, got 5.0 .* and 0.0"):
        fbnet(TINY["chain"], steps_per_epoch=2, temperature_end=0.0)
