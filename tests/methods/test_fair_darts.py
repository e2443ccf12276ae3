"""FairDARTS."""

import jax.numpy as jnp
import numpy as np
import pytest
from published_values import DARTS, settings_of

import dnas
from dnas.methods import fair_darts

# methods.md 4.6; fairdarts/train_search.py of xiaomi-automl/FairDARTS
TABLE = DARTS | dict(
    batch_size=128,
    learning_rate=0.005,
    arch_learning_rate=3e-3,
    arch_b1=0.9,
    zero_one=10.0,
    least=0.85,
)


@pytest.mark.parametrize("space", ["darts_without_none", "proxylessnas"])
def test_settings_are_the_published_ones(space):
    assert settings_of(fair_darts, space, TABLE) == TABLE
    assert "none" not in dnas.SPACES[fair_darts.space].cells["normal"].ops


def test_the_loss_that_drives_to_zero_or_one_counts_ten_times():
    """methods.md 10.8: -10 / 4 where all sigmoids are 0 or 1."""
    method = fair_darts(dnas.SPACES["darts_without_none"], steps_per_epoch=2)
    [(weight, term)] = method.arch_losses
    assert weight * float(term({"cell": {"ops": jnp.array([[100.0, -100.0]])}}, {})) == -2.5


def test_weak_edges_are_left_out():
    space = dnas.SPACES["darts_without_none"]
    mix = {kind: np.full((14, 7), 0.8) for kind in space.cells}
    for rows in mix.values():
        rows[-1, 2] = 0.9
    genotype = fair_darts(space, steps_per_epoch=2).select(space, mix)
    targets = [edge.target for edge in genotype.cells["normal"]]
    assert targets == [2, 3, 4, 5] and genotype.cells["normal"][-1].source == 4
