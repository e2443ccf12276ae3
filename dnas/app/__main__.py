"""The `dnas` program, which finds the command that its first word names."""

import difflib
import importlib
import sys
from typing import NamedTuple

import dnas
from dnas.files import shown


class Command(NamedTuple):
    """A command, whose module has a function `main` of the words after its name."""

    module: str  # in dnas.app
    does: str
    words: tuple[str, ...] = ()  # before those that are given


COMMANDS = {
    "search": Command("search", "search a cell, train its network and random ones, write a report"),
    "text": Command(
        "search",
        "search a recurrent cell on a text, train it and a random one",
        ("--space=recurrent",),
    ),
    "retrain": Command("retrain", "train the network of a genotype from scratch"),
    "evaluate": Command("evaluate", "score the trained networks of a finished run again"),
    "report": Command("report", "write the report of a finished run again"),
    "study": Command("study", "several methods and seeds on a space with a tabular benchmark"),
    "suite": Command("suite", "methods in the nine settings of DARTS-Bench-Suite, ranked in each"),
    "pareto": Command("pareto", "searches for several targets: accuracy against cost"),
    "table": Command("table", "measure the parts of a search space on this device"),
    "scores": Command("scores", "score networks of a space without training them"),
    "fit": Command("fit", "fit a cost model to measured networks and score it on others"),
    "verify-resume": Command("verify_resume", "kill searches, resume them and compare every bit"),
    "bench": Command("bench.command", "time a step, cold and warm, as its sizes grow"),
}


def main(args: list[str] | None = None) -> None:
    """Runs the command that the first word names with the words after it."""
    words = sys.argv[1:] if args is None else args
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name in ("-h", "--help"):
        print(overview())
        return
    if name == "--version":
        print(f"dnas {dnas.__version__}")
        return
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        sys.exit(f"error: dnas has no command {shown(name)}{meant}\n\n{overview()}")
    command = COMMANDS[name]
    try:
        module = importlib.import_module(f"dnas.app.{command.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "dnas":
            raise
        sys.exit(
            f"error: dnas {name} needs the package {error.name}, which is not installed:"
            " pip install 'dnas[app]'"
        )
    sys.argv[0] = f"dnas {name}"  # what pages of help and messages call the program
    module.main([*command.words, *rest])


def overview() -> str:
    """Returns what `dnas --help` prints."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: dnas COMMAND [--setting=value ...]",
            "",
            "Differentiable architecture search.",
            "",
            *(f"  {name:{width}}  {command.does}" for name, command in COMMANDS.items()),
            "",
            "dnas COMMAND --help explains a command and its settings; dnas --version.",
        ]
    )


if __name__ == "__main__":
    main()
