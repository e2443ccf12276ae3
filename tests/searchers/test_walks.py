"""SMASH's three parts, and a tree search that compares options by what came of them."""

import collections

import numpy as np
import pytest

import dnas
from dnas.searchers import Architectures, mcts, random_search, run_searcher, smash_search

SPACE = dnas.SPACES["nasbench201"]
CELLS = Architectures(SPACE)


def planted(genotype):
    return genotype.count("nor_conv_3x3")["cell"] / 6


def asked(searcher, value, number, seed=0):
    """The architectures that a searcher asks for, as columns, and their values."""
    history = run_searcher(SPACE, searcher, value, budget=number, seed=seed)
    return [(CELLS.picks_of(own.genotype), own.value) for own in history]


def exchanges(picks, others):
    return [sum(a != b for a, b in zip(picks, other, strict=True)) for other in others]


def test_smash_changes_the_best_of_the_drawn_and_then_the_best_of_all():
    found = asked(smash_search(20, 30, probability=0.0), planted, 120)
    start = max(found[:20], key=lambda own: own[1])[0]
    assert exchanges(start, [picks for picks, _ in found[20:50]]) == [1] * 30
    for number in range(50, 120):
        best = max(found[:number], key=lambda own: own[1])[0]
        assert exchanges(best, [found[number][0]]) == [1]


def test_smash_exchanges_decisions_with_the_given_probability():
    found = asked(smash_search(1, 400, probability=0.5), lambda genotype: 0.0, 401)
    changed = exchanges(found[0][0], [picks for picks, _ in found[1:]])
    # Of six, of which an exchange may come back to where it was: at least one.
    assert 2 < np.mean(changed) < 3 and max(changed) > 4


def test_a_tree_with_much_exploration_takes_all_options_equally_often():
    found = asked(mcts(exploration=1e6), planted, 250)
    for rows in (1, 2):  # of the first decision, and of the first two
        taken = collections.Counter(picks[:rows] for picks, _ in found)
        assert len(taken) == 5**rows and max(taken.values()) - min(taken.values()) <= 2


def test_a_tree_without_exploration_stays_with_what_was_best():
    """Only the first row counts, and value 1 is its option 3 alone."""

    def first_row(genotype):
        return float(CELLS.picks_of(genotype)[0] == 3)

    found = asked(mcts(exploration=0.0), first_row, 60)
    first = [picks[0] for picks, _ in found]
    assert set(first[:5]) == set(range(5)) and set(first[5:]) == {3}


@pytest.mark.parametrize("searcher", [mcts(), smash_search(40, 20)], ids=["mcts", "smash"])
@pytest.mark.parametrize("name", ["darts", "fbnet"])
def test_walks_are_of_the_space_also_where_rows_compete(searcher, name):
    space = dnas.SPACES[name]
    history = run_searcher(space, searcher, lambda genotype: 0.5, budget=80)
    for own in history:
        dnas.check_genotype(space, own.genotype)
    assert len({own.genotype for own in history}) > 60


@pytest.mark.parametrize("searcher", [mcts(0.3), smash_search(50, 20)], ids=["mcts", "smash"])
def test_a_walk_beats_random_draws(searcher):
    ends = [max(value for _, value in asked(searcher, planted, 200, seed)) for seed in range(4)]
    drawn = [
        max(value for _, value in asked(random_search(), planted, 200, seed)) for seed in range(4)
    ]
    assert np.mean(ends) > np.mean(drawn)


def test_options_that_do_not_fit_are_refused():
    for wrong in (
        lambda: smash_search(0),
        lambda: smash_search(probability=1.5),
        lambda: mcts(exploration=-1.0),
    ):
        with pytest.raises(ValueError, match="got"):
            wrong()
