"""Whether a search that is killed and resumed ends as one that was left alone, bit by bit, on this
machine. `dnas verify-resume` checks it."""

import argparse
import contextlib
import dataclasses
import pathlib
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import dnas
from dnas.app.ending import messages
from dnas.app.outcomes import different, results
from dnas.app.processes import Ended, Process
from dnas.app.words import read_known

_NAME = "search"  # of every run, each in a folder of its own
_OURS = ("name", "runs", "resume", "overwrite", "explain")
_MOST_NAMES = 5  # of what differs, in a line of the report
# Of a search that is no longer than it has to be. What is given goes before it.
_SHORT = ("--epochs=6", "--retrain-epochs=2", "--random-cells=0", "--checkpoint-seconds=0")
_FEW_IMAGES = (
    *("--images=256", "--test-images=64"),
    *("--batch-size=32", "--retrain-batch-size=32"),
)


@dataclasses.dataclass(frozen=True)
class VerifyResumeCommand:
    """Checks the promise that nothing is lost: searches are killed at random moments and resumed,
    and all that they find is compared, bit by bit, with a search that was left alone. Prints a
    report; the exit code is 1 if anything differs.

    All settings of `dnas search` but name, runs, resume and overwrite may be given too: dnas search
    --help. Unless they are, the searches are short, on a few images.

    Example: dnas verify-resume --kills=5 --space=nasbench201
    """

    kills: int = 3
    """Searches that are killed, each once, by SIGKILL, at a moment drawn at random."""
    keep: pathlib.Path | None = None
    """Folder that the runs are left in; they are deleted unless it is given."""


def main(args: list[str]) -> None:
    """Prints the report, line by line as it comes; exits with 1 if anything differs."""
    with messages():
        given, rest = read_known(VerifyResumeCommand, args)
        words = search_words(given, rest)
        with _folder_of(given) as folder:
            same = verify(words, folder, given.kills)
    if not same:
        sys.exit(1)


def search_words(given: VerifyResumeCommand, rest: Sequence[str]) -> list[str]:
    """Returns the words of the searches, without name and folder.

    Raises:
      ValueError: for settings that decide where runs lie and how they go on, which the check does.
    """
    if given.kills < 1:
        raise ValueError(f"kills is a number of at least 1, got {given.kills}")
    for name in _OURS:
        if any(word.partition("=")[0] == f"--{name}" for word in rest):
            raise ValueError(f"--{name} is not for this command, which sets it for every search")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--space", default="darts")
    space = dnas.SPACES.get(first.parse_known_args(list(rest))[0].space)
    few = _FEW_IMAGES if space is None or space.inputs == "images" else ()
    return ["search", *_SHORT, *few, *rest]


@contextlib.contextmanager
def _folder_of(given: VerifyResumeCommand) -> Iterator[pathlib.Path]:
    if given.keep is None:
        with tempfile.TemporaryDirectory(prefix="verify-resume") as folder:
            yield pathlib.Path(folder)
        return
    if given.keep.exists():
        raise ValueError(f"{given.keep} is there already: --keep is a folder that is made")
    yield given.keep


def verify(words: Sequence[str], root: pathlib.Path, kills: int) -> bool:
    """Prints the report on so many killed runs of a command, and returns whether all have ended as
    the undisturbed one.

    Args:
      words: of a command that has a run, without its name and folder.
      root: a folder for all runs.

    Raises:
      ValueError: if the command fails by itself, or never does the same twice.
    """

    def start(folder: pathlib.Path, *more: str) -> Process:
        placed = (f"--runs={folder}", f"--name={_NAME}")
        return Process([*words, *placed, *more], root / "xla")

    print(f"dnas {shlex.join(words)}", flush=True)
    expected = undisturbed(start, root, _NAME)
    arrays = sum(len(value) for name, value in expected.found.items() if "checkpoints" in name)
    print(
        f"left alone, twice: {expected.seconds:.1f} s; {len(expected.found)} results, with"
        f" {arrays} arrays, the same bit by bit",
        flush=True,
    )
    same = 0
    for number in range(1, kills + 1):
        folder = root / f"killed-{number}"
        moment = random.uniform(expected.begins, expected.seconds)
        seconds, _ = end_at(moment, start, folder, signal.SIGKILL)
        reached = _reached(folder)
        resumed = start(folder, "--resume").end()
        fault = _fault(folder, resumed, expected.found)
        same += not fault
        print(
            f"killed after {seconds:.1f} s, {reached}; resumed: {fault or 'the same'}", flush=True
        )
    print(f"{same} of {kills} that were killed ended with every bit of the one left alone")
    return same == kills


class Undisturbed(NamedTuple):
    """A command that was left alone."""

    found: dict[str, Any]  # `results`
    begins: float  # seconds until its folder was there
    seconds: float  # until it ended


def undisturbed(
    start: Callable[[pathlib.Path], Process], root: pathlib.Path, name: str
) -> Undisturbed:
    """Runs a command twice: once to compile, once to watch.

    Args:
      start: begins it in a folder of runs.
      name: of its own folder in there.

    Raises:
      ValueError: if it fails, or finds something else each time.
    """
    found, begins, seconds = [], 0.0, 0.0
    for attempt in ("compiled", "whole"):
        folder = root / attempt
        started = time.monotonic()
        process = start(folder)
        process.wait_until((folder / name).exists)
        begins = time.monotonic() - started
        ended = process.end()
        seconds = time.monotonic() - started
        if ended.code:
            raise ValueError(f"the undisturbed command fails: {ended.said.strip()}")
        found.append(results(folder))
    if names := different(*found):
        raise ValueError(f"two undisturbed runs differ in {_listed(names)}: nothing can be told")
    return Undisturbed(found[-1], begins, seconds)


def end_at(
    moment: float,
    start: Callable[[pathlib.Path], Process],
    folder: pathlib.Path,
    number: signal.Signals,
) -> tuple[float, Ended]:
    """Sends a command a signal at a moment at which it runs, see `running_at`. Returns the seconds
    and how it ended."""
    seconds, process = running_at(moment, start, folder)
    return seconds, process.end(number)


def running_at(
    moment: float, start: Callable[[pathlib.Path], Process], folder: pathlib.Path
) -> tuple[float, Process]:
    """Starts a command in a folder of runs and waits so many seconds, or fewer, and anew, where it
    has ended by itself. Returns the seconds, and the process, which runs."""
    process = start(folder)
    while not process.wait(moment):
        process.end()
        shutil.rmtree(folder)
        moment *= 0.8
        process = start(folder)
    return moment, process


def _reached(folder: pathlib.Path) -> str:
    """What the checkpoints in a folder of runs hold, in words."""
    steps: dict[str, int] = {}
    for path in folder.rglob("checkpoints/*/*.safetensors"):
        phase = path.parent.name
        steps[phase] = max(int(path.stem), steps.get(phase, 0))
    if not steps:
        return "before its first checkpoint"
    return ", ".join(f"{phase} saved at step {step}" for phase, step in sorted(steps.items()))


def _fault(folder: pathlib.Path, ended: Ended, expected: Mapping[str, Any]) -> str:
    """What is wrong with a resumed run, in words; "" if nothing is."""
    if ended.code:
        return f"it FAILED: {ended.said.strip()[-600:]}"
    names = different(results(folder), expected)
    return f"it DIFFERS in {_listed(names)}" if names else ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    listed = ", ".join(names[:_MOST_NAMES])
    return listed if more <= 0 else f"{listed} and {more} more"
