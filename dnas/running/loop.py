"""The loop that search and retraining share: several steps a compiled call, each call short enough
to watch."""

import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Metrics, PyTree

# steps a call at the most: the length of the index arrays, which is fixed so that one program
# serves all
_MAX_STEPS = 64
_SECONDS = 1.0  # how long a call should take
_TRIM_SECONDS = 0.5  # between two times that memory is given back while a program is compiled


class Progress(NamedTuple):
    """What a report function is told after every compiled call."""

    step: int  # steps done since the start of the run
    total_steps: int
    steps_per_epoch: int
    seconds: float  # per step of this call, compilation included where there was one
    metrics: dict[str, np.ndarray]  # of the steps of this call, each [n]
    state: PyTree
    row: (
        dict[str, Any] | None
    )  # at the end of an epoch: means over its steps and what the run adds; otherwise None
    stopped: bool = False  # the run ends here, before its last step

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.steps_per_epoch


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
            "epoch"
            f" {progress.row['epoch']}/{math.ceil(progress.total_steps / progress.steps_per_epoch)}"
            f"  {words}",
            flush=True,
        )


def compile_step(function: Callable, *args: Any, donate: bool = False) -> jax.stages.Compiled:
    """Returns the jitted function compiled for arguments of these shapes; the first is donated on
    request.

    On a CPU without the library that newer versions of XLA hand reductions and products to:
    programs of as many small loops as a supernet has run no slower without it, and load from the
    compilation cache sooner. Vectors are as wide as the channels of the convolutions fill, whose
    kernels are in the first argument. Memory that tracing and compiling have left is given back to
    the system all the time: otherwise a supernet's process would peak half a gigabyte higher.
    """
    with _giving_back_memory():
        compiled = _compile(function, args, donate)
    memory = compiled.memory_analysis()
    if _MEMORY_STAYS.is_set() and memory is not None and jax.default_backend() == "cpu":
        _prefer_large_pages(memory.temp_size_in_bytes)
    return compiled


def _compile(function, args, donate):
    jitted = jax.jit(
        function,
        donate_argnums=0 if donate else (),
        compiler_options=_compiler_options() | _vector_options(args),
    )
    collecting = gc.isenabled()
    # tracing makes millions of objects and little garbage, which the collector would look through
    # again and again
    gc.disable()
    try:
        lowered = jitted.lower(*args)
    finally:
        if collecting:
            gc.enable()
    return lowered.compile()


def _compiler_options() -> dict[str, str]:
    return _if_known("xla_cpu_experimental_ynn_fusion_type", "")


def _vector_options(args: Sequence[Any]) -> dict[str, str]:
    """Vectors of 512 bits where all convolutions have whole ones of channels, as their kernels
    [..., k, k, C, D] tell.

    XLA prefers 256, and is right about fewer channels: DARTS takes 0.95 of the time with 512,
    PC-DARTS, whose candidates see 4 channels in the first stage, 1.04.
    """
    if "xla_cpu_prefer_vector_width" in os.environ.get("XLA_FLAGS", ""):
        return {}  # the user's choice
    kernels = [leaf for leaf in jax.tree.leaves(args[:1]) if getattr(leaf, "ndim", 0) > 3]
    if not kernels or any(kernel.shape[-1] % _LANES for kernel in kernels):
        return {}
    return _if_known("xla_cpu_prefer_vector_width", str(32 * _LANES))


_LANES = 16  # numbers of 32 bits in a vector of 512


@functools.cache
def _if_known(option: str, value: str) -> dict[str, str]:
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except (
        RuntimeError
    ):  # this version of XLA refuses the option: it does not have what it is about
        return {}
    return {option: value}


