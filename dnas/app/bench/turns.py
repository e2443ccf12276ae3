"""Steps of programs in turn: each program stays, says when it is ready, and runs a step whenever it
is asked to.

The protocol is that of `--turns` of dnas.app.bench.step and
experiments/bench/peers/torch_search_step.py: a line "ready" after the first step; then for each
line of the standard input a line with the seconds of a step; at the end of the input a line of
JSON.
"""

import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any


class Program:
    """A running program of the protocol, stopped with all that it has started when the stack is
    left, or before."""

    def __init__(
        self, words: Sequence[str], environment: dict[str, str] | None, stack: contextlib.ExitStack
    ):
        self._said = stack.enter_context(tempfile.TemporaryFile("w+"))
        self._words = list(words)
        # A session of its own, so that what a shell or another wrapper starts can be stopped as
        # well.
        self._process = stack.enter_context(
            subprocess.Popen(
                self._words,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # both are PIPE
        self._input, self._output = self._process.stdin, self._process.stdout
        stack.callback(self.stop)
        self.seconds: list[float] = []

    def stop(self) -> None:
        """Ends the program and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):  # of a line that nobody has read
            self._input.close()

    def wait(self) -> None:
        """Returns when the program is ready.

        Raises:
          ValueError: with the end of what it said, if it ends before.
        """
        while self._answer() != "ready":
            pass

    def step(self) -> None:
        """Runs a step and notes its seconds.

        Raises:
          ValueError: as `wait`.
        """
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the answer tells
            self._input.write("\n")
        self.seconds.append(float(self._answer()))

    def end(self) -> dict[str, Any]:
        """Returns its last line, and the seconds of all steps."""
        self._input.close()
        return json.loads(self._output.read().strip().splitlines()[-1]) | {"seconds": self.seconds}

    def _answer(self) -> str:
        line = self._output.readline()
        if not line:
            self._said.seek(0)
            words = shlex.join(self._words)
            raise ValueError(
                f"`{words}` ended before its turn; it said:\n{self._said.read()[-2000:]}"
            )
        return line.strip()


def wait_for(programs: Sequence[Program], seconds: float) -> list[str | None]:
    """Returns for each program None, or why it is not ready after so many seconds, when it has been
    stopped.

    They are waited for side by side.
    """
    why: list[str | None] = [f"not ready after {seconds:.0f} s"] * len(programs)

    def wait(number: int) -> None:
        try:
            programs[number].wait()
            why[number] = None
        except ValueError as error:
            why[number] = str(error)

    threads = [
        threading.Thread(target=wait, args=(number,), daemon=True)
        for number in range(len(programs))
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    found = list(why)
    for program, reason, thread in zip(programs, found, threads, strict=True):
        if reason:
            program.stop()
            thread.join()
    return found


def take_turns(ours: Program, theirs: Program, steps: int) -> dict[str, Any]:
    """Returns the rows of both and their ratios, after so many steps of each, one by one in
    turn."""
    for _ in range(steps):
        ours.step()
        theirs.step()
    ends = [ours.end(), theirs.end()]
    ratios = [b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    # Where each step draws its own path, pairs compare different ones.
    together = sum(theirs.seconds) / sum(ours.seconds)
    return {
        "ours": ends[0],
        "theirs": ends[1],
        "ratios": ratios,
        "times_as_fast": statistics.median(ratios),
        "memory_ratio": ends[0]["peak_mb"] / ends[1]["peak_mb"],
        "together": together,
    }


def describe(found: dict[str, Any]) -> list[str]:
    """Returns the comparison in words."""
    medians = [statistics.median(found[side]["seconds"]) for side in ("ours", "theirs")]
    peaks = [found[side]["peak_mb"] for side in ("ours", "theirs")]
    low, high = min(found["ratios"]), max(found["ratios"])
    return [
        f"ours {medians[0]:.3f} s, peer {medians[1]:.3f} s",
        (
            f"a step is {found['times_as_fast']:.2f} times as fast as the one beside it ({low:.2f}"
            f" to {high:.2f})"
        ),
        f"all steps together are {found['together']:.2f} times as fast",
        (
            f"peak memory is {found['memory_ratio']:.2f} of the peer's ({peaks[0]:.0f} MB,"
            f" {peaks[1]:.0f} MB)"
        ),
    ]
