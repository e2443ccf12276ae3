"""What the loops over edges run."""

import pytest

from dnas import SPACES
from dnas.cells.edge_ops import EdgeOps
from dnas.cells.norms import search_norms

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("sampled", [False, True])
def test_equal_candidates_run_the_same_functions(sampled):
    def runner(channels):
        spec = SPACES["darts"].cells["normal"]
        return EdgeOps((spec,), search_norms(), 1, sampled).runner(channels, 1)

    assert runner(4) == runner(4) != runner(8)
