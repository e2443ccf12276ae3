"""Genotypes are checked against their space, and a one-hot mix says the same as its genotype."""

import numpy as np
import pytest

import dnas
from dnas.genotype import Genotype
from dnas.space import check_genotype, one_hot_mix

DARTS = dnas.SPACES["darts"]
GENOTYPE = dnas.PUBLISHED["DARTS_V2"]


def with_normal(edges, concat=None):
    return Genotype(
        "darts", dict(GENOTYPE.cells) | {"normal": edges}, {"normal": concat} if concat else {}
    )


MISFITS = {
    "another space": (Genotype("other", GENOTYPE.cells), "'other'.*'darts'"),
    "a cell too few": (Genotype("darts", {"normal": GENOTYPE.cells["normal"]}), "'reduce'"),
    "a cell too many": (
        Genotype("darts", dict(GENOTYPE.cells) | {"more": [(0, 2, "skip_connect")]}),
        "'more'",
    ),
    "an unknown op": (
        with_normal([(0, 2, "sep_conv_9x9")], [2]),
        "sep_conv_9x9.*choose from.*sep_conv_3x3",
    ),
    "an unknown edge": (with_normal([(0, 9, "skip_connect")], [9]), "0 -> 9"),
    "into an input": (with_normal([(0, 1, "skip_connect"), (1, 2, "skip_connect")], [2]), "0 -> 1"),
    "a node that nothing enters": (
        with_normal([(0, 2, "skip_connect"), (3, 4, "skip_connect")], [2]),
        r"\[3\]",
    ),
    "an output that nothing enters": (with_normal([(0, 4, "skip_connect")], [3]), r"\[3\]"),
    "an input as output": (with_normal([(0, 2, "skip_connect")], [0, 2]), r"\[0\]"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize(
    "check", [check_genotype, one_hot_mix, DARTS.network], ids=["check", "mix", "network"]
)
def test_genotype_that_does_not_fit_is_refused_with_the_reason(name, check):
    genotype, reason = MISFITS[name]
    with pytest.raises(ValueError, match=reason):
        check(genotype) if check is DARTS.network else check(DARTS, genotype)


@pytest.mark.parametrize("name", dnas.PUBLISHED)
def test_one_hot_mix_holds_a_one_for_each_edge_of_the_genotype(name):
    genotype = dnas.PUBLISHED[name]
    space = dnas.SPACES[genotype.space]
    for kind, rows in one_hot_mix(space, genotype).items():
        cell = space.cells[kind]
        ones = {
            (*cell.edges[row], cell.ops[column])
            for row, column in zip(*np.nonzero(np.asarray(rows)), strict=True)
        }
        assert ones == set(genotype.cells[kind])
        assert float(rows.sum()) == len(genotype.cells[kind])
        assert rows.shape == (len(cell.edges), len(cell.ops))


def test_two_ops_on_one_edge_are_two_ones():
    genotype = with_normal([(0, 2, "skip_connect"), (0, 2, "max_pool_3x3")])
    assert float(one_hot_mix(DARTS, genotype)["normal"][0].sum()) == 2.0
