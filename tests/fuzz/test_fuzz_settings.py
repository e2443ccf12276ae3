"""Words of command lines, files of settings, and the small languages in them."""

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import FEWER, PIECES, edited
from law import obeys

import dnas
from dnas.app import config, hardware, images, named, runs

TARGETS = ("2.5ms,600kparams", "peak_memory=1MiB", "latency=0.0025s", "80mJ, 20Mmacs", "1e-3ms")
NAMES = (
    "gumbel:temperature=2,temperature_end=0.1",
    "ranking:patience=3,from_epoch=5",
    "top_edges:k=3",
    "drop_ops:rate=0.5",
    "binary_gates:paths=two",
)
WORDS = (
    *("--method=darts1", "--space=nasbench201", "--dataset=digits", "--channels=2", "--epochs=1"),
    *("--target=2ms", "--table=xeon-darts-c16-n8-jax", "--relax=gumbel", "--seed=3", "--resume=1"),
    *("--learning-rate=1e-3", "--runs=/tmp/runs", "--name=a", "--clip=None", "--warmup=0.5"),
    *("--cells=3", "--batch-size=16", "--select=top_edges:k=2", "--retrain=0", "--images=100"),
)
TOML = 'channels = 2\nrelax = "gumbel"\n[table]\nseed = 3\n'


@given(edited(TARGETS))
def test_targets(text):
    for _, bound in obeys(hardware.targets_of, text) or ():
        assert bound > 0


@pytest.mark.parametrize("kind", ["RELAXATIONS", "RULES", "SELECTIONS", "ARCH_OPTIMIZERS"])
@given(text=edited(NAMES))
def test_names_with_keywords(kind, text):
    obeys(named.make, getattr(dnas, kind), kind.lower(), text)


def read_or_exit(kind, args):
    """The settings of the words, or None where the command line says what is wrong in them."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return config.parse(kind, args)
        except SystemExit:
            assert said.getvalue().strip()
            return None


def checked(kind, args):
    settings = read_or_exit(kind, args)
    if settings is not None:
        config.check(settings)
        runs.run_name(settings, "search")


WORD_LISTS = st.lists(edited(WORDS) | st.sampled_from(PIECES), max_size=4)


@FEWER
@given(WORD_LISTS)
def test_words_of_a_search(args):
    obeys(checked, config.SearchConfig, [word for word in args if "explain" not in word])


@FEWER
@given(edited((TOML,)))
def test_a_file_of_settings(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    path.write_bytes(content.encode("utf-8", "replace"))
    obeys(checked, config.SearchConfig, [f"--file={path}"])


class Begun(Exception):
    """All settings have been looked at."""


def begin(reads):
    raise Begun


def planned(args):
    settings = read_or_exit(config.SearchConfig, args)
    if settings is None:
        return
    config.check(settings)
    try:
        images.make_job(settings, begin)
    except Begun:
        return


SIZES = ("channels", "cells", "batch-size", "images", "retrain-channels", "retrain-cells", "seed")
VALUES = st.sampled_from(("0", "-1", "1000000000", "9" * 30, "nan", "1.5", "2", "None", ""))


@FEWER
@given(st.sampled_from(SIZES), VALUES)
def test_sizes_of_a_search(name, value):
    obeys(planned, ["--space=nasbench201", "--dataset=digits", f"--{name}={value}"])
