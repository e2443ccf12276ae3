"""Several methods and seeds on one space, their genotypes looked up in a tabular benchmark. `dnas
study` runs it.

Published comparison: NAS-Bench-201, section 5, https://arxiv.org/abs/2001.00326, mean and spread
  over 3 seeds.
"""

import contextlib
import dataclasses
import json
import pathlib
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import dnas
from dnas.app import config as settings
from dnas.app import images, locks, named, phases
from dnas.app.durable import write_file
from dnas.app.ending import messages
from dnas.app.runs import Run, checked_name, open_run
from dnas.app.words import read_known
from dnas.baselines import Baseline, baselines
from dnas.files import read_text_file
from dnas.running.runtime import set_up_process
from dnas.statistics import REPORTED, compare, relative_improvement, reported, sample
from dnas.tabular import Benchmark, load_benchmark

METHODS = "darts1,robust_darts,beta_darts,gdas,drnas"


@dataclasses.dataclass(frozen=True)
class StudyCommand:
    """Searches with several methods and seeds and looks the genotypes up in a tabular benchmark.
    Run again after an interruption, it continues.

    All settings of `dnas search` but method, seed, resume and overwrite may be given too, and apply
    to every search: dnas search --help.

    Example: dnas study --benchmark=file.csv.gz --methods=darts1,gdas --seeds=3 --dataset=cifar10
    """

    benchmark: pathlib.Path | None = None
    """CSV with the architectures of the space and what is known of them."""
    show: pathlib.Path | None = None
    """Print the tables of a study that was run, from its study.json, and run nothing."""
    metric: str | None = None
    """Column of the benchmark; may be left out where there is one."""
    seen: str | None = None
    """Column that random search, evolution and local search may look at, such as the accuracy on
    validation images; the metric itself, as an oracle, unless given."""
    methods: str = METHODS
    """Names, with commas between."""
    seeds: int = 3
    """How many, from 0 on."""
    space: str = "nasbench201"
    """Search space by name."""
    name: str = "study"
    """Folder of all runs of the study."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of that folder."""


def main(args: list[str]) -> None:
    """Runs all searches that are not done yet, and prints the table after each."""
    set_up_process()
    with messages("the same command continues"):
        given, rest = read_known(StudyCommand, args)
        if given.show is None:
            study(given, rest, args)
        else:
            print(shown(given.show))


def shown(path: pathlib.Path) -> str:
    """Returns the command of a study that was run, and its tables.

    Raises:
      ValueError: for a file that is no study.json.
    """
    text = read_text_file(path)
    try:
        summary = json.loads(text)
        return f"    {summary['command']}\n\n{table(summary)}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no study.json, which `dnas study` writes: {type(error).__name__}"
            f" {error!s:.200}; give the file of a study"
        ) from None


def study(given: StudyCommand, rest: Sequence[str], args: Sequence[str]) -> dict[str, Any]:
    """Returns what study.json holds.

    Args:
      rest: words for the settings of every search.
      args: all words of the command, to be kept with the result.
    """
    if given.benchmark is None:
        raise ValueError(
            "a study looks its cells up in a benchmark: give --benchmark=FILE, or --show=study.json"
            " for one that was run"
        )
    if given.seeds < 1:
        raise ValueError(f"seeds is a number of at least 1, got {given.seeds}")
    named.check_known("space", given.space, dnas.SPACES)
    benchmark = load_benchmark(given.benchmark, space=dnas.SPACES[given.space])
    metric = benchmark.metric(given.metric)
    seen = benchmark.metric(given.seen or metric)
    folder = given.runs / checked_name(given.name)
    methods = given.methods.split(",")
    configs = {
        (method, seed): _config(given, rest, folder, method, seed)
        for method in methods
        for seed in range(given.seeds)
    }
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    beside = baselines(dnas.SPACES[given.space], benchmark, metric, seen=seen)
    with locks.held(folder):
        # Seed by seed, so that an early look has something of every method.
        for seed in range(given.seeds):
            for method in methods:
                found[method].append(_search(configs[method, seed], args, benchmark, metric))
                summary = summarise(found, beside, benchmark, metric)
                summary["seen"] = seen
                summary["command"] = shlex.join(["dnas", "study", *args])
                write_file(folder / "study.json", (json.dumps(summary, indent=2) + "\n").encode())
                write_file(folder / "study.md", table(summary).encode())
                print(table(summary), flush=True)
    return summary


