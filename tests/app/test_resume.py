"""A run that is killed and resumed ends with the bits of one that was not."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dnas.app.checkpoints import arrays_of
from dnas.app.runs import Run

ROOT = pathlib.Path(__file__).parents[2]
EPOCHS = 5
SETTINGS = [
    f"--epochs={EPOCHS}",
    "--retrain-epochs=3",
    "--random-cells=1",
]


# What runs in the background has SIGINT ignored, and hands that on.
PROGRAM = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from dnas.app.__main__ import main
main()
"""


def start(folder: pathlib.Path, *flags: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "search",
        f"--runs={folder}",
        "--name=run",
        *SETTINGS,
        *flags,
    ]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "xla")}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]


def final_states(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the last state of every phase, by phase and path."""
    found = {}
    for phase in sorted((folder / "run" / "checkpoints").iterdir()):
        newest = max(phase.iterdir(), key=lambda path: int(path.stem))
        for name, array in arrays_of(newest).items():
            found[phase.name + name] = array
    return found


def results(folder: pathlib.Path):
    """Everything that a run reports, but for its times."""
    run = Run(folder / "run")
    timed = {"seconds", "seconds_per_step", "elapsed"}
    rows = [{name: value for name, value in row.items() if name not in timed} for row in run.rows()]
    summary = {name: value for name, value in run.read("summary.json").items() if name not in timed}
    return summary, rows, run.read("genotype.json")


def end_after_rows(
    process: subprocess.Popen, folder: pathlib.Path, rows: int, number: signal.Signals, code: int
) -> None:
    """Ends the process a random moment after it has written so many rows."""
    while len(Run(folder / "run").rows()) < rows:
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 0.5))
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code, "the run had ended before it was killed"


# What is killed goes on from its checkpoints; what is asked to end saves by itself.
ENDS = {
    "SIGKILL": (-signal.SIGKILL, "--checkpoint-seconds=0"),
    "SIGTERM": (143, "--checkpoint-seconds=1000"),
    "SIGINT": (130, "--checkpoint-seconds=1000"),
    "SIGHUP": (129, "--checkpoint-seconds=1000"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_a_run_ended_at_three_random_moments_ends_bit_identical(name, tmp_path):
    code, seconds = ENDS[name]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole))
    num_rows = len(Run(whole / "run").rows())
    # The first kill falls into the search, the others anywhere after it.
    first = random.randint(1, EPOCHS - 1)
    moments = [first, *sorted(random.sample(range(first + 1, num_rows - 1), 2))]
    print("killed after rows", moments, "of", num_rows)
    for moment in moments:
        process = start(killed, "--resume", seconds)
        end_after_rows(process, killed, moment, signal.Signals[name], code)
    finish(start(killed, "--resume"))
    expected, found = final_states(whole), final_states(killed)
    assert expected.keys() == found.keys() and any("arch" in name for name in expected)
    for name, array in expected.items():
        assert (array.dtype, array.shape) == (found[name].dtype, found[name].shape), name
        assert array.tobytes() == found[name].tobytes(), name
    assert results(whole) == results(killed)