@contextlib.contextmanager
def _giving_back_memory():
    """Gives back what glibc keeps of freed memory, before, after and in between: each thread of the
    compiler has its own."""
    trim, stop = _of_glibc("malloc_trim"), threading.Event()
    # In another thread compilation goes on beside steps, which would have to ask for their memory
    # again.
    if trim is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_back():
        trim(0)
        while not stop.wait(_TRIM_SECONDS):
            trim(0)
        trim(0)

    thread = threading.Thread(target=give_back, name="giving back memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def keep_memory() -> None:
    """Has the process keep the memory of a step for the next one, instead of giving it back and
    asking for it again.

    To be called before JAX computes anything; where the C library is not glibc, memory stays as it
    is. A step allocates what it needs in large pieces, each of which glibc maps anew and the kernel
    then fills with zeros page by page: 650 MB a step for the final network of DARTS, a third of its
    time on a virtual machine. Computations are run by the thread that asks for them, since in the
    arenas of other threads glibc maps a large piece all the same; one arena for all threads would
    do as well, but small networks, which allocate little and often, take twice as long with it. The
    settings are of the whole process, which is why only commands call this by themselves.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _MEMORY_STAYS.set()
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        for option, value in ((_MMAP_THRESHOLD, _MOST), (_TRIM_THRESHOLD, _MOST)):
            mallopt(option, value)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
_MEMORY_STAYS = threading.Event()  # whether `keep_memory` has been called
_PAGE, _ADVICE = 2**21, 14  # bytes of a large page, and MADV_HUGEPAGE of mman.h
_MOST = (
    2**31 - 1
    # bytes that glibc keeps and allocates without mapping them anew, as far as it can be told
)
_MANY = 2**28  # bytes from which large pages are worth a first step that takes 0.3 s longer


def _prefer_large_pages(size: int) -> None:
    """Asks for large pages where the next piece of memory of this size will lie: such a piece is
    allocated and freed again.

    The pages are handed out as they are written to. On pages of 4 KB a step at batch 64, which goes
    through a gigabyte, looks up so many of them that it takes a twentieth longer.
    """
    malloc, free, madvise = map(_of_glibc, ("malloc", "free", "madvise"))
    if (
        not _MANY <= size < _MOST
        or None in (malloc, free, madvise)
        or threading.current_thread() is not threading.main_thread()
    ):
        return
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if start := malloc(size):
        first, end = -(-start // _PAGE) * _PAGE, start + size
        madvise(first, end - first, _ADVICE)  # where the system has none, nothing changes
        free(start)


def vectorize_loops() -> None:
    """Has XLA:CPU vectorise loops over 12 to 40 channels.

    To be called before JAX computes anything. LLVM, which compiles XLA's loops, writes out each
    turn of such a short innermost loop before it looks for loops to vectorise, and what is written
    out stays scalar: what is done to each number of an image of 16 channels took five times as long
    as where the channels are 64, and a step of GDAS a sixth longer. The option that forbids it is
    one of the compiler of the process as a whole, and is read once, from XLA_FLAGS.

    Where programs may be compiled for another device, whose compiler would read it as well, nothing
    is changed, nor where XLA_FLAGS has options of this kind: they are the user's choice.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _OPTIONS not in flags and not _may_have_accelerator():
        os.environ["XLA_FLAGS"] = (
            f"{flags} {_OPTIONS}=--unroll-full-max-count={_MOST_TURNS}".strip()
        )


_OPTIONS, _MOST_TURNS = "--xla_backend_extra_options", 4


def _may_have_accelerator() -> bool:
    """Whether JAX may find another device than the CPU, said without asking it, since then
    XLA_FLAGS would be read."""
    if platforms := jax.config.jax_platforms:
        return platforms != "cpu"
    return bool(importlib.metadata.entry_points(group="jax_plugins")) or any(
        importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu")
    )


def _of_glibc(name: str):
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


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
        epoch.
      at_epoch_end: state -> (state, values for the row of the epoch, whether to stop). Also called
        at the end of the last, perhaps partial, epoch.
      report: called after each call.
      announce: called once, after the compilation and before the first step, where the device gives
        an estimate.

    Raises:
      FloatingPointError: as soon as a loss is not finite; the states reported before are sound.
    """
    run_call = _make_call(step)
    rows, sums, steps_summed = [], {}, 0
    done, length, indices, indices_epoch = first_step, 1, None, None
    stopped = False
    while done < total_steps and not stopped:
        epoch, offset = divmod(done, steps_per_epoch)
        if epoch != indices_epoch:
            indices, indices_epoch = epoch_indices(epoch), epoch
        count = min(length, steps_per_epoch - offset, total_steps - done)
        started = time.perf_counter()
        rows_of_call = _rows(indices, offset, count)
        if done == first_step:
            run_call = compile_step(run_call, state, data, rows_of_call, count)
            memory = run_call.memory_analysis()
            if memory is not None:
                announce(StepMemory(memory.argument_size_in_bytes, memory.temp_size_in_bytes))
        state, metrics = run_call(state, data, rows_of_call, count)
        metrics = {
            name: np.asarray(values)[:count] for name, values in metrics.items()
        }  # waits for the call
        seconds = (time.perf_counter() - started) / count
        _check_finite(metrics, done)
        compiled = done > first_step
        if compiled:
            length = int(np.clip(_SECONDS / seconds, 1, _MAX_STEPS))
        done, steps_summed = done + count, steps_summed + count
        # In float64 such a sum is exact, so that a row does not depend on where the calls began.
        sums = {
            name: sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
            for name, values in metrics.items()
        }
        row = None
        if done % steps_per_epoch == 0 or done == total_steps:
            row = {"epoch": epoch + 1, "step": done, "steps": steps_summed}
            state, values, stopped = at_epoch_end(state)
            row |= {name: total / steps_summed for name, total in sums.items()} | values
            rows.append(row)
            sums, steps_summed = {}, 0
        report(Progress(done, total_steps, steps_per_epoch, seconds, metrics, state, row, stopped))
    return state, rows


def check_steps(num_images: int, batch_size: int, epochs: int) -> int:
    """Returns the steps of an epoch, or raises ValueError if there is no full batch."""
    if batch_size < 1 or epochs < 1 or num_images < batch_size:
        raise ValueError(
            f"{num_images} images, a batch size of {batch_size} and {epochs} epochs were given; a"
            " run needs at least one full batch and one epoch: lower the batch size or give more"
            " images"
        )
    return num_images // batch_size


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


def _rows(indices: PyTree, first: int, count: int) -> PyTree:
    """The indices of `count` steps, padded to the fixed length."""

    def of_array(array: np.ndarray) -> np.ndarray:
        padded = np.zeros((_MAX_STEPS, *array.shape[1:]), array.dtype)
        padded[:count] = array[first : first + count]
        return padded

    return jax.tree.map(of_array, indices)


def _check_finite(metrics: dict[str, np.ndarray], first: int) -> None:
    for name, values in metrics.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise FloatingPointError(
                f"{name} became {values[bad[0]]} at step {first + int(bad[0]) + 1}: the run has"
                " diverged. Start anew with a lower learning rate"
            )
