"""The phases of a run: search a genotype, retrain one. Each resumes from its checkpoints, and is
done once."""

import contextlib
import inspect
import os
import pathlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from tqdm import tqdm

import dnas
from dnas.hw_loss import feasible_start
from dnas.running.loop import Progress, StepMemory
from dnas.space import check_inputs
from dnas.tabular import Benchmark, load_benchmark
from dnas.tasks.data import Augmentation, statistics
from experiments import build, hardware, stages
from experiments.checkpoints import Checkpoints
from experiments.config import RetrainConfig, SearchConfig
from experiments.datasets import Dataset, load
from experiments.display import Display, skip_counts, text_of
from experiments.runs import Run

_STATE_SECONDS = 300.0  # a checkpoint within an epoch is written when the last is older than this


class Job(NamedTuple):
    """What all phases of a run share."""

    config: RetrainConfig
    run: Run
    dataset: Dataset
    space: dnas.SearchSpace
    augmentation: Augmentation
    benchmark: Benchmark | None = None
    limits: tuple[hardware.Limit, ...] = ()  # on what the final network costs


def make_job(config: RetrainConfig, run_of: Callable[[], Run]) -> Job:
    """Returns the job of the settings: names become objects here. The run's folder is opened last,
    once all else is valid.

    Raises:
      ValueError: for names that do not exist, data that is not there, and sizes that do not fit,
        before any work.
    """
    if config.space not in dnas.SPACES:
        raise ValueError(
            f"space {config.space!r} is not known; choose from: {', '.join(dnas.SPACES)}"
        )
    check_inputs(dnas.SPACES[config.space], "images")
    if config.onnx:
        hardware.check_export()
    if not config.drop_path < 1:
        raise ValueError(f"drop_path is a rate below 1, got {config.drop_path}")
    space = dnas.SPACES[config.space]
    path = getattr(config, "benchmark", None)
    benchmark = path and load_benchmark(path, space=space)
    dataset = shrink(load(config.dataset, config.data_dir), config)
    size = dataset.train_images.shape[1:3]
    auxiliary = config.auxiliary > 0
    dnas.count_network(
        space,
        dnas.random_genotype(jax.random.key(0), space),
        **sizes_of(config, dataset),
        auxiliary=auxiliary,
    )
    limits: tuple[hardware.Limit, ...] = ()
    batches = {"retrain_batch_size": (config.retrain_batch_size, len(dataset.train_labels))}
    if isinstance(config, SearchConfig):
        space.layers(channels=config.channels, num_cells=config.cells, image_size=size)
        space.supernet(channels=config.channels, num_cells=config.cells, **supernet_options(config))
        images = len(dataset.train_labels)
        limits = hardware.limits_of(config, space, sizes_of(config, dataset))
        batches["batch_size"] = (
            config.batch_size,
            images if build.is_single_level(config) else images // 2,
        )
        for stage in stages.stages_of(config):
            build.parts_of(stage.config, images, limits)
            space.supernet(
                channels=stage.config.channels,
                num_cells=stage.config.cells,
                **supernet_options(stage.config),
            )
    for name, (batch_size, available) in batches.items():
        if batch_size > available:
            raise ValueError(
                f"{name} is {batch_size}, but there are {available} images for it; lower it or use"
                " more images"
            )
    mean, std = statistics(dataset.train_images)
    augmentation = Augmentation(mean, std, config.crop_padding, config.flip)
    return Job(config, run_of(), dataset, space, augmentation, benchmark, limits)


def shrink(dataset: Dataset, config: RetrainConfig) -> Dataset:
    """Returns the data set with only the first `images` and `test_images`, which are in random
    order in all data sets."""
    train, test = config.images, config.test_images
    return dataset._replace(
        train_images=dataset.train_images[:train],
        train_labels=dataset.train_labels[:train],
        test_images=dataset.test_images[:test],
        test_labels=dataset.test_labels[:test],
    )


def sizes_of(config: RetrainConfig, dataset: Dataset) -> dict[str, Any]:
    """Returns the sizes of the networks that are retrained, as `count_network` and `space.parts`
    take them."""
    return {
        "channels": config.retrain_channels,
        "num_cells": config.retrain_cells,
        "num_classes": dataset.num_classes,
        "image_size": dataset.train_images.shape[1:3],
        "image_channels": dataset.train_images.shape[-1],
    }


