"""Black-box searchers: laws on planted landscapes, and the published curves on NAS-Bench-201."""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.searchers import (
    DROPPED,
    SEARCHERS,
    Architectures,
    Search,
    front,
    incumbents,
    local_search,
    optuna_search,
    random_search,
    regularized_evolution,
    reinforce,
    run_searcher,
)
from dnas.searchers.reinforce import log_probability

SPACE = dnas.SPACES["nasbench201"]
# Two of three edges into the third node, and a dimension beside the cells of images.
SMALL = dnas.darts_space(name="small", ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=2)
SPACES = {"nasbench201": SPACE, "small": SMALL} | {
    name: dnas.SPACES[name] for name in ("darts", "s1", "fbnet", "recurrent")
}


@pytest.mark.parametrize("name", SPACES)
def test_samples_and_their_neighbours_are_of_the_space(name):
    cells, rng = Architectures(SPACES[name]), np.random.default_rng(0)
    for _ in range(5):
        picks = cells.sample(rng)
        near = cells.neighbours(picks)
        assert len(set(near)) == len(near) and picks not in near
        for own in [picks, cells.mutate(rng, picks), *near[:: max(1, len(near) // 20)]]:
            genotype = cells.genotype_of(own)
            dnas.check_genotype(SPACES[name], genotype)
            assert cells.picks_of(genotype) == own
            # Where rows have options of their own, a row may come back with another one only.
            assert name == "s1" or picks in [own, *cells.neighbours(own)]


def test_local_search_begins_where_it_is_told_and_looks_at_all_neighbours_first():
    cells = Architectures(SPACE)
    start = dnas.random_genotype(jax.random.key(0), SPACE)
    searcher = local_search(start=start, first_improvement=False)

    def score(genotype):
        return float(genotype.count("skip_connect")["cell"])

    first, *asked = [own.genotype for own in run_searcher(SPACE, searcher, score, budget=45)]
    near = {cells.genotype_of(picks) for picks in cells.neighbours(cells.picks_of(start))}
    assert first == start and set(asked[:24]) == near
    assert max(map(score, asked[:24])) == score(start) + 1  # and from there on
    assert max(map(score, asked[24:])) == score(start) + 2  # 20 that are new


def test_all_of_a_small_space_are_seen_from_one_by_exchanges():
    cells = Architectures(SMALL)
    every = set(cells.all())
    # Of each kind: the second node keeps two of its three edges, and each edge has two ops.
    assert len(every) == (2**2 * 3 * 2**2) ** 2
    seen, left = set(), [next(cells.all())]
    while left:
        picks = left.pop()
        if picks not in seen:
            seen.add(picks)
            left += cells.neighbours(picks)
    assert seen == every
    drawn = {cells.sample(np.random.default_rng(seed)) for seed in range(200)}
    assert drawn <= every and len(drawn) > 150


def test_neighbours_on_nasbench201_change_one_edge():
    cells = Architectures(SPACE)
    for near in cells.neighbours((0,) * 6):
        assert sum(column != 0 for column in near) == 1
    assert len(cells.neighbours((0,) * 6)) == 24 and sum(1 for _ in cells.all()) == 5**6


def planted(genotype):
    """More convolutions are better: one optimum, which exchanges lead to."""
    ops = genotype.count("nor_conv_3x3")["cell"] + 0.5 * genotype.count("skip_connect")["cell"]
    return ops


@pytest.mark.parametrize("name", ["regularized_evolution", "local_search", "reinforce"])
def test_a_searcher_beats_random_draws_where_one_step_leads_to_the_next(name):
    budget, seeds = 120, range(4)
    found = [
        max(e.value for e in run_searcher(SPACE, SEARCHERS[name](), planted, budget=budget, seed=s))
        for s in seeds
    ]
    drawn = [
        max(e.value for e in run_searcher(SPACE, random_search(), planted, budget=budget, seed=s))
        for s in seeds
    ]
    assert np.mean(found) > np.mean(drawn) and max(found) == 6


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_history_brings_a_search_to_where_it_was(name):
    whole = run_searcher(SMALL, SEARCHERS[name](), worth_of_rows, budget=30, seed=3)
    part = run_searcher(SMALL, SEARCHERS[name](), worth_of_rows, budget=11, seed=3)
    assert whole[:11] == part and len(whole) == 30
    assert run_searcher(SMALL, SEARCHERS[name](), refuse, budget=30, seed=3, history=whole) == whole
    more = run_searcher(SMALL, SEARCHERS[name](), worth_of_rows, budget=30, seed=3, history=part)
    assert more == whole
    if name != "random_search":
        with pytest.raises(ValueError, match="evaluation 0 of the history"):
            run_searcher(SMALL, SEARCHERS[name](), refuse, budget=30, seed=4, history=whole)


def worth_of_rows(genotype):
    edges = [edge for own in genotype.cells.values() for edge in own]
    return float(sum(len(edge.op) * (number + edge.source) for number, edge in enumerate(edges)))


def refuse(genotype):
    raise AssertionError("it is known")


def test_the_budget_counts_what_evaluations_cost():
    history = run_searcher(SPACE, random_search(), planted, budget=9, cost=lambda cell: 2.5)
    assert [e.cost for e in history] == [2.5] * 3
    best = incumbents(history)
    assert len(best) == 3 and planted(best[-1]) == max(e.value for e in history)


@pytest.mark.parametrize("sampler", ["nsgaii", "random"])
def test_a_front_is_what_nothing_beats(sampler):
    def two(cell):
        return planted(cell), -float(cell.count("nor_conv_3x3")["cell"])

    searcher = optuna_search(sampler, objectives=2)
    history = run_searcher(SPACE, searcher, two, budget=60)
    kept = front(history)
    assert kept == sorted(kept, key=lambda own: own.value) and len(set(kept)) == len(kept)
    for own in history:
        at_least = [all(a >= b for a, b in zip(k.value, own.value, strict=True)) for k in kept]
        assert any(at_least)
    for own in kept:
        for other in history:
            pairs = list(zip(other.value, own.value, strict=True))
            assert other.value == own.value or any(a < b for a, b in pairs)


@pytest.mark.parametrize("searcher", [random_search(), local_search()], ids=["random", "local"])
def test_a_searcher_that_sees_nothing_twice_ends_where_it_has_seen_all(searcher):
    space = dnas.nasbench201_space(name="tiny", ops=("none", "skip_connect"), num_nodes=2)
    history = run_searcher(space, searcher, lambda g: 0.0, budget=100)
    assert len(history) == len({e.genotype for e in history}) == 8
    search = Search(space, searcher)
    for _ in range(8):
        search.tell(0.0)
    with pytest.raises(StopIteration, match="has seen all"):
        search.ask()


def test_values_are_finite_numbers_and_options_are_counts():
    with pytest.raises(ValueError, match="finite number, got nan"):
        Search(SPACE, local_search()).tell(float("nan"))
    for wrong in (
        lambda: regularized_evolution(population=0),
        lambda: local_search(initial=0),
        lambda: reinforce(decay=1.0),
    ):
        with pytest.raises(ValueError, match="got"):
            wrong()


def test_probabilities_of_reinforce_sum_to_one():
    # One group of three rows of which two have a place, and a row beside.
    logits = {
        "options": jnp.array([[0.1, 0.9], [0.3, -jnp.inf], [-0.5, 0.4], [0.2, 0.7]]),
        "rows": jnp.array([0.3, -0.2, 0.8, 5.0]),
    }
    total = 0.0
    for order in itertools.permutations(range(3)):
        may = [[0, 1], [0], [0, 1], [0, 1]]
        for row in range(3):
            if row not in order[:2]:
                may[row] = [DROPPED]
        for columns in itertools.product(*may):
            total += jnp.exp(log_probability(logits, jnp.array(columns), [jnp.array(order)], (2,)))
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


TABLE = pathlib.Path(__file__).parents[3] / "shared" / "data" / "nasbench201.csv.gz"

_TRIALS = {"TPE": 8}
# Mean test accuracy of what is best on the validation images after so many evaluations, from an
# implementation of its own: 300 to 500 trials of each, facts-baselines.md 1.7.
CURVES = {
    "random": (random_search(), {10: 92.59, 20: 93.00, 50: 93.49, 100: 93.71, 150: 93.82}),
    "evolution": (
        regularized_evolution(),
        {10: 92.60, 20: 93.02, 50: 93.57, 100: 93.93, 150: 94.07},
    ),
    "evolution 30, 10": (
        regularized_evolution(30, 10),
        {10: 92.60, 20: 92.97, 50: 93.73, 100: 94.10, 150: 94.20},
    ),
    "local search": (
        local_search(),
        {10: 92.57, 20: 93.26, 50: 93.90, 100: 94.11, 150: 94.23},
    ),
    "local search, all neighbours": (
        local_search(first_improvement=False),
        {10: 91.93, 20: 92.26, 50: 93.45, 100: 94.00, 150: 94.13},
    ),
    "local search, all neighbours, ten at the start": (
        local_search(10, first_improvement=False),
        {10: 92.60, 20: 93.17, 50: 93.77, 100: 94.10, 150: 94.21},
    ),
    "REINFORCE": (reinforce(), {100: 93.93}),
    "TPE": (optuna_search("tpe"), {20: 93.07, 50: 93.76, 100: 94.17}),
}


@pytest.fixture(scope="module")
def table():
    if not TABLE.exists():
        pytest.skip(f"{TABLE} is not there")
    benchmark = dnas.tabular.load_benchmark(TABLE, space=SPACE)
    cells = Architectures(SPACE)
    columns = zip(
        benchmark.metrics["cifar10_valid_12ep"],
        benchmark.metrics["cifar10_test_200ep"],
        strict=True,
    )
    return dict(zip(map(cells.picks_of, benchmark.genotypes), columns, strict=True))


@pytest.mark.parametrize("name", CURVES)
def test_curves_on_nasbench201_are_the_known_ones(name, table):
    searcher, expected = CURVES[name]
    trials, length = {"REINFORCE": 100, "TPE": 8}.get(name, 300), max(expected)
    cells, tests = Architectures(SPACE), np.zeros((trials, length))
    for trial in range(trials):
        run, best = searcher(cells, np.random.default_rng(trial)), (-np.inf, None)
        picks = next(run)
        for number in range(length):
            best = max(best, table[picks], key=lambda pair: pair[0])
            tests[trial, number] = best[1]
            picks = run.send(table[picks][0])
    for number, value in expected.items():
        own = tests[:, number - 1]
        # Both are means of some hundreds of trials.
        error = 0.06 + 2 * own.std(ddof=1) * np.sqrt(1 / trials + 1 / _TRIALS.get(name, 300))
        assert abs(own.mean() - value) < error, (number, own.mean(), value)
