"""What the loops over edges run."""

import gc

import jax
import pytest

from dnas import SPACES
from dnas.cells.edge_ops import EdgeOps
from dnas.cells.norms import search_norms

try:
    from jax import enable_x64
except ImportError:  # jax before 0.8
    from jax.experimental import enable_x64


def forget_programs():
    gc.collect()
    jax.clear_caches()  # what was traced for one device must not run on the other


@pytest.fixture(autouse=True)
def float64():
    with enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def again_for_others():
    yield
    forget_programs()


@pytest.mark.parametrize("sampled", [False, True])
def test_equal_candidates_run_the_same_functions(sampled):
    def runner(channels):
        spec = SPACES["darts"].cells["normal"]
        return EdgeOps((spec,), search_norms(), 1, sampled).runner(channels, 1)

    assert runner(4) == runner(4) != runner(8)
