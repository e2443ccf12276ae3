"""Short trainings of architectures by one program."""

import functools
import importlib

import jax
import numpy as np
import pytest

import dnas
from dnas import short_training, tasks
from dnas.searchers import random_search, search_trainings

# The function has the name of its module.
module = importlib.import_module("dnas.short_training")
SPACE = dnas.SPACES["nasbench201"]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.arange(40) % 3
TASK = tasks.images(IMAGES, LABELS, test=(IMAGES, LABELS))
SIZES = {"channels": 2, "num_cells": 3}
CELLS = [dnas.random_genotype(key, SPACE) for key in jax.random.split(jax.random.key(1), 3)]


@pytest.fixture(scope="module")
def train():
    """Two epochs, each of which goes once through the images."""
    return short_training(SPACE, TASK, epochs=2, steps=5, batch_size=8, seed=3, **SIZES)


def test_it_is_a_training_of_the_supernet_at_one_mix(train):
    supernet = SPACE.supernet(**SIZES, num_classes=3, sampled=True)
    cell = CELLS[0]
    mix = dnas.one_hot_mix(SPACE, cell)

    def apply(variables, none, inputs, **keywords):
        return supernet.apply(variables, mix, inputs, **keywords)

    result = dnas.retrain(
        dnas.Model(supernet.init, apply),
        TASK,
        epochs=2,
        batch_size=8,
        drop_path=0.0,
        auxiliary_weight=0.0,
        seed=3,
        optimizer=module._SGD,
        hooks=dnas.QUIET,
    )
    losses = [row["loss"] for row in result.history]
    np.testing.assert_allclose([*train(cell)], -np.array(losses), rtol=1e-5)


def test_one_program_serves_all_and_an_architecture_has_the_same_value_every_time(train):
    first = [[*train(cell)] for cell in CELLS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "compile_step", None)  # is not called again
        again = [[*train(cell)] for cell in reversed(CELLS)]
    assert first == again[::-1] and len({tuple(own) for own in first}) == len(CELLS)


def test_an_epoch_may_be_longer_or_shorter_than_the_data():
    """Its batches are those of a long training, in pieces: five steps an epoch of the data."""
    short = module._rows(TASK.feeds(0, 8, 1)[0], 3, 4)
    whole = np.concatenate([TASK.feeds(0, 8, 1)[0].rows(number) for number in range(2)])
    np.testing.assert_array_equal(short, whole[3:7])


def test_a_searcher_spends_its_budget_on_trainings(train):
    calls = []

    def counted(genotype):
        for value in train(genotype):
            calls.append(genotype)
            yield value

    history = search_trainings(SPACE, random_search(), counted, epochs=2, budget=6, confidence=1.0)
    assert len(calls) == 6 and [evaluation.cost for evaluation in history] == [2, 2, 2]


def test_what_diverges_is_worst_and_sizes_that_do_not_fit_are_refused():
    rate = functools.partial(dnas.final_sgd, learning_rate=1e30, clip=None)
    train = short_training(SPACE, TASK, epochs=2, steps=2, batch_size=8, optimizer=rate, **SIZES)
    assert [*train(CELLS[0])][-1] < -1e30
    with pytest.raises(ValueError, match="epochs is a whole number from 1 on, got 0"):
        short_training(SPACE, TASK, epochs=0)
    with pytest.raises(ValueError, match="multiple of 3"):
        short_training(SPACE, TASK, channels=2, num_cells=4)
    with pytest.raises(ValueError, match="batch size"):
        short_training(SPACE, TASK, batch_size=64, **SIZES)
