"""DARTS-PT: two stages, of which the second begins where the first ends, in spaces of any kind."""

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

OWN = {"interval": 5, "tuning_rate": 0.1}


def test_settings_are_those_of_the_release():
    """ruocwang/darts-pt: sota/cnn/train_search.py, nasbench201/train_search.py, exp_scripts."""
    assert settings_of("darts_pt", "darts_without_none") == published(DARTS, falling=True, **OWN)
    assert settings_of("darts_pt", "nasbench201") == published(
        NASBENCH201,
        epochs=100,
        order="arch_first",
        nesterov=False,
        weight_decay=3e-4,
        falling=False,
        **OWN,
    )


def test_tuning_is_as_long_as_the_released_one_at_a_tenth_of_the_rate():
    """tune_epochs = proj_intv * (14 + 3 - 1) + 1, one cosine over all of it; in NAS-Bench-201
    without one."""
    (stage,) = METHODS["darts_pt"](dnas.SPACES["darts_without_none"], steps_per_epoch=1).stages
    training = stage.method.training
    assert training.epochs == 81
    rates = training.learning_rate, training.min_learning_rate
    assert rates == pytest.approx((0.0025, 0.001))
    (stage,) = METHODS["darts_pt"](dnas.SPACES["nasbench201"], steps_per_epoch=1).stages
    training = stage.method.training
    assert training.epochs == 5 * (6 - 1) + 1
    assert training.learning_rate == training.min_learning_rate == pytest.approx(0.0025)


@pytest.mark.slow
def test_the_second_stage_begins_with_what_the_first_ends_with():
    first, seen = {}, {}

    def parts(state):
        parts = state.weights, state.arch, state.optimizer.arch
        return [np.asarray(leaf) for leaf in jax.tree.leaves(parts)]

    def hooks(number):
        def resume(state):
            first[number] = parts(state)
            return state

        def report(progress):
            seen[number] = parts(progress.state)

        return dnas.QUIET._replace(resume=resume, report=report)

    small_search("darts_pt", hooks=hooks, epochs=1, interval=1)
    jax.tree.map(np.testing.assert_array_equal, seen[0], first[1])
    assert any((before != after).any() for before, after in zip(first[0], first[1], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("space", [SMALL, SMALL_201], ids=["darts", "nasbench201"])
def test_every_edge_that_is_kept_has_one_op_in_the_end(space):
    result = small_search("darts_pt", space, epochs=1, interval=1)
    for kind, choices in space.choices.items():
        rows = result.mix[kind]
        assert set(np.unique(rows)) <= {0.0, 1.0}
        kept = [rows[list(group)].sum() for group in choices.groups]
        assert kept == [choices.places(group) for group in choices.groups]


def test_none_is_a_candidate_where_nodes_keep_all_of_their_edges():
    """An accuracy that falls without `none` on one edge, and without a convolution on others."""
    space = dnas.SPACES["nasbench201"]
    rule = dnas.RULES["perturbation"](interval=1)
    mix = {"cell": np.full((6, 5), 0.2, np.float32)}
    candidates = {"cell": np.ones((6, 5), bool)}
    target = np.array([0, 3, 3, 3, 3, 3])

    def accuracy(mix):
        return float((mix["cell"][np.arange(6), target] > 0).sum())

    epochs = dnas.perturbation_epochs(space, interval=1)
    state = rule.init(space, epochs)
    assert all(np.asarray(leaf).size for leaf in jax.tree.leaves(state))  # a checkpoint holds it
    for epoch in range(1, epochs + 1):
        observed = dnas.Observed(space, epoch, mix, candidates, accuracy, None)
        state, verdict = rule.update(state, observed)
        candidates = verdict.candidates
    assert verdict.stop
    np.testing.assert_array_equal(verdict.mix["cell"].argmax(axis=1), target)
    assert verdict.mix["cell"].sum() == 6
    genotype = dnas.default_selection(space, verdict.mix)
    assert [edge.op for edge in genotype.cells["cell"]].count("nor_conv_3x3") == 5
