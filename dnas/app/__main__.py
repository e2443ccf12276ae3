"""The `dnas` command, which finds the command that its first word names."""

import difflib
import importlib
import sys

COMMANDS = {
    "search": ("search", "search a cell, train its network and random ones, write a report"),
    "text": ("search", "search a recurrent cell on a text, train it and a random one"),
    "retrain": ("retrain", "train the network of a genotype from scratch"),
    "evaluate": ("evaluate", "score the trained network of a finished run again"),
    "study": ("study", "several methods and seeds on a space with a tabular benchmark"),
    "pareto": ("pareto", "searches for several targets: accuracy against cost"),
    "table": ("table", "measure the parts of a search space on this device"),
    "fit": ("fit", "fit a cost model to measured networks and score it on others"),
    "bench": ("bench.command", "time a step, cold and warm, as its sizes grow, beside a peer"),
}


def main(args: list[str] | None = None) -> None:
    """Runs the command that the first word names with the words after it."""
    name, *rest = sys.argv[1:] if args is None else args or [""]
    if name in ("", "-h", "--help"):
        print(_overview())
        return
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        sys.exit(f"error: dnas has no command {name!r}{meant}\n\n{_overview()}")
    try:
        module = importlib.import_module(f"dnas.app.{COMMANDS[name][0]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "dnas":
            raise
        sys.exit(
            f"error: the commands need {error.name}, which is not installed:"
            " pip install 'dnas[app]'"
        )
    if name == "text":
        rest = ["--space=recurrent", *rest]
    module.main(rest)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: dnas COMMAND --setting=value ...",
            "",
            *lines,
            "",
            "dnas COMMAND --help prints the settings of a command.",
        ]
    )


if __name__ == "__main__":
    main()
