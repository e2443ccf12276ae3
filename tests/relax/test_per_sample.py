"""A draw for each image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax as probabilities

from dnas.relax import gumbel_hard, gumbel_softmax, per_sample, softmax

ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def test_images_draw_independently_what_the_relaxation_draws(mix_of):
    mix = np.asarray(mix_of(per_sample(gumbel_hard(), 3000), ARCH))
    assert mix.shape == (4, 3, 3000)
    for edge, row in enumerate(np.asarray(ARCH, float)):
        assert stats.chisquare(mix[edge].sum(1), 3000 * probabilities(row)).pvalue > 1e-3
    # Neighbours agree as often as two independent draws do.
    agree = (mix[0, :, 1:] * mix[0, :, :-1]).sum()
    assert (
        stats.binomtest(
            int(agree), 2999, float((probabilities(np.asarray(ARCH[0], float)) ** 2).sum())
        ).pvalue
        > 1e-3
    )


def test_where_nothing_is_drawn_every_image_has_the_same_mix(mix_of):
    mix = mix_of(per_sample(softmax(), 5), ARCH)
    np.testing.assert_array_equal(mix, mix_of(softmax(), ARCH)[:, :, None] + jnp.zeros(5))


def test_each_image_has_the_draw_of_its_part_of_the_key(mix_of, choices):
    mix = mix_of(per_sample(gumbel_softmax(), 3), ARCH, seed=4)
    for number, key in enumerate(jax.random.split(jax.random.key(4), 3)):
        np.testing.assert_allclose(
            mix[..., number], gumbel_softmax().sample(key, {"ops": ARCH}, choices, 0), rtol=1e-5
        )


def test_genotypes_are_read_from_one_mix_for_all(choices):
    np.testing.assert_array_equal(
        per_sample(gumbel_softmax(), 5).read({"ops": ARCH}, choices), jax.nn.softmax(ARCH)
    )
    np.testing.assert_array_equal(
        per_sample(softmax(), 5).read({"ops": ARCH}, choices), jax.nn.softmax(ARCH)
    )


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="got batch_size = 0"):
        per_sample(softmax(), 0)
