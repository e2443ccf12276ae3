"""DARTS-: its settings, and a skip beside the candidates that falls to nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_searches import (
    DARTS,
    NASBENCH201,
    SMALL,
    SMALL_201,
    published,
    settings_of,
    small_search,
)

import dnas
from dnas.cells.mixed_op import MixedOp
from dnas.cells.norms import search_norms
from dnas.methods import METHODS


def test_settings_are_those_of_the_release():
    """Meituan-AutoML/DARTS-, scripts/run_darts_minus.sh: skip_beta 1, linear, no drop path."""
    assert settings_of("darts_minus", "darts") == published(DARTS, skip_weight=1.0)
    assert settings_of("darts_minus", "nasbench201") == published(NASBENCH201, skip_weight=1.0)


def test_the_weight_falls_as_that_of_the_released_scheduler():
    """src/utils.py, DecayScheduler: base * (T_max - epoch) / T_max."""
    space = dnas.SPACES["darts"]
    choices = space.choices["normal"]
    relaxation = METHODS["darts_minus"](space, steps_per_epoch=4).relaxation
    arch = {"ops": jnp.zeros((14, 8))}
    for epoch in (0, 1, 25, 49):
        for step in (4 * epoch, 4 * epoch + 3):
            mix = relaxation.sample(jax.random.key(0), arch, choices, jnp.asarray(step))
            expected = np.full((14, 8), 1 / 8)
            expected[:, 3] += (50 - epoch) / 50
            np.testing.assert_allclose(mix, expected, rtol=1e-6)
    np.testing.assert_allclose(relaxation.read(arch, choices), 1 / 8)


@pytest.mark.slow
def test_without_a_weight_it_is_darts_to_the_last_bit():
    one, other = small_search("darts_minus", skip_weight=0.0), small_search("darts1")
    assert one.genotype == other.genotype
    jax.tree.map(
        np.testing.assert_array_equal,
        (one.state.weights, one.state.arch),
        (other.state.weights, other.state.arch),
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_a_raised_mix_is_the_mixed_op_with_a_skip_beside_it(stride):
    """The identity, and where the edge halves the image the candidate's own reduction."""
    ops, beta = ("none", "skip_connect", "sep_conv_3x3"), 0.7
    op = MixedOp(ops, 4, stride, search_norms(), 1, False)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
    weights = op.init(jax.random.key(1), x)
    row, skip = jnp.array([0.5, 0.2, 0.3]), jnp.array([0.0, 1.0, 0.0])
    beside = x if stride == 1 else op(weights, skip, x)
    np.testing.assert_allclose(
        op(weights, row + beta * skip, x), op(weights, row, x) + beta * beside, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("space", [SMALL, SMALL_201], ids=["darts", "nasbench201"])
def test_a_search_ends_with_a_genotype(space):
    assert small_search("darts_minus", space).genotype.space == space.name


@pytest.mark.parametrize("name", ["s1", "s4"])
def test_spaces_with_edges_without_a_skip_are_refused(name):
    with pytest.raises(ValueError, match=f"of the space '{name}'"):
        METHODS["darts_minus"](dnas.SPACES[name], steps_per_epoch=1)
