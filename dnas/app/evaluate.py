"""Scores the trained networks of a finished run again, read back from their checkpoints. `dnas
evaluate --run=runs/NAME` runs it."""

import dataclasses
import pathlib
from typing import Any

from dnas.app import phases
from dnas.app.ending import messages
from dnas.app.past import read_past
from dnas.app.runs import check_known
from dnas.app.words import read_words
from dnas.running.runtime import set_up_process


@dataclasses.dataclass(frozen=True)
class EvaluateCommand:
    """Scores the trained networks of a finished run again, and says whether they score what they
    scored.

    Example: dnas evaluate --run=runs/search-digits-darts-darts1-seed0
    """

    run: pathlib.Path
    """The folder of the run."""
    data_dir: pathlib.Path | None = None
    """Folder that holds the data set, if it has moved since."""


def main(args: list[str]) -> None:
    """Prints the accuracies; exits with an error if one has changed."""
    set_up_process()
    with messages():
        command = read_words(EvaluateCommand, args)
        scores = evaluate(command.run, command.data_dir)
        for name, (before, now) in scores.items():
            shown = (
                f"{score:.2%}" if score <= 1 else f"perplexity {score:.2f}"
                for score in (now, before)
            )
            print("{}: {}, at the end of training {}".format(name, *shown))
        if any(before != now for before, now in scores.values()):
            raise ValueError(
                "a reloaded network scores differently; were the data or the package versions"
                " changed?"
            )


def evaluate(
    folder: pathlib.Path, data_dir: pathlib.Path | None = None
) -> dict[str, tuple[float, float]]:
    """Returns for each trained network of the run its accuracy at the end of training and the
    reloaded one's.

    Of a run on a text they are perplexities.

    Raises:
      ValueError: if there is no run with trained networks, or what they need is not there.
    """
    past = read_past(folder)
    before = past.config["data_dir"]
    data_dir = data_dir or (before and pathlib.Path(before))
    settings: Any = past.kind.settings  # each kind has settings of its own
    check_known(settings, past.config)
    job = past.kind.make_job(
        settings(**past.config["settings"], data_dir=data_dir), lambda reads: past.run
    )
    score = f"test_{job.final_task.measure}"
    return {
        name: (result[score], phases.evaluate(job, name)[score])
        for name, result in past.trained.items()
    }
