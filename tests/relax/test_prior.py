"""Priors and masks over ops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.base import ABSENT
from dnas.relax import RELAXATIONS, edge_weights, simplex, softmax, with_prior

ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


@pytest.mark.parametrize("shape", [(3,), (4, 3)])
def test_mix_is_proportional_to_the_prior(mix_of, shape, choices):
    prior = np.random.default_rng(1).uniform(0.1, 1, shape)
    expected = prior * np.exp(ARCH)
    expected /= expected.sum(1, keepdims=True)
    relaxation = with_prior(softmax(), np.log(prior))
    np.testing.assert_allclose(mix_of(relaxation, ARCH), expected, rtol=1e-5)
    np.testing.assert_allclose(relaxation.read({"ops": ARCH}, choices), expected, rtol=1e-5)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_prior_of_zeros_changes_nothing(name, choices):
    relaxation, key = RELAXATIONS[name](), jax.random.key(0)
    arch = relaxation.init(key, choices)
    plain = relaxation.sample(key, arch, choices, 0)
    np.testing.assert_array_equal(
        with_prior(relaxation, np.zeros(3)).sample(key, arch, choices, 0), plain
    )


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_mask_is_what_absent_logits_are(name, choices):
    relaxation, key = RELAXATIONS[name](), jax.random.key(0)
    arch = relaxation.init(key, choices)
    mask = np.where([[1, 0, 1], [1, 1, 1], [0, 0, 1], [1, 1, 0]], 0.0, ABSENT)
    dropped = jnp.where(mask < 0, ABSENT, arch["ops"])
    dropped = dropped if hasattr(arch, "shape") else arch | {"ops": dropped}
    masked = with_prior(relaxation, mask).sample(key, arch, choices, 0)
    np.testing.assert_allclose(masked, relaxation.sample(key, dropped, choices, 0), atol=1e-6)
    assert (masked[mask < 0] == 0).all()


def test_masks_in_masks_stay_finite(mix_of):
    relaxation = softmax()
    for _ in range(40):
        relaxation = with_prior(relaxation, [0.0, 0.0, ABSENT])
    np.testing.assert_allclose(
        mix_of(relaxation, ARCH)[:, :2], jax.nn.softmax(ARCH[:, :2]), rtol=1e-5
    )
    assert jnp.isfinite(mix_of(relaxation, jnp.full((4, 3), ABSENT))).all()


def test_masks_fit_relaxations_with_more_than_logits_and_with_none(mix_of, choices):
    mask = [0.0, ABSENT, 0.0]
    arch = edge_weights().init(jax.random.key(0), choices)
    np.testing.assert_array_equal(mix_of(with_prior(edge_weights(), mask), arch)[:, 1], 0)
    np.testing.assert_allclose(
        mix_of(with_prior(simplex(), mask), np.full((4, 3), 1 / 3)), [[0.5, 0, 0.5]] * 4, rtol=1e-6
    )


def test_priors_that_do_not_fit_are_refused(mix_of):
    with pytest.raises(
        ValueError, match=r"has shape \(2,\); for these choices it is \(3,\) or \(4, 3\)"
    ):
        mix_of(with_prior(softmax(), [0.0, 0.0]), ARCH)
    with pytest.raises(ValueError, match="a prior is finite"):
        with_prior(softmax(), [0.0, 0.0, -np.inf])
