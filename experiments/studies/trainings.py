"""Local search by short trainings, from the architecture with most multiply-adds: what a search
without gradients finds in NAS-Bench-201 with as many minutes as one with them.

Command: python -m experiments.studies.trainings --data-dir=FOLDER --benchmark=FILE. The values of
trainings are kept, so that the same command continues; the table of what is there is printed at the
end.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator

import dnas
from dnas.app.ending import messages
from dnas.app.words import read_words
from dnas.baselines import most_macs
from dnas.running.runtime import set_up_process
from dnas.searchers import incumbents, local_search, search_trainings
from dnas.statistics import reported
from experiments.studies.nasbench201 import SPACE, StudyCommand, add, read, rows


@dataclasses.dataclass(frozen=True)
class TrainingsCommand(StudyCommand):
    """Searches with several seeds, and looks up what is found in a tabular benchmark."""

    seeds: int = 4
    """How many, from 0 on: of weights, batches and the order of neighbours."""
    first_seed: int = 0
    """Where they begin."""
    cells: int = 15
    """Of the networks: as many as those of the benchmark have."""
    epochs: int = 4
    """Values of a training."""
    steps: int = 100
    """Steps that each is the mean of."""
    budget: int = 150
    """Of such values, of all trainings."""
    out: pathlib.Path = pathlib.Path("docs/evidence/trainings.csv")
    """Values of all trainings, to which new ones are added."""


COLUMNS = ("size", "seed", "genotype", "epoch", "value", "seconds")


def main(args: list[str]) -> None:
    """Runs what is not there yet, and prints the table."""
    with messages("the same command continues"):
        set_up_process()
        print(study(read_words(TrainingsCommand, args)))


def study(command: TrainingsCommand) -> str:
    """Returns the table of all seeds."""
    benchmark, task = read(command)
    lines = [
        "| seed | found | trainings | steps | seconds | start |",
        "|---|---|---|---|---|---|",
    ]
    start, found = most_macs(SPACE), []
    for seed in range(command.first_seed, command.first_seed + command.seeds):
        train = Kept(command, task, seed)
        history = search_trainings(
            SPACE,
            local_search(start=start, first_improvement=False),
            train,
            epochs=command.epochs,
            budget=command.budget,
            seed=seed,
        )
        best = incumbents(history)[-1]
        found.append(benchmark.query(best)[command.metric])
        steps = sum(int(evaluation.cost) for evaluation in history) * command.steps
        lines.append(
            f"| {seed} | {found[-1]:.2f} | {len(history)} | {steps:,} | {train.seconds:.0f} |"
            f" {benchmark.query(start)[command.metric]:.2f} |"
        )
    return "\n".join([*lines, "", reported(found, "seeds of the trainings")])


class Kept:
    """Trainings whose values are kept in the CSV, where one is looked up before it is run."""

    def __init__(self, command: TrainingsCommand, task: dnas.Task, seed: int):
        self._out, self._seed = command.out, str(seed)
        self._size = (
            f"{command.image_size}x{command.image_size} C={command.channels} {command.cells} cells"
            f" {command.epochs}x{command.steps} steps"
        )
        self._train = dnas.short_training(
            SPACE,
            task,
            epochs=command.epochs,
            steps=command.steps,
            channels=command.channels,
            num_cells=command.cells,
            seed=seed,
        )
        self._known: dict[str, list[float]] = {}
        self.seconds = 0.0
        for row in rows(command.out, self._size):
            if row["seed"] == self._seed:
                self._known.setdefault(row["genotype"], []).append(float(row["value"]))
                self.seconds += float(row["seconds"])

    def __call__(self, genotype: dnas.Genotype) -> Iterator[float]:
        text = genotype.to_text()
        known = self._known.setdefault(text, [])
        yield from list(known)
        started = time.monotonic()
        for epoch, value in enumerate(self._train(genotype), start=1):
            seconds, started = time.monotonic() - started, time.monotonic()
            if epoch <= len(known):  # was yielded above: a training begins anew
                continue
            known.append(value)
            self.seconds += seconds
            row = self._size, self._seed, text, epoch, f"{value:.6f}", f"{seconds:.2f}"
            add(self._out, COLUMNS, row)
            yield value


if __name__ == "__main__":
    main(sys.argv[1:])
