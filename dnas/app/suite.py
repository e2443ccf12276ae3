"""Methods in the nine settings of DARTS-Bench-Suite: search, training, ranks. `dnas suite` runs it.

Published comparison: https://arxiv.org/abs/2507.16533, section 4, where the ranks of methods change
from setting to setting.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

import dnas
from dnas.app import config as settings
from dnas.app import images, locks, named
from dnas.app import search as main_job
from dnas.app.durable import write_file
from dnas.app.ending import messages
from dnas.app.runs import checked_name, open_run
from dnas.app.words import read_known
from dnas.baselines import most_macs
from dnas.running.runtime import set_up_process
from dnas.spaces import BENCH_SUITE
from dnas.statistics import REPORTED, compare, kendall, reported, sample

# Not searched: the network with most multiply-adds.
COUNTED = "most_macs"
METHODS = f"random,{COUNTED},darts1,drnas,gdas,oles,smooth_darts_rs,fair_darts"


@dataclasses.dataclass(frozen=True)
class SuiteCommand:
    """Searches in the nine settings of DARTS-Bench-Suite with several methods and seeds, trains
    what was found, and ranks the methods in each setting. Run again after an interruption, it
    continues.

    Without --full it has a size for two cores: the digits with their settings, and supernets of the
    same shapes with about half the channels. With --full everything is as in the release, on
    CIFAR-10, for which a GPU is needed.

    All settings of `dnas search` but method, space, seed, genotype, resume and overwrite may be
    given too, and apply to every search and training: dnas search --help.

    Example: dnas suite --benchmarks=wide_regular,wide_no_skip --methods=random,darts1,oles
    """

    benchmarks: str = ",".join(BENCH_SUITE)
    """Names of settings, with commas between."""
    methods: str = METHODS
    """Names, with commas between; most_macs is the network with most multiply-adds."""
    seeds: int = 4
    """How many, from 0 on. Four beside four are the fewest that can show a difference."""
    full: bool = False
    """Whether sizes, searches and trainings are those of the release."""
    trainings: str | None = None
    """Which of the nine trainings of the release every network gets, with commas between: three
    learning rates with three weight decays each. All with --full, otherwise one with the settings
    of the data set."""
    name: str = "suite"
    """Folder of all runs."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of that folder."""


# scripts/benchsuite_experiments/supernet_search.py of the release, and the defaults that it takes.
_SEARCH = {
    "dataset": "cifar10",
    "epochs": 100,
    "batch_size": 96,
    "learning_rate": 0.025,
    "min_learning_rate": 0.001,
    "weight_decay": 3e-4,
    "nesterov": False,
    "arch_learning_rate": 3e-4,
    "arch_weight_decay": 1e-3,
    "arch_b1": 0.5,
    "warmup": 0,
}
_OF_METHOD: dict[str, dict[str, Any]] = {
    "random": {"epochs": 0},
    "gdas": {"epochs": 300, "batch_size": 480},
    "drnas": {"learning_rate": 0.1, "min_learning_rate": 0.0, "arch_learning_rate": 6e-4},
}
# All channels, which is not how dnas has the method in spaces like DARTS's.
_ALWAYS: dict[str, dict[str, Any]] = {"drnas": {"partial_channels": 1, "warmup": 0}}
# train_genotype.py of the release.
_TRAINING = {
    "retrain_epochs": 300,
    "retrain_batch_size": 512,
    "retrain_momentum": 0.9,
    "retrain_nesterov": False,
    "drop_path": 0.0,
    "auxiliary": 0.0,
    "cutout": 16,
}
# MODEL_TRAIN_HYPERPARAMETERS of the release: (learning rate, weight decay) by number.
TRAININGS = dict(enumerate(itertools.product((0.025, 0.1, 0.01), (1e-4, 3e-4, 1e-3)), start=1))
_SMALL_CHANNELS = {"wide": 8, "deep": 4, "single": 12}


def main(args: list[str]) -> None:
    """Runs what is not done yet, and prints the tables after each network."""
    set_up_process()
    with messages("the same command continues"):
        given, rest = read_known(SuiteCommand, args)
        suite(given, rest, args)


def suite(given: SuiteCommand, rest: Sequence[str], args: Sequence[str]) -> dict[str, Any]:
    """Returns what suite.json holds.

    Args:
      rest: words for the settings of every search and training.
      args: all words of the command, to be kept with the result.

    Raises:
      ValueError: for names and numbers that do not exist, before any search.
    """
    if given.seeds < 1:
        raise ValueError(f"seeds is a number of at least 1, got {given.seeds}")
    benchmarks, methods = given.benchmarks.split(","), given.methods.split(",")
    for benchmark in benchmarks:
        named.check_known("benchmark", benchmark, BENCH_SUITE)
    numbers = _trainings(given)
    folder = given.runs / checked_name(given.name)
    for method in methods:
        if method != COUNTED:
            published = settings.method_named(method)
            for benchmark in benchmarks:  # refuses spaces that the method is not for
                published(dnas.SPACES[benchmark], steps_per_epoch=1)
        _config(given, rest, folder, (benchmarks[0], method, 0), numbers[0])
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        benchmark: {method: [] for method in methods} for benchmark in benchmarks
    }
    summary: dict[str, Any] = {}
    with locks.held(folder):
        # Seed by seed, so that an early look has something of everything.
        for seed, benchmark, method in itertools.product(range(given.seeds), benchmarks, methods):
            place = benchmark, method, seed
            found[benchmark][method].append(_network(given, rest, args, folder, place, numbers))
            summary = {"benchmarks": found, "command": shlex.join(["dnas", "suite", *args])}
            write_file(folder / "suite.json", (json.dumps(summary, indent=2) + "\n").encode())
            write_file(folder / "suite.md", tables(found).encode())
            print(tables(found), flush=True)
    return summary


