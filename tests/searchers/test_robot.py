"""RoBoT finds the mixture of scores that orders a pool, and the best architecture of it."""

import csv
import gzip
import itertools
import pathlib

import numpy as np
import pytest

import dnas
from dnas.searchers import incumbents, robot, run_searcher

SHARED = pathlib.Path(__file__).parents[3] / "shared"
SPACE = dnas.nasbench201_space(
    name="small", ops=("none", "skip_connect", "nor_conv_3x3"), num_nodes=2
)
POOL = [
    dnas.Genotype("small", {"cell": [(0, 1, a), (0, 2, b), (1, 2, c)]}, {"cell": (2,)})
    for a, b, c in itertools.product(SPACE.cells["cell"].ops, repeat=3)
]
NUMBER = {genotype: number for number, genotype in enumerate(POOL)}


def planted(seed=0):
    """Values that two of three scores add up to, one of them turned round."""
    first, second, noise = np.random.default_rng(seed).normal(size=(3, len(POOL)))
    return {"first": first, "second": -second, "noise": noise}, first + second


def searched(scores, values, budget, **options):
    return run_searcher(
        SPACE,
        robot(POOL, scores, **options),
        lambda genotype: float(values[NUMBER[genotype]]),
        budget=budget,
        seed=options.pop("seed", 0),
    )


def test_it_finds_the_best_of_a_planted_mixture():
    found = [
        values[NUMBER[incumbents(searched(scores, values, 10))[-1]]] == values.max()
        for scores, values in map(planted, range(4))
    ]
    # At random these 10 of 27 architectures would have the best in 3 of 8 searches.
    assert all(found)


def test_no_architecture_is_evaluated_twice_and_all_are_in_the_end():
    scores, values = planted()
    history = searched(scores, values, 100, rounds=4)
    assert len(history) == len({own.genotype for own in history}) == len(POOL)


def test_after_its_rounds_it_goes_down_the_order_of_the_best_weights():
    score = np.random.default_rng(1).permutation(len(POOL)).astype(float)
    history = searched({"only": score}, score, 6, rounds=8)
    numbers = [score[NUMBER[own.genotype]] for own in history]
    # One score leaves two orders, up and down; the better one goes on.
    assert set(numbers) <= {0.0, *range(len(POOL) - 6, len(POOL))}
    after = [number for number in numbers if number > 0]
    assert after == sorted(after, reverse=True) and len(after) >= 5


def test_what_has_no_score_comes_last():
    score = np.arange(float(len(POOL)))
    score[-1] = -np.inf
    history = searched({"only": score}, score.clip(0), 3, rounds=8)
    assert max(NUMBER[own.genotype] for own in history if own.value) == len(POOL) - 2


def test_mistakes_are_named():
    scores, _ = planted()
    for given, message in (
        ((POOL[:3], scores), "a pool of architectures has each score of each of them, got 3"),
        ((POOL, {}), "so many of each score"),
        (
            (POOL, {"first": [np.nan] * len(POOL)}),
            "a list in which each is a number",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            robot(*given)
    with pytest.raises(ValueError, match="rounds is a number of at least 1"):
        robot(POOL, scores, rounds=0)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_real_scores_lead_to_better_cells_than_chance():
    """All of NAS-Bench-201, 20 looks at the accuracy after 12 epochs; at random that many lead to
    93.00 (../shared/facts-baselines.md, section 1.7)."""
    space = dnas.SPACES["nasbench201"]
    with gzip.open(SHARED / "data" / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    with gzip.open(SHARED / "vectors" / "nasbench201_zen.csv.gz", "rt") as file:
        zen = {row["arch"]: float(row["zen_cifar10"]) for row in csv.DictReader(file)}
    pool = [dnas.Genotype.from_text(row["arch"]) for row in rows]
    live = [space.cells["cell"].live_edges_of(genotype.cells["cell"]) for genotype in pool]
    cost = {"nor_conv_3x3": 9, "nor_conv_1x1": 1}
    scores = {
        "macs": [sum(cost.get(op, 0) for *_, op in edges) for edges in live],
        "skips": [sum(op == "skip_connect" for *_, op in edges) for edges in live],
        "zen": [zen[row["arch"]] for row in rows],
    }
    seen, test = (
        np.array([float(row[column]) for row in rows])
        for column in ("cifar10_valid_12ep", "cifar10_test_200ep")
    )
    number = {genotype: place for place, genotype in enumerate(pool)}
    ends = []
    for seed in range(6):
        history = run_searcher(
            space,
            robot(pool, scores),
            lambda genotype: float(seen[number[genotype]]),
            budget=20,
            seed=seed,
        )
        ends.append(test[number[incumbents(history)[-1]]])
    assert np.mean(ends) > 93.5, ends
