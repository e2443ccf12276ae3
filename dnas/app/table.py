"""Measures what the parts of a search space cost on the device at hand, and writes the table. `dnas
table` runs it."""

import dataclasses
import datetime
import json
import pathlib
import re
import shlex
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

import dnas
from dnas.app import devices, named
from dnas.app.durable import write_file
from dnas.app.ending import messages
from dnas.app.words import read_words
from dnas.hw_loss import (
    REFERENCE,
    CostTable,
    calibrate,
    expected_cost,
    load_table,
    measure_networks,
    measure_table,
    write_table,
)
from dnas.hw_loss.table import unit_factor
from dnas.running.runtime import set_up_process
from dnas.statistics import kendall


@dataclasses.dataclass(frozen=True)
class TableCommand:
    """Measures every part that networks of a space can be made of, one row each, in turn with the
    others.

    What is measured is written after every group of parts; run again with the same --out, it goes
    on from there.

    Example: dnas table --space=nasbench201 --runtime=onnxruntime --out=my_laptop.csv
    """

    space: str = "darts"
    """Search space by name."""
    runtime: str = "onnxruntime"
    """What runs the networks, by name: onnxruntime or litert on the CPU, or jax on its default
    device."""
    threads: int = 1
    """Of ONNX Runtime and LiteRT."""
    metric: Literal["latency", "energy"] = "latency"
    """What is measured."""
    out: pathlib.Path | None = None
    """The file; runs/tables/DEVICE-SPACE-RUNTIME.csv unless given."""
    channels: int | None = None
    """Channels of the first cells of the networks that are going to be deployed; the published ones
    unless given."""
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
    seed: int = 0
    """Of the random networks."""
    networks: int = 0
    """Whole random networks that are measured after the parts: half of them calibrate the table,
    half of them check it."""
    device: str = ""
    """Name of the device; that of its processor unless given."""


def main(args: list[str]) -> None:
    """Measures and writes."""
    set_up_process()
    with messages("the same command continues"):
        command = read_words(TableCommand, args)
        table = make_table(command, shlex.join(["dnas", "table", *args]))
        print(f"{len(table.rows)} rows in {out_of(command)}")
        if command.networks:
            print(json.dumps(compare_with_networks(command, table)))


def make_table(command: TableCommand, source: str) -> CostTable:
    """Returns the table, which is in its file as well."""
    named.check_known("space", command.space, dnas.SPACES)
    out = out_of(command)
    known = load_table(out) if out.exists() else None
    out.parent.mkdir(parents=True, exist_ok=True)

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
            keep=lambda table: _keep(table, out),
            report=report,
            **sizes_of(command),
        )


def compare_with_networks(command: TableCommand, table: CostTable) -> dict[str, Any]:
    """Measures random networks, calibrates the table by the first half and returns how it predicts
    the others.

    kendall and mape (mean absolute error as a share of the cost) are those of the calibrated table
    on networks that it has not seen; with "uncalibrated" before them, of plain sums of parts.
    """
    space, sizes = dnas.SPACES[command.space], sizes_of(command)
    genotypes = connected_genotypes(space, command.networks, command.seed)
    half = len(genotypes) // 2
    meter = devices.meter_of(command.metric, command.runtime)
    factor = unit_factor(command.metric, meter.unit)
    with tqdm(unit="network", desc="compiling networks", total=len(genotypes), disable=None) as bar:

        def report(done: int, total: int) -> None:
            del total
            bar.update(done - bar.n)

        found = measure_networks(
            space,
            genotypes,
            devices.runtime_named(command.runtime, threads=command.threads),
            batch_size=command.batch_size,
            meter=meter,
            repeats=command.repeats,
            reference=table.rows[command.metric, REFERENCE].mean / factor,
            report=report,
            **sizes,
        )
    costs = np.array([cost.median * factor for cost in found])
    measured = costs[:half].tolist()
    made = calibrate(table, space, genotypes[:half], measured, metric=command.metric, **sizes)
    _keep(made, out_of(command))
    result: dict[str, Any] = {
        "networks": len(costs) - half,
        "least": min(costs[half:]),
        "largest": max(costs[half:]),
    }
    for words, own in (("", made), ("uncalibrated_", dataclasses.replace(table, calibrations={}))):
        cost = expected_cost(own, space.parts(**sizes), metric=command.metric)
        predicted = np.array(
            [float(cost(dnas.one_hot_mix(space, genotype))) for genotype in genotypes[half:]]
        )
        result[f"{words}kendall"] = round(kendall(predicted, costs[half:]), 4)
        result[f"{words}mape"] = round(float(np.mean(np.abs(predicted / costs[half:] - 1))), 4)
    spread = np.median([cost.spread / cost.median for cost in found])
    return result | {"spread": round(float(spread), 4), "speed": round(found[0].speed, 3)}


def _keep(table: CostTable, out: pathlib.Path) -> None:
    write_file(out, write_table(table).encode())


def connected_genotypes(space: dnas.SearchSpace, count: int, seed: int) -> list[dnas.Genotype]:
    """Returns random genotypes in which every cell has a path from its inputs to its output, each
    once."""
    found: dict[dnas.Genotype, None] = {}
    for number in range(100 * count):
        genotype = dnas.random_genotype(jax.random.fold_in(jax.random.key(seed), number), space)
        if len(found) < count and all(
            spec.live_edges_of(genotype.cells[kind]) for kind, spec in space.cells.items()
        ):
            found[genotype] = None
    return list(found)


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
        return command.out
    name = (
        re.sub(r"\W+", "-", f"{device_of(command)} {command.space} {command.runtime}")
        .strip("-")
        .lower()
    )
    return pathlib.Path("runs/tables") / f"{name}.csv"
