"""P-DARTS: its settings, its dropout, and stages that only ever drop."""

import numpy as np
import pytest
from small_searches import DARTS, SMALL, published, settings_of, small_search

import dnas
from dnas.methods import METHODS, Training
from dnas.methods.p_darts import skip_rate

DARTS_SPACE = dnas.SPACES["darts"]


def test_settings_are_those_of_the_release():
    """chenxin061/pdarts, train_search.py; its dropout from the paper."""
    assert settings_of("p_darts", "darts") == published(
        DARTS,
        epochs=25,
        warmup=0.4,
        num_cells=5,
        batch_size=96,
        min_learning_rate=0.0,
        arch_learning_rate=6e-4,
        arch_clip=5.0,
        depths=(5, 11, 17),
        keep=(5, 3),
        skip_rates=(0.0, 0.4, 0.7),
        most_skips=2,
    )
    # train_cifar.py
    assert METHODS["p_darts"].retraining == {"darts": {"batch_size": 128, "drop_path": 0.3}}


@pytest.mark.parametrize("start", [0.4, 0.7])
def test_dropout_of_a_published_stage_is_that_of_the_released_loop(start):
    rate = skip_rate(Training(steps_per_epoch=3, epochs=25, warmup=10 / 25), start)
    for epoch in range(25):
        released = start * (25 - epoch - 1) / 25
        if epoch >= 10:
            released = start * np.exp(-(epoch - 10) * 0.2)
        for step in (3 * epoch, 3 * epoch + 2):
            np.testing.assert_allclose(rate(step), released, rtol=1e-6)


def test_dropout_of_a_shorter_search_has_the_same_shape():
    long, short = (
        skip_rate(Training(steps_per_epoch=1, epochs=epochs, warmup=0.4), 0.7) for epochs in (50, 5)
    )
    # the epochs of arch
    np.testing.assert_allclose([short(2), short(3)], [long(20), long(30)], rtol=1e-6)


def test_stages_are_deeper_and_scale_with_the_first():
    method = METHODS["p_darts"](DARTS_SPACE, steps_per_epoch=2, num_cells=10)
    runs = [method, *[stage.method for stage in method.stages]]
    assert [run.training.num_cells for run in runs] == [10, 22, 34]


@pytest.mark.parametrize("name", ["s4", "nasbench201", "fbnet"])
def test_spaces_without_what_it_bounds_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"the space '{name}'"):
        METHODS["p_darts"](dnas.SPACES[name], steps_per_epoch=2)


@pytest.mark.slow
def test_a_search_drops_candidates_from_stage_to_stage():
    result = small_search("p_darts", keep=(2, 1), most_skips=1)
    candidates = {kind: np.asarray(rows) for kind, rows in result.state.candidates.items()}
    assert all((rows.sum(axis=1) == 1).all() for rows in candidates.values())
    assert result.genotype.count("skip_connect")["normal"] <= 1
    assert result.genotype.space == SMALL.name
