"""Scores the networks of a space without training them, and says how they order a benchmark. `dnas
scores` runs it."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import dnas
from dnas.app import locks, named
from dnas.app.datasets import load
from dnas.app.durable import digest_of_arrays, write_file
from dnas.app.ending import messages
from dnas.app.runs import checked_name
from dnas.app.words import read_words
from dnas.files import read_csv, read_json
from dnas.genotype import Genotype
from dnas.running.runtime import set_up_process
from dnas.scores import SCORES, make_scorer
from dnas.searchers import Architectures
from dnas.space import SearchSpace, check_inputs
from dnas.statistics import bootstrap_interval, kendall, spearman
from dnas.tabular import Benchmark, canonical_form, load_benchmark
from dnas.tabular.benchmark import text_of
from dnas.tasks.data import normalize, plain_augmentation

BESIDE = "macs"  # what every score has to beat
_RESAMPLES = 500  # of networks, for an interval
_TOP = 0.25  # part of the networks, those of the highest values


@dataclasses.dataclass(frozen=True)
class ScoresCommand:
    """Scores networks without training them, one of all that compute the same, and writes a row for
    each as soon as it is known. Run again after an interruption, it continues.

    With a benchmark it prints how each score orders the networks that are listed there, beside
    their multiply-adds.

    Example: dnas scores --space=nasbench201 --scores=naswot,synflow --dataset=cifar10:image_size=16
    """

    space: str = "nasbench201"
    """Search space by name."""
    scores: str = "naswot,synflow"
    """Names, with commas between; multiply-adds of live branches, macs, are always beside them."""
    dataset: str = "digits"
    """Data set by name, of which networks see one batch."""
    data_dir: pathlib.Path | None = None
    """Folder of the data set."""
    batch_size: int = 32
    """Images of the batch."""
    channels: int = 8
    """Channels of the first cells."""
    cells: int = 3
    """Cells of a network."""
    seed: int = 0
    """Of the choice of images, and the first of those of the weights."""
    seeds: int = 1
    """Draws of the weights, over which scores are averaged."""
    networks: int | None = None
    """How many of the networks, drawn at random; all of the benchmark, or of the space, unless
    given."""
    benchmark: pathlib.Path | None = None
    """CSV with the architectures of the space and what is known of them."""
    metric: str | None = None
    """Column of the benchmark; may be left out where there is one."""
    name: str = "scores"
    """Folder of scores.csv and settings.json."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of that folder."""


def main(args: list[str]) -> None:
    """Scores what is not scored yet, and prints how scores order a benchmark."""
    set_up_process()
    with messages("the same command continues"):
        score(read_words(ScoresCommand, args))


