"""The main job: search -> genotype -> retrain -> compare with random cells -> report. `make search`
runs it."""

import argparse
import statistics
import sys
from typing import Any

import jax

import dnas
from dnas.hw_loss.measure_table import random_variables
from dnas.tabular import standings
from experiments import hardware, phases, text
from experiments.command import run_command
from experiments.config import SearchConfig
from experiments.report import write_report, write_summary


def main(args: list[str]) -> None:
    """Runs the job with the settings of the command line: for a space whose networks read tokens
    the one on a text."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--space", default="darts")
    space = dnas.SPACES.get(first.parse_known_args(args)[0].space)
    if space is not None and space.inputs == "tokens":
        text.main(args)
    else:
        run_command(SearchConfig, "search", args, search)


def search(job: phases.Job) -> None:
    """Runs all phases that are not done yet and writes summary.json and report.html."""
    others = (
        {f"random_{number}": cell for number, cell in enumerate(random_cells(job))}
        if job.config.retrain
        else {}
    )
    found = phases.search(job, compiled=phases.Ahead(job, others).start)
    genotype = dnas.Genotype.from_text(found["genotype"])
    costs = phases.proof(job)
    if not job.config.retrain:
        finish_untrained(job, found, genotype, costs)
        return
    trained = phases.retrain(job, "searched", "retrain searched", genotype)
    random = [
        phases.retrain(job, name, f"retrain random {number}", cell)
        for number, (name, cell) in enumerate(others.items(), start=1)
    ]
    accuracies = [result["test_accuracy"] for result in random]
    summary = {
        "test_accuracy": trained["test_accuracy"],
        "random_accuracies": accuracies,
        "random_mean": statistics.fmean(accuracies) if accuracies else None,
        "random_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "genotype": phases.text_of(genotype),
        "skips": genotype.count("skip_connect"),
        "params": trained["params"],
        "macs": trained["macs"],
        "seconds": {
            "search": found["seconds"],
            "retrain": trained["seconds"],
            "random": sum(result["seconds"] for result in random),
        },
        "seed": job.config.seed,
        "dataset": job.config.dataset,
        "train_images": len(job.dataset.train_labels),
        "test_images": len(job.dataset.test_labels),
        "benchmark": standing(job, genotype),
        "costs": costs,
    }
    write_report(
        job,
        summary,
        {"searched": trained}
        | {f"random_{number}": result for number, result in enumerate(random)},
    )


def finish_untrained(
    job: phases.Job, found: dict[str, Any], genotype: dnas.Genotype, costs
) -> None:
    """Writes summary.json of a search without retraining, and prints it; an exported network has
    random weights."""
    counts = dnas.count_network(job.space, genotype, **phases.sizes_of(job.config, job.dataset))
    summary = {
        "genotype": phases.text_of(genotype),
        "skips": genotype.count("skip_connect"),
        "params": counts.params,
        "macs": counts.macs,
        "seconds": {"search": found["seconds"]},
        "seed": job.config.seed,
        "dataset": job.config.dataset,
        "benchmark": standing(job, genotype),
        "costs": costs,
    }
    write_summary(
        job.run,
        summary,
        f"{counts.params:,} parameters, {counts.macs:,} multiply-adds",
        f"run: {job.run.folder}",
    )
    if job.config.onnx:
        network, shape = phases.network_of(job, genotype), job.dataset.train_images.shape[1:]
        variables = random_variables(network.init, jax.numpy.zeros((1, *shape)))
        phases.keep_onnx(job.run, lambda path: hardware.write_onnx(path, network, variables, shape))


def standing(job: phases.Job, genotype: dnas.Genotype) -> dict[str, Any] | None:
    """Returns where the genotype stands in the benchmark of the settings; without standings if it
    is not in there."""
    if job.benchmark is None:
        return None
    found = standings(job.benchmark, genotype) if genotype in job.benchmark else ()
    rows = {"standings": [row._asdict() for row in found], "text": [str(row) for row in found]}
    return {"file": job.config.benchmark.name, **rows}


def random_cells(job: phases.Job) -> list[dnas.Genotype]:
    """Returns the random cells of the baseline, which the seed decides."""
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(job.config.seed), 2**31 + 1),
        max(job.config.random_cells, 1),
    )
    return [phases.random_cell(job, key) for key in keys[: job.config.random_cells]]


if __name__ == "__main__":
    main(sys.argv[1:])
