"""OLES: its settings, and what it watches."""

import jax
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
from dnas.methods import METHODS
from dnas.methods.oles import _watched

OWN = {"threshold": 0.4, "decision_steps": 20, "added": True}


def test_settings_are_those_of_the_release():
    """PasaLab/oles, train_search.py: patience 0.4, count 20, and DARTS's."""
    assert settings_of("oles", "darts") == published(DARTS, **OWN)
    assert settings_of("oles", "nasbench201") == published(NASBENCH201, **OWN)


def test_watched_are_ops_with_weights_but_skips_that_halve():
    sizes = dict(channels=2, num_cells=3, num_classes=2)
    images = jax.numpy.zeros((1, 8, 8, 3))
    for space, ops in ((SMALL, {"sep_conv_3x3"}), (SMALL_201, {"nor_conv_1x1"})):
        weights = space.supernet(**sizes).init(jax.random.key(0), images)["params"]
        names = set(jax.tree.leaves(_watched(weights))) - {""}
        assert {name.split("-")[-1] for name in names} == ops
        assert {name.split("-")[0] for name in names} == {f"cell_{number}" for number in range(3)}


@pytest.mark.slow
@pytest.mark.parametrize("space", [SMALL, SMALL_201], ids=["darts", "nasbench201"])
def test_a_strict_search_stops_ops_and_a_lax_one_none(space):
    shares = {}
    for threshold in (-1.0, 1.0):
        result = small_search("oles", space, threshold=threshold, decision_steps=2)
        shares[threshold] = [row["stopped"] for row in result.history]
    assert shares == {-1.0: [0.0, 0.0], 1.0: [0.5, 1.0]}  # after the second of two steps


def test_a_search_without_stops_is_that_of_darts():
    one = small_search("oles", threshold=-1.0)
    other = small_search("darts1")
    assert one.genotype == other.genotype
    jax.tree.map(
        lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5),
        one.state.weights,
        other.state.weights,
    )


def test_models_without_weights_of_candidates_are_refused():
    with pytest.raises(ValueError, match="take a space of cells"):
        METHODS["oles"](dnas.SPACES["darts"], steps_per_epoch=1).optimizer(1, 1).init(
            {"kernel": jax.numpy.ones((2, 2))}, {}
        )
    with pytest.raises(ValueError, match="OLES takes its steps.*warmup"):
        METHODS["oles"](dnas.SPACES["darts"], steps_per_epoch=1, warmup=0.5)
