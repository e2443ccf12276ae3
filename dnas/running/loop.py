"""The loop that search and retraining share: several steps a compiled call, each call short enough
to watch."""

import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Metrics, PyTree
from dnas.running.compiling import compile_step
from dnas.running.memory import check_fits, out_of_memory_said

# steps a call at the most: the length of the index arrays, which is fixed so that one program
# serves all
_MAX_STEPS = 64
MOST_STEPS = 2**31 - 1  # of a run: they are counted in 32 bits
_SECONDS = 1.0  # how long a call should take


class Sums(NamedTuple):
    """What the row of an epoch is made of, before the epoch has ended."""

    steps: int = 0  # of the epoch, so far
    totals: Mapping[str, float] = MappingProxyType({})  # of their metrics


_NO_SUMS = Sums()


class Progress(NamedTuple):
    """What a report function is told after every compiled call."""

    step: int  # steps done since the start of the run
    total_steps: int
    steps_per_epoch: int
    seconds: float  # per step of this call, compilation included where there was one
    metrics: dict[str, np.ndarray]  # of the steps of this call, each [n]
    state: PyTree
    # At the end of an epoch: means over its steps and what the run adds; otherwise None.
    row: dict[str, Any] | None
    stopped: bool = False  # the run ends here, before its last step
    sums: Sums = _NO_SUMS  # of the epoch that goes on
    unit: str = "step"  # what is counted; a trial has a row as an epoch has

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.steps_per_epoch

    @property
    def row_unit(self) -> str:
        """What has a row: an epoch of steps, or each of what else is counted."""
        return "epoch" if self.unit == "step" else self.unit


class StepMemory(NamedTuple):
    """What XLA says a compiled step needs on the device, in bytes; the compiler and Python itself
    need more beside it."""

    arguments: int  # weights, arch, optimiser state, data
    temporaries: int  # what a step computes on the way

    @property
    def total(self) -> int:
        return self.arguments + self.temporaries

    def __str__(self) -> str:
        megabytes = [
            f"{size / 1e6:.0f} MB" for size in (self.total, self.temporaries, self.arguments)
        ]
        return (
            f"a step needs about {megabytes[0]}: {megabytes[1]} on the way, {megabytes[2]} of"
            " weights, their state and data"
        )


def print_memory(memory: StepMemory) -> None:
    """Prints the estimate: what `run_search` and `retrain` do with it before the first step unless
    told otherwise."""
    print(memory, flush=True)


def print_epochs(progress: Progress) -> None:
    """Prints one line an epoch: the report function of `run_search` and `retrain` unless another is
    given."""
    if progress.row is not None:
        numbers = {name: value for name, value in progress.row.items() if isinstance(value, float)}
        words = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        print(
            f"{progress.row_unit}"
            f" {progress.row['epoch']}/{math.ceil(progress.total_steps / progress.steps_per_epoch)}"
            f"  {words}",
            flush=True,
        )


class Hooks(NamedTuple):
    """What is done around a run by whoever starts it."""

    # the state at the start -> the state to go on from, for instance a checkpoint's
    resume: Callable[[Any], Any] = lambda state: state
    report: Callable[[Progress], None] = print_epochs  # called after every compiled call
    # called with an estimate of what a step needs, before the first one
    announce: Callable[[StepMemory], None] = print_memory
    # called after `resume`: what `Progress.sums` was beside the state that it returned
    sums: Callable[[], Sums] = Sums


QUIET = Hooks(report=lambda progress: None, announce=lambda memory: None)


