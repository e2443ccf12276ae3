"""Which method ranks: Kendall's tau between the accuracy of cells of NAS-Bench-201 with the shared
weights of a search and what the benchmark says of them, after each quarter of the search.

Command: python -m experiments.studies.ranking --data-dir=FOLDER --benchmark=FILE. A search that is
done is a line of the CSV, and is not run again; the table of what is there is printed at the end.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

import dnas
from dnas.rules import chain, rank_correlation
from dnas.statistics import sample
from experiments.studies.nasbench201 import (
    SPACE,
    StudyCommand,
    add,
    benchmark_of,
    rows,
    run_study,
    task_of,
)

QUARTERS = tuple(f"tau_{number}" for number in range(1, 5))
COLUMNS = ("method", "seed", *QUARTERS, "found", "seconds", "size")


@dataclasses.dataclass(frozen=True)
class RankingCommand(StudyCommand):
    """Searches with several methods and seeds, and says how their shared weights rank cells."""

    methods: str = "darts1,gdas,drnas,random_ws"
    """Names, with commas between."""
    networks: int = 50
    """Cells that are ranked: drawn uniformly, the same in all searches."""
    cells: int = 3
    """Of the supernet."""
    epochs: int = 10
    """Of a search; the rate of arch grows in proportion as the published search is longer."""
    batches: int = 16
    """Of 64 images each, that arch learns from, on which cells are ranked."""
    out: pathlib.Path = pathlib.Path("docs/evidence/ranking.csv")
    """Results, to which those that are new are added."""


def study(command: RankingCommand) -> str:
    """Returns the table of all searches of this size.

    Raises:
      ValueError: for fewer epochs than quarters.
    """
    if command.epochs < len(QUARTERS):
        raise ValueError(f"a quarter of a search has an epoch or more; got {command.epochs} epochs")
    size = f"{command.image_size}x{command.image_size}, C={command.channels},"
    size += f" {command.cells} cells, {command.epochs} epochs, {command.networks} networks on"
    size += f" {command.batches} batches, {command.metric}"  # all that a row depends on
    known = {(row["method"], row["seed"]) for row in rows(command.out, size)}
    wanted = [(name, seed) for seed in range(command.seeds) for name in command.methods.split(",")]
    left = [own for own in wanted if (own[0], str(own[1])) not in known]
    if left and not command.show:
        benchmark, task = benchmark_of(command), task_of(command)
        keys = jax.random.split(jax.random.key(0), command.networks)
        genotypes = [dnas.random_genotype(key, SPACE) for key in keys]
        worth = [benchmark.query(genotype)[command.metric] for genotype in genotypes]
        rule = rank_correlation(genotypes, worth, batches=command.batches)
        for name, seed in left:
            started = time.monotonic()
            result = dnas.run_search(SPACE, task, _method(name, command, task, rule), seed=seed)
            taus = [row["tau"] for row in result.history if "tau" in row]
            row = (name, seed, *(f"{tau:.4f}" for tau in taus))
            found = benchmark.query(result.genotype)[command.metric]
            row = (*row, f"{found:.2f}", f"{time.monotonic() - started:.0f}", size)
            add(command.out, COLUMNS, row)
    return table(rows(command.out, size))


def _method(name: str, command: RankingCommand, task: dnas.Task, rule: dnas.Rule) -> dnas.Method:
    published = dnas.METHODS[name]
    own = published.settings_in(SPACE)
    # As --arch-pace=scaled does: see dnas/app/config.py.
    method = published.for_task(
        SPACE,
        task,
        epochs=command.epochs,
        channels=command.channels,
        num_cells=command.cells,
        arch_learning_rate=own["arch_learning_rate"] * own["epochs"] / command.epochs,
    )
    return method._replace(rule=rule if method.rule is None else chain(rule, method.rule))


def table(searches: Sequence[dict[str, str]]) -> str:
    """Returns a line for each method: mean +- deviation over its seeds."""
    lines = [
        "| method | seeds | tau after 1/4 | 2/4 | 3/4 | the whole search | found | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["method"] for row in searches):
        own = [row for row in searches if row["method"] == name]
        columns = [
            sample(float(row[column]) for row in own).shown() for column in (*QUARTERS, "found")
        ]
        seconds = np.median([float(row["seconds"]) for row in own])
        lines.append(f"| {name} | {len(own)} | {' | '.join(columns)} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_study(RankingCommand, study, sys.argv[1:])
