"""Accuracy against cost: a search for each of several targets, with random architectures beside
them. `dnas pareto` runs it."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

import dnas
from dnas.app import config as settings
from dnas.app import images, locks, phases
from dnas.app import search as main_job
from dnas.app.ending import messages
from dnas.app.plots import draw_pareto, picture
from dnas.app.runs import Run, checked_name, open_run
from dnas.app.words import read_known
from dnas.files import shown
from dnas.running.runtime import set_up_process
from dnas.statistics import REPORTED, reported


@dataclasses.dataclass(frozen=True)
class ParetoCommand:
    """Searches once for each target and draws accuracy against cost, random architectures behind.
    Run again after an interruption, it continues.

    The accuracy is that of the trained networks; with --benchmark=file it is read there, and
    nothing is trained.

    All settings of `dnas search` but target, name, resume and overwrite may be given too, and apply
    to every search: dnas search --help.

    Example: dnas pareto --space=nasbench201 --table=here.csv --points=5 --dataset=cifar10
    """

    targets: str | None = None
    """Such as 2ms,3ms,4ms; unless given, --points of them within the feasible range."""
    points: int = 5
    """How many targets, spread over what random architectures cost."""
    metric: str = "latency"
    """Of the targets, where they are not given."""
    column: str | None = None
    """Of the benchmark; may be left out where there is one."""
    random: int = 100
    """How many architectures of the benchmark to draw behind."""
    name: str = "pareto"
    """Folder of all runs."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of that folder."""


def main(args: list[str]) -> None:
    """Runs the searches that are not done yet, and draws the front after each."""
    set_up_process()
    with messages("the same command continues"):
        given, rest = read_known(ParetoCommand, args)
        pareto(given, rest, args)


def pareto(given: ParetoCommand, rest: Sequence[str], args: Sequence[str]) -> dict[str, Any]:
    """Returns what pareto.json holds: {"searched": points, "random": points}, each point with cost
    and accuracy.

    Args:
      rest: words for the settings of every search.
      args: all words of the command, to be kept with the runs.
    """
    if given.points < 1 or given.random < 0:
        raise ValueError(
            f"points is a number of at least 1 and random of at least 0, got {given.points} and"
            f" {given.random}"
        )
    folder = given.runs / checked_name(given.name)
    targets = given.targets.split(",") if given.targets else spread_targets(given, rest)
    configs = {target: _config(rest, folder, target) for target in targets}
    searched: list[dict[str, Any]] = []
    random: list[dict[str, Any]] = []
    with locks.held(folder):
        for target, config in configs.items():
            job = images.make_job(config, partial(open_run, config, "pareto", argv=args))
            if len(job.limits) != 1:
                raise ValueError(f"a point of a front has one target, not {shown(target)}")
            accuracy = accuracy_name(job, given.column)
            # What one target has is read while no other process can change it.
            with contextlib.closing(job.run):
                if not _is_done(job):
                    main_job.search(job)
                genotype = dnas.Genotype.from_text(phases.search(job)["genotype"])
                searched.append(_point(job, genotype, given.column, target))
                random += _random_points(job, given, first=not random)
            found = {
                "searched": searched,
                "random": random,
                "unit": job.limits[0].cost.unit,
                "metric": job.limits[0].cost.metric,
            }
            found |= {"accuracy": accuracy, "front": front(searched)}
            run = Run(folder)
            run.write("pareto.json", found)
            run.write("pareto.png", picture(draw_pareto(found)))
            run.write("pareto.md", table(found))
            print(table(found), f"picture: {folder / 'pareto.png'}", sep="\n", flush=True)
    return found


def _config(rest: Sequence[str], folder: pathlib.Path, target: str) -> settings.SearchConfig:
    args = [*rest, f"--target={target}", f"--name={target}", f"--runs={folder}", "--resume=1"]
    config = settings.parse(settings.SearchConfig, args)
    if config.benchmark is not None:
        config = settings.parse(settings.SearchConfig, [*args, "--retrain=0"])
    settings.check(config)
    return config


def spread_targets(given: ParetoCommand, rest: Sequence[str]) -> list[str]:
    """Returns targets at equal distances between the cheapest and the dearest tenth of random
    architectures."""
    config = settings.parse(settings.SearchConfig, [*rest, f"--runs={given.runs}"])
    units = dnas.hw_loss.METRICS.get(given.metric)
    if units is None:
        raise ValueError(
            f"metric {shown(given.metric)} does not exist; choose from:"
            f" {', '.join(dnas.hw_loss.METRICS)}"
        )
    unit = next(iter(units))
    # A target that every architecture meets: the limit is only asked what random ones cost.
    job = images.make_job(
        dataclasses.replace(config, target=f"{given.metric}=1e30{unit}"),
        lambda reads: Run(given.runs),
    )
    (limit,) = job.limits
    keys = jax.random.split(jax.random.key(config.seed), 200)
    costs = [
        limit.cost.discrete(dnas.one_hot_mix(job.space, dnas.random_genotype(key, job.space)))
        for key in keys
    ]
    low, high = np.quantile(costs, (0.1, 0.9))
    return [f"{given.metric}={value:.4g}{unit}" for value in np.linspace(low, high, given.points)]