def run_steps(
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Metrics]],
    state: PyTree,
    data: PyTree,
    epoch_indices: Callable[[int], PyTree],
    *,
    first_step: int,
    total_steps: int,
    steps_per_epoch: int,
    at_epoch_end: Callable[[PyTree], tuple[PyTree, dict[str, Any], bool]],
    report: Callable[[Progress], None],
    announce: Callable[[StepMemory], None],
    sums: Sums = _NO_SUMS,
    learnt: Callable[[PyTree], PyTree] = lambda state: (),
    explain: Callable[[PyTree, PyTree], str] = lambda state, rows: "",
    most_steps: int = MOST_STEPS,
) -> tuple[PyTree, list[dict[str, Any]]]:
    """Runs `step` from `first_step` to `total_steps` and returns the last state and a row for every
    epoch that ended.

    The loop over the steps of a call is compiled, with a number of steps that is only known when it
    runs: it grows until a call takes about a second, without another compilation, and has no
    influence on the result.

    Args:
      step: (state, data, indices) -> (state, metrics), pure.
      data: arrays on the device, the same for all steps.
      epoch_indices: epoch -> indices, a tree of arrays whose first axis is the step within the
        epoch; or of what gives trees of such arrays for slices of steps.
      at_epoch_end: state -> (state, values for the row of the epoch, whether to stop). Also called
        at the end of the last, perhaps partial, epoch.
      report: called after each call.
      announce: called once, after the compilation and before the first step, where the device gives
        an estimate.
      sums: of the steps of the first epoch before `first_step`, as the last report had them.
      learnt: state -> arrays by name that have to be finite as the metrics do, such as weights:
        what the last step made of them is in no metric.
      explain: (the state before a step, its indices) -> what in it is not finite, in words; ""
        where nothing is known. Asked of the first step after which something is not finite.
      most_steps: of a call, whose indices there is room for.

    Raises:
      FloatingPointError: as soon as a metric or what is learnt is not finite; the states reported
        before are sound.
      MemoryError: if a step needs more memory than the device has.
    """
    most_steps = min(most_steps, _MAX_STEPS)
    run_call = _make_call(step)
    rows = []
    done, length, indices, indices_epoch = first_step, 1, None, None
    stopped, memory = False, None
    while done < total_steps and not stopped:
        epoch, offset = divmod(done, steps_per_epoch)
        if epoch != indices_epoch:
            indices, indices_epoch = epoch_indices(epoch), epoch
        count = min(length, steps_per_epoch - offset, total_steps - done)
        started = time.perf_counter()
        rows_of_call = _rows(indices, offset, count, most_steps)
        if done == first_step:
            run_call = compile_step(run_call, state, data, rows_of_call, count)
            sizes = run_call.memory_analysis()
            if sizes is not None:
                memory = StepMemory(sizes.argument_size_in_bytes, sizes.temp_size_in_bytes)
                announce(memory)
                check_fits(memory.total, str(memory))
        before = state
        with out_of_memory_said("" if memory is None else str(memory)):
            state, metrics = run_call(state, data, rows_of_call, count)
            # Waits for the call.
            metrics = {name: np.asarray(values)[:count] for name, values in metrics.items()}
        seconds = (time.perf_counter() - started) / count
        if _fault(metrics, learnt(state)):
            raise _found(run_call, before, data, rows_of_call, done, count, learnt, explain)
        compiled = done > first_step
        if compiled:
            length = int(np.clip(_SECONDS / seconds, 1, most_steps))
        done += count
        # In float64 such a sum is exact, so that a row does not depend on where the calls began.
        totals = {
            name: sums.totals.get(name, 0.0) + float(values.sum(dtype=np.float64))
            for name, values in metrics.items()
        }
        sums = Sums(sums.steps + count, totals)
        row = None
        if done % steps_per_epoch == 0 or done == total_steps:
            row = {"epoch": epoch + 1, "step": done, "steps": sums.steps}
            state, values, stopped = at_epoch_end(state)
            row |= {name: total / sums.steps for name, total in sums.totals.items()} | values
            rows.append(row)
            sums = _NO_SUMS
        report(
            Progress(
                done, total_steps, steps_per_epoch, seconds, metrics, state, row, stopped, sums
            )
        )
    return state, rows


def _make_call(step):
    def call(state, data, indices, count):
        pick = lambda number: jax.tree.map(lambda array: array[number], indices)  # noqa: E731
        shapes = jax.eval_shape(step, state, data, pick(0))[1]
        metrics = jax.tree.map(
            lambda value: jnp.zeros((_MAX_STEPS, *value.shape), value.dtype), shapes
        )

        def body(number, carry):
            state, metrics = carry
            state, values = step(state, data, pick(number))
            return state, jax.tree.map(
                lambda array, value: array.at[number].set(value), metrics, values
            )

        return jax.lax.fori_loop(0, count, body, (state, metrics))

    return call


def _rows(indices: PyTree, first: int, count: int, most: int) -> PyTree:
    """The indices of `count` steps, padded to the fixed length."""

    def padded(array: np.ndarray) -> np.ndarray:
        full = np.zeros((most, *array.shape[1:]), array.dtype)
        full[:count] = array
        return full

    # What a slice gives may be a tree itself.
    own = jax.tree.map(lambda array: array[first : first + count], indices)
    return jax.tree.map(padded, own)


def _fault(metrics: dict[str, np.ndarray], learnt: PyTree) -> str:
    """What is not finite, in words; "" if all is."""
    for name, values in metrics.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            return f"{name} became {values[bad[0]]}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(learnt):
        values = np.asarray(leaf)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return f"{name} became {values.ravel()[bad[0]]}"
    return ""


def _found(
    run_call, state, data, rows, done: int, count: int, learnt, explain
) -> FloatingPointError:
    """The error for a call in which something did not stay finite: its steps are run again, one by
    one, up to the first that is at fault."""
    fault, reason, number = "", "", 0
    for number in range(count):
        own = jax.tree.map(lambda array, number=number: np.roll(array, -number, 0), rows)
        after, metrics = run_call(state, data, own, 1)
        fault = _fault({name: np.asarray(own)[:1] for name, own in metrics.items()}, learnt(after))
        if fault:
            reason = explain(state, jax.tree.map(lambda array: array[0], own))
            break
        state = after
    reason = reason or "the run has diverged. Start anew with a lower learning rate"
    return FloatingPointError(f"{fault or 'a number'} at step {done + number + 1}: {reason}")
