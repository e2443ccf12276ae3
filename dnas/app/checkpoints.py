"""Checkpoints of a phase of a run: files that tell when they are damaged and whose they are, the
newest two kept. `dnas.running.states` says what is in a file."""

import json
import pathlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from dnas.app.durable import make_folder, write_file
from dnas.app.runs import differences
from dnas.base import PyTree
from dnas.running.states import filled, parsed, to_pieces

_SUFFIX = ".safetensors"
_KEPT = 2


class Checkpoints:
    """The states of one phase by step.

    Args:
      run: what tells the run and the phase from all others, a JSON tree, which is kept in every
        checkpoint. One of another run is refused.
    """

    def __init__(self, folder: pathlib.Path, run: Mapping[str, Any] = MappingProxyType({})):
        self._folder = folder
        self._run = dict(run)

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints, the newest last."""
        stems = [path.stem for path in self._folder.glob(f"*{_SUFFIX}")]
        return sorted(int(stem) for stem in stems if stem.isdecimal() and str(int(stem)) == stem)

    def save(
        self, step: int, state: PyTree, notes: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Writes the state and notes about it, a JSON object; a crash on the way leaves the older
        checkpoints as they are."""
        metadata = {
            "step": str(step),
            "run": json.dumps(self._run),
            "notes": json.dumps(dict(notes)),
        }
        make_folder(self._folder)
        write_file(self._path(step), *to_pieces(state, metadata))
        # One of a later step is of no use: it is damaged, or the run was continued from before it.
        older = [other for other in self.steps() if other < step]
        for other in self.steps():
            if other != step and other not in older[len(older) + 1 - _KEPT :]:
                self._path(other).unlink()
        for part in self._folder.glob("*.part"):
            part.unlink()

    def restore(self, state: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Returns the newest state that is whole, with its notes; None if there is none.

        Damaged ones are left out, with a sentence on stderr.

        Args:
          state: says shapes and types.

        Raises:
          ValueError: for a checkpoint of another run, naming what is different, and for one whose
            arrays are not those of `state`.
        """
        for step in reversed(self.steps()):
            path = self._path(step)
            try:
                header, arrays = parsed(path.read_bytes())
                metadata = header["__metadata__"]
                if metadata["step"] != str(step):
                    raise ValueError(f"it is of step {metadata['step']}")
            except ValueError as error:
                print(
                    f"warning: {path} is damaged ({error}); what lies before it is taken",
                    file=sys.stderr,
                )
                continue
            _check_whose(path, json.loads(metadata["run"]), self._run)
            try:
                return filled(state, arrays), json.loads(metadata["notes"])
            except ValueError as error:
                raise ValueError(
                    f"{path} does not fit the networks of these settings: {error}. Was the code"
                    " changed since? Take the version that wrote it, or begin anew"
                ) from None
        return None

    def _path(self, step: int) -> pathlib.Path:
        return self._folder / f"{step}{_SUFFIX}"


def arrays_of(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint by their places in the state: what another program needs
    no dnas for, and a test no networks.

    Raises:
      ValueError: if the file is damaged.
    """
    return parsed(path.read_bytes())[1]


def _check_whose(path: pathlib.Path, found: Any, run: Mapping[str, Any]) -> None:
    """Raises ValueError unless the checkpoint is one of this phase of this run."""
    changed = differences(found, run)
    if not changed:
        return
    others = [
        f"{name} is {there!r} there and {here!r} here"
        for name, there, here in changed
        if name != "id"
    ]
    if not others:
        others = ["it has the same settings, and was begun at another time"]
    raise ValueError(
        f"{path} is a checkpoint of another run: {'; '.join(others)}. Move it away, and --resume"
        " continues from what lies before it"
    )
