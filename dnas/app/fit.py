"""Fits a cost model, or a predictor, to measured networks and says how well it predicts others.
`dnas fit --csv=file --column=name`."""

import dataclasses
import io
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import dnas
from dnas.app.durable import write_file
from dnas.app.ending import messages
from dnas.app.words import read_words
from dnas.files import read_csv, read_text_file, shown
from dnas.genotype import Genotype
from dnas.hw_loss import CostModel, fit_cost
from dnas.predictors import PREDICTORS, pairs
from dnas.running.runtime import set_up_process
from dnas.statistics import kendall, spearman

SPEC = dnas.SPACES["nasbench201"].cells["cell"]


@dataclasses.dataclass(frozen=True)
class FitCommand:
    """Fits a cost model, or a predictor, to some rows of a file of measurements, and prints how
    well it predicts the others: a line of JSON.

    kendall is tau-b and spearman rho, mape a fraction (0.05 is 5 %), r2 one minus the part of the
    variance that is left, each on the rows that were not fitted; a predictor says how networks are
    ordered, and of mape and r2 nothing. live_macs has what multiply-adds alone say of the order,
    those of dead branches left out, without any measurement; seconds is the time of the fit.

    Example: dnas fit --csv=measured.csv.gz --column=latency_ms --samples=500
    """

    csv: pathlib.Path
    """A .csv or .csv.gz file with a header and a column arch of NAS-Bench-201 strings, one measured
    network a row."""
    column: str
    """The column to predict: a cost, or an accuracy, that is positive, in any unit."""
    predictor: Literal["cost", "forest", "gaussian_process", "ridge"] = "cost"
    """The cost model, which knows which cells are one network, or one of dnas.predictors."""
    samples: int = 500
    """How many rows, chosen at random, the model is fitted to."""
    seed: int = 0
    """Seed of that choice."""
    save: pathlib.Path | None = None
    """Write the model to this file; CostModel.from_json reads it."""


def main(args: list[str]) -> None:
    """Prints the line; exits with a message for mistakes in the settings or the file."""
    set_up_process()
    with messages():
        command = read_words(FitCommand, args)
        if command.save and not command.save.parent.is_dir():
            raise ValueError(
                f"{command.save.parent} is not a folder; make it, or give another --save=file"
            )
        if command.save and command.predictor != "cost":
            raise ValueError(
                f"--save writes a cost model, and none of predictor {command.predictor!r}; leave"
                " out one of the two"
            )
        mixes, costs = read_measurements(command.csv, command.column)
        model, scores = fit_and_score(
            mixes, costs, samples=command.samples, seed=command.seed, predictor=command.predictor
        )
        if command.save and model:
            write_file(command.save, (model.to_json() + "\n").encode())
        names = ("samples", "seed", "column", "predictor")
        print(json.dumps(scores | {name: getattr(command, name) for name in names}))


