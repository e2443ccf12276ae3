"""The relaxation of FairDARTS."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.relax import sigmoid

ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def test_sigmoid_is_its_equation(mix_of):
    np.testing.assert_allclose(mix_of(sigmoid(), ARCH), 1 / (1 + np.exp(-ARCH)), rtol=1e-5)


def test_ops_do_not_compete(mix_of):
    """d mix_i / d arch_j is zero but for i = j, where it is mix_i (1 - mix_i)."""
    jacobian = jax.jacobian(lambda arch: mix_of(sigmoid(), arch))(ARCH).reshape(12, 12)
    mix = np.asarray(mix_of(sigmoid(), ARCH)).ravel()
    np.testing.assert_allclose(jacobian, np.diag(mix * (1 - mix)), atol=1e-6)


def test_search_starts_at_one_half(mix_of, choices):
    np.testing.assert_array_equal(
        mix_of(sigmoid(), sigmoid().init(jax.random.key(0), choices)), 0.5
    )


def test_dropped_ops_have_no_weight_and_the_others_keep_theirs(mix_of):
    mix = mix_of(sigmoid(), ARCH.at[:, 1].set(-1e9))
    np.testing.assert_array_equal(mix, mix_of(sigmoid(), ARCH) * jnp.asarray([1, 0, 1]))
