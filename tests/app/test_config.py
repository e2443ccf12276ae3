import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import dnas
from dnas.app import config as settings
from dnas.app.config import PRESETS, RetrainCommand, SearchConfig, check, parse, preset
from dnas.app.datasets import DATASETS

ROOT = pathlib.Path(__file__).parents[2]


def test_every_data_set_has_settings_and_every_setting_exists():
    assert PRESETS.keys() <= DATASETS.keys()
    names = {field.name for field in dataclasses.fields(SearchConfig)}
    assert all(set(changes) <= names for changes in PRESETS.values())


def test_the_defaults_for_cifar10_are_those_of_the_paper():
    published = preset(SearchConfig, "cifar10")
    assert (published.channels, published.cells, published.epochs, published.batch_size) == (
        16,
        8,
        50,
        64,
    )
    assert (published.learning_rate, published.min_learning_rate, published.weight_decay) == (
        0.025,
        0.001,
        3e-4,
    )
    assert (published.arch_learning_rate, published.clip) == (3e-4, 5.0)
    assert (published.arch_weight_decay, published.arch_b1) == (1e-3, 0.5)
    assert (published.retrain_channels, published.retrain_cells, published.retrain_epochs) == (
        36,
        20,
        600,
    )
    assert (
        published.retrain_batch_size,
        published.auxiliary,
        published.drop_path,
        published.cutout,
    ) == (
        96,
        0.4,
        0.2,
        16,
    )


def test_flags_change_the_defaults_of_the_data_set():
    config = parse(SearchConfig, ["--dataset=cifar10", "--epochs", "3"])
    assert config == dataclasses.replace(preset(SearchConfig, "cifar10"), epochs=3)
    assert parse(SearchConfig, []) == preset(SearchConfig, "digits")


@pytest.mark.parametrize(
    "given", [["--resume"], ["--resume=1"], ["--resume", "True"], ["--resume", "yes", "--seed=0"]]
)
def test_yes_or_no_settings_may_be_bare_flags_or_have_a_value(given):
    assert parse(SearchConfig, given).resume
    assert not parse(SearchConfig, ["--resume=0"]).resume


def test_an_unknown_data_set_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="'mnist'.*digits, cifar10, cifar100"):
        parse(SearchConfig, ["--dataset=mnist"])


def test_help_explains_every_setting(capsys):
    for kind in (SearchConfig, RetrainCommand):
        with pytest.raises(SystemExit):
            parse(kind, ["--help"])
        shown = capsys.readouterr().out
        for field in dataclasses.fields(kind):
            assert "--" + field.name.replace("_", "-") in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"batch_size": -1},
        {"random_cells": -1},
        {"weight_decay": -0.1},
        {"steps": 0},
        {"seed": -1},
    ],
)
def test_numbers_that_no_run_can_have_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        check(dataclasses.replace(SearchConfig(), **wrong))


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="learning_rate"):
        check(dataclasses.replace(SearchConfig(), learning_rate=float("nan")))


def test_resume_and_overwrite_exclude_each_other():
    with pytest.raises(ValueError, match="one of them"):
        check(dataclasses.replace(SearchConfig(), resume=True, overwrite=True))


def test_whole_number_settings_are_checked():
    """Every int setting is either refused below 1 or named in the list of those that may be 0."""
    for field in dataclasses.fields(SearchConfig):
        if field.type in (int, int | None):
            lowest = 0 if field.name in settings._FROM_ZERO else 1
            check(dataclasses.replace(SearchConfig(), **{field.name: lowest}))
            with pytest.raises(ValueError, match=field.name):
                check(dataclasses.replace(SearchConfig(), **{field.name: lowest - 1}))


