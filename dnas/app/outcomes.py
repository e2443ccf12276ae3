"""What commands have found, but for what is another in every run: to be compared bit for bit."""

import csv
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from dnas.app.checkpoints import arrays_of
from dnas.app.runs import TRASH

# What is another in every run: times, where it lies, what it is called, and digests of all that.
_OWN = {"seconds", "seconds_per_step", "elapsed", "command", "argv", "name", "sha256"}


def results(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the commands in a folder have found, {name: value}: all that the files say but
    times, and {array: type and bytes} of the last checkpoint of every phase."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if TRASH not in path.parts:
            found |= _results_in(path, str(path.relative_to(folder)))
    return found


def _results_in(path: pathlib.Path, name: str) -> dict[str, Any]:
    if path.name in ("summary.json", "genotype.json", "study.json", "pareto.json"):
        return {name: _without_own(json.loads(path.read_text()))}
    if path.name == "metrics.jsonl":
        return {name: [_row(line) for line in path.read_text().splitlines()]}
    if path.name == "checkpoints":
        return {f"{name}/{phase.name}": _last_state(phase) for phase in sorted(path.iterdir())}
    if path.name == "table.csv":
        return {name: sorted(rows_of_table(path))}
    return {}


def different(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Returns the names of the results that differ, of files with several each of them.

    Example:
      >>> different({"a": {"x": 1, "y": 2}, "b": 0}, {"a": {"x": 1, "y": 3}})
      ['a: y', 'b']
    """
    names = []
    for name in sorted(found.keys() | expected.keys()):
        one, other = found.get(name), expected.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            names += [f"{name}: {part}" for part in different(one, other)]
        else:
            names.append(name)
    return names


def rows_of_table(path: pathlib.Path) -> dict[tuple[str, ...], str]:
    """Returns {part: cost} of a table of hardware costs."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = csv.DictReader(lines)
    costs = ("mean", "spread", "count")
    return {
        tuple(value for name, value in row.items() if name not in costs): row["mean"]
        for row in rows
    }


def _row(line: str) -> Any:
    """What a line of metrics says; one that was damaged stays as it is, and says nothing."""
    try:
        return _without_own(json.loads(line))
    except ValueError:
        return line


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
