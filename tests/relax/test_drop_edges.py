"""Edges dropped at random, image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from dnas.relax import drop_edges, gumbel_softmax, per_sample, softmax

IMAGES = 2000
ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def test_all_ops_of_an_edge_are_dropped_or_kept_together_at_the_rate(mix_of):
    mix = np.asarray(mix_of(drop_edges(softmax(), 0.3, IMAGES), ARCH), float)
    factors = mix / np.asarray(mix_of(softmax(), ARCH))[:, :, None]
    assert mix.shape == (4, 3, IMAGES)
    np.testing.assert_allclose(factors, factors[:, :1] + np.zeros((1, 3, 1)), rtol=1e-5)
    np.testing.assert_allclose(np.unique(factors.round(4)), [0, round(1 / 0.7, 4)])
    for edge in factors[:, 0]:
        assert stats.binomtest(int((edge == 0).sum()), IMAGES, 0.3).pvalue > 1e-3


def test_edges_are_dropped_independently_of_each_other(mix_of):
    kept = np.asarray(mix_of(drop_edges(softmax(), 0.5, IMAGES), ARCH))[:, 0] > 0
    both = int((kept[0] & kept[1]).sum())
    assert stats.binomtest(both, IMAGES, 0.25).pvalue > 1e-3


@pytest.mark.parametrize("relaxation", [softmax(), gumbel_softmax()])
@pytest.mark.parametrize("rate", [0.0, lambda step: 0.0 * step])
def test_at_rate_zero_every_image_has_the_mix_of_the_relaxation(relaxation, rate, mix_of):
    mix = mix_of(drop_edges(relaxation, rate, 5), ARCH)
    np.testing.assert_array_equal(mix, mix_of(relaxation, ARCH)[:, :, None] + jnp.zeros(5))


def test_a_mix_that_has_images_already_keeps_them(mix_of):
    inner = per_sample(gumbel_softmax(), 5)
    mix, plain = mix_of(drop_edges(inner, 0.5, 5), ARCH), mix_of(inner, ARCH)
    kept = np.asarray(mix[:, :1] > 0)
    np.testing.assert_allclose(mix, 2 * plain * kept, rtol=1e-5)


def test_the_rate_may_be_a_schedule(mix_of):
    rate = optax.linear_schedule(0.0, 0.8, 10)
    np.testing.assert_array_equal(
        mix_of(drop_edges(softmax(), rate, 50), ARCH, step=5),
        mix_of(drop_edges(softmax(), 0.4, 50), ARCH),
    )


def test_genotypes_are_read_without_it(choices):
    mix = drop_edges(gumbel_softmax(), 0.5, 5).read({"ops": ARCH}, choices)
    np.testing.assert_array_equal(mix, jax.nn.softmax(ARCH))


def test_rates_and_batches_that_do_not_fit_are_refused():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"lies in \[0, 1\), got {rate}"):
            drop_edges(softmax(), rate, 5)
    with pytest.raises(ValueError, match="got batch_size = 0"):
        drop_edges(softmax(), 0.3, 0)
