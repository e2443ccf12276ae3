"""What is read of the folder of a run, whichever of its files is damaged and however."""

import dataclasses
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import FEWER, altered, edited
from law import obeys

import dnas
from dnas.app import config, past, runs
from dnas.app.command import read_config

GENOTYPE = dnas.PUBLISHED["DARTS_V2"].to_json()
TRAINED = {"genotype": GENOTYPE, "test_accuracy": 0.5, "params": 10, "macs": 10, "seconds": 1.0}
PHASES = {
    "search": {"genotype": GENOTYPE, "seconds": 1.0},
    "searched": TRAINED,
    "random_0": TRAINED,
}
WORDS = ["--dataset=digits", "--name=a", "--resume=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of runs with one that has all that is read of it, but for checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    settings = dataclasses.replace(
        config.preset(config.SearchConfig, "digits"), runs=folder, name="a"
    )
    run = runs.open_run(settings, "search")
    for name, result in PHASES.items():
        run.write(f"phases/{name}.json", result)
        for step in (1, 2, 3):
            run.append({"phase": name, "step": step, "epoch": step, "loss": 0.5, "elapsed": 1.0})
    run.write("genotype.json", GENOTYPE + "\n")
    run.write("summary.json", {"test_accuracy": 0.5, "genotype": GENOTYPE})
    return folder


def read_all(folder):
    """Goes through what a resumed run, an evaluation and a report read."""
    settings = read_config(config.SearchConfig, "search", [*WORDS, f"--runs={folder}"])
    run = runs.open_run(settings, "search")
    run.rewind("searched", 2)
    run.rows("search")
    for name in PHASES:
        run.read(f"phases/{name}.json")
    past.read_past(folder / "a")


def test_the_whole_run_is_read(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs")
    read_all(tmp_path / "runs")


@FEWER
@given(data=st.data())
def test_a_run_with_a_damaged_file(finished, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("runs") / "runs"
    shutil.copytree(finished, folder)
    files = sorted(path for path in (folder / "a").rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    damages = edited((content,))
    if path.suffix == ".json":
        damages |= altered(json.loads(content)).map(lambda tree: json.dumps(tree).encode())
    path.write_bytes(data.draw(damages))
    obeys(read_all, folder)
    shutil.rmtree(folder)
