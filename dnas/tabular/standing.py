"""Where one architecture stands in a benchmark, beside random draws from it."""

from collections.abc import Collection
from typing import NamedTuple

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.tabular.benchmark import Benchmark


class Standing(NamedTuple):
    """One architecture in one metric; `str` makes a line of it."""

    metric: str
    value: float
    rank: int  # 1 + the number of better ones
    num_archs: int
    best: float  # value of the best architecture
    regret: float  # distance to it, at least 0
    quantile: float  # part of all that are at most as good
    expected_best: dict[int, float]  # {n: mean of the best of n random draws}
    lower_is_better: bool

    def __str__(self):
        draws = ", ".join(f"{_shown(value)} (n = {n})" for n, value in self.expected_best.items())
        return (
            f"{self.metric}{' (lower is better)' if self.lower_is_better else ''}:"
            f" {_shown(self.value)}, rank {self.rank:,} of {self.num_archs:,}, at least as good as"
            f" {self.quantile:.2%} of them, {_shown(self.regret)} from the best,"
            f" {_shown(self.best)}; expected best of n random draws: {draws}"
        )


@checked
def standings(
    benchmark: Benchmark,
    genotype: Genotype | str,
    *,
    metrics: Collection[str] | None = None,
    draws: Collection[int] = (1, 10, 100),
) -> tuple[Standing, ...]:
    """Returns where the architecture stands, metric by metric.

    The expected best of n draws is the bar for a search that trained the equivalent of n networks:
    on CIFAR-10 of NAS-Bench-201 87.04, 93.09 and 93.85 for n = 1, 10 and 100.

    Args:
      metrics: all of the benchmark's unless given.
      draws: the n.

    Raises:
      ValueError: for an architecture or a metric that the benchmark does not have.

    Example:
      >>> texts = [f"|{op}~0|" for op in ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")]
      >>> small = Benchmark(
      ...     [Genotype.from_text(text) for text in texts], {"accuracy": [10, 54, 89, 94]}
      ... )
      >>> print(standings(small, texts[2], draws=(1, 2))[0])  # doctest: +NORMALIZE_WHITESPACE
      accuracy: 89, rank 2 of 4, at least as good as 75.00% of them, 5 from the best, 94; expected
      best of n random draws: 61.75 (n = 1), 79.69 (n = 2)
    """
    # Found once, also where only an equal one is listed.
    row = benchmark.genotypes[benchmark.index(genotype)]
    return tuple(
        _standing(benchmark, row, metric, draws)
        for metric in (benchmark.metrics if metrics is None else metrics)
    )


def _standing(
    benchmark: Benchmark, genotype: Genotype, metric: str, draws: Collection[int]
) -> Standing:
    best = benchmark.best(metric)
    return Standing(
        metric=metric,
        value=benchmark.query(genotype)[metric],
        rank=benchmark.rank(genotype, metric),
        num_archs=len(benchmark),
        best=benchmark.query(best)[metric],
        regret=benchmark.regret(genotype, metric),
        quantile=benchmark.quantile(genotype, metric),
        expected_best={n: benchmark.expected_best_of(n, metric) for n in draws},
        lower_is_better=benchmark.is_cost(metric),
    )


def _shown(value: float) -> str:
    """Four digits, whatever the unit: accuracies are per cent in one file and fractions in
    another."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
