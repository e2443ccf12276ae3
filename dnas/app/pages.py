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
from dnas.statistics import REPORTED, deviations_needed, prediction_interval, reported, sample

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
    if search_rows and "arch" in search_rows[0]:
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
        f" and classifier, one image. {trained_alike(summary)} The accuracy is that of the last"
        " epoch."
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
    text += (
        f"; random architectures, trained alike: {reported(random, varied(summary), '.2%')}, best"
        f" {max(random):.2%}."
    )
    text = f"{text} {beside_random(accuracy, random, finest=1 / count, form='.2%')}"
    return f"{text}{_beside_largest(summary)}"


def _beside_largest(summary: Mapping[str, Any]) -> str:
    """What counting finds, in words; no words where it was not trained."""
    largest = summary.get("largest")
    if largest is None:
        return ""
    return (
        f" The architecture with most multiply-adds ({largest['macs']:,}), which needs no search:"
        f" {largest['test_accuracy']:.2%}; it is one training, so differences of a few images are"
        " chance."
    )


def varied(summary: Mapping[str, Any]) -> str:
    """Returns what differs between the random networks of a run."""
    return (
        "architectures and seeds of the training" if summary.get("own_seeds") else "architectures"
    )


def trained_alike(summary: Mapping[str, Any]) -> str:
    """Returns what the networks of a run share, and what is said of the random ones."""
    seeds = "a seed each" if summary.get("own_seeds") else "one seed for all"
    return (
        f"All networks are trained with the same settings, and {seeds}. Of random ones: {REPORTED}."
    )


def beside_random(
    score: float, random: Sequence[float], *, finest: float, form: str, less_is_better: bool = False
) -> str:
    """Returns whether a searched network differs from random ones by more than chance, in words.

    It does where it lies outside of the interval in which one more random network would lie with a
    probability of 95 %.

    Args:
      score: of the searched network; random: of the others. The best that there is is 1: an
        accuracy, or where less is better a perplexity.
      finest: the least difference that scores can have, such as that of one image; deviations are
        not taken for less.
    """
    found = sample(random)
    if found.deviation is None:
        return (
            "One random architecture says nothing of what chance does: give 5 or more"
            " (--random-cells=5)."
        )
    found = found._replace(deviation=max(found.deviation, finest))
    interval = prediction_interval(found)
    assert interval is not None  # there is a deviation
    text = (
        f"One more random architecture would lie within {interval.shown(form)} with a probability"
        f" of 95 % (Student's t, n = {found.n}: {deviations_needed(found.n):.2f} deviations)"
    )
    if interval.low <= score <= interval.high:
        text += ", as the searched one does: no difference can be told."
        if interval.low <= 1.0 <= interval.high:
            text += f" Even {1.0:{form}} lies within it; more random ones would make it narrower."
        return text
    is_better = (score > found.mean) != less_is_better
    return f"{text}; the searched one is {'better' if is_better else 'worse'} than that."


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
