"""The phases of a run: search a genotype, retrain one. Each resumes from its checkpoints, and is
done once."""

import atexit
import contextlib
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import dnas
from dnas.app import build, ending, exporting, hardware
from dnas.app.checkpoints import Checkpoints
from dnas.app.config import MethodConfig
from dnas.app.display import Display, skip_counts, text_of
from dnas.app.durable import digest_of, digest_of_file
from dnas.app.given import read_genotype
from dnas.app.pages import Report
from dnas.app.runs import Run
from dnas.base import Mix
from dnas.baselines import most_macs
from dnas.hw_loss import feasible_start
from dnas.methods import stages_of
from dnas.running.loop import Hooks, Progress, StepMemory, Sums
from dnas.tabular import Benchmark, load_benchmark

_STATE_SECONDS = 300.0  # a checkpoint within an epoch is written when the last is older than this


# The network with most multiply-adds, by the name that its phase has.
LARGEST = "most_multiply-adds"
_NOWHERE = Run(pathlib.Path(os.devnull))


class Job(NamedTuple):
    """What all phases of a run share, whatever its networks read."""

    config: Any  # its settings
    space: dnas.SearchSpace
    task: dnas.Task  # what a search learns
    final_task: dnas.Task  # what final networks are trained on and judged by
    sizes: Mapping[str, Any]  # of final networks, as `space.parts` takes them
    network_options: Mapping[str, Any]  # what else `space.network` takes
    training: Mapping[str, Any]  # what else `dnas.retrain` takes
    count: Callable[[dnas.Genotype], dict[str, int]]  # parameters and, of images, multiply-adds
    # writes the network of a genotype for another runtime, and says how far it is from JAX's
    write: Callable[[pathlib.Path, exporting.Exporter, dnas.Model, Any], float]
    facts: Mapping[str, Any]  # about the data, for the summary
    reads: Mapping[str, str]  # digests of the data by what a person calls them
    report: Report
    supernet_options: Mapping[str, Any] = {}  # besides those in the settings of all searches
    benchmark: Benchmark | None = None
    limits: tuple[hardware.Limit, ...] = ()  # on what the final network costs
    run: Run = _NOWHERE  # opened once all else is checked


# Opens the run of a job, which is given digests of what the run reads besides its settings.
RunOf = Callable[[Mapping[str, str]], Run]


def check_job(job: Job, run_of: RunOf) -> Job:
    """Returns the job with its run, its limits and its benchmark, once all that the settings name
    fits each other.

    Raises:
      ValueError: for names that do not exist and sizes that do not fit, before any work.
    """
    config, space = job.config, job.space
    exporting.check_packages(config)
    batches = {"retrain_batch_size": (job.final_task, config.retrain_batch_size, 1)}
    if isinstance(config, MethodConfig):
        if config.benchmark:
            job = job._replace(benchmark=load_benchmark(config.benchmark, space=space))
        if config.genotype:
            dnas.check_genotype(space, read_genotype(config.genotype, space.name))
        job = job._replace(limits=hardware.limits_of(config, space, job.sizes))
        levels = 1 if build.is_single_level(config) else 2
        batches["batch_size"] = (job.task, config.batch_size, levels)
    for name, (task, batch_size, levels) in batches.items():
        try:
            task.feeds(config.seed, batch_size, levels)
        except ValueError as error:
            raise ValueError(f"{name} is {batch_size}: {error}") from None
    if isinstance(config, MethodConfig):
        for stage in stages_of(method_of(job)):
            dnas.supernet_of(space, job.task, stage.method)
    return job._replace(run=run_of(_reads(job)))


def _reads(job: Job) -> dict[str, str]:
    """Digests of what the run reads besides its settings: what files hold that settings name, and
    what the space is, whose name says little of one's own."""
    space = job.space
    try:
        parts = [str(part) for part in space.parts(**job.sizes).distinct()]
    except ValueError:
        parts = []  # of one's own space, which need not say it
    described = [repr(dict(space.cells)), repr(space.choices), *parts]
    found = {**job.reads, "space": digest_of(described)}
    if genotype := getattr(job.config, "genotype", ""):
        found["genotype"] = digest_of(read_genotype(genotype, space.name).to_json())
    tables = [limit.table for limit in job.limits if limit.table is not None]
    if tables:
        found["table"] = digest_of([repr(table) for table in tables])
    return found


