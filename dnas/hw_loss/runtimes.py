"""What runs a network on the device at hand, and JAX as such; `dnas.export` has those that read
files."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dnas.base import Array
from dnas.checks import checked


class Runtime(NamedTuple):
    """A way to run functions of one array on the device at hand.

    Between `load` and `run` a program may be of any type.

    Example, a runtime that computes op by op:
      >>> plain = Runtime(
      ...     describe="numpy 2 cpu",
      ...     load=lambda function, x: lambda: np.asarray(function(x)),
      ...     run=lambda program: program(),
      ... )
      >>> plain.run(plain.load(lambda x: 2 * x, np.ones(3)))
      array([2., 2., 2.])
    """

    # The name in `dnas.export.RUNTIMES` at first, then version, processor, threads: what a table
    # says of itself.
    describe: str
    # (function, x) -> program: the function compiled, and loaded with x as its input.
    load: Callable[[Callable[[Array], Array], np.ndarray], Any]
    # Runs a program once; returns its result when it is there.
    run: Callable[[Any], np.ndarray]
    # Loads what was compiled for a program once more, elsewhere in memory; returns the program
    # itself where that makes no difference.
    repeat: Callable[[Any], Any] = lambda program: program


@checked
def jax_runtime(threads: int = 1) -> Runtime:
    """Returns JAX on its default device, where XLA takes as many threads as it likes.

    Raises:
      ValueError: for another number of threads, which JAX has no setting for.
    """
    if threads != 1:
        raise ValueError(f"JAX decides by itself how many threads run; leave out {threads}")

    def load(function: Callable[[Array], Array], x: np.ndarray) -> Callable[[], np.ndarray]:
        on_device = jax.device_put(x)
        compiled = jax.jit(function).lower(on_device).compile()
        return lambda: jax.block_until_ready(compiled(on_device))

    describe = f"jax {jax.__version__} {jax.default_backend()}"
    return Runtime(describe, load, lambda program: program())
