"""Accuracy at equal measured latency: MBConv networks on CIFAR-10 for ONNX Runtime on this machine,
searched for a target, drawn at random within it, and of one block everywhere whose width meets it;
all trained alike from scratch.

Command: python -m experiments.studies.equal_measured --data-dir=FOLDER. What is done is kept, in a
folder of runs and in a CSV, and is not done again; the table is printed at the end. --show=1 prints
it and runs nothing. Latencies are measured last, all networks of one width in turn: leave the
machine alone then.
"""

import csv
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import dnas
from dnas.app import devices, retrain, search, table
from dnas.app.durable import write_file
from dnas.app.ending import messages
from dnas.app.phases import LARGEST
from dnas.app.plots import picture
from dnas.app.words import read_words
from dnas.hw_loss import load_table, measure_networks
from dnas.running.runtime import set_up_process
from dnas.spaces.proxylessnas import proxylessnas_space
from dnas.statistics import compare, reported, sample

NAME = "mbconv_16"
SPACE = proxylessnas_space(
    name=NAME, stages=((16, 3, 2), (32, 3, 2), (64, 3, 2)), stem=16, first=8, head=256
)
# The block of MobileNetV2.
UNIFORM = "k3_e6"
ARMS = ("searched", "random", "uniform", "most multiply-adds")
COLUMNS = (
    "target",
    "arm",
    "seed",
    "genotype",
    "channels",
    "measured",
    "accuracy",
    "macs",
    "params",
)


@dataclasses.dataclass(frozen=True)
class MeasuredCommand:
    """Searches, draws and widens networks for each target, trains and measures them."""

    data_dir: pathlib.Path | None = None
    """Folder of CIFAR-10, which is downloaded to a cache unless given."""
    image_size: int = 16
    """Side of the images."""
    targets: str = "0.35,0.55"
    """Shares of the latency of the network of `k7_e6` everywhere, with commas between."""
    seeds: int = 6
    """How many, from 0 on: of the search, the random network, weights and batches."""
    method: str = "trained_neighbours:trial_steps=100,trials=60"
    """Of the searches."""
    epochs: int = 4
    """Of the final trainings."""
    runs: pathlib.Path = pathlib.Path("runs/equal_measured")
    """Folder of all that is run."""
    show: bool = False
    """Print the table of what is there, and run nothing."""
    out: pathlib.Path = pathlib.Path("docs/evidence/equal_measured.csv")
    """What was found, one network a row; a picture of the same name lies beside it."""


def main(args: list[str]) -> None:
    """Runs what is not there yet, and prints the table."""
    with messages("the same command continues"):
        set_up_process()
        dnas.SPACES.setdefault(NAME, SPACE)  # so that commands find it by its name
        command = read_words(MeasuredCommand, args)
        if not command.show:
            study(command)
        print(shown(command.out))


def study(command: MeasuredCommand) -> None:
    """Runs all, and writes the CSV and the picture."""
    costs = command.runs / "table.csv"
    if not costs.exists():
        made = table.TableCommand(space=NAME, image_size=command.image_size, out=costs)
        table.make_table(made, "python -m experiments.studies.equal_measured")
    reference = load_table(costs).rows["latency", dnas.hw_loss.REFERENCE].mean
    (largest,) = _measured([(uniform("k7_e6"), SPACE.final_channels)], command, reference)
    targets = [round(float(share) * largest, 4) for share in command.targets.split(",")]
    found: list[dict[str, Any]] = []
    for target in targets:
        channels = _widest(command, target, reference)
        for seed in range(command.seeds):
            own = {"target": target, "seed": seed}
            for arm, summary in _trained(command, costs, target, seed).items():
                found.append(own | {"arm": arm, "channels": SPACE.final_channels} | summary)
            summary = _uniform(command, target, seed, channels)
            found.append(own | {"arm": "uniform", "channels": channels} | summary)
    networks = [(dnas.Genotype.from_text(row["genotype"]), int(row["channels"])) for row in found]
    for row, latency in zip(found, _measured(networks, command, reference), strict=True):
        row["measured"] = f"{latency:.5f}"
    lines = [",".join(COLUMNS)]
    lines += [",".join(f'"{row[name]}"' for name in COLUMNS) for row in found]
    write_file(command.out, ("\n".join(lines) + "\n").encode())
    write_file(command.out.with_suffix(".png"), picture(_figure(read(command.out))))


def uniform(block: str) -> dnas.Genotype:
    """Returns the architecture with one block everywhere."""
    layers = SPACE.cells["layers"].edges
    edges = [(source, target, block) for source, target in layers]
    return dnas.Genotype(NAME, {"layers": edges}, {"layers": (len(edges),)})


def _sizes(command: MeasuredCommand, channels: int) -> dict[str, Any]:
    return {
        "channels": channels,
        "num_cells": SPACE.final_cells,
        "num_classes": 10,
        "image_size": command.image_size,
    }


def _measured(
    networks: Sequence[tuple[dnas.Genotype, int]], command: MeasuredCommand, reference: float
) -> list[float]:
    """Returns the latency of networks of these widths, in ms; those of one width in turn."""
    runtime = devices.runtime_named("onnxruntime", threads=1)
    latencies = np.zeros(len(networks))
    for width in {channels for _, channels in networks}:
        places = [place for place, own in enumerate(networks) if own[1] == width]
        distinct = list(dict.fromkeys(networks[place][0] for place in places))
        found = measure_networks(
            SPACE, distinct, runtime, reference=reference, **_sizes(command, width)
        )
        known = dict(zip(distinct, (own.median for own in found), strict=True))
        for place in places:
            latencies[place] = known[networks[place][0]]
    return latencies.tolist()


