"""What needs no search by gradients: counting, random draws, searchers in a table."""

import itertools
import pathlib

import jax
import numpy as np
import pytest

import dnas
from dnas.baselines import all_alike, baselines, most_macs
from dnas.tabular import Benchmark, load_benchmark

SPACE = dnas.SPACES["nasbench201"]
SMALL = dnas.nasbench201_space(
    name="small", ops=("none", "skip_connect", "nor_conv_3x3"), num_nodes=2
)
SPACES = ("darts", "s1", "nasbench201")


def all_of_small():
    ops = itertools.product(("none", "skip_connect", "nor_conv_3x3"), repeat=3)
    return [
        dnas.Genotype("small", {"cell": [(0, 1, a), (0, 2, b), (1, 2, c)]}, {"cell": (2,)})
        for a, b, c in ops
    ]


@pytest.mark.parametrize("name", SPACES)
def test_no_random_genotype_has_more_multiply_adds(name):
    space = dnas.SPACES[name]
    cost = dnas.hw_loss.expected_cost(
        dnas.hw_loss.count_table(space), space.parts(), metric="macs", live="path"
    )
    most = most_macs(space)
    dnas.check_genotype(space, most)
    random = [dnas.random_genotype(jax.random.key(seed), space) for seed in range(8)]
    of_random = [cost.discrete(dnas.one_hot_mix(space, genotype)) for genotype in random]
    assert cost.discrete(dnas.one_hot_mix(space, most)) >= max(of_random)


@pytest.mark.parametrize("name", SPACES)
def test_a_network_of_one_option_has_it_wherever_it_may_be(name):
    space = dnas.SPACES[name]
    genotype = all_alike(space)
    dnas.check_genotype(space, genotype)
    for kind, own in space.choices.items():
        may = [row for row in range(len(own.rows)) if "skip_connect" in own.options_of(row)]
        if len(may) == len(own.rows):
            ops = [edge.op for edge in genotype.cells[kind]] if kind in genotype.cells else []
            assert set(ops) <= {"skip_connect"}
    with pytest.raises(ValueError, match="'hop' is not in the space"):
        all_alike(space, "hop")


def test_rows_of_a_small_table_are_what_it_says():
    genotypes = all_of_small()
    worth = [sum(len(edge.op) for edge in genotype.cells["cell"]) for genotype in genotypes]
    noise = np.random.default_rng(0).normal(size=len(worth))
    benchmark = Benchmark(genotypes, {"test": np.array(worth, float), "valid": worth + noise})
    rows = {own.name: own for own in baselines(SMALL, benchmark, "test", seen="valid", trials=4)}
    assert rows["one random network"].mean == pytest.approx(np.mean(worth))
    assert rows["most multiply-adds"].values == (3 * len("nor_conv_3x3"),)
    assert rows["skips alone"].values == (3 * len("skip_connect"),)
    assert rows["the best of all"].mean == max(worth)
    # With as many evaluations as there are networks random search sees all: the best by `valid`.
    seen = rows[f"random search, {len(worth)} evaluations"]
    assert set(seen.values) == {worth[int(np.argmax(worth + noise))]} and len(seen.values) == 4


def test_what_a_table_does_not_list_has_no_row():
    listed = [genotype for genotype in all_of_small() if genotype.count("nor_conv_3x3")["cell"] < 3]
    benchmark = Benchmark(listed[:8], {"test": np.arange(8.0)})
    names = [own.name for own in baselines(SMALL, benchmark, "test")]
    assert names[0] == "one random network" and names[-1] == "the best of all"
    assert not any("multiply" in name or "search" in name for name in names)


TABLE = pathlib.Path(__file__).parents[2] / "shared" / "data" / "nasbench201.csv.gz"


@pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is not there")
def test_counting_on_nasbench201_is_as_good_as_is_known():
    benchmark = load_benchmark(TABLE, space=SPACE)
    rows = {
        own.name: own
        for own in baselines(
            SPACE, benchmark, "cifar10_test_200ep", seen="cifar10_valid_12ep", trials=20
        )
    }
    assert rows["most multiply-adds"].mean == pytest.approx(93.76, abs=0.005)
    assert rows["one random network"].mean == pytest.approx(87.04, abs=0.005)
    assert rows["best of 10 random networks, by an oracle"].mean == pytest.approx(93.09, abs=0.005)
    assert rows["the best of all"].mean == pytest.approx(94.37, abs=0.005)
    # facts-baselines.md 1.7
    for name, mean in (("random search", 93.71), ("local search", 94.11)):
        own = rows[f"{name}, 100 evaluations"]
        error = 0.06 + 2 * np.std(own.values, ddof=1) / np.sqrt(len(own.values))
        assert abs(own.mean - mean) < error
