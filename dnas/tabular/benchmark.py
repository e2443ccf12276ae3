"""A tabular benchmark: architectures with what was once measured of each, and where one of them
stands among all."""

import csv
import dataclasses
import functools
import gzip
import io
import os
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dnas.checks import check_fields, checked
from dnas.files import shown
from dnas.genotype import Genotype
from dnas.statistics import expected_best_of, spearman
from dnas.tabular.canonical import canonical_form, computing_edges

_COST_WORDS = frozenset(
    "cost costs energy epochs error errors flops latency loss macs memory mj ms params perplexity"
    " seconds time times".split()
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Benchmark:
    """Architectures and their metrics. Every method that takes a genotype takes its text, too.

    Higher is better, but for the metrics in `costs`. Architectures of equal value share a rank, the
    best that one of them could have; `best` is the first of them.

    Args:
      genotypes: all of one space, each once. An edge of op none counts as if it were left out.
      metrics: {name: [number of genotypes] finite numbers}, in the order of the genotypes.
      costs: names of the metrics of which less is better; unless given, those with a word such as
        latency, energy, ms, seconds, loss, error, params or flops in their name.

    Raises:
      ValueError: for no architecture or metric, one given twice, values that are no finite numbers,
        or too few of them. The methods raise it for metrics and architectures that are not there.

    Example:
      >>> texts = [
      ...     f"|{op}~0|+|none~0|none~1|+|none~0|{op}~1|none~2|"
      ...     for op in ("none", "nor_conv_1x1", "nor_conv_3x3")
      ... ]
      >>> small = Benchmark(
      ...     tuple(map(Genotype.from_text, texts)),
      ...     {"accuracy": [10.0, 82.5, 90.0], "latency_ms": [0, 1, 3]},
      ... )
      >>> (
      ...     small.query(texts[1]),
      ...     small.rank(texts[1], "accuracy"),
      ...     small.regret(texts[1], "latency_ms"),
      ... )
      ({'accuracy': 82.5, 'latency_ms': 1.0}, 2, 1.0)
      >>> small.best("latency_ms").to_text() == texts[0]
      True
    """

    genotypes: Sequence[Genotype]
    metrics: Mapping[str, np.ndarray | Sequence[Any]]
    costs: Collection[str] | None = None
    _rows: Mapping[tuple, int] = dataclasses.field(init=False)

    def __post_init__(self):
        check_fields(self)
        genotypes, metrics = tuple(self.genotypes), {}
        if not genotypes or not self.metrics:
            raise ValueError(
                f"a benchmark needs architectures and metrics, got {len(genotypes)} and"
                f" {len(self.metrics)}"
            )
        for name, values in self.metrics.items():
            metrics[name] = _numbers(name, values)
            if metrics[name].shape != (len(genotypes),):
                raise ValueError(
                    f"metric {shown(name)} has the shape {metrics[name].shape} for {len(genotypes)}"
                    " architectures"
                )
            bad = np.flatnonzero(~np.isfinite(metrics[name]))
            if bad.size:
                raise ValueError(
                    f"metric {shown(name)} of architecture {bad[0]} is {metrics[name][bad[0]]},"
                    " not a finite number"
                )
            metrics[name].flags.writeable = False
        costs = frozenset(filter(_is_cost, metrics) if self.costs is None else self.costs)
        if not costs <= set(metrics):
            raise ValueError(
                f"costs names {shown(sorted(costs - set(metrics)))}; the metrics are:"
                f" {shown(list(metrics))}"
            )
        object.__setattr__(self, "genotypes", genotypes)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "costs", costs)
        object.__setattr__(self, "_rows", number_rows(genotypes, "architecture {}".format))

    def __repr__(self) -> str:
        return (
            f"Benchmark({len(self):,} architectures of {self.genotypes[0].space!r}, metrics:"
            f" {', '.join(self.metrics)})"
        )

    def __len__(self) -> int:
        return len(self.genotypes)

    def __contains__(self, genotype: Genotype | str) -> bool:
        genotype = self._read(genotype)
        return _key(genotype) in self._rows or bool(self.equivalents(genotype))

    @checked
    def index(self, genotype: Genotype | str) -> int:
        """Returns the row of the architecture, or where it is not listed the first that is equal in
        canonical form."""
        genotype = self._read(genotype)
        row = self._rows.get(_key(genotype))
        if row is not None:
            return row
        equal = self.equivalents(genotype)
        if not equal:
            raise ValueError(
                f"none of the {len(self):,} architectures of the space {self.genotypes[0].space!r}"
                f" is, or computes the same as, {text_of(genotype)} of the space {genotype.space!r}"
            )
        return equal[0]

    @checked
    def equivalents(self, genotype: Genotype | str) -> tuple[int, ...]:
        """Returns the rows, in order, of the architectures that have the genotype's
        `canonical_form`."""
        genotype = self._read(genotype)
        return (
            self._rows_by_form.get(canonical_form(genotype), ())
            if genotype.space == self.genotypes[0].space
            else ()
        )

    @functools.cached_property
    def _rows_by_form(self) -> dict[str, tuple[int, ...]]:
        rows = {}
        for row, genotype in enumerate(self.genotypes):
            rows.setdefault(canonical_form(genotype), []).append(row)
        return {form: tuple(numbers) for form, numbers in rows.items()}

    @checked
    def query(self, genotype: Genotype | str) -> dict[str, float]:
        """Returns {metric: value} of the architecture, found as `index` does."""
        row = self.index(genotype)
        return {name: float(values[row]) for name, values in self.metrics.items()}

    @checked
    def best(self, metric: str) -> Genotype:
        """Returns the architecture of the best value."""
        return self.genotypes[int(np.argmax(self._scores(metric)))]

    @checked
    def rank(self, genotype: Genotype | str, metric: str) -> int:
        """Returns 1 + the number of architectures that are better."""
        scores = self._scores(metric)
        return 1 + int(np.sum(scores > scores[self.index(genotype)]))

    @checked
    def regret(self, genotype: Genotype | str, metric: str) -> float:
        """Returns how much worse than the best the architecture is, at least 0, in the unit of the
        metric."""
        scores = self._scores(metric)
        return float(scores.max() - scores[self.index(genotype)])

    @checked
    def quantile(self, genotype: Genotype | str, metric: str) -> float:
        """Returns the part of all architectures, itself included, that are at most as good: 1 for
        the best."""
        scores = self._scores(metric)
        return float(np.mean(scores <= scores[self.index(genotype)]))

    @checked
    def expected_best_of(self, num_draws: int, metric: str) -> float:
        """Returns what the best of so many architectures, drawn uniformly and with replacement, is
        on average: `dnas.statistics.expected_best_of` of the metric."""
        return self._sign(metric) * expected_best_of(self._scores(metric), num_draws)

    @checked
    def spearman(self, metric: str, other: str) -> float:
        """Returns Spearman's rank correlation of two metrics, ties with their mean rank; nan where
        one is constant.

        Of raw values: of an accuracy and a cost it is positive where better costs more.
        """
        return spearman(self._values(metric), self._values(other))

    def write(self, path: str | os.PathLike) -> None:
        """Writes the CSV that `load_benchmark` reads; compressed if the name ends in .gz."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["arch", *self.metrics])
        columns = [np.asarray(values).tolist() for values in self.metrics.values()]
        writer.writerows(
            [text_of(genotype), *row]
            for genotype, *row in zip(self.genotypes, *columns, strict=True)
        )
        content = text.getvalue().encode()
        path = pathlib.Path(path)
        path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)

    def metric(self, name: str | None = None) -> str:
        """Returns the metric of this name, or the only one of the benchmark.

        Raises:
          ValueError: if the benchmark does not have it, or has several and none is named.
        """
        if name is None and len(self.metrics) == 1:
            return next(iter(self.metrics))
        if name is None or name not in self.metrics:
            raise ValueError(
                f"the benchmark has the metrics {', '.join(self.metrics)}; name one, not"
                f" {shown(name)}"
            )
        return name

    def _values(self, metric: str) -> np.ndarray:
        return np.asarray(self.metrics[self.metric(metric)])

    def _read(self, genotype: Genotype | str) -> Genotype:
        if isinstance(genotype, Genotype):
            return genotype
        return Genotype.from_text(genotype, space=self.genotypes[0].space)

    def is_cost(self, metric: str) -> bool:
        """Whether less is better."""
        return metric in (self.costs or ())

    def _sign(self, metric: str) -> int:
        return -1 if self.is_cost(metric) else 1

    def _scores(self, metric: str) -> np.ndarray:
        """The values, or for a cost their negatives: higher is better."""
        return self._sign(metric) * self._values(metric)


def number_rows(genotypes: Sequence[Genotype], name: Callable[[int], str]) -> dict[tuple, int]:
    """Returns {key of an architecture: its row}; ValueError, which calls row i `name(i)`, if one is
    there twice."""
    rows, space = {}, genotypes[0].space
    for row, genotype in enumerate(genotypes):
        if genotype.space != space:
            raise ValueError(
                f"{name(row)} is of the space {genotype.space!r}, and {name(0)} of {space!r}: give"
                " one space"
            )
        first = rows.setdefault(_key(genotype), row)
        if first != row:
            raise ValueError(
                f"{name(row)} is the same as {name(first)}: {text_of(genotype)}; each may be there"
                " once"
            )
    return rows


def text_of(genotype: Genotype) -> str:
    """Returns the shortest text that `Genotype.from_text` reads back to an equal genotype."""
    try:
        text = genotype.to_text()
    except ValueError:
        return genotype.to_json()
    return text if Genotype.from_text(text) == genotype else genotype.to_json()


def _key(genotype: Genotype) -> tuple:
    cells = (
        (kind, computing_edges(genotype, kind), genotype.concat_of(kind))
        for kind in sorted(genotype.cells)
    )
    return genotype.space, genotype.picks, *cells


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"metric {name!r} is a row of numbers, not {shown(values)}") from None


def _is_cost(metric: str) -> bool:
    return not _COST_WORDS.isdisjoint(re.split(r"[\W_]+", metric.lower()))