def score(given: ScoresCommand) -> dict[str, dict[str, float]]:
    """Returns {architecture: {score: value}} of the different networks, which are in scores.csv as
    well."""
    named.check_known("space", given.space, dnas.SPACES)
    names = [*dict.fromkeys([*given.scores.split(","), BESIDE])]
    for name in names:
        named.check_known("score", name, SCORES)
    for what in ("seeds", "batch_size", "networks"):
        number = getattr(given, what)
        if number is not None and number < 1:
            raise ValueError(f"{what} is a number of at least 1, got {number}")
    space = dnas.SPACES[given.space]
    check_inputs(space, "images")
    benchmark = metric = None
    if given.benchmark is not None:
        benchmark = load_benchmark(given.benchmark, space=space)
        metric = benchmark.metric(given.metric)
    batch, num_classes = _batch(given)
    different = _different(given, space, benchmark)
    scorer = make_scorer(
        space,
        {name: SCORES[name] for name in names},
        batch,
        seeds=range(given.seed, given.seed + given.seeds),
        channels=given.channels,
        num_cells=given.cells,
        num_classes=num_classes,
    )
    folder = given.runs / checked_name(given.name)
    with locks.held(folder):
        _check_settings(folder / "settings.json", given, names, batch)
        path = folder / "scores.csv"
        known = _read(path, names)
        left = [own[0] for own in different.values() if text_of(own[0]) not in known]
        with open(path, "a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            for genotype in tqdm(left, unit="network", disable=None):
                found = known[text_of(genotype)] = scorer(genotype)
                rows.writerow([text_of(genotype), *(found[name] for name in names)])
                file.flush()
    print(f"{len(different):,} different networks in {path}")
    if benchmark is not None and metric is not None:
        print(table(*_order(benchmark, metric, different, known), metric))
    return known


def _batch(given: ScoresCommand) -> tuple[dnas.Batch, int]:
    """One batch at random, normalised, and the number of classes."""
    dataset = load(given.dataset, given.data_dir)
    images, labels = dataset.train_images, dataset.train_labels
    if given.batch_size > len(labels):
        raise ValueError(
            f"{given.dataset} has {len(labels):,} images, fewer than batch_size={given.batch_size}"
        )
    rows = np.random.default_rng(given.seed).choice(len(labels), given.batch_size, replace=False)
    inputs = normalize(jnp.asarray(images[rows]), plain_augmentation(images))
    return dnas.Batch(inputs, jnp.asarray(labels[rows])), dataset.num_classes


_MOST = 100_000  # networks of a space that are gone through without being asked


def _different(
    given: ScoresCommand, space: SearchSpace, benchmark: Benchmark | None
) -> dict[str, list[Genotype]]:
    """{canonical form: the networks that have it}, of which the first is scored."""
    architectures, rng = Architectures(space), np.random.default_rng(given.seed)
    if benchmark is not None:
        genotypes = [*benchmark.genotypes]
    elif given.networks is None:
        if math.prod(map(len, architectures.columns)) > _MOST:
            raise ValueError(
                f"the space {space.name!r} has more than {_MOST:,} networks; say how many are"
                " scored: --networks=1000"
            )
        genotypes = [*map(architectures.genotype_of, architectures.all())]
    else:
        drawn = dict.fromkeys(architectures.sample(rng) for _ in range(2 * given.networks))
        genotypes = [*map(architectures.genotype_of, drawn)]
    found: dict[str, list[Genotype]] = {}
    for genotype in genotypes:
        found.setdefault(canonical_form(genotype), []).append(genotype)
    if given.networks is None:
        return found
    chosen = rng.permutation(len(found))[: given.networks]
    return {form: found[form] for form in (list(found)[number] for number in sorted(chosen))}


def _check_settings(
    path: pathlib.Path, given: ScoresCommand, names: Sequence[str], batch: dnas.Batch
) -> None:
    """Writes what scores depend on, or raises ValueError where the folder has others."""
    settings = {
        "space": given.space,
        "scores": list(names),
        "dataset": given.dataset,
        "channels": given.channels,
        "cells": given.cells,
        "seed": given.seed,
        "seeds": given.seeds,
        "batch": digest_of_arrays(np.asarray(batch.inputs), np.asarray(batch.targets)),
    }
    before = read_json(path.read_text(), path) if path.exists() else settings
    changed = [name for name, value in settings.items() if before.get(name) != value]
    if changed:
        raise ValueError(
            f"{path.parent} has scores with other settings ({', '.join(changed)}); give them, or"
            " another name"
        )
    write_file(path, (json.dumps(settings, indent=2) + "\n").encode())


def _read(path: pathlib.Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """What is known already. A row that was being written when the process ended is left out, in
    the file too."""
    header = ",".join(["arch", *names])
    whole, _, _ = (path.read_text() if path.exists() else header + "\n").rpartition("\n")
    write_file(path, (whole + "\n").encode())
    _, rows = read_csv(io.StringIO(whole), path, ["arch", *names])
    return {cells["arch"]: {name: float(cells[name]) for name in names} for _, cells in rows}


def _order(
    benchmark: Benchmark,
    metric: str,
    different: Mapping[str, Sequence[Genotype]],
    known: Mapping[str, Mapping[str, float]],
) -> tuple[dict[str, list[float]], list[float]]:
    """The scores {name: [N]} and the values [N], more is better, of all networks of the benchmark
    that have the form of one that is scored."""
    scores: dict[str, list[float]] = {}
    values, sign = [], -1 if benchmark.is_cost(metric) else 1
    for genotypes in different.values():
        for genotype in genotypes:
            values.append(sign * benchmark.query(genotype)[metric])
            for name, value in known[text_of(genotypes[0])].items():
                scores.setdefault(name, []).append(value)
    return scores, values


def table(scores: Mapping[str, Sequence[float]], values: Sequence[float], metric: str) -> str:
    """Returns as a Markdown table how scores order networks by their values.

    Example:
      >>> print(table({"macs": [1, 2, 3, 4]}, [10.0, 80.0, 90.0, 94.0], "top1").splitlines()[2])
      | macs | 4 | 1.000 | 1.000 (1.000 to 1.000) | nan | 94.00 |
    """
    lines = [
        f"| score | networks | tau-b with {metric} | rho (95 % interval over networks) | rho in the"
        " top quarter | value of the first |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in scores.items():
        # The corrections of BCa take as many correlations as there are networks, and change nothing
        # where these are many.
        interval = bootstrap_interval(
            own, values, statistic=spearman, resamples=_RESAMPLES, method="percentile"
        )
        top = spearman(own, values, top=_TOP) if len(values) * _TOP >= 2 else float("nan")
        first = values[int(np.argmax(own))]
        shown = f"{spearman(own, values):.3f} ({interval.shown('.3f') if interval else ''})"
        lines.append(
            f"| {name} | {len(values):,} | {kendall(own, values):.3f} | {shown} | {top:.3f} |"
            f" {first:.2f} |"
        )
    return "\n".join(lines)
