"""Settings of all tests: programs compiled in a hurry, a compilation cache that processes and runs
share, --first-cases."""

import os
import pathlib
import re

import jax
import pytest
from floats import enable_x64

# Tests are mostly compilation of programs that run once or twice: without optimisation half as
# long, and a third less again without XLA's second generator of loops. Programs that tests start
# inherit this. Of two flags the later holds, so that XLA_FLAGS="--xla_backend_optimization_level=3
# --xla_cpu_use_fusion_emitters=true" tests optimised code.
_FLAGS = ["--xla_backend_optimization_level=0"]
# XLA ends at a flag that it no longer knows: try it with a newer one and raise this.
if jax.__version_info__ < (
    0,
    11,
):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")])

_ROOT = pathlib.Path(__file__).parent.parent
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("DNAS_TEST_CACHE", str(_ROOT / ".pytest_cache" / "xla")),
)
# What is compiled sooner takes longer to store.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_addoption(parser):
    parser.addoption(
        "--first-cases",
        action="store_true",
        help="of a test with many cases run the first alone, unless it is a contract",
    )


# Nine spaces of one kind. By default one of them goes through the tests of every space; cases of
# the others are slow ones.
_ALIKE = {
    f"{shape}_{ops}"
    for shape in ("wide", "deep", "single")
    for ops in ("regular", "no_skip", "all_skip")
} - {"wide_all_skip"}


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        cases = getattr(item, "callspec", None)
        if cases is not None and not _ALIKE.isdisjoint(re.split("[-, ]", cases.id)):
            item.add_marker(pytest.mark.slow)
    yield  # -m drops slow cases
    if not config.getoption("first_cases"):
        return
    seen, kept, dropped = set(), [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        again = name in seen and item.get_closest_marker("contract") is None
        (dropped if again else kept).append(item)
        seen.add(name)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.fixture
def float64():
    """Double precision all through a test."""
    with enable_x64(True):
        yield
