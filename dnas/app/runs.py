"""The folder of a run: what is in it, and that nothing in it is lost, overwritten by accident or
taken for what it is not.

JSON files and rows carry digests, checkpoints too (`dnas.app.checkpoints`). config.json says what
decides the result; a run is continued only as it was begun, by one process at a time.
"""

import dataclasses
import enum
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax

import dnas
from dnas.app import locks
from dnas.app.durable import append_line, make_folder, seal, sync_folder, unseal, write_file
from dnas.app.named import name_of
from dnas.files import shown

# Settings that are written apart: they may differ when a run is continued.
PATHS = (
    "data_dir",
    "benchmark",
)
TRASH = ".trash"  # the folder beside runs that has those which others took the names of
# What tells a run from all others, in its config.json and its checkpoints.
_IDENTITY = ("id", "command", "settings", "reads", "jax")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy")
# Settings of JAX that change what is computed, besides XLA_FLAGS.
_JAX = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_disable_jit",
)


class Run:
    """A folder with config.json, metrics.jsonl and whatever else a run writes.

    Whoever only reads needs no lock, and changes nothing. `open_run` returns the run with a lock.
    """

    def __init__(self, folder: pathlib.Path, lock: locks.Lock | None = None):
        self.folder = folder
        self._lock = lock
        self._place = locks.place_of(folder) if lock else None
        self._said: set[str] = set()

    def close(self) -> None:
        """Lets others work in the folder."""
        if self._lock is not None:
            self._lock.close()

    def check_there(self) -> None:
        """Raises ValueError if the folder was moved or deleted since the run was opened."""
        if self._place is None:
            return
        try:
            there = locks.place_of(self.folder) == self._place
        except FileNotFoundError:
            there = False
        if not there:
            raise ValueError(
                f"{self.folder} was moved or deleted while the run went on, which ends here. Move"
                " it back and give --resume, or begin another run"
            )

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns the JSON file's content, or None if there is none.

        Raises:
          ValueError: if the file is damaged.
        """
        path = self.folder / name
        try:
            return unseal(path.read_text(errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            cure = _CURE.get(name, "--resume makes it again")
            raise ValueError(f"{path} is damaged: {error}. {cure}") from None

    def result(self, name: str) -> dict[str, Any] | None:
        """Returns what `read` does of a file that the run can write again: a damaged one counts as
        none, with a sentence on stderr."""
        try:
            return self.read(name)
        except ValueError:
            self._say(f"{self.folder / name} is damaged and made again")
            return None

    def write(self, name: str, content: Mapping[str, Any] | str | bytes) -> None:
        """Writes text, bytes or a JSON object with its digest, so that a reader sees the old file
        or the new one and no half of either."""
        path = self.folder / name
        self.check_there()
        make_folder(path.parent)
        if isinstance(content, Mapping):
            content = json.dumps(seal(content), indent=2) + "\n"
        write_file(path, content.encode() if isinstance(content, str) else content)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row to metrics.jsonl, with its digest."""
        self.check_there()
        append_line(self.folder / "metrics.jsonl", json.dumps(seal(row)))

    def rows(self, phase: str | None = None) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl, of one phase if given.

        A last line cut short by a crash is left out, and so are damaged ones, with a sentence on
        stderr.
        """
        rows = [row for _, row in self._lines() if row is not None]
        return [row for row in rows if phase in (None, row["phase"])]

    def rewind(self, phase: str, step: int) -> int:
        """Removes the rows of a phase after `step`, which a resumed run will write again, and a
        last line cut short. Returns how many of the phase are left.

        Damaged lines stay: what is in them may be of use to a person.
        """
        lines = [
            (line, row)
            for line, row in self._lines()
            if row is None or row["phase"] != phase or row["step"] <= step
        ]
        self.write("metrics.jsonl", b"".join(line + b"\n" for line, _ in lines))
        return sum(row is not None and row["phase"] == phase for _, row in lines)

    def identity(self) -> dict[str, Any]:
        """Returns what tells the run from all others; nothing where there is no config.json."""
        config = self.read("config.json") or {}
        return {name: config[name] for name in _IDENTITY if name in config}

    def _lines(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """The whole lines of metrics.jsonl and the rows in them, None where one is damaged."""
        path = self.folder / "metrics.jsonl"
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return []
        found: list[tuple[bytes, dict[str, Any] | None]] = []
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                found.append((line, unseal(line.decode(errors="replace"))))
            except ValueError:
                found.append((line, None))
                self._say(f"line {number} of {path} is damaged and left out")
        return found

    def _say(self, sentence: str) -> None:
        """Says something once."""
        if sentence not in self._said:
            self._said.add(sentence)
            print(f"warning: {sentence}", file=sys.stderr)


_CURE = {
    "config.json": (
        "Put back a copy of it, or begin anew: --overwrite moves the folder out of the way"
    ),
}


def run_name(config, command: str) -> str:
    """Returns the folder name of a run whose settings give none."""
    if config.name:
        return checked_name(config.name)
    parts = [name_of(getattr(config, part, None) or "") for part in ("method", "relax")]
    words = [command, name_of(config.dataset), config.space, *parts, f"seed{config.seed}"]
    return "-".join(filter(None, words))


def checked_name(name: str) -> str:
    """Returns the name of a folder in the folder of runs.

    Raises:
      ValueError: if it leads anywhere else, or is no text.
    """
    if name in ("", ".", "..", TRASH) or pathlib.PurePath(name).name != name or "\0" in name:
        raise ValueError(
            f"name is that of one folder, got {shown(name)}; runs= says where the folder lies"
        )
    return name


def checked_folder(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder whose path messages and reports can name.

    Raises:
      ValueError: if it is not text in UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        given = shown(str(folder))
        raise ValueError(f"the name of the folder {given} is not text in UTF-8") from None
    return folder


def open_run(
    config,
    command: str,
    reads: Mapping[str, str] = MappingProxyType({}),
    *,
    argv: Sequence[str] = (),
) -> Run:
    """Returns the folder of a new run, or of the interrupted one that is to be continued, with a
    lock on it.

    Args:
      reads: digests of what the run reads besides its settings.

    Raises:
      ValueError: if there is a run of that name and neither resume nor overwrite is set, if another
        process has it, or if what decides its result is not what it was when the run began.
    """
    folder = checked_folder(pathlib.Path(config.runs) / run_name(config, command))
    if config.overwrite and os.path.lexists(folder):
        _move_away(folder)
    make_folder(folder)
    if not _is_run(folder) and _content(folder):
        raise ValueError(
            f"{folder} exists and is not a run of dnas; choose another name or another folder of"
            " runs"
        )
    run = Run(folder, locks.take(folder))
    try:
        before = run.read("config.json")
        if before is not None:
            _continue(run, before, config, command, reads, argv)
        elif _content(folder):
            raise ValueError(
                f"{folder} has lost its config.json, which says what run it is. Put back a copy of"
                " it, or begin anew: --overwrite moves the folder out of the way"
            )
        else:
            begun = {
                "id": uuid.uuid4().hex,
                "command": command,
                "settings": settings(config),
                "reads": dict(reads),
                "jax": settings_of_jax(),
                **paths(config),
                **environment(command, argv),
            }
            run.write("config.json", begun)
    except BaseException:
        run.close()
        raise
    return run


def _continue(
    run: Run,
    before: dict[str, Any],
    config,
    command: str,
    reads: Mapping[str, str],
    argv: Sequence[str],
) -> None:
    """Checks that the run may be continued so, and keeps what is different and does not matter."""
    if before["command"] != command:
        raise ValueError(
            f"{run.folder} is a run of `dnas {before['command']}`; continue it with that, or choose"
            " another name"
        )
    if not config.resume:
        done = "is finished" if run.result("summary.json") else "was interrupted"
        raise ValueError(
            f"{run.folder} {done}. Give --resume to continue it, --overwrite to move it away and"
            " start anew, or --name=... or --seed=... for another run"
        )
    if changed := differences(before["settings"], settings(config)):
        raise ValueError(
            f"{run.folder} cannot be continued with other settings: {_listed(changed)}. Leave them"
            " out, or give another name"
        )
    if changed := differences(before["jax"], settings_of_jax()):
        raise ValueError(
            f"{run.folder} was begun with other settings of JAX, and would end with other bits:"
            f" {_listed(changed)}. Set them as they were, or give another name"
        )
    if changed := differences(before["reads"], reads):
        names = " and ".join(name for name, _, _ in changed)
        raise ValueError(
            f"the {names} has changed since the run in {run.folder} began; give another name"
        )
    now = environment(command, argv)
    after = dict(before)
    if different := _other_environment(before, now):
        print(
            f"warning: {run.folder} was begun with other {' and '.join(different)}; bits may"
            " differ",
            file=sys.stderr,
        )
    continued = before.get("continued", [])
    if _other_environment(continued[-1] if continued else before, now):
        after["continued"] = [*continued, now]
    after |= {name: path for name, path in paths(config).items() if path is not None}
    if after != before:
        run.write("config.json", after)


def _other_environment(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is different, with its values at first."""
    return [
        f"{name} {before[name]}"
        for name in ("versions", "device", "code")
        if before[name] != now[name]
    ]


