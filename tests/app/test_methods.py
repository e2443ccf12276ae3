"""Every published method runs from the command line to a report, and what does not fit it is
refused."""

import json

import pytest
from commanded import commanded, task_of

import dnas
from dnas import METHODS
from dnas.app import build
from dnas.app.config import PRESETS, SearchConfig, check, layers, parse, preset
from dnas.app.display import text_of
from dnas.app.search import main
from dnas.methods import stages_of


@pytest.mark.parametrize("dataset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_settings_of_a_method_fit_each_other_and_the_space(method, dataset):
    config = preset(SearchConfig, dataset, method)
    check(config)
    task, space = task_of(8 if dataset == "digits" else 32), dnas.SPACES[config.space]
    for stage in stages_of(build.method_of(config, task)):
        training = stage.method.training
        if stage.method.trials is None:
            optimizer = stage.method.optimizer(training.epochs, 11)
            assert isinstance(optimizer, dnas.BilevelOptimizer)
        dnas.supernet_of(space, task, stage.method)
        if stage.method.rule is not None:
            stage.method.rule.init(space, training.epochs)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_on_cifar10_with_its_published_settings(method):
    published, config = METHODS[method], preset(SearchConfig, "cifar10", method)
    expected = published.settings_in(dnas.SPACES[published.space])
    training = build.method_of(config, task_of(32)).training
    for name, value in expected.items():
        if hasattr(training, name) and value is not None:
            assert getattr(training, name) == value, name


def test_flags_go_before_the_data_set_and_the_data_set_before_the_method():
    flags = ["--method=pc_darts", "--dataset=digits"]
    assert commanded(*flags).options["partial_channels"] == 4
    assert commanded(*flags, "--partial-channels=2").options["partial_channels"] == 2
    published = METHODS["pc_darts"].settings_in(dnas.SPACES["darts"])["batch_size"]
    batch_size = parse(SearchConfig, flags).batch_size
    assert batch_size == PRESETS["digits"]["batch_size"] != published
    assert parse(SearchConfig, ["--method=pc_darts", "--dataset=cifar10"]).batch_size == published


def test_what_a_method_says_of_the_final_network_reaches_retraining_and_the_search_does_not():
    config = parse(SearchConfig, ["--method=pc_darts", "--dataset=cifar10", "--weight-decay=1e-2"])
    assert (config.drop_path, config.retrain_weight_decay) == (0.3, 3e-4)


def test_every_layer_of_settings_has_settings_that_exist():
    names = set(SearchConfig.__dataclass_fields__)
    for method in METHODS:
        for layer in layers(SearchConfig, method, None):
            assert set(layer.values) <= names or layer.of_method


REFUSED = {
    "method": (
        ["--method=dartz"],
        r"'dartz' is not known \(did you mean 'darts2'\?\); choose from: darts1",
    ),
    "relaxation": (["--relax=hardmax"], "'hardmax' is not known.*gumbel_hard"),
    "selection": (["--select=best"], "'best' is not known.*top_edges"),
    "trials": (["--method=trained_neighbours", "--rule=ranking"], "without gradients.*no rule"),
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
    "edge weights twice": (
        ["--method=pc_darts", "--edge-weights=1"],
        "has edge weights already",
    ),
    "one for all stages": (
        ["--method=drnas_progressive", "--partial-channels=2"],
        r"partial_channels of the method 'drnas_progressive' is one for each.*\(6, 4\)",
    ),
    "setting of another method": (["--temperature=3"], "'darts1' has no temperature; give RELAX"),
    "relaxation of a method that is one": (
        ["--method=gdas", "--relax=softmax"],
        "'gdas' is its relaxation",
    ),
    "method of other spaces": (
        ["--method=pc_darts", "--space=fbnet"],
        "'pc_darts' is not for the space 'fbnet'.*'darts'",
    ),
    "temperature of none": (
        ["--relax=softmax", "--temperature=2"],
        "does not take temperature.*init_scale",
    ),
    "keyword of a rule": (
        ["--rule=eigenvalue", "--samples=3"],
        "does not take num_samples.*window",
    ),
    "keyword without a rule": (["--interval=3"], "has no interval; give RULE too"),
    "keyword of a selection": (["--select=threshold:l=3"], "'threshold' does not take l.*value, k"),
    "no number": (["--rule=ranking:patience=long"], "patience of rule 'ranking' is a whole number"),
    "no value": (["--rule=ranking:patience"], "a keyword without a value, 'patience'"),
    "value that the rule refuses": (["--rule=ranking:patience=0"], "at least one epoch"),
    "end of no temperature": (
        ["--relax=gumbel_hard", "--temperature-end=2"],
        "give TEMPERATURE too",
    ),
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
    "proxyless": ["--cells=21", "--retrain-cells=21"],
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
    assert text_of(genotype) in printed and "random architectures, trained alike" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [name for name in METHODS if "nasbench201" in METHODS[name].settings]
)
def test_a_method_of_nasbench201_starts_there_without_a_flag_more(method, tmp_path):
    main(
        [
            "--space=nasbench201",
            f"--method={method}",
            "--steps=1",
            "--retrain=0",
            f"--runs={tmp_path}",
            "--name=run",
        ]
    )
    genotype = dnas.Genotype.from_text((tmp_path / "run" / "genotype.txt").read_text())
    dnas.check_genotype(dnas.SPACES["nasbench201"], genotype)


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
