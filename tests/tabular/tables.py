"""Where the tests of tabular benchmarks find architectures: the published table, and all strings of
NAS-Bench-201."""

import itertools
from pathlib import Path

import pytest

import dnas

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # in the order of the ops in the text
PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nasbench201.csv.gz"
SHORT = {
    "skip": "skip_connect",
    "avg": "avg_pool_3x3",
    "1x1": "nor_conv_1x1",
    "3x3": "nor_conv_3x3",
}

needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"needs the NAS-Bench-201 table at {PUBLISHED}"
)


def cell(ops: str) -> str:
    """The text of six ops, which may be shortened: cell("3x3 none 3x3 skip none skip")."""
    a, b, c, d, e, f = (SHORT.get(op, op) for op in ops.split())
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def all_ops():
    """The six ops of each of the 15,625 cells."""
    return itertools.product(OPS, repeat=6)


def space(ops=OPS) -> dnas.SearchSpace:
    """The graph of NAS-Bench-201 as a space without networks, which no table needs."""
    spec = dnas.CellSpec(num_inputs=1, num_nodes=3, edges=EDGES, ops=ops, concat=(3,))
    return dnas.SearchSpace("nasbench201", {"cell": spec}, layers=None, supernet=None, network=None)
