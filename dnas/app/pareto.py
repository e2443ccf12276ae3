"""Accuracy against cost: a search for each of several targets, with random architectures beside
them. `make pareto` runs it."""

import argparse
import dataclasses
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import dnas
from dnas.app import config as settings
from dnas.app import images, phases
from dnas.app import search as main_job
from dnas.app.command import messages
from dnas.app.plots import draw_pareto, picture
from dnas.app.runs import Run, open_run
from dnas.running.runtime import set_up_process


def main(args: list[str]) -> None:
    """Runs the searches that are not done yet, and draws the front after each."""
    set_up_process()
    first = argparse.ArgumentParser(
        prog="make pareto",
        allow_abbrev=False,
        description=(
            "Searches once for each target and draws accuracy against cost, random architectures in"
            " the background. The accuracy is that of the trained networks; with BENCHMARK=file it"
            " is read there, and nothing is trained. Run again after an interruption, it continues."
            " All settings of `make search` but target, name, resume and overwrite apply."
        ),
    )
    first.add_argument(
        "--targets",
        help="such as 2ms,3ms,4ms; POINTS of them within the feasible range unless given",
    )
    first.add_argument(
        "--points",
        type=int,
        default=5,
        help="how many targets, spread over what random architectures cost",
    )
    first.add_argument(
        "--metric", default="latency", help="of the targets, where they are not given"
    )
    first.add_argument("--column", help="of the benchmark; its first metric unless given")
    first.add_argument(
        "--random",
        type=int,
        default=100,
        help="how many architectures of the benchmark to draw behind",
    )
    first.add_argument("--name", default="pareto", help="folder of all runs")
    first.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    given, rest = first.parse_known_args(args)
    with messages("interrupted; the same command continues"):
        pareto(given, rest)


def pareto(given: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    """Returns what pareto.json holds: {"searched": points, "random": points}, each point with cost
    and accuracy."""
    if given.points < 1 or given.random < 0:
        raise ValueError(
            f"points is a number of at least 1 and random of at least 0, got {given.points} and"
            f" {given.random}"
        )
    folder = given.runs.expanduser() / given.name
    targets = given.targets.split(",") if given.targets else spread_targets(given, rest)
    configs = {target: _config(rest, folder, target) for target in targets}
    searched: list[dict[str, Any]] = []
    random: list[dict[str, Any]] = []
    for target, config in configs.items():
        job = images.make_job(
            config, lambda config=config: open_run(config, "pareto", argv=sys.argv[1:])
        )
        if len(job.limits) != 1:
            raise ValueError(f"a point of a front has one target, not {target!r}")
        if job.run.read("summary.json") is None:
            main_job.search(job)
        genotype = dnas.Genotype.from_json((job.run.folder / "genotype.json").read_text())
        searched.append(_point(job, genotype, given.column, target))
        random += _random_points(job, given, first=not random)
        found = {
            "searched": searched,
            "random": random,
            "unit": job.limits[0].cost.unit,
            "metric": job.limits[0].cost.metric,
        }
        found |= {"accuracy": accuracy_name(job, given.column), "front": front(searched)}
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


def spread_targets(given: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Returns targets at equal distances between the cheapest and the dearest tenth of random
    architectures."""
    config = settings.parse(settings.SearchConfig, [*rest, f"--runs={given.runs}"])
    units = dnas.hw_loss.METRICS.get(given.metric)
    if units is None:
        raise ValueError(
            f"metric {given.metric!r} does not exist; choose from:"
            f" {', '.join(dnas.hw_loss.METRICS)}"
        )
    unit = next(iter(units))
    # A target that every architecture meets: the limit is only asked what random ones cost.
    job = images.make_job(
        dataclasses.replace(config, target=f"{given.metric}=1e30{unit}"), lambda: Run(given.runs)
    )
    (limit,) = job.limits
    keys = jax.random.split(jax.random.key(config.seed), 200)
    costs = [
        float(limit.cost(dnas.one_hot_mix(job.space, dnas.random_genotype(key, job.space))))
        for key in keys
    ]
    low, high = np.quantile(costs, (0.1, 0.9))
    return [f"{given.metric}={value:.4g}{unit}" for value in np.linspace(low, high, given.points)]


def accuracy_name(job: phases.Job, column: str | None) -> str:
    """Returns what the accuracies are."""
    if job.benchmark is None:
        return f"test accuracy on {job.config.dataset}, in per cent"
    return next(iter(job.benchmark.metrics)) if column is None else column


def _point(
    job: phases.Job, genotype: dnas.Genotype, column: str | None, target: str
) -> dict[str, Any]:
    (row,) = phases.proof(job)
    if job.benchmark is None:
        accuracy = 100 * job.run.read("phases/searched.json")["test_accuracy"]
    else:
        accuracy = job.benchmark.query(genotype)[accuracy_name(job, column)]
    return {
        **row,
        "bound": row["target"],
        "target": target,
        "accuracy": accuracy,
        "genotype": genotype.to_json(),
    }


def _random_points(
    job: phases.Job, given: argparse.Namespace, *, first: bool
) -> list[dict[str, Any]]:
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
            "predicted": float(limit.cost(dnas.one_hot_mix(job.space, genotype))),
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
            np.array([point[name] for point in found["random"]])
            for name in ("predicted", "accuracy")
        )
        words = f"{costs.mean():.4g} +- {costs.std():.2g}"
        lines.append(
            f"| {len(costs)} random architectures | {words} | | {accuracies.mean():.2f} +-"
            f" {accuracies.std():.2f} |"
        )
    return "\n".join(lines) + "\n"
