"""Writes the report of a finished run again. `dnas report --run=runs/NAME` runs it."""

import dataclasses
import pathlib

import dnas
from dnas.app.ending import messages
from dnas.app.past import read_past
from dnas.app.words import read_words


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Writes report.html and the pictures of a finished run again, from what lies in its folder:
    neither its data set nor its networks are needed.

    Example: dnas report --run=runs/search-digits-darts-darts1-seed0
    """

    run: pathlib.Path
    """The folder of the run."""


def main(args: list[str]) -> None:
    """Writes the files and prints the result of the run, as the run did."""
    with messages():
        write_again(read_words(ReportCommand, args).run)


def write_again(folder: pathlib.Path) -> None:
    """Writes the report of the run in a folder.

    Raises:
      ValueError: if there is no finished run with trained networks, or it is one in a space that
        does not exist here.
    """
    past = read_past(folder)
    summary = past.run.read("summary.json")
    if summary is None:
        raise ValueError(f"the run in {folder} has not ended; --resume goes on with it")
    name = past.config["settings"]["space"]
    if name not in dnas.SPACES:
        raise ValueError(
            f"the run in {folder} is one in the space {name!r}, which is not among:"
            f" {', '.join(dnas.SPACES)}"
        )
    past.kind.write_report(past.run, dnas.SPACES[name], summary, past.trained)