def _trainings(given: SuiteCommand) -> list[int | None]:
    """The numbers of the trainings; None is that of the data set."""
    if given.trainings is None:
        return list(TRAININGS) if given.full else [None]
    named_numbers = given.trainings.split(",")
    for number in named_numbers:
        named.check_known("training", number, map(str, TRAININGS))
    return [int(number) for number in named_numbers]


def _network(
    given: SuiteCommand,
    rest: Sequence[str],
    args: Sequence[str],
    folder: pathlib.Path,
    place: tuple[str, str, int],
    numbers: Sequence[int | None],
) -> dict[str, Any]:
    """What one method finds with one seed in one setting, and what it is worth after each of the
    trainings."""
    genotype, accuracies = None, []
    for number in numbers:
        config = _config(given, rest, folder, place, number, genotype)
        job = images.make_job(config, partial(open_run, config, "suite", argv=args))
        with contextlib.closing(job.run):
            if job.run.result("summary.json") is None:
                main_job.search(job)
            summary, found = job.run.read("summary.json"), job.run.read("phases/search.json")
        assert summary is not None and found is not None  # the run is done
        genotype = found["genotype"]
        accuracies.append(100 * summary["test_accuracy"])
    return {
        "seed": place[2],
        "genotype": genotype,
        "accuracies": accuracies,
        "value": float(np.mean(accuracies)),
    }


def _config(
    given: SuiteCommand,
    rest: Sequence[str],
    folder: pathlib.Path,
    place: tuple[str, str, int],
    number: int | None,
    genotype: str | None = None,
) -> settings.SearchConfig:
    """The settings of a search and the training of its network, or with a genotype of another
    training of it."""
    benchmark, method, seed = place
    space, (shape, _) = dnas.SPACES[benchmark], BENCH_SUITE[benchmark]
    values: dict[str, Any] = {}
    if given.full:
        values |= _SEARCH | _OF_METHOD.get(method, {}) | _TRAINING
        if shape == "deep":
            values["batch_size"] = values["batch_size"] * 2 // 3
    channels = space.channels if given.full else _SMALL_CHANNELS[shape]
    for kind in ("", "retrain_"):
        values |= {f"{kind}channels": channels, f"{kind}cells": space.num_cells}
    values |= _ALWAYS.get(method, {})
    name = f"{benchmark}-{named.name_of(method)}-seed{seed}"
    if number is not None:
        rate, decay = TRAININGS[number]
        values |= {"retrain_learning_rate": rate, "retrain_weight_decay": decay}
        name += f"-training{number}"
    if method == COUNTED:
        genotype = most_macs(space).to_json()
    else:
        values["method"] = method
    if genotype is not None:
        values["genotype"] = genotype
    values |= {"space": benchmark, "seed": seed, "random_cells": 0, "name": name}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    words += [*rest, f"--runs={folder}", "--resume=1"]
    config = settings.parse(settings.SearchConfig, words)
    settings.check(config)
    return config


Found = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]  # {setting: {method: [runs]}}


def tables(found: Found) -> str:
    """Returns what was found as Markdown: a table a setting, and one of ranks over all of them."""
    lines: list[str] = []
    for benchmark, methods in found.items():
        values = _values(methods)
        if not values:
            continue
        lines += [
            f"| {benchmark} | test accuracy, % | rank | less random |",
            "|---|---|---|---|",
        ]
        ranks = _ranks(values)
        for method, own in values.items():
            less = ""
            if method != "random" and "random" in values:
                less = compare(own, values["random"]).shown()
            rank = reported(ranks[method], "seeds") if method in ranks else ""
            varied = "seeds of the training" if method == COUNTED else "seeds of search, training"
            lines.append(f"| {method} | {reported(own, varied)} | {rank} | {less} |")
        lines.append("")
    return "\n".join([*lines, *_over_all(found), "", _NOTE, ""])


def _values(methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[float]]:
    """{method: accuracies, one a seed} of those that have any."""
    return {method: [run["value"] for run in runs] for method, runs in methods.items() if runs}


def _ranks(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """{method: its rank among all methods, one a seed that all of them have}, 1 for the best; equal
    ones share the mean of theirs."""
    seeds = min(map(len, values.values()))
    of_seeds = [stats.rankdata([-own[seed] for own in values.values()]) for seed in range(seeds)]
    columns = np.transpose(of_seeds).tolist()
    return dict(zip(values, columns, strict=True))


def _over_all(found: Found) -> list[str]:
    """A row a method: its rank in the mean over seeds, of all settings that every method has run
    in; and whether settings agree."""
    complete = [_values(methods) for methods in found.values() if all(methods.values())]
    if len(complete) < 2:
        return []
    means = [{name: sample(own).mean for name, own in values.items()} for values in complete]
    ranks = np.array([stats.rankdata([-mean for mean in own.values()]) for own in means])
    lines = ["| method | rank by the mean |", "|---|---|"]
    for method, own in zip(means[0], ranks.T, strict=True):
        lines.append(f"| {method} | {reported(own, 'settings')} |")
    if len(means[0]) < 3:
        return lines
    agreement = np.mean([kendall(a, b) for a, b in itertools.combinations(ranks, 2)])
    test: Any = stats.friedmanchisquare(*ranks.T)  # scipy carries no types
    lines += [
        "",
        f"Kendall's tau between the ranks in two settings is {agreement:.2f} on average. That no"
        f" method is better than another over all settings: p = {float(test.pvalue):.2g} (Friedman,"
        f" n = {len(ranks)} settings).",
    ]
    return lines


_NOTE = (
    f"Entries are {REPORTED}. The accuracy of a seed is the mean over its trainings, a rank that"
    " among the methods with the same seed."
)
