"""The folder of a run: what is in it, and that nothing in it is lost or overwritten by accident."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import dnas
from dnas.app.named import name_of

# Settings that are written apart: they may differ when a run is continued.
PATHS = (
    "data_dir",
    "benchmark",
)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint")


class Run:
    """A folder with config.json, metrics.jsonl and whatever else a run writes, each file replaced
    as a whole."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def read(self, name: str) -> Any:
        """Returns the JSON file's content, or None if there is none."""
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else None

    def write(self, name: str, content: Any) -> None:
        """Writes text, bytes or a JSON tree, so that a reader sees the old file or the new one and
        no half of either."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content, indent=2) + "\n"
        part = path.with_name(path.name + ".part")
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, phase: str | None = None) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl, of one phase if given; a last line cut short by a
        crash is left out."""
        path = self.folder / "metrics.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return [row for row in rows if phase in (None, row["phase"])]

    def rewind(self, phase: str, step: int) -> None:
        """Removes the rows of a phase after `step`, which a resumed run will write again."""
        kept = [row for row in self.rows() if row["phase"] != phase or row["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))


def run_name(config, command: str) -> str:
    """Returns the folder name of a run whose settings give none."""
    if config.name:
        if config.name in (".", "..") or pathlib.PurePath(config.name).name != config.name:
            raise ValueError(
                f"name is that of one folder, got {config.name!r}; runs= says where the folder lies"
            )
        return config.name
    parts = [name_of(getattr(config, part, None) or "") for part in ("method", "relax")]
    words = [command, name_of(config.dataset), config.space, *parts, f"seed{config.seed}"]
    return "-".join(filter(None, words))


def open_run(config, command: str, *, argv: Sequence[str] = ()) -> Run:
    """Returns the folder of a new run, or of the interrupted one that is to be continued.

    Raises:
      ValueError: if there is a run of that name and neither resume nor overwrite is set, or if the
        settings differ from those of the run to be continued.
    """
    run = Run(pathlib.Path(config.runs) / run_name(config, command))
    if config.overwrite and run.folder.exists():
        if run.read("config.json") is None:
            raise ValueError(
                f"{run.folder} has no config.json, so it is not a run of dnas; it is not deleted."
                " Choose another name"
            )
        # Renamed first: a crash while files are deleted leaves no half of a run behind under its
        #   name.
        doomed = run.folder.with_name(f".{run.folder.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        run.folder.rename(doomed)
        shutil.rmtree(doomed)
    before = run.read("config.json")
    if before is None:
        if run.folder.exists() and {path.name for path in run.folder.iterdir()} - {
            "config.json.part"
        }:
            raise ValueError(
                f"{run.folder} exists and is not a run of dnas; choose another name or another"
                " folder of runs"
            )
        run.write(
            "config.json",
            {
                "command": command,
                "settings": settings(config),
                **paths(config),
                **environment(command, argv),
            },
        )
        return run
    if before["command"] != command:
        raise ValueError(
            f"{run.folder} is a run of `dnas {before['command']}`; continue it with that, or choose"
            " another name"
        )
    if not config.resume:
        done = "is finished" if run.read("summary.json") else "was interrupted"
        raise ValueError(
            f"{run.folder} {done}. Give --resume to continue it, --overwrite to delete it and start"
            " anew, or --name=... or --seed=... for another run"
        )
    now = environment(command, argv)
    different = [
        f"{name} {before[name]}" for name in ("versions", "device") if before[name] != now[name]
    ]
    if different:
        print(
            f"warning: {run.folder} was begun with other {' and '.join(different)}; bits may"
            " differ",
            file=sys.stderr,
        )
    changed = {
        name: (before["settings"].get(name), value)
        for name, value in settings(config).items()
        if before["settings"].get(name) != value
    }
    if changed:
        listed = "; ".join(
            f"{name} was {old!r}, now {new!r}" for name, (old, new) in changed.items()
        )
        raise ValueError(
            f"{run.folder} cannot be continued with other settings: {listed}. Leave them out, or"
            " give another name"
        )
    given = {name: path for name, path in paths(config).items() if path is not None}
    if given != {name: before.get(name) for name in given}:
        run.write("config.json", before | given)
    return run


def check_known(kind: type, before: Mapping[str, Any]) -> None:
    """Raises ValueError unless all settings of a config.json are settings of a kind."""
    known = {field.name for field in dataclasses.fields(kind)}
    lost = sorted(set(before["settings"]) - known)
    if lost:
        raise ValueError(
            "the run was begun by another version of dnas, with settings that do not exist now:"
            f" {', '.join(lost)}"
        )


def settings(config) -> dict[str, Any]:
    """Returns the settings that decide the result, as JSON holds them."""
    tree = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in ("resume", "overwrite", "runs", "checkpoint_seconds", "name", *PATHS)
    }
    return tree


def paths(config) -> dict[str, str | None]:
    """Returns the settings that are paths to what the run reads, as JSON holds them: absolute."""
    given = {name: getattr(config, name, None) for name in PATHS}
    return {name: path and str(pathlib.Path(path).absolute()) for name, path in given.items()}


def environment(command: str, argv: Sequence[str]) -> dict[str, Any]:
    """Returns what a reader needs to repeat the run: versions, device, state of the git repository,
    command."""
    return {
        "versions": (
            {"python": platform.python_version(), "dnas": dnas.__version__}
            | {name: _version(name) for name in _PACKAGES}
        ),
        "device": (
            f"{jax.default_backend()}: {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
        ),
        "git": git_state(),
        "argv": ["dnas", command, *argv],
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def git_state() -> dict[str, Any]:
    """Returns the commit of the working tree and whether it has changes; empty outside a
    repository."""

    def git(*words):
        root = pathlib.Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}
