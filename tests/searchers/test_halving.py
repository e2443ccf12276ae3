"""Successive halving: how many trainings go how far, and what the budget buys."""

import itertools
import zlib

import numpy as np
import pytest

import dnas
from dnas.searchers import incumbents, random_search, run_searcher, successive_halving
from dnas.statistics import compare

SPACE = dnas.SPACES["nasbench201"]


def end(genotype):
    """No two alike."""
    noise = np.random.default_rng(zlib.crc32(genotype.to_text().encode())).uniform()
    return genotype.count("nor_conv_3x3")["cell"] + noise


class Trainings:
    """Curves that never cross; counts the epochs of each."""

    def __init__(self, epochs):
        self.length, self.epochs = epochs, {}

    def __call__(self, genotype):
        for epoch in range(1, self.length + 1):
            self.epochs[genotype] = epoch
            yield end(genotype) * (1 - 0.5**epoch)


def search(train, **options):
    return successive_halving(SPACE, train, **dict(epochs=9, budget=21, seed=1) | options)


@pytest.mark.parametrize(
    ("epochs", "eta", "shortest"), [(9, 3, 1), (27, 3, 3), (16, 2, 1), (20, 3, 1)]
)
def test_of_a_group_one_in_eta_goes_on_to_eta_times_as_many_epochs(epochs, eta, shortest):
    lengths = [epochs]
    while lengths[0] // eta >= shortest:
        lengths = [lengths[0] // eta, *lengths]
    sizes = [eta ** (len(lengths) - 1 - rung) for rung in range(len(lengths))]
    steps = np.diff([0, *lengths])
    budget = int(np.dot(sizes, steps))
    train = Trainings(epochs)
    found = search(train, epochs=epochs, budget=budget, eta=eta, shortest=shortest)
    assert sum(train.epochs.values()) == budget and len(found) == sizes[0]
    costs = [own.cost for own in found]
    assert costs == sorted(costs)
    for length, size in zip(lengths, sizes, strict=True):
        assert sum(cost >= length for cost in costs) == size
    assert costs == [train.epochs[own.genotype] for own in found]
    # Curves do not cross: the best of the group is trained to the end.
    assert found[-1].genotype == max((own.genotype for own in found), key=end)


def test_with_an_eta_above_the_epochs_it_is_random_search():
    found = search(Trainings(9), budget=90, eta=10)
    expected = run_searcher(
        SPACE,
        random_search(),
        lambda genotype: [*Trainings(9)(genotype)][-1],
        budget=90,
        cost=lambda genotype: 9,
        seed=1,
    )
    assert found == expected and len(found) == 10


def test_for_the_same_epochs_it_finds_better_ones_than_whole_trainings():
    differences = []
    for seed in range(8):
        halving = search(Trainings(27), epochs=27, budget=540, seed=seed)
        whole = search(Trainings(27), epochs=27, budget=540, eta=28, seed=seed)
        differences.append(end(incumbents(halving)[-1]) - end(incumbents(whole)[-1]))
    assert np.mean(differences) > 0 and compare(differences, 0.0).is_significant()


@pytest.mark.parametrize("budget", [1, 9, 10, 14, 20, 22, 50])
def test_the_budget_is_spent_and_never_exceeded(budget):
    train = Trainings(9)
    found = search(train, budget=budget)
    assert sum(train.epochs.values()) == budget == sum(own.cost for own in found)
    assert {own.genotype: own.cost for own in found} == train.epochs
    assert found == search(Trainings(9), budget=budget)  # the same again


def test_it_ends_where_it_has_seen_all():
    space = dnas.nasbench201_space(name="tiny", ops=("none", "skip_connect"), num_nodes=2)
    found = successive_halving(space, lambda g: itertools.repeat(0.5), epochs=3, budget=1000)
    assert len(found) == len({own.genotype for own in found}) == 8


def test_what_does_not_fit_is_refused():
    for wrong in ({"eta": 1}, {"epochs": 0}, {"budget": 0}, {"shortest": 0}):
        with pytest.raises(ValueError, match="whole number from [12] on, got"):
            search(Trainings(9), **wrong)
    with pytest.raises(ValueError, match="a finite number after each of 3 epochs"):
        search(Trainings(2), budget=21)
    with pytest.raises(ValueError, match="a finite number after each"):
        search(lambda genotype: itertools.repeat(float("nan")))
