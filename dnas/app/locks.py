"""A lock on a folder, held by a process for as long as it lives."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

NAME = "dnas.lock"  # of a run
SEVERAL = "several.lock"  # of a folder of several runs, beside the lock of each

# What a file system answers that has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Lock:
    """What holds a folder while it exists: `take` makes it.

    The file says who holds it. It stays when the folder is let go, and marks the folder as one of
    dnas.
    """

    def __init__(self, path: pathlib.Path):
        self._file = open(path, "a+", encoding="utf-8", errors="replace")
        try:
            self._take(path)
        except BaseException:
            self._file.close()
            raise

    def _take(self, path: pathlib.Path) -> None:
        self._file.seek(0)
        holder = _parsed(self._file.read())
        try:
            # The system lets go of it when the process ends, however that happens.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, *_NO_LOCKS):
                raise
            if error.errno not in _NO_LOCKS or _may_live(holder):
                raise ValueError(_refusal(path, holder)) from None
        self._file.truncate(0)
        self._file.write(json.dumps(_this_process()) + "\n")
        self._file.flush()

    @property
    def held(self) -> bool:
        """Whether the folder is still held."""
        return not self._file.closed

    def close(self) -> None:
        """Lets the folder go."""
        if self.held:
            self._file.truncate(0)
            self._file.close()


_held: weakref.WeakValueDictionary[tuple[int, int, str], Lock] = weakref.WeakValueDictionary()


def take(folder: pathlib.Path, name: str = NAME) -> Lock:
    """Returns the lock on a folder, which is that of the whole process: taken twice it is the same.

    Raises:
      ValueError: if another process has it, saying which.
    """
    place = *place_of(folder), name
    lock = _held.get(place)
    if lock is None or not lock.held:
        lock = _held[place] = Lock(folder / name)
    return lock


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Within it, a folder of several runs is that of this process; it is made if it is not there.

    Raises:
      ValueError: if another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(take(folder, SEVERAL)):
        yield


def place_of(folder: pathlib.Path) -> tuple[int, int]:
    """Returns what tells a folder from all others, whatever it is called."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def is_marked(folder: pathlib.Path) -> bool:
    """Returns whether the folder is or was locked as that of a run: dnas made what is in it."""
    return (folder / NAME).is_file()


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, in its own units, since numbers are used again; None
    if there is none."""
    if sys.platform != "linux":
        return str(pid) if _exists(pid) else None
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name before it is in brackets, and may hold blanks and brackets.
    return stat.rpartition(")")[2].split()[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _parsed(text: str) -> dict[str, Any]:
    try:
        holder = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _may_live(holder: dict[str, Any]) -> bool:
    """Whether the process may still work, where the file system does not say so."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    pid = holder.get("pid")
    return isinstance(pid, int) and _start_of(pid) == holder.get("started")


def _refusal(path: pathlib.Path, holder: dict[str, Any]) -> str:
    who = "another process"
    if holder:
        who = "process {pid} on {host} since {since}".format_map(
            {"pid": "?", "host": "?", "since": "?"} | holder
        )
    return (
        f"{path.parent} is in use by {who}. Wait until it has ended, end it, or choose another name"
        f" (where it has ended and the file system has no locks: delete {path})"
    )
