"""Trainings that will not be the best are stopped, and the best is found for fewer epochs."""

import zlib

import numpy as np
import pytest

import dnas
from dnas.searchers import incumbents, random_search, run_searcher, search_trainings

SPACE, EPOCHS = dnas.SPACES["nasbench201"], 12


def end(genotype):
    return 0.5 + 0.07 * (genotype.count("nor_conv_3x3")["cell"] - genotype.count("none")["cell"])


class Trainings:
    """Curves that rise to `end` at rates of their own, with some noise; counts epochs."""

    def __init__(self):
        self.epochs = {}

    def __call__(self, genotype):
        rng = np.random.default_rng(zlib.crc32(genotype.to_text().encode()))
        rate = rng.uniform(0.3, 0.6)
        for epoch in range(1, EPOCHS + 1):
            self.epochs[genotype] = epoch
            now = end(genotype) + 0.003 * rng.standard_normal()
            yield now if epoch == EPOCHS else now * (1 - np.exp(-rate * epoch))


def search(train, **options):
    given = dict(epochs=EPOCHS, budget=40 * EPOCHS, seed=0) | options
    return search_trainings(SPACE, random_search(), train, **given)


def test_with_full_confidence_all_are_trained_as_without_stopping():
    train = Trainings()
    found = search(train, confidence=1.0)
    expected = run_searcher(
        SPACE,
        random_search(),
        lambda genotype: [*Trainings()(genotype)][-1],
        budget=40 * EPOCHS,
        cost=lambda genotype: EPOCHS,
        seed=0,
    )
    assert found == expected and len(found) == 40


def test_stopping_sees_more_trainings_and_misses_no_best():
    train = Trainings()
    found = search(train)
    assert len(found) > 55 and sum(own.cost for own in found) <= 40 * EPOCHS
    for own in found[:-1]:
        assert own.cost == train.epochs[own.genotype]  # no epoch that does not count
    assert all(own.cost == EPOCHS for own in found[:20])
    # What was stopped is not the best, by its prediction and in truth.
    best, whole = incumbents(found)[-1], [own for own in found if own.cost == EPOCHS]
    assert best in [own.genotype for own in whole]
    stopped = [own for own in found if own.cost < EPOCHS]
    assert end(best) >= max(end(own.genotype) for own in stopped)
    errors = [own.value - end(own.genotype) for own in stopped]
    assert np.abs(errors).mean() < 0.1


def test_a_lower_confidence_stops_more_and_earlier():
    costs = [np.mean([own.cost for own in search(Trainings(), confidence=c)]) for c in (0.6, 0.99)]
    assert costs[0] < costs[1]


def test_the_budget_is_kept_where_a_training_does_not_fit():
    train = Trainings()
    found = search(train, budget=3 * EPOCHS + 5)
    assert [own.cost for own in found] == [EPOCHS] * 3 and sum(train.epochs.values()) == 41


def test_what_does_not_fit_is_refused():
    for wrong in (dict(confidence=0.4), dict(confidence=1.1), dict(whole=4), dict(epochs=0)):
        with pytest.raises(ValueError, match="confidence is from 0.5 to 1, whole at least 5"):
            search(Trainings(), **wrong)
    with pytest.raises(ValueError, match="yields 12 values; train yields one after each of 13"):
        search(Trainings(), epochs=13)
