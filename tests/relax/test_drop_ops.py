"""Ops dropped at random."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from dnas.choices import Choices
from dnas.relax import drop_ops, gumbel_softmax, per_sample, softmax

DRAWS = 3000
OPS = ("none", "skip_connect", "b")
MANY = Choices(OPS, tuple(map(str, range(DRAWS))))  # a row a draw
ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def factors(rate, ops=None, relaxation=None, step=0):
    """What multiplies the uniform mix of 1/3 everywhere, [DRAWS, O]."""
    relaxation = softmax() if relaxation is None else relaxation
    mix = drop_ops(relaxation, rate, ops=ops).sample(
        jax.random.key(0), {"ops": jnp.zeros((DRAWS, 3))}, MANY, jnp.asarray(step)
    )
    return 3 * np.asarray(mix, float)


@pytest.mark.parametrize("rate", [0.0, lambda step: 0.0 * step])
@pytest.mark.parametrize(
    "relaxation", [softmax(), gumbel_softmax(), per_sample(gumbel_softmax(), 5)]
)
def test_rate_zero_changes_nothing_to_the_last_bit(rate, relaxation, mix_of):
    np.testing.assert_array_equal(
        mix_of(drop_ops(relaxation, rate), ARCH), mix_of(relaxation, ARCH)
    )


def test_entries_are_dropped_at_the_rate_and_the_rest_scaled_to_keep_the_mean():
    dropped = factors(0.3)
    np.testing.assert_allclose(np.unique(dropped.round(5)), [0, round(1 / 0.7, 5)])
    for column in dropped.T:
        assert stats.binomtest(int((column == 0).sum()), DRAWS, 0.3).pvalue > 1e-3


def test_only_the_named_ops_are_dropped():
    dropped = factors(0.5, ops=("skip_connect",))
    np.testing.assert_allclose(dropped[:, [0, 2]], 1, rtol=1e-6)
    assert 0.4 < (dropped[:, 1] == 0).mean() < 0.6


def test_one_wrapper_in_another_drops_independently():
    both = factors(0.5, relaxation=drop_ops(softmax(), 0.5, ops=("skip_connect",)))[:, 1]
    assert stats.binomtest(int((both > 0).sum()), DRAWS, 0.25).pvalue > 1e-3


def test_the_rate_may_be_a_schedule():
    rate = optax.linear_schedule(0.0, 0.8, 10)
    np.testing.assert_array_equal(factors(rate, step=5), factors(0.4))


def test_images_drop_independently_of_each_other(mix_of):
    """Of a mix that has an image axis, and of the wrapped whole."""
    for relaxation in (
        drop_ops(per_sample(softmax(), 2000), 0.3),
        per_sample(drop_ops(softmax(), 0.3), 2000),
    ):
        mix = np.asarray(mix_of(relaxation, ARCH))
        assert mix.shape == (4, 3, 2000)
        assert stats.binomtest(int((mix[2, 1] == 0).sum()), 2000, 0.3).pvalue > 1e-3


def test_genotypes_are_read_without_it(choices):
    np.testing.assert_array_equal(
        drop_ops(gumbel_softmax(), 0.5).read({"ops": ARCH}, choices), jax.nn.softmax(ARCH)
    )


def test_rates_and_ops_that_do_not_fit_are_refused(mix_of):
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"lies in \[0, 1\), got {rate}"):
            drop_ops(softmax(), rate)
    with pytest.raises(
        ValueError, match=r"ops \['skip'\] are not among the options; choose from: none, a, b"
    ):
        mix_of(drop_ops(softmax(), 0.5, ops=("skip",)), ARCH)
