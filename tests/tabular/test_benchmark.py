"""Best, rank, regret, quantile and random draws on small tables, where each can be counted."""

import itertools

import numpy as np
import pytest
from tables import cell

from dnas import Genotype
from dnas.tabular import Benchmark, canonical_form

OPS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
TEXTS = [f"|{op}~0|" for op in OPS]
ACCURACY = [10.0, 54.3, 49.0, 89.4, 89.4]


@pytest.fixture(scope="module")
def small():
    genotypes = [Genotype.from_text(text) for text in TEXTS]
    return Benchmark(
        genotypes,
        {"accuracy": ACCURACY, "latency_ms": [0.0, 0.1, 0.5, 2.0, 7.0], "flat": [1.0] * 5},
    )


def test_ties_share_the_best_rank_and_the_first_of_them_is_the_best(small):
    assert [small.rank(text, "accuracy") for text in TEXTS] == [5, 3, 4, 1, 1]
    assert small.best("accuracy") == Genotype.from_text(TEXTS[3])


def test_quantile_is_the_part_that_is_at_most_as_good(small):
    assert [small.quantile(text, "accuracy") for text in TEXTS] == [0.2, 0.6, 0.4, 1.0, 1.0]
    assert small.quantile(TEXTS[0], "flat") == 1.0


def test_regret_is_the_distance_to_the_best(small):
    assert [small.regret(text, "accuracy") for text in TEXTS] == pytest.approx(
        [79.4, 35.1, 40.4, 0, 0]
    )


def test_of_a_cost_less_is_better(small):
    assert small.costs == {"latency_ms"}
    assert small.best("latency_ms") == Genotype.from_text(TEXTS[0])
    assert [small.rank(text, "latency_ms") for text in TEXTS] == [1, 2, 3, 4, 5]
    assert (
        small.regret(TEXTS[4], "latency_ms") == 7.0
        and small.quantile(TEXTS[4], "latency_ms") == 0.2
    )


def test_a_cost_is_the_negative_of_a_score():
    genotypes = [Genotype.from_text(text) for text in TEXTS]
    both = Benchmark(
        genotypes, {"up": ACCURACY, "down": [-value for value in ACCURACY]}, costs=["down"]
    )
    for text in TEXTS:
        for question in (both.rank, both.regret, both.quantile):
            assert question(text, "up") == question(text, "down")
    assert both.expected_best_of(3, "up") == -both.expected_best_of(3, "down")


@pytest.mark.parametrize(
    ("metric", "is_cost"),
    [
        *(
            ("train_seconds_12ep", True),
            ("pi5_litert_energy_mj", True),
            ("Latency", True),
            ("valid-loss", True),
        ),
        *(("cifar10_test_200ep", False), ("lossless_accuracy", False), ("items", False)),
    ],
)
def test_costs_are_known_by_a_word_of_their_name_unless_given(metric, is_cost):
    genotypes = [Genotype.from_text(TEXTS[0])]
    assert Benchmark(genotypes, {metric: [1]}).costs == ({metric} if is_cost else set())
    assert Benchmark(genotypes, {metric: [1]}, costs=()).costs == set()
    assert Benchmark(genotypes, {metric: [1]}, costs=[metric]).costs == {metric}


@pytest.mark.parametrize("metric", ["accuracy", "latency_ms", "flat"])
@pytest.mark.parametrize("num_draws", [1, 2, 4])
def test_expected_best_is_the_mean_over_all_draws(small, metric, num_draws):
    pick = min if metric in small.costs else max
    draws = itertools.product(small.metrics[metric], repeat=num_draws)
    assert small.expected_best_of(num_draws, metric) == pytest.approx(
        np.mean([pick(draw) for draw in draws])
    )


