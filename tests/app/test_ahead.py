"""What is compiled beside a search is what the retraining runs, and nothing else comes of it."""

import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

import dnas
from dnas.app import phases
from dnas.app.config import SearchConfig
from dnas.app.runs import Run

ROOT = pathlib.Path(__file__).parents[2]

SCRIPT = """
import sys
import jax
from dnas.app import images, phases
from dnas.app.config import SearchConfig, parse
from dnas.running.runtime import set_up_process
from dnas.app.runs import Run
from dnas.app.search import random_cells

set_up_process()
found = []
jax.monitoring.register_event_listener(lambda event, **rest: found.append(event))
sizes = "--images=80 --test-images=70 --retrain-channels=2 --retrain-cells=1 --retrain-epochs=1"
sizes += f" --retrain-batch-size=32 --runs={sys.argv[1]} --random-cells=1 --batch-size=16"
config = parse(SearchConfig, sizes.split())
job = images.make_job(config, lambda reads: Run(config.runs / "a"))
(cell,) = random_cells(job)
ahead = phases.Ahead(job, {"random_0": cell})
ahead.start()
ahead.wait()
assert not list(job.run.folder.rglob("*"))
before = len(found)
phases.retrain(job, "random_0", "training", cell)
print("hits", found[before:].count("/jax/compilation_cache/cache_hits"))
"""


@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="needs a second core"
)
@pytest.mark.slow
def test_a_retraining_finds_its_program_in_the_cache(tmp_path):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("hits")[-1]) >= 1


def job_of(tmp_path, **settings):
    return SimpleNamespace(config=SearchConfig(**settings), run=Run(tmp_path))


CELLS = {
    "random_0": dnas.PUBLISHED["DARTS_V1"],
    "random_1": dnas.PUBLISHED["DARTS_V2"],
    "random_2": dnas.PUBLISHED["PDARTS"],
}


def trained_by(job, monkeypatch, cores=2):
    """The cells that are trained as far as their compilation."""
    found = []

    def train(job, name, genotype, hooks):
        assert CELLS[name] == genotype
        found.append(genotype)
        if genotype == CELLS["random_1"]:
            raise ValueError("this one cannot be trained")
        hooks.announce(None)
        found.append("it goes on to train")

    monkeypatch.setattr(phases, "_train", train)
    monkeypatch.setattr(phases.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    ahead = phases.Ahead(job, CELLS)
    for _ in range(2):
        ahead.start()
    ahead.wait()
    return found


def test_every_network_that_is_not_trained_yet_is_compiled_once(tmp_path, monkeypatch):
    job = job_of(tmp_path)
    job.run.write("phases/random_0.json", {"test_accuracy": 1.0})
    assert trained_by(job, monkeypatch) == [CELLS["random_1"], CELLS["random_2"]]


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="an accelerator has nothing compiled ahead"
)
@pytest.mark.parametrize(("settings", "cores"), [({"compile_ahead": False}, 2), ({}, 1)])
def test_nothing_is_compiled_ahead_where_it_is_not_wanted_or_one_core_is_all(
    settings, cores, tmp_path, monkeypatch
):
    assert trained_by(job_of(tmp_path, **settings), monkeypatch, cores) == []


# An end in the compiler of XLA aborts a process.
ENDS_EARLY = """
import sys, threading
from types import SimpleNamespace
import jax, jax.numpy as jnp
from dnas.app import phases
from dnas.app.config import SearchConfig

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
started, compiled = threading.Event(), []

def train(job, name, genotype, hooks):
    started.set()
    def deep(x):
        for number in range(300):
            x = jnp.sin(x @ x) + number
        return x
    jax.jit(deep).lower(jnp.zeros((8, 8))).compile()
    print(name, flush=True)

phases._train, phases.os.sched_getaffinity = train, lambda _: [0, 1]
job = SimpleNamespace(config=SearchConfig(), run=SimpleNamespace(result=lambda name: None))
phases.Ahead(job, {"first": None, "second": None}).start()
started.wait()
sys.exit("error: what went wrong")
"""


def test_a_command_that_ends_early_waits_for_what_is_being_compiled_and_for_no_more(tmp_path):
    command = [sys.executable, "-c", ENDS_EARLY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "first\n")
    assert done.stderr.strip() == "error: what went wrong"
