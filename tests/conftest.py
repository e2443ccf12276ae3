"""Settings of all tests: programs compiled in a hurry, and a compilation cache that repeated runs share."""

import os
import pathlib

import jax

# Tests are mostly compilation of programs that run once or twice, and half of that is optimisation. Programs that tests
# start inherit this. Of two flags the later holds, so that XLA_FLAGS=--xla_backend_optimization_level=3 tests optimised code.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"

_ROOT = pathlib.Path(__file__).parent.parent
jax.config.update("jax_compilation_cache_dir", os.environ.get("DNAS_TEST_CACHE", str(_ROOT / ".pytest_cache" / "xla")))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
