"""What commands that have a run do around their work: settings, compilation cache, the run's
folder."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dnas.app import config as settings
from dnas.app.ending import messages
from dnas.app.images import make_job
from dnas.app.phases import RunOf
from dnas.app.runs import PATHS, Run, check_known, open_run, run_name
from dnas.running.runtime import set_up_process


def run_command(
    kind: type[settings.Config],
    command: str,
    args: list[str],
    work: Callable[[Any], None],
    check: Callable[[Any], None] = lambda config: None,
    *,
    make: Callable[[Any, RunOf], Any] = make_job,
    find_layers: settings.LayersOf = settings.image_layers,
) -> None:
    """Does the work of a command in the folder of its run; exits with a message for mistakes in
    settings or data.

    `check` looks at what only this command knows, before there is a folder; `make` returns what
    `work` is given. Settings start from the layers that are found for the words.
    """
    set_up_process()
    with messages("--resume continues"):
        config = read_config(kind, command, args, find_layers)
        check(config)
        if config.explain:
            print(table_of(settings.explained(kind, args, find_layers)))
            return

        def opened(reads: Mapping[str, str]) -> Run:
            run = open_run(config, command, reads, argv=args)
            if not (run.folder / "settings.txt").exists():  # not of a run that goes on
                run.write("settings.txt", table_of(settings.explained(kind, args, find_layers)))
            return run

        job = make(config, opened)
        with contextlib.closing(job.run):
            work(job)


def table_of(explained: Sequence[settings.Setting]) -> str:
    """Returns the settings as lines: name, value, where it comes from."""
    name_width = max(len(row.name) for row in explained)
    value_width = 20  # most are shorter; a longer one moves the rest of its line
    return "\n".join(
        f"{name:{name_width}}  {value:{value_width}}  {origin}" for name, value, origin in explained
    )


def read_config(
    kind: type[settings.Config],
    command: str,
    args: list[str],
    find_layers: settings.LayersOf = settings.image_layers,
) -> settings.Config:
    """Returns the checked settings: those of the interrupted run where one is resumed, changed by
    nothing but the folder."""
    config = settings.parse(kind, args, None, find_layers)
    if config.resume:
        before = Run(pathlib.Path(config.runs) / run_name(config, command)).read("config.json")
        if before is None:
            print(
                f"there is no run {run_name(config, command)!r} in {config.runs} to resume; a new"
                " one begins",
                file=sys.stderr,
            )
        elif before["command"] == command:
            config = settings.parse(kind, args, default=_before(config, before))
    settings.check(config)
    return config


def _before(config: settings.Config, before: dict) -> settings.Config:
    paths = {name: pathlib.Path(before[name]) for name in PATHS if before.get(name)}
    paths |= {name: path for name in PATHS if (path := getattr(config, name, None))}
    check_known(type(config), before)
    return dataclasses.replace(config, **before["settings"], **paths)
