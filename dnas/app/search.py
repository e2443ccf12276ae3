"""The main job: search -> genotype -> retrain -> compare with random cells -> report. `dnas search`
runs it."""

import argparse
import contextlib
from typing import Any

import jax

import dnas
from dnas.app import exporting, phases, text
from dnas.app.command import run_command
from dnas.app.config import SearchConfig
from dnas.app.pages import write_summary
from dnas.hw_loss.measure_table import random_variables
from dnas.statistics import sample
from dnas.tabular import standings


def main(args: list[str]) -> None:
    """Runs the job with the settings of the command line: for a space whose networks read tokens
    the one on a text."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--space", default="darts")
    space = dnas.SPACES.get(first.parse_known_args(args)[0].space)
    if space is None or space.inputs == "images":
        run_command(SearchConfig, "search", args, search)
        return
    run_command(
        text.TextConfig, "text", args, search, make=text.make_job, find_layers=text.text_layers
    )


def search(job: phases.Job) -> None:
    """Runs all phases that are not done yet and writes summary.json and report.html."""
    others = unsearched(job) if job.config.retrain else {}
    found = phases.search(job, compiled=phases.Ahead(job, others).start)
    genotype = dnas.Genotype.from_text(found["genotype"])
    if not job.config.retrain:
        finish_untrained(job, found, genotype)
        return
    trained = {"searched": phases.retrain(job, "searched", "retrain searched", genotype)}
    for name, cell in others.items():
        trained[name] = phases.retrain(job, name, f"retrain {name.replace('_', ' ')}", cell)
    measure = job.final_task.measure
    drawn = [name for name in others if name != phases.LARGEST]
    scores = [trained[name][f"test_{measure}"] for name in drawn]
    random = sample(scores) if scores else None
    summary = summary_of(job, genotype, trained["searched"]) | {
        f"random_{_PLURAL[measure]}": scores,
        "random_mean": random and random.mean,
        "random_std": random and random.deviation,
        "largest": {name: trained[phases.LARGEST][name] for name in (f"test_{measure}", *_COUNTS)}
        if phases.LARGEST in trained
        else None,
        "own_seeds": not job.config.one_seed,
        "seconds": {
            "search": found["seconds"],
            "retrain": trained["searched"]["seconds"],
            "random": sum(trained[name]["seconds"] for name in drawn),
        },
        "benchmark": standing(job, genotype),
        "costs": phases.proof(job),
    }
    job.report(job.run, job.space, summary, trained)


_COUNTS = "params", "macs"
_PLURAL = {"accuracy": "accuracies", "perplexity": "perplexities"}


def summary_of(job: phases.Job, genotype: dnas.Genotype, trained: dict[str, Any]) -> dict[str, Any]:
    """Returns what a summary says of the network of a genotype: its scores and counts, and of
    which data they are."""
    counts = job.count(genotype)
    scores = {name: value for name, value in trained.items() if name.startswith("test_")}
    return {
        **scores,
        "genotype": phases.text_of(genotype),
        "skips": genotype.count("skip_connect"),
        **counts,
        "seed": job.config.seed,
        "dataset": job.config.dataset,
        **job.facts,
    }


def finish_untrained(job: phases.Job, found: dict[str, Any], genotype: dnas.Genotype) -> None:
    """Writes summary.json of a search without retraining, and prints it; an exported network has
    random weights."""
    counts = job.count(genotype)
    summary = summary_of(job, genotype, {}) | {
        "seconds": {"search": found["seconds"]},
        "benchmark": standing(job, genotype),
        "costs": phases.proof(job),
    }
    words = {"params": "parameters", "macs": "multiply-adds"}
    verdict = ", ".join(f"{number:,} {words[name]}" for name, number in counts.items())
    write_summary(job.run, summary, verdict, f"run: {job.run.folder}")
    if exporting.asked_for(job.config):
        network = phases.network_of(job, genotype)
        variables = random_variables(network.init, job.final_task.example)
        phases.keep_exports(job, network, variables)


def standing(job: phases.Job, genotype: dnas.Genotype) -> dict[str, Any] | None:
    """Returns where the genotype stands in the benchmark of the settings; without standings if it
    is not in there."""
    if job.benchmark is None:
        return None
    found = standings(job.benchmark, genotype) if genotype in job.benchmark else ()
    rows = {"standings": [row._asdict() for row in found], "text": [str(row) for row in found]}
    return {"file": job.config.benchmark.name, **rows}


def unsearched(job: phases.Job) -> dict[str, dnas.Genotype]:
    """Returns {phase: cell}, what the searched cell is compared with: random cells and, where
    there is a count of them, the one with most multiply-adds; each within the limits of the job.
    """
    cells = {f"random_{number}": cell for number, cell in enumerate(random_cells(job))}
    if cells and job.space.inputs == "images":
        with contextlib.suppress(ValueError):  # a space of one's own need not have counts
            cells[phases.LARGEST] = phases.largest(job)
    return cells


def random_cells(job: phases.Job) -> list[dnas.Genotype]:
    """Returns the random cells of the baseline, which the seed decides."""
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(job.config.seed), 2**31 + 1),
        max(job.config.random_cells, 1),
    )
    keys = keys[: job.config.random_cells]
    return [phases.within(job, dnas.random_genotype(key, job.space)) for key in keys]
