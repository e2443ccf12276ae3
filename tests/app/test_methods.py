"""Every published method is a set of settings that exist, fit each other, and run from the command
line to a report."""

import dataclasses
import json
import pathlib

import pytest

import dnas
from dnas.app import build, stages
from dnas.app.config import PRESETS, SearchConfig, check, parse, preset
from dnas.app.display import text_of
from dnas.app.methods import METHODS
from dnas.app.phases import supernet_options
from dnas.app.search import main

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
        space.supernet(
            channels=stage.config.channels,
            num_cells=stage.config.cells,
            **supernet_options(stage.config),
        )
        if parts["rule"] is not None:
            parts["rule"].init(space, stage.config.epochs)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_names_the_file_that_holds_its_idea_and_stands_in_the_table_of_the_readme(method):
    found = METHODS[method]
    assert (ROOT / found.file).is_file()
    rows = [
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if f"METHOD={method}`" in line
    ]
    assert len(rows) == 1 and found.file in rows[0] and found.url in rows[0]


def test_flags_go_before_the_data_set_and_the_data_set_before_the_method():
    config = parse(SearchConfig, ["--method=pc_darts", "--edge-weights=0", "--dataset=digits"])
    assert (config.partial_channels, config.edge_weights) == (4, False)
    assert (
        config.batch_size
        == PRESETS["digits"]["batch_size"]
        != METHODS["pc_darts"].settings["batch_size"]
    )
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
    "partial channels of layers": (
        ["--space=fbnet", "--partial-channels=4"],
        "'fbnet' have no option partial_channels",
    ),
    "depth of layers": (
        ["--space=fbnet", "--cells=8"],
        "has 22 layers, and num_cells is their number",
    ),
    "auxiliary head of layers": (["--space=proxylessnas", "--auxiliary=0.4"], "no auxiliary head"),
    "keyword of a relaxation": (
        ["--relax=simplex", "--arch-optimizer=exponentiated_gradient", "--arch-init-scale=0.1"],
        "relaxation 'simplex' does not take init_scale.*takes: nothing",
    ),
    "temperature of none": (["--temperature=2"], "does not take temperature.*init_scale"),
    "keyword of a rule": (
        ["--rule=eigenvalue", "--samples=3"],
        "does not take num_samples.*window",
    ),
    "keyword without a rule": (["--interval=3"], "interval is of a rule"),
    "keyword of a selection": (["--select=threshold:l=3"], "'threshold' does not take l.*value, k"),
    "no number": (["--rule=ranking:patience=long"], "patience of rule 'ranking' is a whole number"),
    "no value": (["--rule=ranking:patience"], "a keyword without a value, 'patience'"),
    "value that the rule refuses": (["--rule=ranking:patience=0"], "at least one epoch"),
    "b1 of no Adam": (
        ["--relax=simplex", "--arch-optimizer=exponentiated_gradient", "--arch-b1=0.1"],
        "arch_optimizer 'exponentiated_gradient' does not take b1",
    ),
    "end of no temperature": (["--temperature-end=2"], "give TEMPERATURE too"),
    "cold for ever": (["--method=fbnet", "--temperature-end=0"], "falls exponentially is positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_there_is_a_folder(name, tmp_path):
    flags, reason = REFUSED[name]
    with pytest.raises(SystemExit, match=reason):
        main([*flags, f"--runs={tmp_path}"])
    assert not list(tmp_path.iterdir())


SMALL = (
    "--channels=8 --cells=1 --epochs=2 --batch-size=16 --images=96 --test-images=48"
    " --retrain-channels=4 --retrain-cells=1 --retrain-epochs=1 --retrain-steps=1 --random-cells=1"
).split()
OTHER = {
    "drnas_progressive": ["--channels=24"],
    "sgas": ["--epochs=9", "--interval=5"],
    "fbnet": ["--cells=22", "--retrain-cells=22"],
    "random_ws": ["--samples=4"],
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_from_digits_to_an_accuracy_beside_the_random_baseline(
    method, tmp_path, capsys
):
    main([f"--method={method}", f"--runs={tmp_path}", "--name=run", *SMALL, *OTHER.get(method, [])])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    genotype = dnas.Genotype.from_json((tmp_path / "run" / "genotype.json").read_text())
    dnas.check_genotype(dnas.SPACES[preset(SearchConfig, "digits", method).space], genotype)
    assert 0 <= summary["test_accuracy"] <= 1 and len(summary["random_accuracies"]) == 1
    printed = capsys.readouterr().out
    assert text_of(genotype) in printed and "1 random architecture, trained alike" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [["--space=fbnet"], ["--method=proxyless", "--space=proxylessnas", "--sampled=1"]],
    ids=str,
)
def test_a_layer_wise_space_runs_from_digits_to_a_report(flags, tmp_path):
    name = flags[-2 if "--sampled=1" in flags else -1].split("=")[1]
    space, run = dnas.SPACES[name], tmp_path / "run"
    cells = [f"--cells={space.num_cells}", f"--retrain-cells={space.num_cells}"]
    main([*flags, f"--runs={tmp_path}", "--name=run", *SMALL, *cells])
    genotype = dnas.Genotype.from_text((run / "genotype.txt").read_text())
    dnas.check_genotype(space, genotype)
    assert genotype == dnas.Genotype.from_json((run / "genotype.json").read_text())
    assert (run / "report.html").is_file() and genotype.to_text() in (
        run / "summary.json"
    ).read_text()


def test_the_temperature_of_fbnet_falls_by_its_factor_an_epoch():
    config = preset(SearchConfig, "cifar10", "fbnet")
    schedule = build._temperature(config, build.Length(config.epochs, 10))
    assert [round(float(schedule(10 * epoch)), 3) for epoch in (0, 10, 45, 89)] == [
        5.0,
        3.188,
        0.66,
        0.091,
    ]


def test_layer_wise_spaces_have_their_published_sizes_and_no_auxiliary_head():
    config = preset(SearchConfig, "cifar10", space="proxylessnas")
    assert (
        config.channels,
        config.cells,
        config.retrain_channels,
        config.retrain_cells,
        config.auxiliary,
    ) == (
        32,
        21,
        32,
        21,
        0.0,
    )
    assert preset(SearchConfig, "digits", space="fbnet").cells == 22
