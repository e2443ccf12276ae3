"""The published genotypes are those that the papers' own code prints, and fit their spaces."""

import pytest

import dnas
from dnas.genotype import Genotype
from dnas.published import PUBLISHED

# As quark0/darts and yuhuixu1993/PC-DARTS print them.
ORIGINALS = {
    "DARTS_V1": (
        "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0),"
        " ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),"
        " ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0),"
        " ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0),"
        " ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3,"
        " 4, 5])"
    ),
    "DARTS_V2": (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),"
        " ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0),"
        " ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0),"
        " ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),"
        " ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3,"
        " 4, 5])"
    ),
    "PC_DARTS_cifar": (
        "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0),"
        " ('dil_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0),"
        " ('dil_conv_3x3', 1)], normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 1),"
        " ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0),"
        " ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)],"
        " reduce_concat=range(2, 6))"
    ),
    "DARTS_RNN_V1": (
        "Genotype(recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4),"
        " ('identity', 1), ('relu', 5), ('relu', 1)], concat=range(1, 9))"
    ),
    "DARTS_RNN_V2": (
        "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh',"
        " 2), ('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))"
    ),
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_published_cell_equals_the_original_text(name):
    assert Genotype.from_text(ORIGINALS[name]) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_genotype_fits_its_space(name):
    dnas.check_genotype(dnas.SPACES[PUBLISHED[name].space], PUBLISHED[name])


@pytest.mark.parametrize("name", ["DARTS_RNN_V1", "DARTS_RNN_V2"])
def test_published_recurrent_cell_is_written_as_the_original_text_to_the_letter(name):
    assert PUBLISHED[name].to_text() == ORIGINALS[name]


@pytest.mark.parametrize("name", [name for name in PUBLISHED if PUBLISHED[name].space == "darts"])
def test_published_node_reads_two_different_sources_and_never_none(name):
    for kind, edges in PUBLISHED[name].cells.items():
        assert [edge.target for edge in edges] == [2, 2, 3, 3, 4, 4, 5, 5]
        assert len({edge[:2] for edge in edges}) == 8
        assert "none" not in {edge.op for edge in edges}
        assert PUBLISHED[name].concat_of(kind) == (2, 3, 4, 5)


def test_published_cells_are_different():
    assert len(set(PUBLISHED.values())) == len(PUBLISHED)
