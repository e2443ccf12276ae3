"""The ops that an edge keeps when a progressive search drops some."""

import numpy as np
import pytest

from dnas.selection import strongest_ops

RANDOM = np.random.default_rng(0)
MIX = {"normal": RANDOM.uniform(size=(14, 8)), "reduce": RANDOM.uniform(size=(6, 5))}
ALL = {kind: np.ones(rows.shape, bool) for kind, rows in MIX.items()}


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_each_edge_keeps_the_ops_of_the_largest_weights(keep):
    for kind, rows in strongest_ops(MIX, ALL, keep).items():
        for kept, weights in zip(rows, MIX[kind], strict=True):
            assert set(np.flatnonzero(kept)) == set(
                sorted(range(len(weights)), key=lambda op: -weights[op])[:keep]
            )


def test_candidates_of_later_stages_are_among_those_of_earlier_ones():
    """As in P-DARTS, 8 to 5 to 3, though the weights are others at each stage."""
    candidates = ALL
    for stage, keep in enumerate((5, 3, 1)):
        mix = {
            kind: np.random.default_rng(stage).uniform(size=rows.shape)
            for kind, rows in MIX.items()
        }
        kept = strongest_ops(mix, candidates, keep)
        for kind in kept:
            assert (kept[kind] <= candidates[kind]).all() and (kept[kind].sum(1) == keep).all()
        candidates = kept


def test_on_ties_the_earlier_op_stays():
    mix, candidates = (
        {"cell": np.full((1, 5), 0.2)},
        {"cell": np.array([[False, True, True, False, True]])},
    )
    assert strongest_ops(mix, candidates, 2)["cell"].tolist() == [[False, True, True, False, False]]


def test_an_edge_with_fewer_ops_keeps_them_all_and_one_without_stays_empty():
    candidates = {"cell": np.array([[True, False, False], [False, False, False]])}
    kept = strongest_ops({"cell": np.array([[0.0, 0.5, 0.5]] * 2)}, candidates, 2)
    np.testing.assert_array_equal(kept["cell"], candidates["cell"])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="got keep = 0"):
        strongest_ops(MIX, ALL, 0)
    with pytest.raises(ValueError, match="mix of cell 'reduce'"):
        strongest_ops({"normal": MIX["normal"]}, ALL, 1)
    with pytest.raises(ValueError, match="mix of cell 'normal'"):
        strongest_ops(MIX | {"normal": MIX["normal"] * np.nan}, ALL, 1)