def run_make(*words: str) -> str:
    """What make prints, whatever make or settings this test itself was started with."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MAKE") and name != "MFLAGS"
    }
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_turns_variables_into_flags():
    printed = run_make(
        "-n",
        "BIN=",
        "search",
        "DATASET=cifar10",
        "DATA_DIR=/some where",
        "RETRAIN_EPOCHS=3",
        "RESUME=1",
    )
    for flag in (
        "--dataset='cifar10'",
        "--data-dir='/some where'",
        "--retrain-epochs='3'",
        "--resume='1'",
    ):
        assert flag in printed
    assert "--bin" not in printed and "pip" not in printed


TYPED = ["cost$5", "$(shell touch {})", "$(BIN)", "it's [a] b", "`touch {}`", "a; touch {}", "~/x"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("name", ["NAME", "TABLE", "RUNTIME", "LITERT", "ONNX", "HELP"])
@pytest.mark.parametrize("typed", TYPED)
def test_make_hands_on_what_was_typed(typed, name, tmp_path):
    touched = tmp_path / "touched"
    typed = typed.format(touched)
    # A program that prints the words it is given, in a folder whose name has a blank.
    program = tmp_path / "my programs" / "dnas"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    printed = run_make("-s", f"BIN={program.parent}/", "search", f"{name}={typed}")
    expected = "--help" if name == "HELP" else f"--{name.lower()}={typed}"
    assert expected in printed.splitlines() and not touched.exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("given", "message"), [("VENV=a b", "no blanks"), ("NAME=a\nb", "holds a line break")]
)
def test_make_refuses_what_it_cannot_have(given, message):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run_make("-n", "search", "BIN=", given)
    assert message in refused.value.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_what_the_makefile_sets_itself_becomes_no_flag():
    text = (ROOT / "Makefile").read_text()
    own = set(re.findall(r"^([A-Z_]+) *[:?]?=", text, re.MULTILINE)) - {"SHELL", "GIVEN", "FLAGS"}
    assert {"BIN", "VENV", "PYTHON", "PARALLEL", "OWN"} <= own
    printed = run_make("-n", "search", "BIN=", "PYTEST=x", *(f"{name}=" for name in own - {"OWN"}))
    assert printed.split() == ["dnas", "search"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_prints_its_targets():
    printed = run_make("BIN=")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in set(targets.split()) - {"test-slow-ci"}:
        assert f"  make {target} " in printed


def test_explain_says_where_each_setting_comes_from(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("learning_rate = 0.3\nclip = 2.0\n")
    words = ["--dataset=digits", "--method=pc_darts", f"--file={file}", "--clip=4"]
    found = {row.name: row for row in settings.explained(SearchConfig, words)}
    assert set(found) >= {field.name for field in dataclasses.fields(SearchConfig)}
    expected = {
        "method": ("pc_darts", "the command line"),
        "clip": ("4.0", "the command line"),
        "learning_rate": ("0.3", "the file"),
        "epochs": ("20", "the data set digits"),
        "partial_channels": ("4", "PC-DARTS"),
        "min_learning_rate": ("0.0", "PC-DARTS"),
        "momentum": ("0.9", "DARTS"),
        "cells": ("3", "the data set digits"),
        "retrain_weight_decay": ("0.0003", "dnas"),
        "seed": ("0", "dnas"),
        "space": ("darts", "PC-DARTS"),
    }
    assert {name: (found[name].value, found[name].origin) for name in expected} == expected
    assert parse(SearchConfig, words).learning_rate == 0.3


@pytest.mark.parametrize("method", sorted(dnas.METHODS))
def test_a_scaled_pace_moves_arch_as_far_as_the_published_search(method):
    own = dnas.METHODS[method].settings_in(dnas.SPACES[dnas.METHODS[method].space])
    words = ["--dataset=cifar10", f"--method={method}", "--arch-pace=scaled"]
    assert parse(SearchConfig, words).arch_learning_rate == own["arch_learning_rate"]
    short = parse(SearchConfig, [*words, "--epochs=10"])
    far = own["arch_learning_rate"] * max(own["epochs"], 1)
    assert short.arch_learning_rate * 10 == pytest.approx(far)
    given = parse(SearchConfig, [*words, "--epochs=10", "--arch-learning-rate=0.5"])
    assert given.arch_learning_rate == 0.5


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read.*name = value"):
        parse(SearchConfig, [f"--file={tmp_path / 'none.toml'}"])


def test_a_file_of_settings_is_read_alike_whatever_wrote_it(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes("clip = 2.0\r\nname = 'µ'\r\n".encode("utf-8-sig"))
    config = parse(SearchConfig, [f"--file={file}"])
    assert (config.clip, config.name) == (2.0, "µ")


WRONG_FILES = {
    "of another kind": (b"clip", "cannot be read.*name = value"),
    "of PowerShell": ("clip = 2.0".encode("utf-16"), "save it as UTF-8.*name = value"),
    "a table": (b"[search]\nclip = 2.0", "'search' is {'clip': 2.0}, not a number"),
    "a list": (b"clip = [1, 2]", r"'clip' is \[1, 2\], not a number"),
    "nested": (b"clip = " + b"[" * 15_000, "cannot be read"),
    "digits": (b"clip = " + b"1" * 15_000, "cannot be read"),
    "a key of parts without end": (b"a." * 8_000 + b"c = 1", "'a' is {'a': {'a': {"),
    "large": (b"#" * 10**6, "holds more than 16,384 bytes"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_file_that_holds_no_settings_is_refused_by_its_name(name, tmp_path):
    content, reason = WRONG_FILES[name]
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ValueError, match=f"mine.toml.*{reason}"):
        parse(SearchConfig, [f"--file={tmp_path / 'mine.toml'}"])


# DARTS with cnn/train_imagenet.py of its release; search/imagenet_run_exp.py of ProxylessNAS.
IMAGENET = {
    "darts": {
        "retrain_channels": 48,
        "retrain_cells": 14,
        "retrain_epochs": 250,
        "retrain_batch_size": 128,
        "retrain_learning_rate": 0.1,
        "retrain_schedule": "exponential",
        "retrain_momentum": 0.9,
        "retrain_nesterov": False,
        "retrain_weight_decay": 3e-5,
        "retrain_clip": 5.0,
        "drop_path": 0.0,
        "auxiliary": 0.4,
        "cutout": 0,
        "crop_padding": 0,
        "flip": True,
        "augment": "imagenet",
        "label_smoothing": 0.1,
        "stem": "imagenet",
    },
    "proxylessnas": {
        "retrain_channels": 32,
        "retrain_epochs": 300,
        "retrain_batch_size": 256,
        "retrain_learning_rate": 0.05,
        "retrain_schedule": "step",
        "retrain_momentum": 0.9,
        "retrain_nesterov": True,
        "retrain_weight_decay": 4e-5,
        "retrain_clip": None,
        "drop_path": 0.0,
        "auxiliary": 0.0,
        "cutout": 0,
        "crop_padding": 0,
        "flip": True,
        "augment": "imagenet:hue=0.1",
        "label_smoothing": 0.1,
        "stem": "imagenet",
    },
}


@pytest.mark.parametrize(
    "space, method", [("darts", "darts1"), ("darts", "pc_darts"), ("proxylessnas", "random")]
)
def test_the_recipe_of_imagenet_is_the_published_one_whatever_the_method(space, method):
    words = ["--dataset=cifar10", f"--space={space}", f"--method={method}", "--recipe=imagenet"]
    config = parse(SearchConfig, words)
    assert {name: getattr(config, name) for name in IMAGENET[space]} == IMAGENET[space]
    found = {row.name: row.origin for row in settings.explained(SearchConfig, words)}
    assert found["label_smoothing"] == found["retrain_epochs"] == "the recipe imagenet"
    assert found["recipe"] == "the command line"


def test_what_is_given_and_a_small_data_set_come_before_the_recipe():
    words = ["--dataset=digits", "--recipe=imagenet", "--label-smoothing=0.2"]
    config = parse(RetrainCommand, words)
    assert (config.retrain_epochs, config.label_smoothing) == (20, 0.2)
    assert config.retrain_schedule == "exponential"


def test_a_recipe_that_does_not_exist_or_not_there_is_refused():
    with pytest.raises(ValueError, match="'mine' is not known; choose from: none, imagenet"):
        parse(SearchConfig, ["--recipe=mine"])
    with pytest.raises(ValueError, match="space nasbench201.*choose a space of: darts, proxyless"):
        parse(SearchConfig, ["--recipe=imagenet", "--space=nasbench201"])


def test_explain_says_that_nobody_has_given_a_method():
    found = {row.name: row for row in settings.explained(SearchConfig, [])}
    assert found["method"][1:] == ("darts1", "dnas")


def test_explain_knows_what_follows_the_name_of_a_method_and_shows_no_objects():
    words = ["--dataset=digits", "--method=pc_darts:learn_edges=False"]
    found = {row.name: row for row in settings.explained(SearchConfig, words)}
    assert found["learn_edges"][1:] == ("False", "the command line")
    assert not any("object at" in row.value or "function" in row.value for row in found.values())


def test_what_is_counted_in_pixels_follows_the_size_of_the_images():
    words = ["--dataset=cifar10:image_size=16", "--method=darts1"]
    config = parse(SearchConfig, words)
    assert (config.crop_padding, config.cutout) == (2, 8)
    assert parse(SearchConfig, [*words, "--space=nasbench201"]).cutout == 0
    assert parse(SearchConfig, [*words, "--crop-padding=3"]).crop_padding == 3
    whole = parse(SearchConfig, ["--dataset=cifar10"])
    assert (whole.crop_padding, whole.cutout) == (4, 16)


def test_a_word_of_thousands_of_characters_is_cut_short_in_messages():
    with pytest.raises(ValueError, match="data set .* is not known") as caught:
        parse(SearchConfig, [f"--dataset={'digits' * 2000}"])
    assert len(str(caught.value)) < 500
