"""Cells that papers published: sources are quark0/darts, chenxin061/pdarts, yuhuixu1993/PC-DARTS, D-X-Y/GDAS, mmrazor."""

from dnas.genotype import Genotype

_OPS = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
}


def _cell(text: str) -> list[tuple[int, int, str]]:
    """Edges of "op source, op source, ...": two a node, in the order of the nodes from 2 on."""
    pairs = [pair.split() for pair in text.split(",")]
    return [(int(source), 2 + number // 2, _OPS[op]) for number, (op, source) in enumerate(pairs)]


def _darts(normal: str, reduce: str) -> Genotype:
    return Genotype("darts", {"normal": _cell(normal), "reduce": _cell(reduce)})


def _recurrent(text: str) -> Genotype:
    """The recurrent cell of "op source, op source, ...": one a node, in the order of the nodes from 1 on."""
    pairs = [pair.split() for pair in text.split(",")]
    return Genotype("recurrent", {"recurrent": [(int(source), number, op) for number, (op, source) in enumerate(pairs, 1)]})


PUBLISHED = {
    "DARTS_V1": _darts(
        "sep3 1, sep3 0, skip 0, sep3 1, skip 0, sep3 1, sep3 0, skip 2",
        "max 0, max 1, skip 2, max 0, max 0, skip 2, skip 2, avg 0",
    ),
    "DARTS_V2": _darts(
        "sep3 0, sep3 1, sep3 0, sep3 1, sep3 1, skip 0, skip 0, dil3 2",
        "max 0, max 1, skip 2, max 1, max 0, skip 2, skip 2, max 1",
    ),
    "PDARTS": _darts(
        "skip 0, dil3 1, skip 0, sep3 1, sep3 1, sep3 3, sep3 0, dil5 4",
        "avg 0, sep5 1, sep3 0, dil5 2, max 0, dil3 1, dil3 1, dil5 3",
    ),
    "PC_DARTS_cifar": _darts(
        "sep3 1, skip 0, sep3 0, dil3 1, sep5 0, sep3 1, avg 0, dil3 1",
        "sep5 1, max 0, sep5 1, sep5 2, sep3 0, sep3 3, sep3 1, sep3 2",
    ),
    "PC_DARTS_image": _darts(
        "skip 1, sep3 0, sep3 0, skip 1, sep3 1, sep3 3, sep3 1, dil5 4",
        "sep3 0, skip 1, dil5 2, max 1, sep3 2, sep3 1, sep5 0, sep3 3",
    ),
    "GDAS_V1": _darts(
        "skip 0, skip 1, skip 0, sep5 2, sep3 3, skip 0, sep5 4, sep3 3",
        "sep5 0, sep3 1, sep5 2, sep5 1, dil5 2, sep3 1, sep5 0, sep5 1",
    ),
    # The cell of mmrazor's model zoo, retrained there to 97.32 %.
    "mmrazor_97.32": _darts(
        "sep3 0, sep3 1, skip 0, sep5 1, sep3 0, skip 1, skip 0, skip 1",
        "max 0, sep3 1, max 0, dil5 2, max 0, skip 2, max 0, skip 2",
    ),
    # The recurrent cells of DARTS, quark0/darts rnn/genotypes.py, of first and second order.
    "DARTS_RNN_V1": _recurrent("relu 0, relu 1, tanh 2, relu 3, relu 4, identity 1, relu 5, relu 1"),
    "DARTS_RNN_V2": _recurrent("sigmoid 0, relu 1, relu 1, identity 1, tanh 2, sigmoid 5, tanh 3, relu 5"),
}
