"""Trains the network of a genotype from scratch and scores it. `dnas retrain --genotype=file` runs
it."""

import dnas
from dnas.app import phases
from dnas.app.command import run_command
from dnas.app.config import RetrainCommand
from dnas.app.given import read_genotype
from dnas.app.search import summary_of


def main(args: list[str]) -> None:
    """Runs the job with the settings of the command line."""
    run_command(RetrainCommand, "retrain", args, retrain, check)


def check(config: RetrainCommand) -> None:
    """Raises ValueError unless the settings name a genotype of their space."""
    if config.space in dnas.SPACES:
        genotype = read_genotype(config.genotype, config.space)
        dnas.check_genotype(dnas.SPACES[config.space], genotype)


def retrain(job: phases.Job) -> None:
    """Retrains the genotype of the settings and writes summary.json and report.html."""
    genotype = read_genotype(job.config.genotype, job.space.name)
    phases.write_genotype(job.run, genotype)
    trained = phases.retrain(job, "searched", "retrain", genotype)
    summary = summary_of(job, genotype, trained) | {"seconds": {"retrain": trained["seconds"]}}
    job.report(job.run, job.space, summary, {"searched": trained})
