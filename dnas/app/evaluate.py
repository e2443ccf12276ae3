"""Scores the trained networks of a finished run again, read back from their checkpoints. `make
evaluate RUN=runs/NAME`."""

import dataclasses
import pathlib
import sys

import tyro

from dnas.app import images, phases, text
from dnas.app.config import RetrainCommand, SearchConfig
from dnas.app.runs import Run
from dnas.running.runtime import set_up_process


@dataclasses.dataclass(frozen=True)
class EvaluateCommand:
    """Scores the trained networks of a finished run again, and says whether they score what they
    scored."""

    run: pathlib.Path
    """The folder of the run."""
    data_dir: pathlib.Path | None = None
    """Folder that holds the data set, if it has moved since."""


def main(args: list[str]) -> None:
    """Prints the accuracies; exits with an error if one has changed."""
    set_up_process()
    command = tyro.cli(EvaluateCommand, args=args)
    try:
        scores = evaluate(command.run, command.data_dir)
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")
    for name, (before, now) in scores.items():
        shown = (
            f"{score:.2%}" if score <= 1 else f"perplexity {score:.2f}" for score in (now, before)
        )
        print("{}: {}, at the end of training {}".format(name, *shown))
    if any(before != now for before, now in scores.values()):
        sys.exit(
            "error: a reloaded network scores differently; were the data or the package versions"
            " changed?"
        )


def evaluate(
    folder: pathlib.Path, data_dir: pathlib.Path | None = None
) -> dict[str, tuple[float, float]]:
    """Returns for each trained network of the run its accuracy at the end of training and the
    reloaded one's.

    Of a run on a text they are perplexities.
    """
    run = Run(folder)
    before = run.read("config.json")
    if not before:
        raise ValueError(f"{folder} is not the folder of a run: it has no config.json")
    make_job, kind = {
        "search": (images.make_job, SearchConfig),
        "retrain": (images.make_job, RetrainCommand),
        "text": (text.make_job, text.TextConfig),
    }[before["command"]]
    data_dir = data_dir or (before["data_dir"] and pathlib.Path(before["data_dir"]))
    job = make_job(kind(**before["settings"], data_dir=data_dir), lambda: run)
    names = [
        path.stem for path in sorted((folder / "phases").glob("*.json")) if path.stem != "search"
    ]
    if not names:
        raise ValueError(f"{folder} has no trained network yet; finish the run with RESUME=1 first")
    score = f"test_{job.final_task.measure}"
    return {
        name: (run.read(f"phases/{name}.json")[score], phases.evaluate(job, name)[score])
        for name in names
    }
