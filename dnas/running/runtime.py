"""What a command may do to its process: memory, options of compilers, garbage collection, where
compiled programs are kept.

All of it is of the process as a whole, so nothing in dnas does it by itself: a command calls
`set_up_process` before JAX computes anything, or the functions that it wants. Until then what the
loop over steps asks for around compilation (`compiling`, `tracing`, `prepare_for`) does nothing.
"""

import contextlib
import ctypes
import dataclasses
import gc
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax


@dataclasses.dataclass
class _Manners:
    """What the process has been told to do, by the functions of these names."""

    keep_memory: bool = False
    compile_sparingly: bool = False


_manners = _Manners()


def set_up_process() -> None:
    """Does all that is below: what every command of the project does first.

    To be called before JAX computes anything.

    Example:
      >>> from dnas.running.runtime import set_up_process
      >>> set_up_process()  # doctest: +SKIP
    """
    keep_memory()
    vectorize_loops()
    compile_sparingly()
    keep_programs()


def keep_programs(most: int = 4 * 2**30) -> None:
    """Has JAX keep compiled programs between processes, in JAX_COMPILATION_CACHE_DIR if set and in
    the user's cache otherwise; nowhere where there is neither.

    There so many bytes of them are kept: what is more is deleted here, that which was used least
    recently first. The limit that JAX itself has, jax_compilation_cache_max_size, keeps nothing
    more once a file that says when a program was used is missing, as after a process that was
    killed, or of programs from before there was a limit.

    Args:
      most: bytes that are kept of earlier processes.
    """
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    caches = _caches_of_user()
    if caches is not None:
        _delete_oldest(caches / "dnas" / "xla", most)
        jax.config.update("jax_compilation_cache_dir", str(caches / "dnas" / "xla"))


def _delete_oldest(folder: pathlib.Path, most: int) -> None:
    """Deletes files until no more than so many bytes are left. Another process may do the same."""
    found = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if left <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        left -= size


def _caches_of_user() -> pathlib.Path | None:
    """The folder of the user's caches; None where the user has none, nor a home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(given)
    try:
        return pathlib.Path.home() / ".cache"
    except RuntimeError:
        return None


def keep_memory() -> None:
    """Has the process keep the memory of a step for the next one, instead of giving it back and
    asking for it again.

    To be called before JAX computes anything; where the C library is not glibc, memory stays as it
    is. A step allocates what it needs in large pieces, each of which glibc maps anew and the kernel
    then fills with zeros page by page: 650 MB a step for the final network of DARTS, a third of its
    time on a virtual machine. Computations are run by the thread that asks for them, since in the
    arenas of other threads glibc maps a large piece all the same; one arena for all threads would
    do as well, but small networks, which allocate little and often, take twice as long with it.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _manners.keep_memory = True
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(option, _MOST)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
_MOST = 2**31 - 1  # bytes that glibc keeps, and does not map anew: as many as it can be told


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
    if platforms := jax.config.values["jax_platforms"]:
        return platforms != "cpu"
    return bool(importlib.metadata.entry_points(group="jax_plugins")) or any(
        importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu")
    )


def compile_sparingly() -> None:
    """Has the process look for no garbage while a step is traced, and give back what is freed while
    it is compiled.

    What has been imported stays, so no later collection looks through it either. Memory that
    tracing and compiling leave is given back to the system all the time: otherwise a supernet's
    process would peak half a gigabyte higher.
    """
    gc.freeze()
    _manners.compile_sparingly = True


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """The context in which a step is traced: without garbage collections if the process is to
    `compile_sparingly`."""
    if not (_manners.compile_sparingly and gc.isenabled()):
        yield
        return
    # tracing makes millions of objects and little garbage, which the collector would look through
    # again and again
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """The context in which a step is traced and compiled: if the process is to `compile_sparingly`,
    what glibc keeps of freed memory is given back before, after and in between, since each thread
    of the compiler has its own."""
    # In another thread compilation goes on beside steps, which would have to ask for their memory
    # again.
    trim = _of_glibc("malloc_trim") if _manners.compile_sparingly and _in_main_thread() else None
    if trim is None:
        yield
        return
    stop = threading.Event()

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


_TRIM_SECONDS = 0.5  # between two times that memory is given back


def prepare_for(size: int) -> None:
    """Is told how many bytes a compiled step needs on the way: if the process is to `keep_memory`,
    asks for large pages where they will lie, which is in a piece that is allocated and freed again.

    The pages are handed out as they are written to. On pages of 4 KB a step at batch 64, which goes
    through a gigabyte, looks up so many of them that it takes a twentieth longer.
    """
    if not (_manners.keep_memory and _MANY <= size < _MOST and _in_main_thread()):
        return
    malloc, free, madvise = map(_of_glibc, ("malloc", "free", "madvise"))
    if malloc is None or free is None or madvise is None or jax.default_backend() != "cpu":
        return
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if start := malloc(size):
        first, end = -(-start // _PAGE) * _PAGE, start + size
        madvise(first, end - first, _ADVICE)  # where the system has none, nothing changes
        free(start)


_PAGE, _ADVICE = 2**21, 14  # bytes of a large page, and MADV_HUGEPAGE of mman.h
_MANY = 2**28  # bytes from which large pages are worth a first step that takes 0.3 s longer


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _of_glibc(name: str) -> Any:
    """The function of this name, or None where the C library has none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