def search(job: Job, compiled: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Runs the search with all its stages, or reads its result if it is done: the genotype's JSON
    and the seconds it took.

    Args:
      compiled: called when the last stage has been compiled.
    """
    done = job.run.read("phases/search.json")
    if done:
        return done
    if job.config.stages == "random":
        genotype = random_cell(job, jax.random.fold_in(jax.random.key(job.config.seed), 2**31 + 2))
        genotype = _derive(job, genotype, dnas.one_hot_mix(job.space, genotype))
        write_genotype(job.run, genotype)
        result = {"genotype": genotype.to_json(), "seconds": 0.0}
        job.run.write("phases/search.json", result)
        return result
    plan = stages.stages_of(job.config)
    seconds, before = 0.0, None
    for number, stage in enumerate(plan, start=1):
        last = number == len(plan)
        # The last goes by the name that reports look for.
        phase = Phase(
            job,
            "search" if last else f"search_stage_{number}",
            f"search {number} of {len(plan)}" if len(plan) > 1 else "search",
        )
        before = _search_stage(job, phase, stage, before, compiled if last else lambda: None)
        seconds += phase.seconds()
    genotype = _derive(job, before.genotype, before.mix)
    write_genotype(job.run, genotype)
    return phase.finish({"genotype": genotype.to_json(), "seconds": seconds})


def _derive(job: Job, genotype: dnas.Genotype, mix: dnas.base.Mix) -> dnas.Genotype:
    """The genotype that meets the limits of the job; what it costs is written."""
    if not job.limits:
        return genotype
    found, rows = hardware.derive(
        job.config, job.space, genotype, mix, job.limits, sizes_of(job.config, job.dataset)
    )
    if found != genotype:
        tqdm.write(f"changed to meet the target: {text_of(found)}")
    job.run.write("phases/proof.json", rows)
    return found


def random_cell(job: Job, key: jax.Array) -> dnas.Genotype:
    """Returns a random genotype, within the limits of the job as the searched one is."""
    genotype = dnas.random_genotype(key, job.space)
    return hardware.bring_within(
        job.config, job.space, genotype, dnas.one_hot_mix(job.space, genotype), job.limits
    )


def proof(job: Job) -> list[dict[str, Any]] | None:
    """Returns target, prediction and measurement of every limit, which the search has written; None
    without limits."""
    return job.run.read("phases/proof.json")


def _search_stage(
    job: Job,
    phase: "Phase",
    stage: stages.Stage,
    before: dnas.SearchResult | None,
    compiled: Callable[[], None],
) -> dnas.SearchResult:
    config, dataset = stage.config, job.dataset

    def announce(memory: StepMemory) -> None:
        phase.announce(memory)
        compiled()

    return dnas.run_search(
        job.space,
        (dataset.train_images, dataset.train_labels),
        num_classes=dataset.num_classes,
        channels=config.channels,
        num_cells=config.cells,
        epochs=config.epochs,
        batch_size=config.batch_size,
        max_steps=config.steps,
        supernet_options=supernet_options(config),
        candidates=None if before is None or stage.candidates is None else stage.candidates(before),
        **build.parts_of(config, len(dataset.train_labels), job.limits),
        augmentation=job.augmentation,
        seed=config.seed,
        resume=lambda state: phase.resume(_begin(job, stage, state, before)),
        report=phase.report,
        announce=announce,
    )


def _begin(
    job: Job, stage: stages.Stage, state: dnas.SearchState, before: dnas.SearchResult | None
) -> dnas.SearchState:
    if before is None and hardware.keeps_bound(stage.config):
        (limit,) = job.limits
        state = state._replace(arch=feasible_start(limit.cost, limit.bound))
    return state if before is None or stage.begin is None else stage.begin(state, before)


def supernet_options(config: SearchConfig) -> dict[str, Any]:
    """Returns what the settings say of how the supernet runs.

    Raises:
      ValueError: for a setting other than the default that the supernets of the space do not have.
    """
    options = {
        "partial_channels": config.partial_channels,
        "schedule": config.schedule,
        "remat": config.remat,
        "dtype": dtype_of(config),
        "sampled": config.sampled,
    }
    taken = inspect.signature(dnas.SPACES[config.space].supernet).parameters
    if lost := [
        name
        for name in options
        if name not in taken and getattr(config, name) != getattr(SearchConfig, name)
    ]:
        raise ValueError(
            f"supernets of the space {config.space!r} have no option {', '.join(lost)}; leave"
            " it out"
        )
    return {name: value for name, value in options.items() if name in taken and value is not None}


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
        num_classes=job.dataset.num_classes,
        auxiliary=config.auxiliary > 0,
        remat=config.retrain_remat,
        dtype=dtype_of(config),
    )


def retrain(job: Job, name: str, title: str, genotype: dnas.Genotype) -> dict[str, Any]:
    """Trains the network of a genotype, or reads the result if that is done: test accuracy, counts,
    seconds."""
    config, dataset = job.config, job.dataset
    done = job.run.read(f"phases/{name}.json")
    if done:
        return done
    phase = Phase(job, name, title)
    result = _train(
        job, genotype, resume=phase.resume, report=phase.report, announce=phase.announce
    )
    counts = dnas.count_network(job.space, genotype, **sizes_of(config, dataset))
    done = phase.finish(
        {
            "genotype": genotype.to_json(),
            "test_accuracy": result.test_accuracy,
            "params": counts.params,
            "macs": counts.macs,
        }
    )
    if (
        config.onnx and name == "searched"
    ):  # once the result is written: a failure here loses nothing
        network, shape = network_of(job, genotype), dataset.train_images.shape[1:]
        keep_onnx(job.run, lambda path: hardware.write_onnx(path, network, result.variables, shape))
    return done


def _train(job: Job, genotype: dnas.Genotype, **hooks) -> dnas.RetrainResult:
    config, dataset = job.config, job.dataset
    return dnas.retrain(
        network_of(job, genotype),
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
        epochs=config.retrain_epochs,
        batch_size=config.retrain_batch_size,
        max_steps=config.retrain_steps,
        optimizer=partial(_final_optimizer, config),
        drop_path=config.drop_path,
        auxiliary_weight=config.auxiliary,
        augmentation=job.augmentation._replace(cutout=config.cutout),
        evaluate_every=config.evaluate_every,
        seed=config.seed,
        **hooks,
    )


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
        idle = cores > 1 and jax.default_backend() == "cpu" and jax.config.jax_compilation_cache_dir
        self._job, self._genotypes = job, genotypes if idle and job.config.compile_ahead else {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins, the first time that it is called."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._compile, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Returns when all is compiled."""
        self._thread.join()

    def _compile(self) -> None:
        for name, genotype in self._genotypes.items():
            if not self._job.run.read(f"phases/{name}.json"):
                with contextlib.suppress(Exception):  # whatever it is, the retraining will say it
                    _train(self._job, genotype, report=lambda progress: None, announce=_stop)


class _Compiled(Exception):
    pass


def _stop(memory: StepMemory) -> None:
    raise _Compiled


def keep_onnx(run: Run, write: Callable[[pathlib.Path], float]) -> None:
    """Writes network.onnx into the run's folder, and how far it is from the network that JAX runs,
    which `write` returns."""
    path = run.folder / "network.onnx"
    difference = write(path)
    run.write("phases/onnx.json", {"file": path.name, "largest_difference": difference})
    tqdm.write(
        f"{path}: its logits differ from JAX's by {difference:.1e} at the most, as a share of the"
        " largest"
    )


def _final_optimizer(
    config: RetrainConfig, epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    return dnas.final_sgd(
        epochs,
        steps_per_epoch,
        learning_rate=config.retrain_learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        clip=config.clip,
    )


def evaluate(job: Job, name: str) -> float:
    """Returns the test accuracy of a network that was trained in this run and is read back from its
    checkpoint."""
    done = job.run.read(f"phases/{name}.json")
    if not done:
        raise ValueError(
            f"{job.run.folder} has no trained network {name!r}; finish the run with RESUME=1 first"
        )
    config, dataset = job.config, job.dataset
    network = network_of(job, dnas.Genotype.from_text(done["genotype"]))
    variables = jax.eval_shape(
        network.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, *dataset.train_images.shape[1:]), float),
    )
    optimizer = _final_optimizer(config, config.retrain_epochs, 1)
    state = dnas.RetrainState(
        jax.ShapeDtypeStruct((), np.int32),
        jax.random.key(0),
        variables,
        jax.eval_shape(optimizer.init, variables["params"]),
    )
    checkpoints = Checkpoints(job.run.folder / "checkpoints" / name)
    if checkpoints.latest() is None:
        raise ValueError(
            f"{job.run.folder / 'checkpoints' / name} holds no checkpoint; train the network again"
        )
    score = dnas.make_evaluation(
        network, (dataset.test_images, dataset.test_labels), job.augmentation
    )
    return score(checkpoints.restore(state).variables)


