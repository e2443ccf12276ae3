"""What needs no gradient: random architectures, counting, and searchers that look into a table.

A search is worth its time if it beats these. On CIFAR-10 of NAS-Bench-201 the network with most
multiply-adds has 93.76 per cent, where the best of all has 94.37.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dnas.files import shown
from dnas.genotype import Genotype
from dnas.hw_loss import ExpectedCost, Limits, count_table, dearest_mix, expected_cost
from dnas.searchers import SEARCHERS, incumbents, run_searcher
from dnas.space import SearchSpace, genotype_of
from dnas.tabular import Benchmark

# Of `SEARCHERS`, those that need no other package.
_IN_TABLES = ("random_search", "regularized_evolution", "reinforce", "local_search")


class Baseline(NamedTuple):
    """What something that needs no search by gradients finds.

    `values` are those of independent trials, or of what has no chance in it a single one, and
    `mean` is their mean, or of draws at random the exact expectation. `evaluations` counts the
    architectures that had to be evaluated, None for an oracle, which knows all. `varied` says what
    differs between the values, "" where there is one.
    """

    name: str
    mean: float
    values: tuple[float, ...]
    evaluations: int | None
    varied: str = ""


def most_macs(space: SearchSpace, limits: Limits = ()) -> Genotype:
    """Returns the genotype of a space whose network has most multiply-adds, those of branches that
    lead nowhere left out.

    Args:
      limits: pairs (cost, bound), such as a latency and what it may be at most: of the networks
        within all of them.

    Raises:
      ValueError: if no genotype meets a bound (it names the range), or none meets all of them.

    Example:
      >>> import dnas
      >>> most_macs(dnas.SPACES["nasbench201"]).count("nor_conv_3x3")
      {'cell': 6}
    """
    return _genotype_at(space, dearest_mix(live_macs(space), limits))


def live_macs(space: SearchSpace) -> ExpectedCost:
    """Returns the multiply-adds of the networks of a space, those of branches that lead nowhere
    left out: without any training, what is the best guess at their accuracy."""
    return expected_cost(count_table(space), space.parts(), metric="macs", live="path")


def all_alike(space: SearchSpace, option: str = "skip_connect") -> Genotype:
    """Returns the genotype that has one option in every row that may have it, and elsewhere the
    first; of rows that compete for a place those that come first.

    Raises:
      ValueError: for an option that no row may have.
    """
    options = {name for own in space.choices.values() for name in own.options}
    if option not in options:
        raise ValueError(
            f"option {shown(option)} is not in the space {shown(space.name)}; choose from:"
            f" {', '.join(sorted(options))}"
        )
    mix = {}
    for kind, own in space.choices.items():
        mix[kind] = np.zeros(own.shape)
        for group in own.together:
            for row in group[: own.places(group)]:
                may = own.options_of(row)
                mix[kind][row, own.options.index(option if option in may else may[0])] = 1
    return _genotype_at(space, mix)


def baselines(
    space: SearchSpace,
    benchmark: Benchmark,
    metric: str,
    *,
    seen: str | None = None,
    evaluations: int = 100,
    trials: int = 30,
) -> list[Baseline]:
    """Returns what can be had in a tabular benchmark without a search by gradients: one random
    network, the best of ten and of a hundred by an oracle, the network with most multiply-adds, the
    one of skips alone, and what searchers find that look into the table.

    Architectures that the benchmark does not list have no row here; searchers have one only where
    it lists all that they ask for.

    Args:
      metric: what is reported.
      seen: what a searcher may see, such as the accuracy on the validation images; `metric` itself,
        an oracle, unless given.
      evaluations: how many architectures a searcher may ask for.
      trials: of each searcher, with seeds from 0 on.

    Raises:
      ValueError: for a metric that the benchmark does not have.
    """
    values = np.asarray(benchmark.metrics[benchmark.metric(metric)])
    found = [
        Baseline("one random network", float(values.mean()), tuple(values.tolist()), 1, "networks"),
        *(
            Baseline(
                f"best of {n} random networks, by an oracle",
                benchmark.expected_best_of(n, metric),
                (),
                None,
            )
            for n in (10, 100)
        ),
    ]
    fixed = {"most multiply-adds": most_macs(space)}
    if any("skip_connect" in own.options for own in space.choices.values()):
        fixed["skips alone"] = all_alike(space)
    for name, genotype in fixed.items():
        if genotype in benchmark:
            value = benchmark.query(genotype)[metric]
            found.append(Baseline(name, value, (value,), 0))
    seen = benchmark.metric(metric if seen is None else seen)
    scores = np.asarray(benchmark.metrics[seen]) * (-1 if benchmark.is_cost(seen) else 1)
    evaluations = min(evaluations, len(benchmark))
    for name in _IN_TABLES:
        searcher, ends = SEARCHERS[name](), []
        try:
            for seed in range(trials):
                history = run_searcher(
                    space,
                    searcher,
                    lambda genotype: float(scores[benchmark.index(genotype)]),
                    budget=evaluations,
                    seed=seed,
                )
                ends.append(float(values[benchmark.index(incumbents(history)[-1])]))
        except ValueError:  # the benchmark does not list an architecture
            continue
        found.append(
            Baseline(
                f"{name.replace('_', ' ')}, {evaluations} evaluations",
                float(np.mean(ends)),
                tuple(ends),
                evaluations,
                "seeds of the searcher",
            )
        )
    best = benchmark.query(benchmark.best(metric))[metric]
    return [*found, Baseline("the best of all", best, (best,), None)]


def _genotype_at(space: SearchSpace, mix: Mapping[str, np.ndarray]) -> Genotype:
    rows = {kind: np.argwhere(own).tolist() for kind, own in mix.items()}
    picked = {kind: [(row, column) for row, column in own] for kind, own in rows.items()}
    return genotype_of(space, picked)
