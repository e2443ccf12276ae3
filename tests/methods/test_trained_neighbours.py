"""Searches by short trainings in place of gradients."""

import itertools

import numpy as np
import pytest
from small_searches import IMAGES, LABELS

import dnas
from dnas.baselines import most_macs
from dnas.methods import METHODS, Stage, Trials
from dnas.searchers import Architectures, local_search, random_search, run_searcher
from dnas.trials import nearest_within

SPACE = dnas.nasbench201_space(
    name="small_201", ops=("none", "skip_connect", "nor_conv_3x3"), num_nodes=2
)
TASK = dnas.tasks.images(IMAGES, LABELS)
SIZES = {"channels": 2, "num_cells": 3, "batch_size": 8}
COST = dnas.hw_loss.expected_cost(
    dnas.hw_loss.count_table(SPACE), SPACE.parts(), metric="macs", live="path"
)


def method_of(trials=9, **changes):
    settings = SIZES | {"trials": trials, "trial_steps": 4, "repeats": 0} | changes
    return METHODS["trained_neighbours"].for_task(SPACE, TASK, **settings)


def search(method, **keywords):
    return dnas.run_search(SPACE, TASK, method, **{"hooks": dnas.QUIET, "seed": 1} | keywords)


@pytest.fixture(scope="module")
def result():
    return search(method_of())


def test_it_is_local_search_from_the_largest_network_over_short_trainings(result):
    method = method_of()
    train = dnas.short_training(
        SPACE, TASK, epochs=2, steps=2, optimizer=method.trials.optimizer, seed=1, **SIZES
    )
    history = run_searcher(
        SPACE,
        local_search(start=most_macs(SPACE), first_improvement=False, again=False),
        lambda genotype: [*train(genotype)][-1],
        budget=9,
        seed=1,
    )
    values = [row["value"] for row in result.history]
    np.testing.assert_allclose(values, [own.value for own in history], rtol=1e-6)
    best = max(history, key=lambda own: own.value)
    assert result.genotype == best.genotype and history[0].genotype == most_macs(SPACE)


def test_a_search_that_is_taken_up_again_ends_as_one_that_was_not_interrupted(result):
    states = []
    hooks = dnas.QUIET._replace(report=lambda progress: states.append(progress.state))
    search(method_of(), max_steps=4, hooks=hooks)
    resumed = search(method_of(), hooks=dnas.QUIET._replace(resume=lambda state: states[-1]))
    assert [row["step"] for row in resumed.history] == [5, 6, 7, 8, 9][: len(resumed.history)]
    assert resumed.genotype == result.genotype
    np.testing.assert_array_equal(resumed.state.values, result.state.values)


def test_it_ends_at_an_architecture_that_no_neighbour_is_better_than():
    reports = []
    hooks = dnas.QUIET._replace(report=reports.append)
    result = search(method_of(trials=27), hooks=hooks)
    assert reports[-1].stopped and len(result.history) == int(result.state.step) < 27


def test_a_move_gains_more_than_twice_the_deviation_between_seeds_and_size_decides_within_it():
    result = search(method_of(trials=40, repeats=3))
    values = result.state.values
    margin = 2 * float(np.std(values[:4], ddof=1))
    own = [row for row in result.history if row["seed"] == 1]
    trained = {dnas.Genotype.from_json(row["trained"]): row["value"] for row in own}
    assert margin > 0 and len(trained) == len(own) == len(result.history) - 3
    if max(trained.values()) <= values[0] + margin:
        assert len(own) == 1 + 6  # no neighbour was worth a move
    near = [cell for cell, value in trained.items() if value >= max(trained.values()) - margin]
    sizes = [COST.discrete(dnas.one_hot_mix(SPACE, cell)) for cell in near]
    assert COST.discrete(dnas.one_hot_mix(SPACE, result.genotype)) == max(sizes)


def test_within_limits_it_begins_at_the_largest_and_trains_nothing_else():
    bound = COST.discrete(dnas.one_hot_mix(SPACE, most_macs(SPACE))) * 0.7
    method = method_of()
    method = method._replace(trials=method.trials._replace(limits=[(COST, bound)]))
    trained = []
    hooks = dnas.QUIET._replace(report=lambda progress: trained.append(progress.row["genotype"]))
    result = search(method, hooks=hooks)
    assert trained[0] == most_macs(SPACE, [(COST, bound)]) != most_macs(SPACE)
    for genotype in (*trained, result.genotype):
        assert COST.discrete(dnas.one_hot_mix(SPACE, genotype)) <= bound


def test_trials_begin_where_a_search_by_gradients_has_ended():
    method = METHODS["darts1"].for_task(SPACE, TASK, epochs=1, **SIZES)
    own = method_of(trials=2)
    found = search(method._replace(stages=[Stage(own)]))
    assert found.history[0]["genotype"] in (search(method).genotype, found.genotype)
    first = search(method._replace(stages=[Stage(own)]), max_steps=1)
    assert first.genotype == search(method, max_steps=1).genotype


def test_any_searcher_can_ask():
    method = dnas.Method(
        trials=Trials(lambda start, noise: random_search(), dnas.final_sgd, number=3, steps=2),
        single_level=True,
    )
    result = search(method, channels=2, num_cells=3, batch_size=8)
    assert len(result.history) == 3


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_largest_within_limits_is_that_of_all_genotypes(share):
    largest = COST.discrete(dnas.one_hot_mix(SPACE, most_macs(SPACE)))
    params = dnas.hw_loss.expected_cost(
        dnas.hw_loss.count_table(SPACE), SPACE.parts(), metric="params"
    )
    bound = share * params.discrete(dnas.one_hot_mix(SPACE, most_macs(SPACE)))
    every = [
        dnas.Genotype("small_201", {"cell": [(0, 1, a), (0, 2, b), (1, 2, c)]}, {"cell": (2,)})
        for a, b, c in itertools.product(SPACE.cells["cell"].ops, repeat=3)
    ]
    mixes = [dnas.one_hot_mix(SPACE, own) for own in every]
    best = max(COST.discrete(mix) for mix in mixes if params.meets(mix, bound))
    found = most_macs(SPACE, [(params, bound)])
    assert COST.discrete(dnas.one_hot_mix(SPACE, found)) == pytest.approx(best) and best <= largest


def test_what_exceeds_limits_is_brought_within_by_the_exchange_that_leaves_most():
    bound = 0.6 * COST.discrete(dnas.one_hot_mix(SPACE, most_macs(SPACE)))
    within, every = nearest_within(SPACE, [(COST, bound)]), Architectures(SPACE)
    mixes = {picks: dnas.one_hot_mix(SPACE, every.genotype_of(picks)) for picks in every.all()}
    size = {picks: COST.discrete(mix) for picks, mix in mixes.items()}
    for picks, own in size.items():
        found = every.picks_of(within(every.genotype_of(picks)))
        near = [size[other] for other in every.neighbours(picks) if size[other] <= bound]
        assert found == picks if own <= bound else size[found] <= bound
        assert own <= bound or not near or size[found] == max(near)