def method_of(job: Job) -> dnas.Method:
    """Returns the method of the job's search."""
    return build.method_of(job.config, job.task, job.limits, job.supernet_options)


def search(job: Job, compiled: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Runs the search with all its stages, or reads its result if it is done or given: the
    genotype's JSON and the seconds it took.

    Args:
      compiled: called when the last stage has been compiled.
    """
    done = job.run.result("phases/search.json")
    if done and (proof(job) or not job.limits):
        # These have no digests: they are for people and other programs.
        write_genotype(job.run, dnas.Genotype.from_text(done["genotype"]))
        return done
    if job.config.genotype:
        return _write_search(job, read_genotype(job.config.genotype, job.space.name))
    method = method_of(job)
    names = _stage_names(len(stages_of(method)))
    phases = [Phase(job, *name) for name in names]

    def hooks(number: int) -> Hooks:
        phase = phases[number]
        phase.start()
        last = number == len(phases) - 1

        def announce(memory: StepMemory) -> None:
            phase.announce(memory)
            if last:
                compiled()

        def resume(state: dnas.SearchState) -> dnas.SearchState:
            return phase.resume(_within_bound(job, state) if number == 0 else state)

        return Hooks(resume=resume, report=phase.report, announce=announce, sums=phase.sums)

    result = dnas.run_search(
        job.space,
        job.task,
        method,
        max_steps=job.config.steps,
        seed=job.config.seed,
        hooks=hooks,
    )
    seconds = sum(phase.seconds() for phase in phases)
    return _write_search(job, _derive(job, result.genotype, result.mix), seconds)


def _stage_names(number: int) -> list[tuple[str, str]]:
    """(name, title) of each stage. The last goes by the name that reports look for."""
    if number == 1:
        return [("search", "search")]
    names = [f"search_stage_{stage}" for stage in range(1, number)] + ["search"]
    return [(name, f"search {stage} of {number}") for stage, name in enumerate(names, start=1)]


def _within_bound(job: Job, state: dnas.SearchState) -> dnas.SearchState:
    """The first state, from arch within the bound that the arch optimiser keeps."""
    if not hardware.keeps_bound(job.config):
        return state
    (limit,) = job.limits
    return state._replace(arch=feasible_start(limit.cost, limit.bound))


def _write_search(job: Job, genotype: dnas.Genotype, seconds: float = 0.0) -> dict[str, Any]:
    write_genotype(job.run, genotype)
    result = {"genotype": genotype.to_json(), "seconds": seconds}
    job.run.write("phases/search.json", result)
    return result


def _derive(job: Job, genotype: dnas.Genotype, mix: Mix) -> dnas.Genotype:
    """The genotype that meets the limits of the job; what it costs is written."""
    if not job.limits:
        return genotype
    found, rows = hardware.derive(job.config, job.space, genotype, mix, job.limits, job.sizes)
    if found != genotype:
        tqdm.write(f"changed to meet the target: {text_of(found)}")
    job.run.write("phases/proof.json", {"limits": rows})
    return found


def largest(job: Job) -> dnas.Genotype:
    """Returns the genotype with most multiply-adds within the limits of the job."""
    try:
        return most_macs(job.space, hardware.bounds(job.limits))
    except ValueError:  # each limit can be met, but not all at once
        return within(job, most_macs(job.space))


def within(job: Job, genotype: dnas.Genotype) -> dnas.Genotype:
    """Returns a genotype that was not searched, brought within the limits of the job as the
    searched one is."""
    return hardware.bring_within(
        job.config, job.space, genotype, dnas.one_hot_mix(job.space, genotype), job.limits
    )


def proof(job: Job) -> list[dict[str, Any]] | None:
    """Returns target, prediction and measurement of every limit, which the search has written; None
    without limits."""
    found = job.run.result("phases/proof.json")
    return None if found is None else found["limits"]


def dtype_of(config) -> str | None:
    """Returns the type that networks compute in; None where it is that of their weights."""
    return None if config.dtype == "float32" else config.dtype


def write_genotype(run: Run, genotype: dnas.Genotype) -> None:
    """Writes the genotype as JSON and as text."""
    run.write("genotype.json", genotype.to_json() + "\n")
    run.write("genotype.txt", text_of(genotype) + "\n")


def network_of(job: Job, genotype: dnas.Genotype) -> dnas.Model:
    """Returns the final network of a genotype at the size of the settings."""
    config = job.config
    return job.space.network(
        genotype,
        channels=config.retrain_channels,
        num_cells=config.retrain_cells,
        num_classes=job.final_task.num_classes,
        **job.network_options,
    )


def retrain(job: Job, name: str, title: str, genotype: dnas.Genotype) -> dict[str, Any]:
    """Trains the network of a genotype, or reads the result if that is done: scores, counts,
    seconds."""
    done = job.run.result(f"phases/{name}.json")
    exports = exporting.asked_for(job.config) if name == "searched" else {}
    if done and all(_is_exported(job.run, export) for export in exports):
        return done
    phase = Phase(job, name, title)
    hooks = Hooks(phase.resume, phase.report, phase.announce, phase.sums)
    result = _train(job, name, genotype, hooks)
    if not done:
        counts = job.count(genotype)
        done = phase.finish({"genotype": genotype.to_json(), **result.scores, **counts})
    # Once the result is written: a failure here loses nothing.
    if exports:
        keep_exports(job, network_of(job, genotype), result.variables)
    return done


def _train(job: Job, name: str, genotype: dnas.Genotype, hooks: Hooks) -> dnas.RetrainResult:
    config = job.config
    return dnas.retrain(
        network_of(job, genotype),
        job.final_task,
        epochs=config.retrain_epochs,
        batch_size=config.retrain_batch_size,
        max_steps=config.retrain_steps,
        seed=training_seed(config, name),
        hooks=hooks,
        **job.training,
    )


def training_seed(config: Any, name: str) -> int:
    """Returns the seed that the network "searched", "random_0", ... of a run is trained with: that
    of the settings, but for random ones another each unless the settings say `one_seed`."""
    if not name.startswith("random_") or config.one_seed:
        return config.seed
    number = int(name.removeprefix("random_"))
    return int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0] >> 1)


class Ahead:
    """Compiles what the given retrainings will run, in a thread beside whatever runs now, into the
    compilation cache.

    Small networks hardly use a second core, and a run on few images is mostly compilation. Nothing
    is trained, and no result depends on it: a retraining finds its program there, or compiles it.
    """

    def __init__(self, job: Job, genotypes: dict[str, dnas.Genotype]):
        cores = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        options: Any = jax.config  # which are no attributes that a type checker sees
        idle = cores > 1 and jax.default_backend() == "cpu" and options.jax_compilation_cache_dir
        self._job, self._genotypes = job, genotypes if idle and job.config.compile_ahead else {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Begins, the first time that it is called."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._compile, daemon=True)
            self._thread.start()
            # A thread that the end of the process finds in the compiler aborts it.
            atexit.register(self.stop)

    def wait(self) -> None:
        """Returns when all is compiled."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Returns when what is being compiled is, and begins no more."""
        self._stopped = True
        self.wait()

    def _compile(self) -> None:
        for name, genotype in self._genotypes.items():
            if not self._stopped and not self._job.run.result(f"phases/{name}.json"):
                with contextlib.suppress(Exception):  # whatever it is, the retraining will say it
                    _train(self._job, name, genotype, dnas.QUIET._replace(announce=_stop))


class _Compiled(Exception):
    pass


def _stop(memory: StepMemory) -> None:
    raise _Compiled


def keep_exports(job: Job, network: dnas.Model, variables: Any) -> None:
    """Writes a network into the run's folder for every runtime that the settings name, and how far
    each file is from what JAX computes."""
    for name, exporter in exporting.asked_for(job.config).items():
        path = job.run.folder / exporter.file
        difference = job.write(path, exporter, network, variables)
        written = {"file": path.name, "largest_difference": difference}
        job.run.write(f"phases/{name}.json", written | {"digest": digest_of_file(path)})
        tqdm.write(
            f"{path}: its logits differ from JAX's by {difference:.1e} at the most, as a share of"
            " the largest"
        )


def _is_exported(run: Run, name: str) -> bool:
    """Whether the file for another runtime is there as it was written."""
    written = run.result(f"phases/{name}.json")
    if written is None:
        return False
    path = run.folder / written["file"]
    return path.is_file() and digest_of_file(path) == written["digest"]


def evaluate(job: Job, name: str) -> dict[str, float]:
    """Returns the scores of a network that was trained in this run and is read back from its
    checkpoint."""
    done = job.run.read(f"phases/{name}.json")
    if not done:
        raise ValueError(
            f"{job.run.folder} has no trained network {name!r}; finish the run with --resume first"
        )

    def restore(state: dnas.RetrainState) -> dnas.RetrainState:
        found = _checkpoints(job.run, name).restore(state)
        if found is None:
            raise ValueError(
                f"{job.run.folder / 'checkpoints' / name} holds no checkpoint that is whole; train"
                " the network again"
            )
        return found[0]

    hooks = dnas.QUIET._replace(resume=restore)
    return _train(job, name, dnas.Genotype.from_text(done["genotype"]), hooks).scores


def _checkpoints(run: Run, phase: str) -> Checkpoints:
    return Checkpoints(run.folder / "checkpoints" / phase, run.identity() | {"phase": phase})


class Phase:
    """Resumes a phase of a job, which has a config and a run, and keeps its checkpoints, rows and
    clock."""

    def __init__(self, job, name: str, title: str):
        self._job, self._name = job, name
        self._checkpoints = _checkpoints(job.run, name)
        self._display = Display(title)
        self._started = self._saved = time.monotonic()
        self._ended: float | None = None
        self._rows = 0
        self._sums = Sums()

    def start(self) -> None:
        """Starts the clock anew."""
        self._started = self._saved = time.monotonic()

    def resume(self, state):
        """Returns the state of the newest checkpoint, or the given one where there is none."""
        found = self._checkpoints.restore(state)
        notes: dict[str, Any] = {"rows": 0, "elapsed": 0.0, "sums": Sums()}
        if found is not None:
            state, notes = found
        self._rows = self._job.run.rewind(self._name, int(state.step))
        if self._rows != notes["rows"]:
            tqdm.write(
                f"warning: metrics.jsonl has {self._rows} of {notes['rows']} rows of {self._name};"
                " the result is not changed by that, curves are",
                file=sys.stderr,
            )
        self._started -= notes["elapsed"]
        self._sums = Sums(*notes["sums"])
        return state

    def sums(self) -> Sums:
        """Returns what belongs to the state that `resume` returned."""
        return self._sums

    def report(self, progress: Progress) -> None:
        self._job.run.check_there()
        self._display(progress)
        if progress.row is not None:
            self._append(progress)
        # The row goes first: after a crash in between, the row is taken back and written again.
        age = time.monotonic() - self._saved
        due = age >= self._job.config.checkpoint_seconds and (
            progress.row is not None or age >= _STATE_SECONDS
        )
        last = progress.stopped or progress.step == progress.total_steps
        asked = ending.ask_after(saves=not last)
        if due or last or asked:
            self._save(progress)
        if last:
            self._ended = time.monotonic()
        if asked:
            ending.end(f"saved at step {progress.step:,} of {self._name}")

    def _append(self, progress: Progress) -> None:
        assert progress.row is not None
        row = {
            "phase": self._name,
            **_as_json(progress.row),
            "seconds_per_step": progress.seconds,
            "elapsed": time.monotonic() - self._started,
        }
        if hasattr(progress.state, "arch"):
            row["arch"] = {
                kind: np.asarray(rows["ops"]).tolist() for kind, rows in progress.state.arch.items()
            }
        self._job.run.append(row)
        self._rows += 1

    def _save(self, progress: Progress) -> None:
        notes = {
            "rows": self._rows,
            "elapsed": time.monotonic() - self._started,
            "sums": [progress.sums.steps, dict(progress.sums.totals)],
        }
        self._checkpoints.save(progress.step, progress.state, notes)
        self._saved = time.monotonic()

    def announce(self, memory: StepMemory) -> None:
        self._display.announce(memory)

    def seconds(self) -> float:
        """From the start to the last step, or to now if there are more."""
        return (self._ended or time.monotonic()) - self._started

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        result.setdefault("seconds", self.seconds())
        self._job.run.write(f"phases/{self._name}.json", result)
        return result


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    row = dict(row)
    if "genotype" in row:
        row["skips"] = skip_counts(row["genotype"])
        row["genotype"] = row["genotype"].to_json()
    if "mix" in row:
        row["mix"] = {kind: rows.tolist() for kind, rows in row["mix"].items()}
    return row
