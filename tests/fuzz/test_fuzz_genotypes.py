"""Texts, JSON, files and Python objects for genotypes: every one is read, or refused in words."""

import json

from hypothesis import given
from inputs import edited, edited_json
from law import obeys

import dnas
from dnas.app.given import read_genotype

TEXTS = (
    dnas.PUBLISHED["DARTS_V2"].to_text(),
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|",
    "fbnet: k3_e1, k5_e6, skip_connect",
    "digits: kernel = k3 -; depth = d2",
    "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))",
    dnas.PUBLISHED["DARTS_V2"].to_json(),
)
PARTS = {
    "space": "darts",
    "cells": {"normal": [[0, 2, "skip_connect"], [1, 2, "sep_conv_3x3"], [2, 3, "none"]]},
    "concat": {"normal": [2, 3]},
    "picks": {"kernel": ["k3", None]},
}


def test_the_examples_are_read():
    assert all(isinstance(dnas.Genotype.from_text(text), dnas.Genotype) for text in TEXTS)


def check_read(text):
    """What is read is written in a form that is read alike."""
    genotype = obeys(dnas.Genotype.from_text, text)
    if genotype is not None:
        assert dnas.Genotype.from_json(genotype.to_json()) == genotype
        assert hash(genotype) == hash(dnas.Genotype.from_json(genotype.to_json()))


@given(edited(TEXTS))
def test_a_text(text):
    check_read(text)


@given(edited_json(PARTS))
def test_json(text):
    check_read(text)


@given(edited([text.encode() for text in TEXTS] + [json.dumps(PARTS).encode("utf-16")]))
def test_a_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "genotype.txt"
    path.write_bytes(content)
    obeys(read_genotype, str(path))


@given(edited(("DARTS_V2", "runs/a/genotype.json", *TEXTS)))
def test_words_of_a_command(text):
    obeys(read_genotype, text)
