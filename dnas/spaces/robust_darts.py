"""The spaces S1 to S4 of RobustDARTS: DARTS's cells with few candidates, on which plain DARTS
collapses.

Section 3, https://arxiv.org/abs/1909.09656; candidates as in the released code of
automl/RobustDARTS.
"""

from dnas.checks import checked
from dnas.files import shown
from dnas.space import SearchSpace
from dnas.spaces.darts import darts_space

_MAX, _AVG, _SKIP, _SEP, _DIL3, _DIL5 = S1_OPS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

# Of each edge, node by node; the two strongest of a search in DARTS's space.
S1_EDGE_OPS = {
    "normal": (
        *[(_SKIP, _DIL3), (_SKIP, _DIL5)],
        *[(_SKIP, _DIL5), (_SKIP, _SEP), (_SKIP, _DIL3)],
        *[(_MAX, _SKIP), (_SKIP, _SEP), (_SKIP, _SEP), (_SKIP, _DIL3)],
        *[(_SKIP, _SEP), (_MAX, _SKIP), (_SKIP, _DIL3), (_DIL3, _DIL5), (_DIL3, _DIL5)],
    ),
    "reduce": (
        *[(_MAX, _AVG), (_MAX, _DIL3)],
        *[(_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5)],
        *[(_MAX, _AVG), (_MAX, _SEP), (_SKIP, _DIL3), (_SKIP, _DIL5)],
        *[(_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5), (_SKIP, _DIL5), (_SKIP, _DIL5)],
    ),
}

_OPS = {
    "s1": S1_OPS,
    "s2": ("skip_connect", "sep_conv_3x3"),
    "s3": ("none", "skip_connect", "sep_conv_3x3"),
    "s4": ("noise", "sep_conv_3x3"),
}


@checked
def robust_darts_space(name: str) -> SearchSpace:
    """Returns one of four variants of DARTS's space.

    "s1" has two candidates an edge, which differ from edge to edge and between the two kinds of
    cell; a mix has a column for each of the six ops, zero where an edge does not have it. "s2" has
    a skip connection and a 3x3 separable convolution, "s3" these and `none`, "s4" noise and the
    convolution. Final networks have the size that the released code trains unless told otherwise, 8
    cells of 16 channels.

    Raises:
      ValueError: for another name.

    Example:
      >>> space = robust_darts_space("s1")
      >>> space.cells["normal"].edge_ops[:2]
      (('skip_connect', 'dil_conv_3x3'), ('skip_connect', 'dil_conv_5x5'))
    """
    if name not in _OPS:
        raise ValueError(f"RobustDARTS has no space {shown(name)}; choose from: {', '.join(_OPS)}")
    edge_ops = S1_EDGE_OPS if name == "s1" else None
    return darts_space(
        name=name, ops=_OPS[name], edge_ops=edge_ops, final_channels=16, final_cells=8
    )