def _content(folder: pathlib.Path) -> set[str]:
    """What lies in a folder besides what a run has before its config.json."""
    return {path.name for path in folder.iterdir()} - {locks.NAME, "config.json.part"}


def _is_run(folder: pathlib.Path) -> bool:
    """Whether dnas made the folder: it says so, or has a config.json that is whole."""
    if locks.is_marked(folder):
        return True
    try:
        return "command" in (Run(folder).read("config.json") or {})
    except (ValueError, OSError):
        return False


def _move_away(folder: pathlib.Path) -> None:
    """Moves a run to the trash beside it.

    Raises:
      ValueError: if it is not a run, or another process works in it.
    """
    if folder.is_symlink():
        raise ValueError(
            f"{folder} is a link to {folder.resolve()}; --overwrite would not begin the new run"
            " there. Remove the link or what it leads to, or give another name"
        )
    if not folder.is_dir() or not _is_run(folder):
        raise ValueError(
            f"{folder} is not a run of dnas, or of a version that left no {locks.NAME} in it; it is"
            " not moved away. Move it yourself, or choose another name"
        )
    lock = locks.take(folder)
    try:
        trash = folder.parent / TRASH
        trash.mkdir(exist_ok=True)
        stem = f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        place, number = trash / stem, 1
        while place.exists():
            number += 1
            place = trash / f"{stem}-{number}"
        folder.rename(place)
        sync_folder(folder.parent)
    finally:
        lock.close()
    print(f"the run in {folder} was moved to {place}; delete it there", file=sys.stderr)


