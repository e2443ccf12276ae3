"""How a command ends before its time: with a message that a person can read, whatever ends it.

Mistakes, files that cannot be read or written, a full disk, Ctrl-C and the signals that systems
send before they end a process. What has steps saves its state first (`ask_after`).
"""

import contextlib
import dataclasses
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 2.0  # seconds that a process has to end by itself where nothing is to be saved
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass
class _Asked:
    """What a signal has asked of the process."""

    number: int | None = None  # of the first signal
    saves: bool = False  # whether a step is under way, at whose end the state is saved
    go_on: str = ""  # how the work is taken up again


_asked = _Asked()


@contextlib.contextmanager
def messages(go_on: str = "") -> Iterator[None]:
    """Within it, all that a person can do something about ends the program with a message: mistakes
    in settings or data, packages and files that are not there, a full disk. So do signals; output
    that nobody reads any more ends nothing.

    Args:
      go_on: says how the work is taken up again after an interruption.
    """
    with _lasting_output(), _signals(go_on):
        try:
            yield
        except OSError as error:
            sys.exit(f"error: {_of_system(error, go_on)}")
        except (ValueError, FloatingPointError, MemoryError, ModuleNotFoundError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(_sentence(signal.SIGINT, go_on))


def _of_system(error: OSError, go_on: str) -> str:
    """What an error of the system says, and what to do about it."""
    if error.errno in _FULL:
        place = f" at {error.filename}" if error.filename else ""
        return f"disk full{place}: free space" + (f"; {go_on}" if go_on else "")
    # Those of the network have words of their own.
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}{_ADVICE.get(error.errno or 0, '')}"


_ADVICE = {
    errno.EACCES: "; give a place that may be read and written",
    errno.EPERM: "; give a place that may be read and written",
    errno.EROFS: "; give a place that may be written",
    errno.ENOTDIR: "; a part of the path is a file and no folder",
    errno.EEXIST: "; a file lies where a folder is to be",
}


def ask_after(*, saves: bool) -> str | None:
    """Returns the name of the signal that asks the process to end, or None.

    Args:
      saves: whether whoever asks will ask again after the next step, and save before the end. While
        nobody does, a signal ends the process at once.
    """
    _asked.saves = saves
    return None if _asked.number is None else signal.Signals(_asked.number).name


def end(saved: str) -> NoReturn:
    """Ends the process as the signal has asked, and says what was saved."""
    assert _asked.number is not None
    _say(f"{saved}; {_sentence(_asked.number, _asked.go_on)}")
    raise SystemExit(128 + _asked.number)


def _sentence(number: int, go_on: str) -> str:
    sentence = f"ended by {signal.Signals(number).name}"
    return f"{sentence}; {go_on}" if go_on else sentence


def _say(sentence: str) -> None:
    """Writes a line to stderr from a handler or another thread, where print may not be called."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{sentence}\n".encode(errors="backslashreplace"))


@contextlib.contextmanager
def _signals(go_on: str) -> Iterator[None]:
    """Within it, signals end the process as `ask_after` says, and a second one at once.

    Python runs handlers between two of its instructions, and the compiler of XLA may take minutes
    for one. So a thread reads the signals as well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    # What whoever started the process has it ignore, as nohup does, stays ignored; None is a
    # handler that is not Python's.
    kept = {number: signal.getsignal(number) for number in _SIGNALS}
    kept = {
        number: handler for number, handler in kept.items() if handler not in (signal.SIG_IGN, None)
    }
    _asked.number, _asked.saves, _asked.go_on = None, False, go_on
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(read,), name="signals", daemon=True)
    thread.start()
    for number in kept:
        signal.signal(number, _handle)
    unraisable, sys.unraisablehook = sys.unraisablehook, _not_lost
    try:
        yield
    except SystemExit as error:
        if _asked.number is not None and error.code == 128 + _asked.number:
            # Whatever else is under way, such as a compilation in another thread, is not waited
            #   for.
            sys.stdout.flush()
            sys.stderr.flush()
            _stop_watching(before, write, thread)
            _end_at_once(_asked.number)
        raise
    finally:
        _asked.saves = False
        sys.unraisablehook = unraisable
        for number, handler in kept.items():
            signal.signal(number, handler)
        _stop_watching(before, write, thread)


def _stop_watching(before: int, write: int, thread: threading.Thread) -> None:
    """Waits until the thread has said all it has to say."""
    if thread.is_alive():
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join(_PATIENCE)


def _handle(number: int, frame: Any) -> None:
    """Ends what has nothing to save. Runs in the main thread, which may be amid anything."""
    del frame
    if _asked.number is None:
        _asked.number = number
        if not _asked.saves:
            raise SystemExit(128 + number)


def _not_lost(args: Any) -> None:
    """What Python does with an exception that nobody can catch, but for that of `_handle` where it
    was called within a callback, such as one of the garbage collection: `_watch` ends the process
    soon."""
    code = getattr(args.exc_value, "code", None)
    if _asked.number is None or code != 128 + _asked.number:
        sys.__unraisablehook__(args)


def _watch(read: int) -> None:
    """Says what a signal will do, and ends the process where it does not end by itself."""
    first: int | None = None
    while byte := os.read(read, 1):
        number = byte[0]
        if number not in _SIGNALS:
            continue  # of somebody else's handler
        if first is not None:
            _end_at_once(number)
        first = number
        if _asked.saves:
            _say(
                f"{signal.Signals(number).name}: the state is saved at the end of this step; once"
                " more, and the process ends at once"
            )
        else:
            _say(_sentence(number, _asked.go_on))
            # What cannot be interrupted, such as a compilation, has nothing to save either.
            late = threading.Timer(_PATIENCE, _end_at_once, (number,))
            late.daemon = True
            late.start()
    os.close(read)


def _end_at_once(number: int) -> NoReturn:
    os._exit(128 + number)


class _Lasting:
    """A stream for text that goes on to be written to when nobody can read it any more."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            return self._stream.write(text.encode("ascii", "backslashreplace").decode())
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Has the stream lead to nowhere, what is left in its buffer too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _lasting_output() -> Iterator[None]:
    """Within it, a closed stdout or stderr is one that leads to nowhere."""
    # A number that is free would be that of the next file opened, which then had all output in it.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    kept = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        streams = []
        for stream in kept:
            own = stream or stack.enter_context(open(os.devnull, "w"))
            streams.append(_Lasting(own))
        sys.stdout, sys.stderr = streams
        try:
            yield
        finally:
            for stream in streams:
                stream.flush()
            sys.stdout, sys.stderr = kept
