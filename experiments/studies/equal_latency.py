"""Where counting cannot win: accuracy of cells of NAS-Bench-201 within a latency on a Raspberry Pi
5, as the benchmark has both, found by trainings on real images.

Command: python -m experiments.studies.equal_latency --data-dir=FOLDER --benchmark=FILE. A search
that is done is a line of the CSV, and is not run again; the table of what is there is printed at
the end. --show=1 prints it and runs nothing.

A search sees 500 measured cells, to which it fits a cost model, the images, and in the end the
measured latency of what it has trained.
"""

import dataclasses
import itertools
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import dnas
from dnas.app.fit import SPEC, live_macs, predict, read_measurements
from dnas.hw_loss import CostModel, fit_cost
from dnas.searchers import Evaluation
from dnas.statistics import compare, expected_best_of, reported
from dnas.tabular import Benchmark
from experiments.studies.nasbench201 import (
    SPACE,
    StudyCommand,
    add,
    benchmark_of,
    rows,
    run_study,
    task_of,
)

COLUMNS = ("size", "target", "seed", "genotype", "latency", "accuracy", "trials", "seconds")


@dataclasses.dataclass(frozen=True)
class LatencyCommand(StudyCommand):
    """Searches for each target with several seeds, of the cells that are measured, weights, batches
    and the order of neighbours, and prints what is found beside what needs no search."""

    latency: str = "pi5_litert_latency_ms"
    """Column of the benchmark."""
    shares: str = "0.2,0.3,0.4,0.5,0.7,0.8"
    """Targets, with commas between: latencies that these shares of all cells are within."""
    measured: int = 500
    """Cells to which the cost model is fitted."""
    cells: int = 15
    """Of the networks that are trained."""
    trials: int = 100
    """Networks trained in a search at the most."""
    steps: int = 200
    """Of a training."""
    out: pathlib.Path = pathlib.Path("docs/evidence/equal_latency.csv")
    """Results, to which those that are new are added."""


class Predicted(NamedTuple):
    """What a cost model says of one cell, as limits on costs take it."""

    model: CostModel
    metric: str = "latency"
    unit: str = "ms"

    def __call__(self, mix: Mapping[str, Any]) -> Any:
        return self.model.cost(mix["cell"])

    def meets(self, mix: Mapping[str, Any], bound: float) -> bool:
        return float(self(mix)) <= bound


def study(command: LatencyCommand) -> str:
    """Returns the table of all targets."""
    benchmark = benchmark_of(command)
    size = f"{command.image_size}x{command.image_size} C={command.channels} {command.cells} cells"
    size += f" {command.trials}x{command.steps} steps, {command.measured} measured,"
    size += f" {command.latency} {command.metric}"  # all that a row depends on
    known = {(row["target"], row["seed"]) for row in rows(command.out, size)}
    mixes, latencies = read_measurements(command.benchmark, command.latency)
    macs, targets = live_macs(mixes), targets_of(command, latencies)
    wanted = [(seed, target) for seed in range(command.seeds) for target in targets]
    left = [own for own in wanted if (own[1], str(own[0])) not in known and not command.show]
    task = task_of(command) if left else None
    for seed, own in itertools.groupby(left, key=lambda pair: pair[0]):
        assert task is not None
        fitted = np.random.default_rng(seed).permutation(len(mixes))[: command.measured]
        model = fit_cost(SPEC, mixes[fitted], latencies[fitted])
        expected = predict(model, mixes)
        for _, target in own:
            started = time.monotonic()
            largest = int(np.where(expected <= float(target), macs, -1.0).argmax())
            start = benchmark.genotypes[largest]
            method = _method(command, task, Predicted(model), float(target), start, benchmark)
            result = dnas.run_search(SPACE, task, method, seed=seed)
            found = benchmark.query(result.genotype)
            row = (size, target, seed, result.genotype.to_text(), found[command.latency])
            row = (*row, found[command.metric], len(result.history))
            add(command.out, COLUMNS, (*row, f"{time.monotonic() - started:.0f}"))
    accuracies = np.asarray(benchmark.metrics[command.metric])
    return table(command, rows(command.out, size), latencies, macs, accuracies)


def targets_of(command: LatencyCommand, latencies: np.ndarray) -> list[str]:
    """Returns the targets in the unit of the column, as the CSV has them."""
    shares = [float(share) for share in command.shares.split(",")]
    return [f"{bound:.6f}" for bound in np.quantile(latencies, shares) + 5e-7]


def _method(
    command: LatencyCommand,
    task: dnas.Task,
    cost: Predicted,
    target: float,
    start: dnas.Genotype,
    benchmark: Benchmark,
) -> dnas.Method:
    method = dnas.METHODS["trained_neighbours"].for_task(
        SPACE,
        task,
        channels=command.channels,
        num_cells=command.cells,
        trials=command.trials,
        trial_steps=command.steps,
    )
    trials = method.trials
    assert trials is not None
    by_loss = trials.choose

    def choose(history: Sequence[Evaluation], noise: float) -> dnas.Genotype:
        """The choice of the method among what is within the target when it is measured."""
        within = [
            own for own in history if benchmark.query(own.genotype)[command.latency] <= target
        ]
        return by_loss(within or history, noise)

    limits: Any = [(cost, target)]
    trials = trials._replace(limits=limits, start=lambda space, limits: start, choose=choose)
    return method._replace(trials=trials)


def table(
    command: LatencyCommand,
    searches: Sequence[dict[str, str]],
    latencies: np.ndarray,
    macs: np.ndarray,
    accuracies: np.ndarray,
) -> str:
    """Returns a line for each target: what is within it, and what was found."""
    lines = [
        "| target, ms | cells within | random within | best of 10 random, by oracle | most"
        " multiply-adds within | searched | less most multiply-adds | measured, ms | seconds |"
        " best within |",
        "|---" * 10 + "|",
    ]
    for target in targets_of(command, latencies):
        own = [row for row in searches if row["target"] == target]
        within = np.flatnonzero(latencies <= float(target))
        values = accuracies[within]
        tied = accuracies[within[macs[within] >= macs[within].max() * (1 - 1e-6)]]
        largest, span = float(tied.mean()), f"{tied.min():.2f} to {tied.max():.2f}"
        counted = f"{largest:.2f}" + (f" ({span}, {len(tied)} tie)" if len(tied) > 1 else "")
        lines.append(
            f"| {float(target):.3f} | {len(within):,} | {values.mean():.2f} +- {values.std():.1f} |"
            f" {expected_best_of(values, 10):.2f} | {counted} |"
            + (_found(own, largest) if own else " | | | |")
            + f" {values.max():.2f} |"
        )
    return "\n".join(lines)


def _found(searches: Sequence[dict[str, str]], largest: float) -> str:
    accuracies = [float(row["accuracy"]) for row in searches]
    latency = max(float(row["latency"]) for row in searches)
    seconds = np.median([float(row["seconds"]) for row in searches])
    return (
        f" {reported(accuracies, 'seeds')} | {compare(accuracies, largest).shown()} |"
        f" {latency:.3f} at most | {seconds:.0f} |"
    )


if __name__ == "__main__":
    run_study(LatencyCommand, study, sys.argv[1:])
