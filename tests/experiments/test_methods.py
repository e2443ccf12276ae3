"""Every published method is a set of settings that exist, fit each other, and run from the command line to a report."""

import dataclasses
import json
import pathlib

import pytest

import dnas
from experiments import build, stages
from experiments.config import PRESETS, SearchConfig, check, parse, preset
from experiments.display import text_of
from experiments.methods import METHODS
from experiments.phases import supernet_options
from experiments.search import main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("dataset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_settings_of_a_method_fit_each_other_and_the_space(method, dataset):
    config = preset(SearchConfig, dataset, method)
    check(config)
    names = {field.name for field in dataclasses.fields(SearchConfig)}
    assert set(METHODS[method].settings) | set(METHODS[method].small) <= names
    for stage in stages.stages_of(config):
        parts = build.parts_of(stage.config, 1437)
        optimizer = parts["optimizer"](stage.config.epochs, 11)
        assert isinstance(optimizer, dnas.BilevelOptimizer)
        space = dnas.SPACES[stage.config.space]
        space.supernet(channels=stage.config.channels, num_cells=stage.config.cells, **supernet_options(stage.config))
        if parts["rule"] is not None:
            parts["rule"].init(space, stage.config.epochs)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_names_the_file_that_holds_its_idea_and_stands_in_the_table_of_the_readme(method):
    found = METHODS[method]
    assert (ROOT / found.file).is_file()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if f"METHOD={method}`" in line]
    assert len(rows) == 1 and found.file in rows[0] and found.url in rows[0]


def test_flags_go_before_the_data_set_and_the_data_set_before_the_method():
    config = parse(SearchConfig, ["--method=pc_darts", "--edge-weights=0", "--dataset=digits"])
    assert (config.partial_channels, config.edge_weights) == (4, False)
    assert config.batch_size == PRESETS["digits"]["batch_size"] != METHODS["pc_darts"].settings["batch_size"]
    assert parse(SearchConfig, ["--method=pc_darts", "--dataset=cifar10"]).batch_size == 256


REFUSED = {
    "method": (["--method=dartz"], "'dartz' is not known; choose from: darts1"),
    "relaxation": (["--relax=hardmax"], "'hardmax' is not known.*gumbel_hard"),
    "selection": (["--select=best"], "'best' is not known.*top_edges"),
    "rule": (["--rule=never"], "'never' is not known.*eigenvalue"),
    "simplex": (["--relax=simplex"], "belong together"),
    "sampled": (["--sampled=1"], "one-hot draws"),
    "one level": (["--optimizer=single_level", "--warmup=0.5"], "no arch step of its own"),
    "warmup": (["--warmup=2"], "part of the epochs"),
    "partial channels": (["--partial-channels=3"], "multiple of partial_channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_there_is_a_folder(name, tmp_path):
    flags, reason = REFUSED[name]
    with pytest.raises(SystemExit, match=reason):
        main([*flags, f"--runs={tmp_path}"])
    assert not list(tmp_path.iterdir())


SMALL = (
    "--channels=8 --cells=1 --epochs=2 --batch-size=16 --images=96 --test-images=48 --retrain-channels=4 --retrain-cells=1 "
    "--retrain-epochs=1 --retrain-steps=1 --random-cells=1 --samples=4"
).split()
OTHER = {"drnas_progressive": ["--channels=24"], "sgas": ["--epochs=9", "--interval=5"]}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_from_digits_to_an_accuracy_beside_the_random_baseline(method, tmp_path, capsys):
    main([f"--method={method}", f"--runs={tmp_path}", "--name=run", *SMALL, *OTHER.get(method, [])])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    genotype = dnas.Genotype.from_json((tmp_path / "run" / "genotype.json").read_text())
    dnas.check_genotype(dnas.SPACES[preset(SearchConfig, "digits", method).space], genotype)
    assert 0 <= summary["test_accuracy"] <= 1 and len(summary["random_accuracies"]) == 1
    printed = capsys.readouterr().out
    assert text_of(genotype) in printed and "1 random cell, trained alike" in printed
