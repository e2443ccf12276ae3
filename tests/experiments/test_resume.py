"""A run that is killed and resumed ends with the bits of one that was not."""

import os
import pathlib
import random
import signal
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.runs import Run

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = ["--epochs=5", "--retrain-epochs=2", "--random-cells=1", "--checkpoint-seconds=0"]


def start(folder: pathlib.Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.search", f"--runs={folder}", "--name=run", *SETTINGS, *flags]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "xla")}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]


def final_states(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the last state of every phase, by phase and path."""
    found = {}
    for phase in sorted((folder / "run" / "checkpoints").iterdir()):
        manager = ocp.CheckpointManager(phase)
        tree = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
        for path, leaf in jax.tree.leaves_with_path(tree):
            leaf = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
            found[phase.name + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return found


def results(folder: pathlib.Path):
    """Everything that a run reports, but for its times."""
    run = Run(folder / "run")
    timed = {"seconds", "seconds_per_step", "elapsed"}
    rows = [{name: value for name, value in row.items() if name not in timed} for row in run.rows()]
    summary = {name: value for name, value in run.read("summary.json").items() if name not in timed}
    return summary, rows, run.read("genotype.json")


@pytest.mark.slow
def test_a_run_killed_at_three_random_moments_ends_bit_identical(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole))  # also fills the compilation cache, so that the kills below fall into the work and not before it
    duration = sum(Run(whole / "run").read("summary.json")["seconds"].values()) / 2
    moments = [random.uniform(0.2, 0.8) * duration for _ in range(3)]
    print("killed after", moments, "of", duration, "seconds")
    kills, flags = 0, []
    for moment in moments:
        process = start(killed, *flags)
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        flags = ["--resume"]
    finish(start(killed, *flags))
    assert kills > 0
    expected, found = final_states(whole), final_states(killed)
    assert expected.keys() == found.keys() and any("arch" in name for name in expected)
    for name, array in expected.items():
        assert (array.dtype, array.shape) == (found[name].dtype, found[name].shape), name
        assert array.tobytes() == found[name].tobytes(), name
    assert results(whole) == results(killed)
