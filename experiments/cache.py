"""The persistent compilation cache of all commands."""

import os
import pathlib

import jax


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR if set and in the user's cache otherwise."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(home / "dnas" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
