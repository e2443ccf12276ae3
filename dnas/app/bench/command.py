"""Times the project, a process a case, and prints a table; with a peer's command, in turn with it.
`dnas bench` runs it."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, get_args, get_type_hints

from dnas.app.bench import roofline
from dnas.app.bench.step import Case
from dnas.app.bench.turns import Program, describe, take_turns, wait_for
from dnas.app.durable import write_file
from dnas.app.ending import messages
from dnas.app.words import read_words
from dnas.running.runtime import set_up_process

# What grows, and through which sizes; the first is what the others are compared with.
GROWTH = {
    "batch_size": (8, 16, 32, 64),
    "cells": (4, 8, 12),
    "channels": (8, 16, 32),
    "ops": (2, 4, 8),
    "nodes": (2, 3, 4),
}
EDGES = {2: 5, 3: 9, 4: 14}  # by nodes
CASES = get_args(get_type_hints(Case)["case"])


@dataclasses.dataclass(frozen=True)
class BenchCommand(Case):
    """Times a step: cold, warm, apart, as its sizes grow, and in turn with a peer's command.

    Example: dnas bench --case=evaluation --batch-size=8 --peer="python torch_search_step.py --json"
    """

    grow: str = ""
    """Sizes to grow one by one, with commas between: batch_size, cells, channels, ops, nodes; or
    all. The programs of all sizes stay, in memory as well, and take --steps steps in turn."""
    json: pathlib.Path | None = None
    """Write all rows to this file as well."""
    peer: str = ""
    """A command to run in turn with ours (ours, peer, ours, peer, ...). Its last line is JSON with
    median_s, and peak_mb."""
    rounds: int = 2
    """How often each of the two runs."""
    in_turn: int = 0
    """So many steps of each one by one in turn, both programs staying, in place of whole runs: a
    machine whose speed changes favours neither. For a peer that has --turns, as
    experiments/bench/peers/torch_search_step.py of the repository has."""
    at_once: str = ""
    """Cases, with commas between, in place of --case: the programs of all and of their peers start
    at once, and take turns when all are ready, a case after the other. On a machine of many cores a
    table takes as long as one of them takes to compile. {case} in --peer is the case."""
    patience: float = 600.0
    """Seconds after which --at-once leaves out what is not ready."""
    roofline: bool = False
    """Measure what the machine can do, and compare the step with it."""


def main(args: list[str]) -> None:
    """Prints the tables and writes the file, after every measurement anew."""
    # as the steps have it: otherwise the roofline's bandwidth would be that of fresh pages
    set_up_process()
    with messages():
        command = read_words(BenchCommand, args)
        _check(command)
        rows: dict[str, Any] = {"command": shlex.join(["dnas", "bench", *args])}
        for name, found in _measurements(command):
            rows[name] = found
            if command.json:
                write_file(command.json, (json.dumps(rows, indent=2) + "\n").encode())


def _check(command: BenchCommand) -> None:
    if unknown := set(_grown(command)) - set(GROWTH):
        raise ValueError(
            f"{', '.join(sorted(unknown))} cannot grow; choose from: {', '.join(GROWTH)}, or all"
        )
    if command.grow and command.case == "evaluation":
        raise ValueError(
            "--grow is for search steps; the sizes of a final network are given one at a time:"
            " --batch-size=16"
        )
    if not 1 <= command.ops <= 8 or command.nodes not in EDGES:
        raise ValueError(
            f"ops is 1 to 8 and nodes 2 to 4, got ops={command.ops} and nodes={command.nodes}"
        )
    if command.in_turn < 0 or (command.in_turn and not command.peer):
        raise ValueError(
            "--in-turn is a number of steps, 1 or more, beside those of a --peer; got"
            f" {command.in_turn}"
        )
    _check_at_once(command)
    if command.rounds < 1 or command.steps < 1:
        raise ValueError(
            f"rounds and steps are 1 or more, got rounds={command.rounds} and steps={command.steps}"
        )
    if command.json and not command.json.parent.is_dir():
        raise ValueError(
            f"{command.json.parent} is not a folder; make it, or give another --json=file"
        )


def _check_at_once(command: BenchCommand) -> None:
    names = _names(command.at_once)
    if unknown := set(names) - set(CASES):
        raise ValueError(
            f"{', '.join(sorted(unknown))} cannot be timed; choose from: {', '.join(CASES)}"
        )
    if command.at_once and (not names or len(set(names)) < len(names)):
        raise ValueError(
            f"--at-once is one case or more, each once, with commas between; got"
            f" {command.at_once!r}"
        )
    if names and (not command.in_turn or command.grow or command.roofline):
        raise ValueError(
            "--at-once takes turns with a --peer, and nothing else: give --in-turn=10, and neither"
            " --grow nor --roofline"
        )
    if len(names) > 1 and "{case}" not in command.peer:
        raise ValueError(
            "with several cases in --at-once the --peer depends on the case: write {case} where its"
            " name belongs"
        )


def _grown(command: BenchCommand) -> list[str]:
    if command.grow == "all":
        return list(GROWTH)
    return [name.replace("-", "_") for name in _names(command.grow)]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _measurements(command: BenchCommand):
    settings: dict[str, Any] = {
        field.name: getattr(command, field.name) for field in dataclasses.fields(Case)
    }
    settings["turns"] = False
    case = Case(**settings)
    if command.at_once:
        yield from _at_once(case, command)
        return
    with tempfile.TemporaryDirectory() as cache:
        # An empty cache first: what a user meets on a new machine. Then the same again.
        cold = run_case(dataclasses.replace(case, apart=False), cache)
        warm = run_case(case, cache)
        _table([_row("cold", cold), _row("warm", warm)])
        yield "cold", cold
        yield "warm", warm
        if command.peer:
            yield "peer", (_step_by_step if command.in_turn else _in_turn)(case, command, cache)
        if command.roofline:
            found = roofline.compare(warm)
            print("", *roofline.describe(found), sep="\n")
            yield "roofline", found
        for name in _grown(command):
            found = _growth(
                name,
                [
                    dataclasses.replace(case, apart=False, turns=True, **{name: size})
                    for size in GROWTH[name]
                ],
                cache,
            )
            print()
            _table([_growth_row(name, row, found[0]) for row in found])
            yield f"growth of {name}", found


def _growth(name: str, cases: list[Case], cache: str) -> list[dict[str, Any]]:
    """Returns the row of each size. All programs stay and take turns: a machine whose speed changes
    favours none."""
    with contextlib.ExitStack() as stack:
        programs = []
        for case in cases:
            words, environment = _program(case, cache)
            programs.append(Program(words, _sharing(environment), stack))
            programs[-1].wait()
        for _ in range(cases[0].steps):
            for program in programs:
                program.step()
        return [
            {name: getattr(case, name)} | program.end()
            for case, program in zip(cases, programs, strict=True)
        ]


def run_case(case: Case, cache: str) -> dict[str, Any]:
    """Returns the row of `bench_step` for a case, run in a process of its own.

    Raises:
      ValueError: with the end of what the process said, if it failed.
    """
    return _last_json(*_program(case, cache))


def _program(case: Case, cache: str) -> tuple[list[str], dict[str, str]]:
    flags = {field.name: getattr(case, field.name) for field in dataclasses.fields(case)}
    args = [
        f"--{name.replace('_', '-')}={value}" for name, value in flags.items() if value is not None
    ]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "DNAS_BENCH_STARTED": str(time.time()),
    }
    return [sys.executable, "-m", "dnas.app.bench.step", *args], environment


def _last_json(command: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    try:
        row = json.loads(done.stdout.strip().splitlines()[-1])
        if done.returncode == 0 and isinstance(row, dict):
            return row
    except (IndexError, ValueError):
        pass
    tail = (done.stderr or done.stdout)[-2000:]
    raise ValueError(
        f"`{shlex.join(command)}` (exit {done.returncode}) did not end with a line of JSON; it"
        f" said:\n{tail}"
    )


def _in_turn(case: Case, command: BenchCommand, cache: str) -> dict[str, Any]:
    ours, theirs = [], []
    for _ in range(command.rounds):
        ours.append(run_case(dataclasses.replace(case, apart=False), cache))
        theirs.append(_last_json(shlex.split(_peer(case, command))))
        if not isinstance(theirs[-1].get("median_s"), (int, float)):
            raise ValueError(f"the peer's line has no number median_s: {theirs[-1]}")
    step = [statistics.median(row["median_s"] for row in rows) for rows in (ours, theirs)]
    print(f"\nin turn with: {command.peer}")
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True), start=1):
        print(
            f"round {number}: ours {a['median_s']:.3f} s, peer {b['median_s']:.3f} s, ratio"
            f" {b['median_s'] / a['median_s']:.2f}"
        )
    result = {"ours": ours, "theirs": theirs, "times_as_fast": step[1] / step[0]}
    print(f"a step is {result['times_as_fast']:.2f} times as fast as the peer's")
    if all("peak_mb" in row for row in theirs):
        peaks = [max(row["peak_mb"] for row in rows) for rows in (ours, theirs)]
        result["memory_ratio"] = peaks[0] / peaks[1]
        print(
            f"peak memory is {result['memory_ratio']:.2f} of the peer's ({peaks[0]:.0f} MB,"
            f" {peaks[1]:.0f} MB)"
        )
    return result


def _step_by_step(case: Case, command: BenchCommand, cache: str) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        programs = []
        # One after the other: both would take twice as long to compile.
        for words, environment in _pair(case, command, cache):
            programs.append(Program(words, environment, stack))
            programs[-1].wait()
        ours, theirs = programs
        found = take_turns(ours, theirs, command.in_turn)
    print(
        f"\n{command.in_turn} steps of each in turn with: {command.peer}",
        *describe(found),
        sep="\n",
    )
    return found


def _pair(
    case: Case, command: BenchCommand, cache: str
) -> list[tuple[list[str], dict[str, str] | None]]:
    ours = _program(dataclasses.replace(case, apart=False, turns=True), cache)
    return [ours, ([*shlex.split(_peer(case, command)), "--turns"], None)]


def _peer(case: Case, command: BenchCommand) -> str:
    return command.peer.replace("{case}", case.case)


def _at_once(case: Case, command: BenchCommand):
    """Yields (case, what `take_turns` found) of each case that is ready in time, with its peer."""
    cases = [dataclasses.replace(case, case=name) for name in _names(command.at_once)]
    with contextlib.ExitStack() as stack:
        pairs = []
        for own in cases:
            cache = stack.enter_context(tempfile.TemporaryDirectory())  # an empty one each
            pairs.append(
                [
                    Program(words, _sharing(environment), stack)
                    for words, environment in _pair(own, command, cache)
                ]
            )
            print(f"{own.case}: started", flush=True)
        why = wait_for([program for pair in pairs for program in pair], command.patience)
        ready = []
        for number, (own, pair) in enumerate(zip(cases, pairs, strict=True)):
            if reasons := list(filter(None, why[2 * number : 2 * number + 2])):
                _leave_out(own, pair, reasons[0])
            else:
                ready.append((own, pair))
        for own, pair in ready:
            ours, theirs = pair
            try:
                found = take_turns(ours, theirs, command.in_turn)
            except ValueError as error:
                _leave_out(own, pair, str(error))
                continue
            print(
                f"\n{own.case}: {command.in_turn} steps of each in turn", *describe(found), sep="\n"
            )
            first = found["ours"]["first_step_s"]
            print(
                f"first step {first:.1f} s after the start, {len(cases)} cases compiled at once",
                flush=True,
            )
            yield own.case, found


def _sharing(environment: dict[str, str] | None) -> dict[str, str]:
    """The environment in which several programs share a GPU: otherwise the first of JAX would take
    most of its memory."""
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | (
        dict(os.environ) if environment is None else environment
    )


def _leave_out(case: Case, pair: list[Program], reason: str) -> None:
    print(f"\n{case.case} is left out: {reason}", flush=True)
    for program in pair:
        program.stop()  # what goes on beside the others would slow them


def _row(name: str, row: dict[str, Any]) -> dict[str, str]:
    words = {
        "": name,
        "first step s": f"{row['first_step_s']:.1f}",
        "step s": f"{row['median_s']:.3f}",
    }
    for key, title in (("arch_gradient_s", "arch s"), ("weight_gradient_s", "weights s")):
        words[title] = f"{row[key]:.3f}" if key in row else "-"
    return words | {
        "peak MB": f"{row['peak_mb']:.0f}",
        "temporaries MB": f"{row['temporaries_mb']:.0f}",
    }


def _growth_row(name: str, row: dict[str, Any], first: dict[str, Any]) -> dict[str, str]:
    def size(row):
        return EDGES[row[name]] if name == "nodes" else row[name]

    larger, slower = size(row) / size(first), row["median_s"] / first["median_s"]
    title = "edges" if name == "nodes" else name
    return {
        title: str(size(row)),
        "step s": f"{row['median_s']:.3f}",
        "size": f"x{larger:.2f}",
        "time": f"x{slower:.2f}",
        "first step s": f"{row['first_step_s']:.1f}",
        "peak MB": f"{row['peak_mb']:.0f}",
    }


def _table(rows: list[dict[str, str]]) -> None:
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        print("  ".join(row[name].rjust(width) for name, width in widths.items()), flush=True)
