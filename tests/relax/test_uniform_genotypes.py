"""Genotypes drawn uniformly: what a row has, how often, and what is dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.base import ABSENT
from dnas.relax import uniform_genotypes

RELAXATION = uniform_genotypes()


def draws(choices, arch=None, number=400):
    arch = RELAXATION.init(jax.random.key(0), choices) if arch is None else arch
    keys = jax.random.split(jax.random.key(1), number)
    sample = jax.jit(jax.vmap(lambda key: RELAXATION.sample(key, arch, choices, 0)))
    return np.asarray(sample(keys))


@pytest.mark.parametrize("name", ["darts", "nasbench201", "fbnet", "s1"])
def test_rows_have_one_option_that_they_may_have_or_none(name):
    for choices in dnas.SPACES[name].choices.values():
        found = draws(choices, number=50)
        assert set(np.unique(found)) == {0.0, 1.0}
        assert not found[:, ~choices.allowed].any()
        for group in choices.together:
            assert (found[:, list(group)].sum(axis=(1, 2)) == choices.places(group)).all()


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_options_and_rows_are_equally_likely(name):
    choices = next(iter(dnas.SPACES[name].choices.values()))
    shares = draws(choices).mean(axis=0)
    possible = choices.computes if choices.keep else choices.allowed
    for group in choices.groups:
        rows = list(group)
        expected = possible[rows] * choices.places(group) / possible[rows].sum()
        # four deviations of a share of 400
        np.testing.assert_allclose(shares[rows], expected, atol=4 * np.sqrt(0.25 / 400))


def test_what_is_read_is_uniform_over_what_may_be_drawn():
    for name, nothing in (("darts", 0.0), ("nasbench201", 0.2)):
        choices = next(iter(dnas.SPACES[name].choices.values()))
        read = np.asarray(RELAXATION.read(RELAXATION.init(jax.random.key(0), choices), choices))
        np.testing.assert_allclose(read.sum(axis=1), 1.0, rtol=1e-6)
        assert np.allclose(read[:, 0], nothing) and np.unique(read[:, 1:]).size == 1


def test_dropped_options_and_rows_are_not_drawn():
    choices = dnas.SPACES["darts"].choices["normal"]
    ops = jnp.zeros(choices.shape).at[:, 4].set(ABSENT).at[5].set(ABSENT)  # an op, and an edge
    found = draws(choices, {"ops": ops}, number=100)
    assert not found[:, :, 4].any() and not found[:, 5].any()
    assert (found.sum(axis=(1, 2)) == 8).all()
