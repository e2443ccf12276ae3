"""SGAS: arch learns from the first step on, only decisions wait."""

import numpy as np
import pytest
from published_values import DARTS_ON_TEXTS
from small_searches import DARTS, published, settings_of, small_search

import dnas
from dnas.methods import METHODS


def test_settings_are_those_of_the_release():
    """lightaime/sgas, cnn/train_search.py: warmup_dec_epoch 9, decision_freq 5, 50 epochs."""
    own = dict(criterion=1, wait=9, interval=5, history=4)
    assert settings_of("sgas", "darts") == published(DARTS, **own)
    assert settings_of("sgas", "recurrent") == published(DARTS_ON_TEXTS, **own)


def test_arch_moves_before_the_first_decision_and_every_edge_is_decided_in_the_end():
    result = small_search("sgas", epochs=10)  # waits two epochs, one decision in each from then on
    first, second = (row["mix"] for row in result.history[:2])
    assert all((first[kind] != second[kind]).any() for kind in first)
    decided = [row["decided"] for row in result.history]
    assert decided[:3] == [0, 0, 2] and decided[-1] == 8
    assert all(set(np.unique(rows)) == {0.0, 1.0} for rows in result.mix.values())


@pytest.mark.parametrize("criterion", [1, 2])
def test_decisions_of_a_published_search_fall_in_the_released_epochs(criterion):
    method = METHODS["sgas"](dnas.SPACES["darts"], steps_per_epoch=1, criterion=criterion)
    state = method.rule.init(dnas.SPACES["darts"], 50)
    space = dnas.SPACES["darts"]
    random = np.random.default_rng(0)
    everything = {kind: np.ones((14, 8), bool) for kind in space.cells}
    decided = []
    for epoch in range(1, 50):
        mix = {kind: random.dirichlet(np.ones(8), 14) for kind in space.cells}
        observed = dnas.Observed(space, epoch, mix, everything, None, None)
        state, verdict = method.rule.update(state, observed)
        decided += [epoch - 1] * (verdict.candidates is not None)  # numbered from 0 there
    assert decided == [9, 14, 19, 24, 29, 34, 39, 44]


def test_spaces_whose_nodes_keep_all_edges_are_refused():
    with pytest.raises(ValueError, match="'sgas' is not for the space 'nasbench201'"):
        METHODS["sgas"](dnas.SPACES["nasbench201"], steps_per_epoch=2)
    kept = dnas.SPACES["nasbench201"]._replace(family="darts")
    with pytest.raises(ValueError, match="keep all of theirs"):
        METHODS["sgas"](kept, steps_per_epoch=2)
