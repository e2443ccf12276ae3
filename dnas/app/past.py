"""What lies in the folder of a run, whatever command it was of."""

import itertools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from dnas.app import images, pages, phases, text
from dnas.app.config import RetrainCommand, RunConfig, SearchConfig
from dnas.app.runs import Run


class Kind(NamedTuple):
    """What the runs of a command have in common."""

    settings: type[RunConfig]
    make_job: Callable[[Any, phases.RunOf], phases.Job]
    write_report: pages.Report


_SEARCH = Kind(SearchConfig, images.make_job, pages.write_report)
KINDS = {
    "search": _SEARCH,
    "retrain": _SEARCH._replace(settings=RetrainCommand),
    "text": Kind(text.TextConfig, text.make_job, text.write_report),
    "pareto": _SEARCH,
    "study": _SEARCH,
    "suite": _SEARCH,
}


class Past(NamedTuple):
    """A run that has trained networks."""

    run: Run
    kind: Kind
    config: dict[str, Any]  # config.json
    trained: dict[str, dict[str, Any]]  # results by name of the network, the searched one first


def read_past(folder: pathlib.Path) -> Past:
    """Returns what lies in the folder.

    Raises:
      ValueError: if it is not that of a run, or the run has trained no network.
    """
    run = Run(folder)
    config = run.read("config.json")
    if config is None:
        raise ValueError(f"{folder} is not the folder of a run: it has no config.json")
    trained = {}
    for name in itertools.chain(["searched"], (f"random_{number}" for number in itertools.count())):
        result = run.read(f"phases/{name}.json")
        if result is None:
            break
        trained[name] = result
    if trained and (largest := run.read(f"phases/{phases.LARGEST}.json")) is not None:
        trained[phases.LARGEST] = largest
    if not trained:
        raise ValueError(
            f"the run in {folder} has trained no network; if it was interrupted, --resume goes on"
        )
    return Past(run, KINDS[config["command"]], config, trained)
