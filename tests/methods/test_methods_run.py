"""Methods run end to end in a small space of every family that they can have, and nowhere else."""

import numpy as np
import pytest
from published_values import TINY, small_search

import dnas

METHODS = (
    "pc_darts",
    "gdas",
    "snas",
    "drnas",
    "drnas_progressive",
    "fair_darts",
    "smooth_darts_rs",
    "smooth_darts_adv",
    "beta_darts",
    "gaea",
    "proxyless",
    "fbnet",
    "sgas",
    "robust_darts",
    "rarts",
)


# One of logits, one of draws, one on the simplex. The others run as commands besides, see
# tests/app/test_methods.py.
QUICK = (("pc_darts", "darts"), ("snas", "darts"), ("gaea", "darts"))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        pytest.param(name, family, marks=[] if (name, family) in QUICK else [pytest.mark.slow])
        for name in METHODS
        for family in dnas.METHODS[name].settings
    ],
)
def test_a_method_finds_a_genotype_of_its_space_and_moves_arch(name, family):
    first, result = small_search(name, family)
    dnas.check_genotype(TINY[family], result.genotype)
    assert np.isfinite(result.history[-1]["loss"])
    # Of two kinds of cells the one cell is of one.
    arch = result.state.arch
    assert any((first[kind]["ops"] != arch[kind]["ops"]).any() for kind in arch)


@pytest.mark.parametrize("name", METHODS)
def test_a_family_that_a_method_has_no_settings_for_is_refused_by_name(name):
    method = dnas.METHODS[name]
    for family, space in TINY.items():
        if family not in method.settings:
            with pytest.raises(ValueError, match=f"{name!r} is not for the space '{space.name}'"):
                method(space, steps_per_epoch=2)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_have_the_space_that_is_its_own_and_what_is_retrained(name):
    method = dnas.METHODS[name]
    assert dnas.SPACES[method.space].family in method.settings
    assert set(method.retraining) <= set(method.settings)
