"""What the chaos study does things to: commands at their smallest size, run in processes of their
own, and what is left of them in the end."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import dnas
from dnas.app.checkpoints import arrays_of
from dnas.app.runs import TRASH

ROOT = pathlib.Path(__file__).parents[2]
NAME = "a"  # of every run
_HANGS = 600.0  # seconds after which a process is taken for one that never ends

_SEARCH = (
    *("--channels=2", "--cells=1", "--epochs=3", "--batch-size=16", "--images=80"),
    *("--test-images=70", "--checkpoint-seconds=0"),
)
_RETRAIN = (
    *("--retrain-channels=2", "--retrain-cells=1", "--retrain-epochs=3"),
    *("--retrain-batch-size=32", "--random-cells=1"),
)
_SMALL = ("--space=nasbench201", "--cells=3", "--retrain-cells=3")
_TEXT = (
    *("--channels=4", "--epochs=3", "--batch-size=3", "--window=5", "--retrain-channels=4"),
    *("--retrain-epochs=3", "--retrain-batch-size=3", "--random-cells=1", "--checkpoint-seconds=0"),
)
_TABLE = (
    *("--space=nasbench201", "--runtime=jax", "--channels=2", "--cells=3", "--image-size=8"),
    *("--image-channels=1", "--repeats=2", "--device=here"),
)


class Work(NamedTuple):
    """A command, and how it is told to go on."""

    words: tuple[str, ...]
    resume: tuple[str, ...] = ("--resume=1",)
    is_run: bool = True  # whether its folder is that of one run, which `dnas evaluate` reads


WORKS = {
    "search": Work(("search", *_SEARCH, "--retrain=0")),
    "whole": Work(("search", *_SEARCH, *_RETRAIN)),
    "retrain": Work(
        ("retrain", "--genotype=DARTS_V2", *_SEARCH[4:], *_RETRAIN[:4], "--evaluate-every=1")
    ),
    "text": Work(("text", "--text={data}/book.txt", *_TEXT)),
    "study": Work(
        (
            *("study", "--benchmark={data}/cells.csv", "--methods=darts1,gdas", "--seeds=2"),
            *(*_SEARCH, *_SMALL),
        ),
        resume=(),
        is_run=False,
    ),
    "pareto": Work(
        ("pareto", "--metric=params", "--points=2", *_SEARCH, *_RETRAIN, *_SMALL),
        resume=(),
        is_run=False,
    ),
    "table": Work(("table", *_TABLE), resume=(), is_run=False),
}


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    said: str  # what it wrote to stderr

    @property
    def raw(self) -> bool:
        """Whether it ended in a way that nobody has foreseen."""
        asked = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
        crashed = self.code < 0 and self.code not in asked
        speechless = self.code > 0 and not self.said.strip()
        return crashed or speechless or "Traceback (most recent call last)" in self.said


def words_of(
    work: Work, folder: pathlib.Path, data: pathlib.Path, *, name: str = NAME
) -> list[str]:
    """Returns the words of the command in a folder of runs."""
    words = [word.format(data=data) for word in work.words]
    if words[0] == "table":
        return [*words, f"--out={folder / name / 'table.csv'}"]
    return [*words, f"--runs={folder}", f"--name={name}"]


class Process:
    """A command of dnas that runs by itself.

    Args:
      data: the folder that holds what commands read, and compiled programs.
      before: a program and its words that starts the command.
    """

    def __init__(
        self,
        words: Sequence[str],
        data: pathlib.Path,
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        before: Sequence[str] = (),
        stdout: int = subprocess.DEVNULL,
    ):
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(data / "xla"))
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "dnas.app", *words],
            cwd=ROOT,
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=self._errors,
        )

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until the process has ended; whether it still runs."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def wait_until(self, happened: Callable[[], bool]) -> bool:
        """Waits until something has happened, or the process has ended; whether it still runs."""
        while self._process.poll() is None:
            if happened():
                return True
            time.sleep(0.002)
        return False

    def end(self, number: signal.Signals | None = None) -> Ended:
        """Waits for the end, after a signal if one is given."""
        if number is not None:
            self._process.send_signal(number)
        hangs = self.wait(_HANGS)
        if hangs:
            self._process.kill()
            self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()
        self._errors.close()
        if hangs:
            return Ended(-signal.SIGABRT, f"it did not end within {_HANGS:.0f} s\n{said}")
        return Ended(self._process.returncode, said)


def write_data(folder: pathlib.Path) -> None:
    """Writes the text and the benchmark that the commands read."""
    folder.mkdir(parents=True, exist_ok=True)
    line = "The cat sat on the mat, and the dog sat on the cat.\n"
    (folder / "book.txt").write_text(line * 40)
    spec = dnas.SPACES["nasbench201"].cells["cell"]
    with open(folder / "cells.csv", "w", encoding="utf-8") as file:
        file.write("arch,accuracy\n")
        for number in range(len(spec.ops) ** len(spec.edges)):
            a, b, c, d, e, f = (
                spec.ops[number // len(spec.ops) ** edge % len(spec.ops)]
                for edge in range(len(spec.edges))
            )
            # Different for each, in no order.
            value = number * 7919 % 15_629 / 200
            file.write(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|,{value}\n")


# What is another in every run: times, where it lies, what it is called, and digests of all that.
_OWN = {"seconds", "seconds_per_step", "elapsed", "command", "argv", "name", "sha256"}


def results(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the commands in a folder have found, {name: value}: all that the files say but
    times, and every array of the last checkpoints."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if TRASH in path.parts:
            continue
        if path.name in ("summary.json", "genotype.json", "study.json", "pareto.json"):
            found[name] = _without_own(json.loads(path.read_text()))
        elif path.name == "metrics.jsonl":
            lines = path.read_text().splitlines()
            found[name] = [_without_own(json.loads(line)) for line in lines]
        elif path.name == "checkpoints":
            for phase in sorted(path.iterdir()):
                found[f"{name}/{phase.name}"] = _last_state(phase)
        elif path.name == "table.csv":
            found[name] = sorted(_rows(path))
    return found


def measured(folder: pathlib.Path) -> set[tuple]:
    """Returns the rows of tables with what was measured, which a continued table keeps."""
    found = set()
    for path in folder.rglob("table.csv"):
        found |= {(part, cost) for part, cost in _rows(path).items()}
    return found


def _rows(path: pathlib.Path) -> dict[tuple[str, ...], str]:
    """{part: cost} of a table."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = csv.DictReader(lines)
    costs = ("mean", "spread", "count")
    return {
        tuple(value for name, value in row.items() if name not in costs): row["mean"]
        for row in rows
    }


def _without_own(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_without_own(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {name: _without_own(value) for name, value in tree.items() if name not in _OWN}


def _last_state(phase: pathlib.Path) -> dict[str, tuple[str, bytes]]:
    """{array of the last checkpoint: type and bytes}."""
    step = max(int(path.stem) for path in phase.glob("*.safetensors"))
    arrays = arrays_of(phase / f"{step}.safetensors")
    return {
        name: (f"{array.dtype}{array.shape}", array.tobytes()) for name, array in arrays.items()
    }


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the content of every file in a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
