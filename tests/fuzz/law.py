"""The one law of all inputs: it works, or an error says what was given and what to do, soon and
without filling memory."""

import contextlib
import linecache
import pathlib
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import dnas

SECONDS = 2.0  # of all cores together
BYTES = 500_000_000
LETTERS = 20, 2000  # of a message: more than a number or a name, and not all of what was given

_HOME = str(pathlib.Path(dnas.__file__).parent)


class TooLong(BaseException):
    """What nobody takes for an error of their own."""


def obeys(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Returns what the call returns, or None where it refuses its arguments as it should.

    Raises:
      AssertionError: for a refusal that nobody wrote, one that passes on what a library says, and
        for what takes too long twice: a process imports, and empties the caches that the tests
        before have filled, only once.
      Exception: whatever else the call raises; MemoryError beyond the bound.
    """
    for _ in range(2):
        try:
            with bounded():
                return call(*args, **keywords)
        except ValueError as error:
            check_written(error)
            return None
        except TooLong:
            pass  # may have come anywhere, also where a traceback has no lines
    raise AssertionError(f"it took more than {SECONDS} s, twice")


def check_written(error: ValueError) -> None:
    """Asserts that the error was raised by a line of dnas, and says something."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    path = frame.f_code.co_filename
    raised = linecache.getline(path, line).lstrip().startswith("raise ")
    assert path.startswith(_HOME) and raised, f"{path}:{line} passes on: {error!r:.300}"
    least, most = LETTERS
    assert least <= len(str(error)) <= most, f"{len(str(error))} characters: {error!s:.300}"


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within it the process may use so many seconds and so much memory more; it raises TooLong and
    MemoryError beyond."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    previous = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    if sys.platform == "linux":  # elsewhere what a process has taken is not told this way
        resource.setrlimit(resource.RLIMIT_DATA, (_data() + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _too_long(number, frame):
    raise TooLong


def _data() -> int:
    """Bytes of memory that the process has taken and may write to."""
    (line,) = (
        line
        for line in pathlib.Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData")
    )
    return 1024 * int(line.split()[1])
