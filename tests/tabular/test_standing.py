"""Where an architecture stands: the figures are those of the benchmark, and the line shows them."""

import json

import pytest

from dnas import Genotype
from dnas.tabular import Benchmark, standings

TEXTS = [f"|{op}~0|" for op in ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")]


@pytest.fixture(scope="module")
def table():
    return Benchmark(
        [Genotype.from_text(text) for text in TEXTS],
        {"accuracy": [0.1, 0.543, 0.8937, 0.9376], "params": [73_306, 73_306, 241_300, 1_531_546]},
    )


def test_figures_are_those_of_the_benchmark(table):
    for text in TEXTS:
        for row in standings(table, text, draws=(1, 7)):
            assert row.value == table.query(text)[row.metric] and row.num_archs == 4
            assert row.rank == table.rank(text, row.metric) and row.quantile == table.quantile(
                text, row.metric
            )
            assert (
                row.regret
                == table.regret(text, row.metric)
                == pytest.approx(abs(row.best - row.value))
            )
            assert row.expected_best == {n: table.expected_best_of(n, row.metric) for n in (1, 7)}


def test_metrics_are_all_unless_chosen(table):
    assert [row.metric for row in standings(table, TEXTS[0])] == ["accuracy", "params"]
    assert [row.metric for row in standings(table, TEXTS[0], metrics=["params"])] == ["params"]
    with pytest.raises(ValueError, match="name one, not 'top1'"):
        standings(table, TEXTS[0], metrics=["top1"])


def test_a_line_shows_the_figures_at_any_scale(table):
    accuracy, params = map(str, standings(table, TEXTS[2]))
    assert (
        "accuracy: 0.8937, rank 2 of 4, at least as good as 75.00% of them, 0.0439 from the best,"
        " 0.9376" in accuracy
    )
    assert "params (lower is better): 241,300, rank 3 of 4, at least as good as 50.00%" in params
    assert "(n = 100)" in accuracy


def test_standings_fit_into_json(table):
    rows = [row._asdict() for row in standings(table, TEXTS[1])]
    assert json.loads(json.dumps(rows))[0]["rank"] == 3
