"""Prints the calls of dnas on the stack when a step of a search sums over candidates of an edge.

Command: python -m experiments.studies.trace_step. It takes seconds: the step is traced, not run.
"""

import pathlib
import sys

import jax
import numpy as np

import dnas

# The functions in which the sum is computed, on a CPU and on an accelerator.
SUMS = ("mixed_norms", "stacked_norm_sum")


def calls() -> list[tuple[str, str]]:
    """Returns (file, function) of each call, from `Search.step` down to the sum."""
    images, labels = np.zeros((8, 8, 8, 1), np.uint8), np.arange(8) % 3
    task, space = dnas.tasks.images(images, labels), dnas.SPACES["darts"]
    model = space.supernet(channels=4, num_cells=3, num_classes=3)
    optimizer = dnas.darts_optimizer(2, 2)
    search = dnas.make_search(space, model, optimizer, example=task.example, loss=task.loss)
    state = jax.eval_shape(search.init, jax.random.key(0))
    batch = dnas.Batch(images[:4].astype(np.float32), labels[:4])
    root, found = pathlib.Path(dnas.__file__).parent, []

    def watch(frame, event, arg):
        if event == "call" and frame.f_code.co_name in SUMS and not found:
            while frame is not None:
                file = pathlib.Path(frame.f_code.co_filename)
                if root in file.parents:
                    found.append((file.relative_to(root).as_posix(), frame.f_code.co_name))
                frame = frame.f_back

    sys.setprofile(watch)
    try:
        jax.eval_shape(search.step, state, batch, batch)
    finally:
        sys.setprofile(None)
    return found[::-1]


if __name__ == "__main__":
    stack = calls()
    print(f"{len(stack)} calls in {len({file for file, _ in stack})} files")
    for file, function in stack:
        print(f"  {file}: {function}")
