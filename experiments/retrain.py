"""Trains the network of a genotype from scratch and scores it. `make retrain GENOTYPE=file` runs
it."""

import json
import pathlib
import sys

import dnas
from dnas.notation import is_layers
from experiments import phases
from experiments.command import run_command
from experiments.config import RetrainCommand
from experiments.report import write_report


def main(args: list[str]) -> None:
    """Runs the job with the settings of the command line."""
    run_command(RetrainCommand, "retrain", args, retrain, check)


def check(config: RetrainCommand) -> None:
    """Raises ValueError unless the settings name a genotype of their space."""
    if config.space in dnas.SPACES:
        dnas.check_genotype(dnas.SPACES[config.space], read_genotype(config.genotype))


def retrain(job: phases.Job) -> None:
    """Retrains the genotype of the settings and writes summary.json and report.html."""
    genotype = read_genotype(job.config.genotype)
    before = job.run.read("genotype.json")
    if before and dnas.Genotype.from_json(json.dumps(before)) != genotype:
        raise ValueError(
            f"{job.config.genotype} has changed since the run in {job.run.folder} began; give"
            " another name"
        )
    phases.write_genotype(job.run, genotype)
    trained = phases.retrain(job, "searched", "retrain", genotype)
    summary = {
        "test_accuracy": trained["test_accuracy"],
        "genotype": phases.text_of(genotype),
        "params": trained["params"],
        "macs": trained["macs"],
        "seconds": {"retrain": trained["seconds"]},
        "seed": job.config.seed,
        "dataset": job.config.dataset,
        "train_images": len(job.dataset.train_labels),
        "test_images": len(job.dataset.test_labels),
    }
    write_report(job, summary, {"searched": trained})


def read_genotype(given: str) -> dnas.Genotype:
    """Returns the genotype that a file holds, that was published under a name, or that the text is.

    Raises:
      ValueError: if it is none of these.
    """
    if given in dnas.PUBLISHED:
        return dnas.PUBLISHED[given]
    if given.lstrip().startswith(("Genotype", "|", "{")) or is_layers(given.lstrip()):
        return dnas.Genotype.from_text(given)
    if not given:
        raise ValueError(
            "no genotype was given; for instance: make retrain GENOTYPE=DARTS_V2, or"
            " GENOTYPE=runs/NAME/genotype.json"
        )
    path = pathlib.Path(given)
    if not path.is_file():
        raise ValueError(
            f"genotype {given!r} is neither a file nor published; give a file such as"
            f" runs/NAME/genotype.json, or one of: {', '.join(dnas.PUBLISHED)}"
        )
    try:
        return dnas.Genotype.from_text(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
