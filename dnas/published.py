"""Genotypes that papers published.

Sources are quark0/darts, chenxin061/pdarts, yuhuixu1993/PC-DARTS, D-X-Y/GDAS, mmrazor,
facebookresearch/mobile-vision and mit-han-lab/proxylessnas.

FBNet-A and B circulate in two listings that differ in one block each; the published multiply-adds,
at 224 pixels and 1000 classes, decide. A, third block of the stage of 112: k5_e3 gives the
published 249,921,848 with `head=1504`, k5_e1 238,989,752. B, second block of the stage of 64: k5_e1
gives 296,614,728, k5_e6 306,210,888, published are 295,561,032. What is left in B, 7 * 192 * 28 *
28, is one block that was released with two 3x3 depthwise convolutions where the listing has one of
5x5; in C there are two such, 7 * (192 * 28 * 28 + 672 * 14 * 14) of 384,960,160. k5_e6 belongs to
the present mobile-vision, whose blocks of expansion 1 are smaller, and which counts the average
pool too: 291.1M.

The released ProxylessNAS networks have other widths than the space that the paper describes. With
those, as `proxylessnas_space(stages=..., stem=..., first=..., head=...)` builds them, they have the
published 4,080,512 (mobile), 4,361,648 (CPU) and 7,119,848 (GPU) parameters.
"""

from dnas.genotype import Edge, Genotype

_OPS = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
}


def _cell(text: str) -> tuple[Edge, ...]:
    """Edges of "op source, op source, ...": two a node, in the order of the nodes from 2 on."""
    pairs = [pair.split() for pair in text.split(",")]
    return tuple(
        Edge(int(source), 2 + number // 2, _OPS[op]) for number, (op, source) in enumerate(pairs)
    )


def _darts(normal: str, reduce: str) -> Genotype:
    return Genotype("darts", {"normal": _cell(normal), "reduce": _cell(reduce)})


def _layers(space: str, text: str) -> Genotype:
    """The genotype of "k5e3 | skip*3, k3e1g2 | ...": a block a layer, * repeats it, | ends a
    stage."""
    ops = []
    for word in text.replace("|", ",").split(","):
        op, _, times = word.strip().partition("*")
        name = "skip_connect" if op == "skip" else op.replace("e", "_e").replace("g", "_g")
        ops += [name] * int(times or 1)
    edges = tuple(Edge(layer, layer + 1, op) for layer, op in enumerate(ops))
    return Genotype(space, {"layers": edges}, {"layers": (len(ops),)})


def _recurrent(text: str) -> Genotype:
    """The recurrent cell of "op source, op source, ...": one a node, in the order of the nodes from
    1 on."""
    pairs = [pair.split() for pair in text.split(",")]
    edges = tuple(Edge(int(source), node, op) for node, (op, source) in enumerate(pairs, 1))
    return Genotype("recurrent", {"recurrent": edges})


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
    "FBNET_A": _layers(
        "fbnet",
        "skip | k3e3, k3e1, skip*2 | k5e6, k3e3, k5e1, k3e3 | k5e6, k5e3, k5e1g2, k5e6 | k3e6,"
        " k5e1g2, k5e3, k3e1g2 | k5e6*2, k5e3, k5e6 | k5e6",
    ),
    "FBNET_B": _layers(
        "fbnet",
        "k3e1 | k3e6, k5e1, k3e1*2 | k5e6, k5e3, k3e6, k5e6 | k5e6, k5e1, skip, k5e3 | k5e6, k3e1,"
        " k5e1, k5e3 | k5e6, k5e1, k5e6*2 | k3e6",
    ),
    "FBNET_C": _layers(
        "fbnet",
        "k3e1 | k3e6, skip, k3e1*2 | k5e6, k5e3, k5e6, k3e6 | k5e6, k5e3, k5e6*2 | k5e6*3, k5e3 |"
        " k5e6*4 | k3e6",
    ),
    "PROXYLESS_CPU": _layers(
        "proxylessnas",
        "k3e6, k3e3*3 | k3e6, k3e3*2, k5e3 | k3e6, skip*2, k3e3 | k5e6, k3e3*3 | k5e6, k5e3*2, k3e3"
        " | k5e6",
    ),
    "PROXYLESS_GPU": _layers(
        "proxylessnas",
        "k5e3, skip*3 | k7e3, skip*2, k3e3 | k7e6, skip*2, k5e3 | k5e6, skip, k3e3, k5e3 | k7e6*3,"
        " k5e6 | k7e6",
    ),
    "PROXYLESS_MOBILE": _layers(
        "proxylessnas",
        "k5e3, k3e3, skip*2 | k7e3, k3e3, k5e3*2 | k7e6, k5e3*3 | k5e6, k5e3*3 | k7e6*2, k7e3*2 |"
        " k7e6",
    ),
    # The recurrent cells of DARTS, quark0/darts rnn/genotypes.py, of first and second order.
    "DARTS_RNN_V1": _recurrent(
        "relu 0, relu 1, tanh 2, relu 3, relu 4, identity 1, relu 5, relu 1"
    ),
    "DARTS_RNN_V2": _recurrent(
        "sigmoid 0, relu 1, relu 1, identity 1, tanh 2, sigmoid 5, tanh 3, relu 5"
    ),
}