def read_measurements(path: pathlib.Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns one-hot mixes [N, E, O] and costs [N] of all rows of a file.

    Raises:
      ValueError: if the file cannot be read, lacks a column, or a row has no known cell or no
        positive cost; says which.
    """
    mixes, costs = [], []
    _, rows = read_csv(io.StringIO(read_text_file(path)), path, ["arch", column])
    for line, cells in rows:
        try:
            mixes.append(_mix_of(cells["arch"]))
            costs.append(_cost_of(cells[column], column))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    return np.array(mixes, np.float32).reshape(-1, len(SPEC.edges), len(SPEC.ops)), np.array(costs)


def _mix_of(text: str) -> np.ndarray:
    cell = Genotype.from_text(text).cells.get("cell", ())
    chosen = {(source, target): op for source, target, op in cell}
    if set(chosen) != set(SPEC.edges) or not set(chosen.values()) <= set(SPEC.ops):
        raise ValueError(
            f"arch is {shown(text)}; it needs the edges of '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'"
            " with ops among " + ", ".join(SPEC.ops)
        )
    return np.eye(len(SPEC.ops), dtype=np.float32)[
        [SPEC.ops.index(chosen[edge]) for edge in SPEC.edges]
    ]


def _cost_of(text: str, column: str) -> float:
    try:
        cost = float(text)
    except ValueError:
        cost = float("nan")
    # In float32, in which costs are fitted, others are zero or infinite.
    if not 1e-30 <= cost <= 1e30:
        raise ValueError(
            f"{column} is {shown(text)}, not a positive number from 1e-30 to 1e30; correct the row"
            " or leave it out"
        )
    return cost


def fit_and_score(
    mixes: np.ndarray, costs: np.ndarray, *, samples: int, seed: int, predictor: str = "cost"
) -> tuple[CostModel | None, dict[str, Any]]:
    """Returns the cost model fitted to rows chosen at random, None for a predictor, and scores on
    the others.

    Raises:
      ValueError: if fewer than 20 rows are to be fitted, or fewer than 2 are left to score.
    """
    if not 20 <= samples <= len(costs) - 2:
        raise ValueError(
            f"--samples is 20 to {len(costs) - 2} for {len(costs)} rows, of which two are to be"
            f" left; got {samples}"
        )
    if seed < 0:
        raise ValueError(f"--seed is 0 or more, got {seed}")
    rows = np.random.default_rng(seed).permutation(len(costs))
    fitted, rest = rows[:samples], rows[samples:]
    start = time.perf_counter()
    model = None
    if predictor == "cost":
        model = fit_cost(SPEC, mixes[fitted], costs[fitted])
        seconds = time.perf_counter() - start
        scores = score(predict(model, mixes[rest]), costs[rest])
    else:
        # The one-hot features of cells are their mixes.
        features = mixes.reshape(len(mixes), -1)
        if predictor == "ridge":
            features = pairs(features)
        fit, expect = PREDICTORS[predictor]()
        guess = fit(features[fitted], costs[fitted])
        seconds = time.perf_counter() - start
        scores = order(expect(guess, features[rest]).mean, costs[rest])
    scores["live_macs"] = order(live_macs(mixes[rest]), costs[rest])
    return model, scores | {"seconds": round(seconds, 3)}


def predict(model: CostModel, mixes: np.ndarray) -> np.ndarray:
    """Returns the costs [N] of mixes [N, E, O]."""
    return _each(model.cost, mixes)


def live_macs(mixes: np.ndarray) -> np.ndarray:
    """Returns the multiply-adds [N] of the networks of one-hot mixes [N, E, O], those of branches
    that lead nowhere left out."""
    space = dnas.SPACES["nasbench201"]
    table = dnas.hw_loss.count_table(space)
    cost = dnas.hw_loss.expected_cost(table, space.parts(), metric="macs", live="path")
    return _each(lambda mix: cost({"cell": mix}), mixes)


def _each(function: Callable[[Any], Any], mixes: np.ndarray) -> np.ndarray:
    # In parts: the first contraction with the table is larger than the mixes by far.
    return np.asarray(
        jax.jit(lambda mixes: jax.lax.map(function, mixes, batch_size=256))(jnp.asarray(mixes)),
        float,
    )


def score(predicted: np.ndarray, costs: np.ndarray) -> dict[str, Any]:
    """Returns the correlations of `order`, the mean absolute error relative to the cost, and the
    explained part of the variance.

    What is not defined, for costs or predictions that are all equal, is None.
    """
    errors = predicted - costs
    variance = np.var(costs)
    return order(predicted, costs) | {
        "mape": round(float(np.mean(np.abs(errors) / costs)), 5),
        "r2": round(float(1 - np.mean(errors**2) / variance), 5) if variance > 0 else None,
    }


def order(predicted: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """Returns Kendall's tau-b and Spearman's rho; None where they are not defined."""
    found = {"kendall": kendall(predicted, values), "spearman": spearman(predicted, values)}
    return {name: round(own, 5) if np.isfinite(own) else None for name, own in found.items()}
