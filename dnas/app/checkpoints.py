"""Checkpoints of a phase of a run, with orbax: atomic, the newest two kept."""

import logging
import pathlib

import jax
import orbax.checkpoint as ocp

from dnas.base import PyTree

logging.getLogger("absl").setLevel(logging.WARNING)  # orbax reports every file it touches


class Checkpoints:
    """The states of one phase by step."""

    def __init__(self, folder: pathlib.Path):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree) -> None:
        """Writes the state; a crash on the way leaves the older checkpoints as they are."""
        if step != self.latest():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, state: PyTree) -> PyTree:
        """Returns the newest state, or the given one, which says shapes and types, if there is no
        checkpoint."""
        if self.latest() is None:
            return state
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        return self._manager.restore(self.latest(), args=ocp.args.StandardRestore(shapes))
