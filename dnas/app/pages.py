"""The end of a run: summary.json, pictures, and a report that is one file.

All is made of what lies in the run's folder, so that `dnas report` makes it again.
"""

import base64
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

import dnas
from dnas.app.display import skips
from dnas.app.hardware import in_words
from dnas.app.plots import draw_curves, draw_logits, picture
from dnas.app.runs import Run

# Writes the report of a run in a space, from its summary and the results of its trained networks.
Report = Callable[[Run, dnas.SearchSpace, Mapping[str, Any], Mapping[str, Mapping[str, Any]]], None]


def write_report(
    run: Run,
    space: dnas.SearchSpace,
    summary: Mapping[str, Any],
    trained: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes pictures, report.html and, last of all, summary.json, which marks the run as finished;
    prints the result."""
    search_rows = run.rows("search")
    pictures = {
        "curves.png": picture(draw_curves(search_rows, {name: run.rows(name) for name in trained}))
    }
    if search_rows:
        pictures["logits.png"] = picture(draw_logits(space, search_rows))
    cells = {name: dnas.Genotype.from_text(result["genotype"]) for name, result in trained.items()}
    columns = (
        "cell",
        "test accuracy",
        "parameters",
        "multiply-adds",
        "seconds",
        "skip connections",
    )
    rows = [
        (
            name.replace("_", " "),
            f"{result['test_accuracy']:.2%}",
            f"{result['params']:,}",
            f"{result['macs']:,}",
            f"{result['seconds']:.0f}",
            skips(cells[name]),
        )
        for name, result in trained.items()
    ]
    note = (
        "Parameters: all trainable arrays without the auxiliary head. Multiply-adds: convolutions"
        " and classifier, one image. All networks are trained with the same settings and the same"
        " seed; the accuracy is that of the last epoch."
    )
    write_pages(run, summary, verdict(summary), (columns, rows, note), pictures)


def write_pages(
    run: Run,
    summary: Mapping[str, Any],
    verdict: str,
    table: tuple[Sequence[str], Sequence[Sequence[str]], str],
    pictures: dict[str, bytes],
) -> None:
    """Writes what all reports have; `table` is its columns, its rows and a note below it."""
    genotype = dnas.Genotype.from_text(summary["genotype"])
    for name, content in pictures.items():
        run.write(name, content)
    run.write("cells.svg", genotype._repr_svg_())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    html = environment.get_template("report.html.jinja").render(
        name=run.folder.name,
        summary=summary,
        verdict=verdict,
        further=further_lines(summary),
        table=table,
        cells=genotype._repr_svg_(),
        pictures={name: base64.b64encode(content).decode() for name, content in pictures.items()},
        config=run.read("config.json"),
    )
    run.write("report.html", html)
    write_summary(run, summary, verdict, f"report: {run.folder / 'report.html'}")


def write_summary(run: Run, summary: Mapping[str, Any], verdict: str, last: str) -> None:
    """Writes summary.json, which marks the run as finished, and prints the genotype, its costs and
    these lines."""
    run.write("summary.json", {"name": run.folder.name, **summary})
    print(f"\n{summary['genotype']}\n", verdict, *further_lines(summary), last, sep="\n")


def further_lines(summary: Mapping[str, Any]) -> list[str]:
    """Returns what a benchmark and targets say of the searched network, if there are any."""
    return [*tabular_lines(summary), *in_words(summary.get("costs") or ())]


def verdict(summary: Mapping[str, Any]) -> str:
    """Returns the result in words, beside the random architectures where there are some."""
    accuracy, count = summary["test_accuracy"], summary["test_images"]
    text = (
        f"test accuracy {accuracy:.2%} on {count:,} images, {summary['params']:,} parameters,"
        f" {summary['macs']:,} multiply-adds"
    )
    random = summary.get("random_accuracies")
    if not random:
        return text + "."
    spread = f" +- {summary['random_std']:.2%}" if summary["random_std"] is not None else ""
    others = f"{len(random)} random architectures" if len(random) > 1 else "1 random architecture"
    text += (
        f"; {others}, trained alike: {summary['random_mean']:.2%}{spread} (best {max(random):.2%})."
    )
    difference = accuracy - summary["random_mean"]
    if abs(difference) <= max(summary["random_std"] or 0.0, 1 / count):
        return (
            text
            + " The searched one does not differ from random ones by more than their spread, or by"
            " one image."
        )
    return (
        text + f" The searched one is {'better' if difference > 0 else 'worse'} than their mean by"
        f" {abs(difference):.2%}."
    )


def tabular_lines(summary: Mapping[str, Any]) -> list[str]:
    """Returns what the benchmark of the settings says of the searched cell, a line a metric;
    nothing without a benchmark."""
    benchmark = summary.get("benchmark")
    if benchmark is None:
        return []
    return [
        f"{benchmark['file']}:",
        *(benchmark["text"] or ["no architecture in it computes the same as the searched cell"]),
    ]