class Phase:
    """Resumes a phase of a job, which has a config and a run, and keeps its checkpoints, rows and
    clock."""

    def __init__(self, job, name: str, title: str):
        self._job, self._name = job, name
        self._checkpoints = Checkpoints(job.run.folder / "checkpoints" / name)
        self._display = Display(title)
        self._started = self._saved = time.monotonic()

    def resume(self, state):
        state = self._checkpoints.restore(state)
        self._job.run.rewind(self._name, int(state.step))
        rows = self._job.run.rows(self._name)
        self._started -= rows[-1]["elapsed"] if rows else 0.0
        return state

    def report(self, progress: Progress) -> None:
        self._display(progress)
        if progress.row is not None:
            elapsed = time.monotonic() - self._started
            row = {
                "phase": self._name,
                **_as_json(progress.row),
                "seconds_per_step": progress.seconds,
                "elapsed": elapsed,
            }
            if hasattr(progress.state, "arch"):
                row["arch"] = {
                    kind: np.asarray(rows["ops"]).tolist()
                    for kind, rows in progress.state.arch.items()
                }
            self._job.run.append(row)
        # The row goes first: after a crash in between, the row is taken back and written again.
        age = time.monotonic() - self._saved
        due = age >= self._job.config.checkpoint_seconds and (
            progress.row is not None or age >= _STATE_SECONDS
        )
        if due or progress.stopped or progress.step == progress.total_steps:
            self._checkpoints.save(progress.step, progress.state)
            self._saved = time.monotonic()

    def announce(self, memory: StepMemory) -> None:
        self._display.announce(memory)

    def seconds(self) -> float:
        return time.monotonic() - self._started

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
