"""Commands of dnas that run in processes of their own, so that they can be killed."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

_HANGS = 600.0  # seconds after which a process is taken for one that never ends


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    said: str  # what it wrote to stderr

    @property
    def raw(self) -> bool:
        """Whether it ended in a way that nobody has foreseen."""
        asked = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
        crashed = self.code < 0 and self.code not in asked
        speechless = self.code > 0 and not self.said.strip()
        return crashed or speechless or "Traceback (most recent call last)" in self.said


class Process:
    """A command of dnas that runs by itself, in this folder.

    Args:
      cache: the folder of compiled programs, unless the environment names one.
      before: a program and its words that starts the command.
    """

    def __init__(
        self,
        words: Sequence[str],
        cache: pathlib.Path,
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        before: Sequence[str] = (),
        stdout: int = subprocess.DEVNULL,
    ):
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        kept = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "dnas.app", *words],
            env={**kept, **os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=self._errors,
        )

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until the process has ended; whether it still runs."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def wait_until(self, happened: Callable[[], bool]) -> bool:
        """Waits until something has happened, or the process has ended; whether it still runs."""
        while self._process.poll() is None:
            if happened():
                return True
            time.sleep(0.002)
        return False

    def end(self, number: signal.Signals | None = None, hangs: float = _HANGS) -> Ended:
        """Waits for the end, after a signal if one is given; kills what does not end within so many
        seconds."""
        if number is not None:
            self._process.send_signal(number)
        late = self.wait(hangs)
        if late:
            self._process.kill()
            self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()
        self._errors.close()
        if late:
            return Ended(-signal.SIGABRT, f"it did not end within {hangs:.0f} s\n{said}")
        return Ended(self._process.returncode, said)