def _widest(command: MeasuredCommand, target: float, reference: float) -> int:
    """Returns the most channels with which the uniform network meets the target.

    Raises:
      ValueError: if it meets it with none.
    """
    low, high = 0, 4 * SPACE.final_channels
    while high - low > 1:
        middle = (low + high) // 2
        (latency,) = _measured([(uniform(UNIFORM), middle)], command, reference)
        low, high = (middle, high) if latency <= target else (low, middle)
    if not low:
        raise ValueError(
            f"no width of a network of {UNIFORM} everywhere has a latency of {target} ms or less:"
            " give larger --targets"
        )
    return low


def _words(command: MeasuredCommand, name: str, seed: int) -> list[str]:
    where = [] if command.data_dir is None else [f"--data-dir={command.data_dir}"]
    return [
        *where,
        f"--dataset=cifar10:image_size={command.image_size}",
        f"--space={NAME}",
        f"--runs={command.runs}",
        f"--name={name}",
        f"--seed={seed}",
        f"--retrain-epochs={command.epochs}",
        "--retrain-batch-size=128",
        "--retrain-learning-rate=0.1",
        "--retrain-schedule=step",
        "--drop-path=0",
        "--cutout=0",
        f"--evaluate-every={command.epochs}",
        "--one-seed=1",
        "--resume=1",
    ]


def _trained(
    command: MeasuredCommand, costs: pathlib.Path, target: float, seed: int
) -> dict[str, dict[str, Any]]:
    """Searches for a target, and trains what is found, a random network within it, and the one
    with most multiply-adds within it."""
    name = f"target-{target}-seed-{seed}"
    words = _words(command, name, seed)
    words += [f"--target={target}ms", f"--table={costs}", f"--method={command.method}"]
    if not (command.runs / name / "summary.json").exists():
        search.main([*words, "--random-cells=1"])
    phases = {"searched": "searched", "random": "random_0", "most multiply-adds": LARGEST}
    return {arm: _result(command.runs / name, phase) for arm, phase in phases.items()}


def _uniform(command: MeasuredCommand, target: float, seed: int, channels: int) -> dict[str, Any]:
    name = f"uniform-{target}-seed-{seed}"
    words = [word for word in _words(command, name, seed) if word != "--one-seed=1"]
    words += [f"--genotype={uniform(UNIFORM).to_text()}", f"--retrain-channels={channels}"]
    if not (command.runs / name / "summary.json").exists():
        retrain.main(words)
    return _result(command.runs / name, "searched")


def _result(run: pathlib.Path, phase: str) -> dict[str, Any]:
    result = json.loads((run / "phases" / f"{phase}.json").read_text())
    genotype = dnas.Genotype.from_text(result["genotype"])
    return {
        "genotype": genotype.to_text(),
        "accuracy": f"{100 * result['test_accuracy']:.2f}",
        "macs": result["macs"],
        "params": result["params"],
    }


def read(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of the CSV."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def shown(path: pathlib.Path) -> str:
    """Returns the table of a CSV: every arm at every target, and what the searched one is above
    it, by seeds."""
    found = read(path)
    lines = [
        "| target, ms | arm | accuracy, % | measured, ms | multiply-adds | searched less it, paired"
        " by seed |",
        "|---" * 6 + "|",
    ]
    for target in dict.fromkeys(row["target"] for row in found):
        ours = _column(found, target, "searched", "accuracy")
        for arm in ARMS:
            accuracies = _column(found, target, arm, "accuracy")
            latencies = sample(_column(found, target, arm, "measured"))
            macs = np.mean(_column(found, target, arm, "macs"))
            above = "" if arm == "searched" else compare(ours, accuracies, paired=True).shown()
            lines.append(
                f"| {target} | {arm} | {reported(accuracies, 'seeds')} |"
                f" {latencies.shown('.4f')} | {macs:,.0f} | {above} |"
            )
    return "\n".join(lines)


def _column(found: Sequence[dict[str, str]], target: str, arm: str, name: str) -> list[float]:
    return [float(row[name]) for row in found if (row["target"], row["arm"]) == (target, arm)]


def _figure(found: Sequence[dict[str, str]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    colors = ("#c4473a", "#9aa3ad", "#2f5d8a", "#4a8f5c")
    for arm, color in zip(ARMS, colors, strict=True):
        for target in dict.fromkeys(row["target"] for row in found):
            x = _column(found, target, arm, "measured")
            y = _column(found, target, arm, "accuracy")
            axis.scatter(x, y, s=12, color=color, alpha=0.5)
            spread = sample(y)
            axis.errorbar(
                np.mean(x), spread.mean, spread.deviation, fmt="o", color=color, label=arm
            )
    handles, labels = axis.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    axis.legend(known.values(), known, frameon=False)
    axis.set(xlabel="measured latency, ms", ylabel="test accuracy, %")
    return figure


if __name__ == "__main__":
    main(sys.argv[1:])
