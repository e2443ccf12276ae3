"""Small cells, all their discrete choices, and a plain account of what is connected in one."""

import itertools
from typing import NamedTuple

import numpy as np

from dnas.graph import CellSpec

SPECS = {
    "one input": CellSpec(
        1,
        3,
        ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)),
        ("none", "conv", "skip_connect"),
        (3,),
    ),
    "two inputs": CellSpec(
        2, 2, ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), ("none", "conv", "skip_connect"), (2, 3)
    ),
    "two outputs far apart": CellSpec(
        1, 4, ((0, 1), (1, 2), (0, 3), (1, 3), (2, 4), (3, 4)), ("conv", "none"), (2, 4)
    ),
    "chain without none": CellSpec(1, 4, ((0, 1), (1, 2), (2, 3), (3, 4)), ("conv", "pool"), (4,)),
}
# The graph of NAS-Bench-201 with one convolution fewer.
CELL = CellSpec(1, 3, SPECS["one input"].edges, ("none", "skip_connect", "conv", "pool"), (3,))


class Found(NamedTuple):
    reached: set
    used: set
    live: np.ndarray
    unfed: np.ndarray
    sums: int


def all_mixes(spec):
    """One-hot mixes [cells, E, O] of every choice, "none" written as a row of zeros."""
    options = [
        np.zeros(len(spec.ops)),
        *(row for row, op in zip(np.eye(len(spec.ops)), spec.ops, strict=True) if op != "none"),
    ]
    return np.array(list(itertools.product(options, repeat=len(spec.edges))), np.float32)


def probabilities(mix, mixes):
    """The probability [cells] of each of all_mixes under independent edges."""
    rest = 1 - (mix * mixes.any(axis=(0, 1))).sum(-1)
    rows = np.where(mixes.any(-1), (mixes * mix).sum(-1), rest)
    return rows.prod(axis=-1)


def connected(spec, mix):
    """What is connected in a discrete cell, by walking its edges until nothing changes."""
    edges = [(a, b) for (a, b), row in zip(spec.edges, mix, strict=True) if row.any()]
    reached, used = set(range(spec.num_inputs)), set(spec.concat)
    for _ in spec.nodes:
        reached |= {b for a, b in edges if a in reached}
        used |= {a for a, b in edges if b in used}
    live = np.array(
        [row * (a in reached and b in used) for (a, b), row in zip(spec.edges, mix, strict=True)]
    )
    unfed = np.array(
        [
            row * (a not in reached and b in used)
            for (a, b), row in zip(spec.edges, mix, strict=True)
        ]
    )
    into = [sum(live[number].sum() for number in spec.incoming(node)) for node in spec.nodes]
    return Found(reached, used, live, unfed, int(sum(max(k - 1, 0) for k in into)))