def _config(
    given: StudyCommand, rest: Sequence[str], folder: pathlib.Path, method: str, seed: int
) -> settings.SearchConfig:
    args = [
        f"--method={method}",
        f"--seed={seed}",
        f"--space={given.space}",
        f"--name={method}-seed{seed}",
        *rest,
    ]
    config = settings.parse(settings.SearchConfig, [*args, f"--runs={folder}", "--resume=1"])
    settings.check(config)
    return config


def _search(
    config: settings.SearchConfig, args: Sequence[str], benchmark: Benchmark, metric: str
) -> dict[str, Any]:
    def opened(reads: Mapping[str, str]) -> Run:
        return open_run(config, "study", reads, argv=args)

    job = images.make_job(config, opened)
    with contextlib.closing(job.run):
        result = phases.search(job)
    genotype = dnas.Genotype.from_text(result["genotype"])
    return {
        "seed": config.seed,
        "genotype": genotype.to_text(),
        "skips": genotype.count("skip_connect"),
        "seconds": result["seconds"],
        "value": benchmark.query(genotype)[metric],
        "rank": benchmark.rank(genotype, metric),
        "regret": benchmark.regret(genotype, metric),
    }


def summarise(
    found: dict[str, list[dict[str, Any]]],
    beside: Sequence[Baseline],
    benchmark: Benchmark,
    metric: str,
) -> dict[str, Any]:
    """Returns all runs, mean and deviation of each method, and what needs no search by gradients
    beside them."""
    methods = {}
    for method, runs in found.items():
        values = [run["value"] for run in runs]
        if values:
            own = sample(values)
            methods[method] = {"mean": own.mean, "std": own.deviation, "runs": runs}
    return {
        "metric": metric,
        "methods": methods,
        "baselines": {
            own.name: {
                "mean": own.mean,
                "std": sample(own.values).deviation if own.values else None,
                "trials": len(own.values),
                "evaluations": own.evaluations,
                "shown": reported(own.values, own.varied) if own.varied else f"{own.mean:.2f}",
            }
            for own in beside
        },
        "num_archs": len(benchmark),
    }


# Baselines that every method is compared with. Both are known without error.
_BESIDE = ("one random network", "most multiply-adds")


def table(summary: dict[str, Any]) -> str:
    """Returns the summary as two Markdown tables: what each method found, and how far that is from
    what needs no search."""
    ranks = f"median rank of {summary['num_archs']:,}"
    lines = [
        f"| method | {summary['metric']} | each seed | {ranks} | skips | seconds a search |",
        "|---|---|---|---|---|---|",
    ]
    for method, own in summary["methods"].items():
        runs = own["runs"]
        values = [run["value"] for run in runs]
        each = ", ".join(f"{value:.2f}" for value in values)
        skips = ", ".join(str(sum(run["skips"].values())) for run in runs)
        rank = statistics.median(run["rank"] for run in runs)
        seconds = statistics.median(run["seconds"] for run in runs)
        lines.append(
            f"| {method} | {reported(values, 'seeds of the search')} | {each} | {rank:,.0f} |"
            f" {skips} | {seconds:.0f} |"
        )
    lines += [
        f"| *{name}* | {own['shown']} | | | | |" for name, own in summary["baselines"].items()
    ]
    return "\n".join(lines) + f"\n\n{_NOTE}\n\n" + _differences(summary)


def _differences(summary: dict[str, Any]) -> str:
    """A row a method: its mean less that of each of `_BESIDE`, and what its seeds can show."""
    beside = summary["baselines"]
    known = {name: beside[name]["mean"] for name in _BESIDE if name in beside}
    lines = [
        " | ".join(["| mean less that of", *(f"*{name}*" for name in known), "RI, % |"]),
        "|---" * (len(known) + 2) + "|",
    ]
    for method, own in summary["methods"].items():
        values = [run["value"] for run in own["runs"]]
        shown = [compare(values, mean).shown() for mean in known.values()]
        improvement = relative_improvement(values, [known["one random network"]])
        lines.append(" | ".join([f"| {method}", *shown, f"{improvement:+.2f} |"]))
    return "\n".join(lines) + f"\n\n{_DIFFERENCES}\n"


_NOTE = (
    f"Entries are {REPORTED}. In italics what needs no search by gradients: an oracle"
    " knows the metric, and searchers look into the table, at the column `seen`."
)
_DIFFERENCES = (
    "Differences [95 % interval, Student's t], and the p of a permutation of signs where so many"
    " seeds can show one. RI: relative improvement over one random network."
)
