"""Every search space runs from the command line to a report, with the published settings as
defaults."""

import json

import pytest
from commanded import task_of

import dnas
from dnas.app import build
from dnas.app.config import PRESETS, SearchConfig, check, parse, preset
from dnas.app.search import main

IMAGES = [name for name, space in dnas.SPACES.items() if space.inputs == "images"]


@pytest.mark.parametrize("dataset", PRESETS)
@pytest.mark.parametrize("space", IMAGES)
def test_defaults_of_a_space_fit_its_networks(space, dataset):
    config = preset(SearchConfig, dataset, "darts1", space)
    check(config)
    built, size = dnas.SPACES[space], 8 if dataset == "digits" else 32
    method = build.method_of(config, task_of(size))
    built.layers(channels=config.channels, num_cells=config.cells, image_size=size)
    built.layers(channels=config.retrain_channels, num_cells=config.retrain_cells, image_size=size)
    sizes = {"channels": config.channels, "num_cells": config.cells}
    dnas.supernet_of(built, task_of(size), method, **sizes)


def test_nasbench201_has_the_training_of_its_tables_and_their_order_of_steps():
    config = parse(SearchConfig, ["--space=nasbench201", "--dataset=cifar10"])
    assert (config.channels, config.cells, config.retrain_channels, config.retrain_cells) == (
        16,
        15,
        16,
        15,
    )
    assert (config.order, config.nesterov, config.weight_decay, config.batch_size) == (
        "weights_first",
        True,
        5e-4,
        64,
    )
    assert (config.retrain_epochs, config.retrain_batch_size, config.retrain_learning_rate) == (
        200,
        256,
        0.1,
    )
    assert (
        config.auxiliary,
        config.drop_path,
        config.cutout,
        config.crop_padding,
        config.flip,
    ) == (0.0, 0.0, 0, 4, True)


REFUSED = {
    "cells": (["--space=nasbench201", "--cells=4"], "multiple of 3"),
    "retrained cells": (["--space=nasbench201", "--retrain-cells=4"], "multiple of 3"),
    "auxiliary head": (["--space=nasbench201", "--auxiliary=0.4"], "no auxiliary head"),
    "sampled": (
        ["--space=nasbench201", "--method=gdas", "--schedule=waves"],
        "use schedule='edges'",
    ),
    "selection": (["--space=nasbench201", "--select=skip_budget"], "skip_connect.*'normal'"),
    "space": (["--space=nasbench301"], "nasbench201"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_a_space_is_refused(name, tmp_path):
    flags, reason = REFUSED[name]
    with pytest.raises(SystemExit, match=reason):
        main([*flags, f"--runs={tmp_path}", "--epochs=1", "--images=64", "--batch-size=16"])


def test_an_option_that_supernets_of_a_space_lack_is_refused(monkeypatch):
    plain = dnas.SPACES["s2"]._replace(supernet=lambda *, channels, num_cells, num_classes: None)
    monkeypatch.setitem(dnas.SPACES, "s2", plain)
    darts1, pc_darts = (
        preset(SearchConfig, "digits", name, "s2") for name in ("darts1", "pc_darts")
    )
    assert build.method_of(darts1, task_of()).options == {}
    with pytest.raises(ValueError, match="space 's2' have no option partial_channels"):
        build.method_of(pc_darts, task_of())


SMALL = (
    "--channels=4 --epochs=1 --steps=2 --batch-size=16 --images=96 --test-images=48"
    " --retrain-channels=4 --retrain-epochs=1 --retrain-steps=1 --retrain-batch-size=16"
    " --random-cells=1"
).split()


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "--space=nasbench201 --method=gdas",
        "--space=s1 --cells=3",
        "--space=s2",
        "--space=s3",
        "--space=s4",
    ],
)
def test_a_space_runs_from_digits_to_an_accuracy_beside_the_random_baseline(
    flags, tmp_path, capsys
):
    main([*flags.split(), f"--runs={tmp_path}", "--name=run", *SMALL])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    genotype = dnas.Genotype.from_json((tmp_path / "run" / "genotype.json").read_text())
    dnas.check_genotype(dnas.SPACES[flags.split()[0].removeprefix("--space=")], genotype)
    assert 0 <= summary["test_accuracy"] <= 1 and summary["params"] > 0
    assert "random architectures, trained alike" in capsys.readouterr().out