def test_expected_best_grows_from_the_mean_to_the_best(small):
    values = [small.expected_best_of(n, "accuracy") for n in (1, 2, 5, 20, 10_000)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(np.mean(ACCURACY)) and values[-1] == pytest.approx(
        max(ACCURACY)
    )


def test_spearman_is_that_of_scipy_with_ties(small):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.spearmanr(ACCURACY, small.metrics["latency_ms"]).statistic
    assert small.spearman("accuracy", "latency_ms") == pytest.approx(expected)
    assert small.spearman("accuracy", "accuracy") == pytest.approx(1)
    assert np.isnan(small.spearman("accuracy", "flat"))


def partial():
    texts = [
        cell("3x3 none none skip none none"),
        cell("3x3 none none none skip none"),
        cell("none 1x1 none none none skip"),
    ]
    return Benchmark([Genotype.from_text(text) for text in texts], {"accuracy": [54.0, 90.0, 85.0]})


def test_an_architecture_that_is_not_listed_is_found_by_what_it_computes():
    table = partial()
    unlisted = cell("none 3x3 none none none skip")
    assert table.query(unlisted) == {"accuracy": 90.0} and unlisted in table
    assert table.equivalents(cell("none none none none none none")) == ()
    assert table.equivalents(cell("skip none none none skip none")) == (0,)


def test_the_very_architecture_goes_before_others_that_compute_the_same():
    texts = [cell("3x3 none none none skip none"), cell("none 3x3 none none none skip")]
    table = Benchmark([Genotype.from_text(text) for text in texts], {"accuracy": [90.0, 91.0]})
    assert [table.query(text)["accuracy"] for text in texts] == [90.0, 91.0]
    assert table.equivalents(texts[1]) == (0, 1)
    assert table.index(cell("none none none 3x3 none none")) == 0


def test_edges_of_none_and_the_order_of_edges_do_not_change_which_architecture_it_is():
    texts = [cell("none none none 3x3 none none"), cell("3x3 none none none skip none")]
    table = Benchmark([Genotype.from_text(text) for text in texts], {"accuracy": [90.0, 91.0]})
    short = Genotype(
        "nasbench201", {"cell": [(1, 3, "skip_connect"), (0, 1, "nor_conv_3x3")]}, {"cell": (3,)}
    )
    assert table.index(short) == 1


def test_an_architecture_that_is_not_there_is_an_error_that_shows_it():
    with pytest.raises(ValueError, match=r"none of the 3 architectures.*\|nor_conv_1x1~0\|"):
        partial().query(cell("1x1 1x1 none none none 1x1"))
    darts = Genotype("darts", {"normal": [(0, 2, "none"), (1, 2, "none")]})
    assert darts not in partial()
    with pytest.raises(ValueError, match="space 'nasbench201' is.*space 'darts'"):
        partial().query(darts)


def test_metrics_that_are_not_there_are_an_error_that_lists_them(small):
    for question in (
        small.best,
        lambda name: small.rank(TEXTS[0], name),
        lambda name: small.expected_best_of(1, name),
    ):
        with pytest.raises(
            ValueError, match="has the metrics accuracy, latency_ms, flat; name one, not 'top1'"
        ):
            question("top1")
    with pytest.raises(ValueError, match="at least 1 draw"):
        small.expected_best_of(0, "accuracy")


def test_the_metric_is_the_only_one_or_is_to_be_named(small):
    """The first of several may be anything, such as row numbers."""
    with pytest.raises(ValueError, match="accuracy, latency_ms, flat; name one, not None"):
        small.metric()
    assert small.metric("flat") == "flat"
    assert Benchmark(small.genotypes, {"top1": small.metrics["flat"]}).metric() == "top1"


GENOTYPES = [Genotype.from_text(text) for text in TEXTS[:2]]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([], {"a": []}), "needs architectures"),
        ((GENOTYPES, {}), "needs architectures and metrics, got 2 and 0"),
        ((GENOTYPES, {"a": [1.0]}), r"'a' has the shape \(1,\) for 2"),
        ((GENOTYPES, {"a": [1.0, np.nan]}), "'a' of architecture 1 is nan"),
        ((GENOTYPES, {"a": [np.inf, 1.0]}), "'a' of architecture 0 is inf"),
        ((GENOTYPES, {"a": [1.0, 2.0]}, ["b"]), r"costs names \['b'\]; the metrics are: \['a'\]"),
        ((GENOTYPES[:1] * 2, {"a": [1.0, 2.0]}), "architecture 1 is the same as architecture 0"),
        (
            ([GENOTYPES[0], Genotype("darts", {"normal": [(0, 2, "none")]})], {"a": [1.0, 2.0]}),
            "give one space",
        ),
    ],
)
def test_a_table_with_a_mistake_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        Benchmark(*args)


def test_values_cannot_be_changed_afterwards(small):
    with pytest.raises(ValueError, match="read-only"):
        small.metrics["accuracy"][0] = 100.0


def test_kinds_that_are_no_cells_tell_architectures_apart():
    texts = [f"elastic: kernel = {kernel}; depth = d1" for kernel in ("k3", "k5", "-")]
    small = Benchmark(tuple(map(Genotype.from_text, texts)), {"accuracy": [1.0, 3.0, 2.0]})
    assert [small.query(text)["accuracy"] for text in texts] == [1.0, 3.0, 2.0]
    assert canonical_form(Genotype.from_text(texts[0])) == "depth: d1 | kernel: k3"
    with pytest.raises(ValueError, match="none of the 3 architectures"):
        small.query("elastic: kernel = k7; depth = d1")
