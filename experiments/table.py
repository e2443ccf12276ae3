"""Measures what the parts of a search space cost on the device at hand, and writes the table. `make table` runs it."""

import dataclasses
import datetime
import pathlib
import re
import shlex
import sys
from typing import Literal

import tyro
from tqdm import tqdm

import dnas
from dnas.hw_loss import CostTable, measure_table, read_table, write_table
from experiments import devices
from experiments.cache import use_compilation_cache
from experiments.config import spell_out


@dataclasses.dataclass(frozen=True)
class TableCommand:
    """Measures every part that networks of a space can be made of, one row each, in turn with the others.

    What is measured is written after every group of parts; run again with the same OUT, it goes on from there.

    Example: make table SPACE=nasbench201 RUNTIME=onnxruntime OUT=my_laptop.csv
    """

    space: str = "darts"
    """Search space by name."""
    runtime: Literal["onnxruntime", "jax"] = "onnxruntime"
    """What runs the networks: ONNX Runtime on the CPU, or JAX on its default device."""
    threads: int = 1
    """Of ONNX Runtime."""
    metric: Literal["latency", "energy"] = "latency"
    """What is measured."""
    out: pathlib.Path | None = None
    """The file; runs/tables/DEVICE-SPACE-RUNTIME.csv unless given."""
    channels: int | None = None
    """Channels of the first cells of the networks that are going to be deployed; the published ones unless given."""
    cells: int | None = None
    """Their cells."""
    classes: int = 10
    """Their classes."""
    image_size: int = 32
    """Pixels of a side."""
    image_channels: int = 3
    """Channels of an image."""
    stem: str = "cifar"
    """Their stem."""
    batch_size: int = 1
    """Images at once."""
    repeats: int = 30
    """Blocks of runs of each part, of which the median counts."""
    device: str = ""
    """Name of the device; that of its processor unless given."""


def main(args: list[str]) -> None:
    """Measures and writes."""
    use_compilation_cache()
    command = tyro.cli(TableCommand, args=spell_out(TableCommand, args), config=(tyro.conf.FlagConversionOff,))
    try:
        table = make_table(command, shlex.join(["make", "table", *(arg.removeprefix("--") for arg in args)]))
    except (ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"{len(table.rows)} rows in {out_of(command)}")


def make_table(command: TableCommand, source: str) -> CostTable:
    """Returns the table, which is in its file as well."""
    if command.space not in dnas.SPACES:
        raise ValueError(f"space {command.space!r} is not known; choose from: {', '.join(dnas.SPACES)}")
    out = out_of(command)
    known = read_table(out.read_text(), out.name) if out.exists() else None
    out.parent.mkdir(parents=True, exist_ok=True)

    def keep(table: CostTable) -> None:
        part = out.with_suffix(".part")
        write_table(table, part)
        part.replace(out)

    with tqdm(unit="part", desc=f"{command.metric} of {command.space}", disable=None) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return measure_table(
            dnas.SPACES[command.space],
            devices.runtime_named(command.runtime, threads=command.threads),
            device=device_of(command),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            source=source,
            batch_size=command.batch_size,
            meter=devices.meter_of(command.metric, command.runtime),
            repeats=command.repeats,
            known=known,
            keep=keep,
            report=report,
            **sizes_of(command),
        )


def sizes_of(command: TableCommand) -> dict:
    """Returns what `space.parts` takes."""
    space = dnas.SPACES[command.space]
    return {
        "channels": space.final_channels if command.channels is None else command.channels,
        "num_cells": space.final_cells if command.cells is None else command.cells,
        "num_classes": command.classes,
        "image_size": command.image_size,
        "image_channels": command.image_channels,
        "stem": command.stem,
    }


def device_of(command: TableCommand) -> str:
    """Returns the name of the device for the header."""
    return command.device or devices.device_name(command.runtime)


def out_of(command: TableCommand) -> pathlib.Path:
    """Returns the file of the table."""
    if command.out is not None:
        return command.out.expanduser()
    name = re.sub(r"\W+", "-", f"{device_of(command)} {command.space} {command.runtime}").strip("-").lower()
    return pathlib.Path("runs/tables") / f"{name}.csv"


if __name__ == "__main__":
    main(sys.argv[1:])
