"""The pictures of a report, with matplotlib."""

import io
import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import dnas


def picture(figure: Figure) -> bytes:
    """Returns the figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_curves(
    search_rows: list[dict[str, Any]], retrain_rows: dict[str, list[dict[str, Any]]]
) -> Figure:
    """Returns loss and accuracy of the search, and test accuracy of every retrained network, over
    the epochs."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    names = _curves_of(search_rows)
    *left, right = figure.subplots(1, len(names) + 1, squeeze=False)[0]
    for axis, (name, lines, along) in zip(left, names, strict=True):
        for key, label in lines.items():
            axis.plot(
                [row["epoch"] for row in search_rows],
                [row[key] for row in search_rows],
                label=label,
            )
        axis.set(title=f"search: {name}", xlabel=along)
        axis.legend(frameon=False)
    for name, rows in retrain_rows.items():
        scored = [row for row in rows if "test_accuracy" in row]
        x, y = [row["epoch"] for row in scored], [row["test_accuracy"] for row in scored]
        right.plot(
            x, y, marker="o" if len(x) == 1 else None, label=name.replace("_", " "), **_style(name)
        )
    right.set(title="retraining: test accuracy", xlabel="epoch")
    right.legend(frameon=False)
    return figure


def _curves_of(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, str], str]]:
    """(what, {key: label}, what it goes along) of each panel of a search."""
    if not rows:
        return []
    if "value" in rows[0]:
        return [("short trainings", {"value": "minus the loss"}, "trial")]
    halves = {"": "half that trains the weights", "valid_": "half that trains arch"}
    return [
        (name, {f"{half}{name}": label for half, label in halves.items()}, "epoch")
        for name in ("loss", "accuracy")
    ]


def _style(name: str) -> dict[str, Any]:
    """How the line of a network is drawn: the searched one before all others."""
    return {"color": "#c4473a", "zorder": 3} if name == "searched" else {"color": "#9aa3ad"}


def draw_perplexities(
    search_rows: list[dict[str, Any]], train_rows: dict[str, list[dict[str, Any]]]
) -> Figure:
    """Returns the losses of the search, and the validation perplexity of every trained network,
    over the epochs."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    *left, right = figure.subplots(1, 2 if search_rows else 1, squeeze=False)[0]
    for axis in left:
        epochs = [row["epoch"] for row in search_rows]
        for name, label in (
            ("loss", "part that trains the weights"),
            ("valid_loss", "part that trains arch"),
        ):
            axis.plot(epochs, [row[name] for row in search_rows], label=label, marker=".")
        axis.set(title="search: loss", xlabel="epoch")
        axis.legend(frameon=False)
    for name, rows in train_rows.items():
        values = [row["valid_perplexity"] for row in rows]
        right.plot(
            [row["epoch"] for row in rows],
            values,
            label=name.replace("_", " "),
            marker=".",
            **_style(name),
        )
    right.set(title="training: validation perplexity", xlabel="epoch", yscale="log")
    right.legend(frameon=False)
    return figure


def draw_logits(space: dnas.SearchSpace, rows: list[dict[str, Any]]) -> Figure:
    """Returns the logits of every edge over the epochs of the search: a panel an edge, a line an
    op."""
    kinds = list(space.cells)
    columns = max(len(space.cells[kind].edges) for kind in kinds)
    columns = min(math.ceil(columns / 2), 9)
    lines_of = {kind: math.ceil(len(space.cells[kind].edges) / columns) for kind in kinds}
    figure = Figure(
        figsize=(2.0 * columns, 1.8 * sum(max(lines, 2) for lines in lines_of.values()) + 0.6),
        layout="constrained",
    )
    parts = figure.subfigures(len(kinds), 1, squeeze=False)[:, 0]
    epochs = [row["epoch"] for row in rows]
    for part, kind in zip(parts, kinds, strict=True):
        spec = space.cells[kind]
        logits = np.array([row["arch"][kind] for row in rows])  # [epochs, E, O]
        panels = part.subplots(max(lines_of[kind], 2), columns, sharex=True, sharey=True).ravel()
        part.suptitle(kind)
        for edge, panel in enumerate(panels):
            if edge >= len(spec.edges):
                panel.set_axis_off()
                continue
            lines = panel.plot(
                epochs, logits[:, edge], linewidth=1.1, marker="o" if len(epochs) == 1 else None
            )
            panel.set_title("{} → {}".format(*spec.edges[edge]), fontsize=9)
    figure.legend(
        lines, spec.ops, loc="outside lower center", ncols=min(len(spec.ops), 8), frameon=False
    )
    return figure


def draw_pareto(found: dict[str, Any]) -> Figure:
    """Returns accuracy against cost: the searched architectures by target, their front, and random
    ones behind them."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    costs, accuracies = (
        [point[name] for point in found["random"]] for name in ("predicted", "accuracy")
    )
    axis.scatter(costs, accuracies, s=14, color="#9aa3ad", label="random architectures")
    searched = found["searched"]
    axis.scatter(
        [point["predicted"] for point in searched],
        [point["accuracy"] for point in searched],
        color="#c4473a",
        zorder=3,
        label="searched, predicted cost",
    )
    line = [searched[number] for number in found["front"]]
    axis.plot(
        [point["predicted"] for point in line],
        [point["accuracy"] for point in line],
        color="#c4473a",
        linewidth=1,
    )
    measured = [point for point in searched if "measured" in point]
    if measured:
        axis.errorbar(
            [point["measured"] for point in measured],
            [point["accuracy"] for point in measured],
            xerr=[point["spread"] for point in measured],
            fmt="o",
            mfc="none",
            color="#2f5d8a",
            zorder=3,
            label="searched, measured cost",
        )
    for point in searched:
        axis.axvline(point["bound"], color="#c4473a", alpha=0.2, linewidth=1)
    axis.set(xlabel=f"{found['metric']}, {found['unit']}", ylabel=found["accuracy"])
    axis.legend(frameon=False)
    return figure