def differences(before: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Returns (name, before, now) of what is different in two JSON trees; None stands for what is
    not there.

    Example:
      >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
      [('c', 2, 3)]
    """
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [(name, before, now)] if before != now else []
    found = []
    for key in [*before, *(key for key in now if key not in before)]:
        found += differences(before.get(key), now.get(key), key)
    return found


def _listed(changed: Sequence[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{name} was {before!r}, now {now!r}" for name, before, now in changed)


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
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in (*_OF_THE_COMMAND, *PATHS)
    }


# Settings of what a command does, not of what comes out.
_OF_THE_COMMAND = (
    "resume",
    "overwrite",
    "runs",
    "name",
    "file",
    "explain",
    "checkpoint_seconds",
)


def paths(config) -> dict[str, str | None]:
    """Returns the settings that are paths to what the run reads, as JSON holds them: absolute."""
    given = {name: getattr(config, name, None) for name in PATHS}
    return {name: path and str(pathlib.Path(path).absolute()) for name, path in given.items()}


def settings_of_jax() -> dict[str, Any]:
    """Returns the settings of JAX and XLA that change what is computed."""
    found = {"XLA_FLAGS": " ".join(os.environ.get("XLA_FLAGS", "").split())}
    for name, value in jax.config.values.items():
        if name in _JAX:
            found[name] = value.value if isinstance(value, enum.Enum) else value
    return found


def environment(command: str, argv: Sequence[str]) -> dict[str, Any]:
    """Returns what a reader needs to repeat the run: versions, device, the code of dnas and the
    state of its git repository, command."""
    devices = jax.devices()
    return {
        "versions": (
            {"python": platform.python_version(), "dnas": dnas.__version__}
            | {name: _version(name) for name in _PACKAGES}
        ),
        "device": (
            f"{jax.default_backend()}: {len(devices)} x {devices[0].device_kind},"
            f" {os.cpu_count()} CPU cores"
        ),
        "code": digest_of_code(),
        "git": git_state(),
        "argv": ["dnas", command, *argv],
    }


def digest_of_code() -> str:
    """Returns the SHA-256 of the source of dnas, which its version does not tell while somebody
    works on it."""
    root = pathlib.Path(dnas.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def git_state() -> dict[str, Any]:
    """Returns the commit of the working tree and whether it has changes; empty outside a
    repository that dnas is a part of."""

    def git(*words):
        root = pathlib.Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}
