"""Settings of all tests: a compilation cache that repeated runs share."""

import os
import pathlib

import jax

_ROOT = pathlib.Path(__file__).parent.parent
jax.config.update("jax_compilation_cache_dir", os.environ.get("DNAS_TEST_CACHE", str(_ROOT / ".pytest_cache" / "xla")))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