def accuracy_name(job: phases.Job, column: str | None) -> str:
    """Returns what the accuracies are.

    Raises:
      ValueError: for a column that the benchmark does not have, or none where it has several.
    """
    if job.benchmark is None:
        return f"test accuracy on {job.config.dataset}, in per cent"
    return job.benchmark.metric(column)


def _point(
    job: phases.Job, genotype: dnas.Genotype, column: str | None, target: str
) -> dict[str, Any]:
    rows, trained = phases.proof(job), job.run.read("phases/searched.json")
    assert rows is not None  # the search is done
    (row,) = rows
    if job.benchmark is None:
        assert trained is not None
        accuracy = 100 * trained["test_accuracy"]
    else:
        accuracy = job.benchmark.query(genotype)[accuracy_name(job, column)]
    return {
        **row,
        "bound": row["target"],
        "target": target,
        "accuracy": accuracy,
        "genotype": genotype.to_json(),
    }


def _is_done(job: phases.Job) -> bool:
    """Whether all that a point is made of is there, and whole."""
    names = ["summary.json"]
    if job.config.retrain:
        trained = ["searched", *(f"random_{number}" for number in range(job.config.random_cells))]
        names += [f"phases/{name}.json" for name in trained]
    return all(job.run.result(name) is not None for name in names)


def _random_points(job: phases.Job, given: ParetoCommand, *, first: bool) -> list[dict[str, Any]]:
    """The random architectures that were trained beside the searched one, or some of the benchmark,
    once."""
    (limit,) = job.limits
    if job.benchmark is None:
        cells = [
            job.run.read(f"phases/random_{number}.json")
            for number in range(job.config.random_cells)
        ]
        found = [
            (dnas.Genotype.from_text(cell["genotype"]), 100 * cell["test_accuracy"])
            for cell in cells
            if cell is not None
        ]
    elif first:
        keys = jax.random.split(jax.random.key(job.config.seed), max(given.random, 1))[
            : given.random
        ]
        genotypes = [dnas.random_genotype(key, job.space) for key in keys]
        name = accuracy_name(job, given.column)
        found = [(genotype, job.benchmark.query(genotype)[name]) for genotype in genotypes]
    else:
        found = []
    return [
        {
            "accuracy": accuracy,
            "predicted": limit.cost.discrete(dnas.one_hot_mix(job.space, genotype)),
        }
        for genotype, accuracy in found
    ]


def front(points: Sequence[dict[str, Any]]) -> list[int]:
    """Returns the numbers of the points that no other dominates, being cheaper and as accurate or
    better at the same cost.

    Example:
      >>> front(
      ...     [
      ...         {"predicted": 1.0, "accuracy": 90},
      ...         {"predicted": 2.0, "accuracy": 80},
      ...         {"predicted": 3.0, "accuracy": 95},
      ...     ]
      ... )
      [0, 2]
    """
    order = sorted(
        range(len(points)),
        key=lambda number: (points[number]["predicted"], -points[number]["accuracy"]),
    )
    best, kept = -math.inf, []
    for number in order:
        if points[number]["accuracy"] > best:
            best = points[number]["accuracy"]
            kept.append(number)
    return kept


def table(found: dict[str, Any]) -> str:
    """Returns the points as a Markdown table."""
    unit = found["unit"]
    lines = [
        f"| target | predicted, {unit} | measured, {unit} | {found['accuracy']} |",
        "|---|---|---|---|",
    ]
    for point in found["searched"]:
        measured = (
            f"{point['measured']:.4g} +- {point['spread']:.2g}"
            if "measured" in point
            else point.get("note", "")
        )
        lines.append(
            f"| {point['target']} | {point['predicted']:.4g} | {measured} |"
            f" {point['accuracy']:.2f} |"
        )
    if found["random"]:
        costs, accuracies = (
            reported((point[name] for point in found["random"]), "architectures", form)
            for name, form in (("predicted", ".4g"), ("accuracy", ".2f"))
        )
        lines.append(f"| random architectures | {costs} | | {accuracies} |")
    return "\n".join(lines) + f"\n\n{_NOTE}\n"


_NOTE = (
    f"Of random architectures: {REPORTED}. Of what was measured: median +- deviation of one"
    " reading. A target has one search: what another seed would find is not said here."
)
