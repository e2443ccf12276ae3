"""What every command does first: where compiled programs are kept, memory that stays for the next
step, vectorised loops."""

import gc
import os
import pathlib

import jax

from dnas.running.loop import keep_memory, vectorize_loops


def set_up_process() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR if set and in the user's
    cache otherwise, and memory between steps, has loops vectorised, and leaves what has been
    imported out of garbage collections. To be called before JAX computes anything."""
    keep_memory()
    vectorize_loops()
    gc.freeze()  # what imports have made stays; collections need not look through it
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(home / "dnas" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
