"""The nine settings of DARTS-Bench-Suite: DARTS's space with three shapes of the supernet and three
sets of candidates.

Section 4, https://arxiv.org/abs/2507.16533; values as in the released code of
automl/ConfigurableOptimizer, scripts/benchsuite_experiments/benchsuite.py.
"""

from typing import Any

from dnas.checks import checked
from dnas.files import shown
from dnas.space import SearchSpace
from dnas.spaces.darts import DARTS_OPS, darts_space

# Of a supernet and of the final networks alike. The single cell is a reduction, as the first of one
# is in DARTS, and its output is made of the last four nodes.
_SHAPES: dict[str, dict[str, int]] = {
    "wide": {"channels": 18, "num_cells": 4},
    "deep": {"channels": 7, "num_cells": 18},
    "single": {"channels": 26, "num_cells": 1, "num_nodes": 8, "num_concat": 4},
}
_OPS: dict[str, dict[str, Any]] = {
    "regular": {},
    "no_skip": {"ops": tuple(op for op in DARTS_OPS if op != "skip_connect")},
    "all_skip": {"auxiliary_skip": True},
}


@checked
def bench_suite_space(name: str) -> SearchSpace:
    """Returns one of nine variants of DARTS's space, "wide_regular" to "single_all_skip".

    Wide supernets have 4 cells of 18 channels, deep ones 18 cells of 7, and a single one is a cell
    of 8 nodes and 26 channels. Candidates are those of DARTS ("regular"), all but the skip
    connection ("no_skip"), or those of DARTS beside a skip connection on every edge that is not
    searched ("all_skip").

    Raises:
      ValueError: for another name.

    Example:
      >>> space = bench_suite_space("wide_no_skip")
      >>> space.channels, space.num_cells, "skip_connect" in space.cells["normal"].ops
      (18, 4, False)

    Differs from the release: of four cells the second and third are reductions, as in its final
    networks; its wide supernet has them in second and fourth place. An auxiliary skip that halves
    the image has the weights of the candidate beside it, and drop path leaves it alone.
    """
    if name not in BENCH_SUITE:
        raise ValueError(
            f"DARTS-Bench-Suite has no space {shown(name)}; choose from: {', '.join(BENCH_SUITE)}"
        )
    shape, ops = BENCH_SUITE[name]
    sizes = _SHAPES[shape]
    final = {"final_channels": sizes["channels"], "final_cells": sizes["num_cells"]}
    return darts_space(name=name, **sizes, **final, **_OPS[ops])


# {name: (shape, set of candidates)}, in the order of the paper.
BENCH_SUITE = {f"{shape}_{ops}": (shape, ops) for shape in _SHAPES for ops in _OPS}
