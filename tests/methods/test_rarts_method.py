"""RARTS: DARTS's settings, in an order of its own."""

import jax
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
from dnas.bilevel.rarts import RartsState
from dnas.methods import METHODS

OWN = {"inner_weight": 1.0, "coupling": 10.0}


def test_settings_are_those_of_the_spaces_with_the_two_weights_of_ours():
    assert settings_of("rarts", "darts") == published(DARTS, **OWN)
    assert settings_of("rarts", "fbnet") == published(DARTS, **OWN)
    assert settings_of("rarts", "nasbench201") == published(NASBENCH201, order="arch_first", **OWN)


@pytest.mark.slow
@pytest.mark.parametrize("space", [SMALL, SMALL_201], ids=["darts", "nasbench201"])
def test_a_search_keeps_a_second_set_of_weights(space):
    result = small_search("rarts", space)
    state = result.state.optimizer
    assert isinstance(state, RartsState)
    same = jax.tree.map(
        lambda one, other: one.shape == other.shape, state.copy, result.state.weights
    )
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(
    "changes", [{"warmup": 0.5}, {"order": "weights_first"}, {"arch_every": 2, "warmup": 0.1}]
)
def test_settings_of_an_alternation_are_refused(changes):
    with pytest.raises(
        ValueError, match=f"RARTS takes its steps.*{', '.join(sorted(changes))[:6]}"
    ):
        METHODS["rarts"](dnas.SPACES["darts"], steps_per_epoch=2, **changes)
