"""A step compiled, with the options that XLA does not choose by itself for programs like ours."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from dnas.running import runtime
from dnas.running.memory import check_fits, out_of_memory_said


class Program(Protocol):
    """A compiled function."""

    def __call__(self, *args: Any) -> Any: ...

    def memory_analysis(self) -> Any:
        """Returns what XLA says of the memory that it needs, or None."""

    def as_text(self) -> str | None:
        """Returns what XLA made of it, or None."""


def compile_step(function: Callable, *args: Any, donate: bool = False) -> Program:
    """Returns the jitted function compiled for arguments of these shapes; the first is donated on
    request. Where JAX is told to compile nothing (JAX_DISABLE_JIT=1), it is the function itself.

    On a CPU without the library that newer versions of XLA hand reductions and products to:
    programs of as many small loops as a supernet has run no slower without it, and load from the
    compilation cache sooner. Vectors are as wide as the channels of the convolutions fill, whose
    kernels are in the first argument. Where a command has set up its process, what
    `dnas.running.runtime` does around compilation is done here.

    Raises:
      MemoryError: if what goes in and comes out needs more than the device has.
    """
    options: Any = jax.config  # which are no attributes that a type checker sees
    if options.jax_disable_jit:
        return _Interpreted(function)
    with runtime.compiling():
        compiled = _compiled(function, args, donate)
        size = _temporaries(compiled)
    runtime.prepare_for(size)
    return compiled


class _Interpreted:
    """A function that runs operation by operation, as a `Program`."""

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def memory_analysis(self) -> None:
        return None

    def as_text(self) -> None:
        return None


def _temporaries(compiled: jax.stages.Compiled) -> int:
    """Bytes that the program needs on the way; 0 where XLA does not say. What it says holds a copy
    of the program, which is gone when this returns."""
    memory = compiled.memory_analysis()
    return 0 if memory is None else memory.temp_size_in_bytes


def _compiled(function: Callable, args: Sequence[Any], donate: bool) -> jax.stages.Compiled:
    """The program. What it was lowered to is gone when this returns, before the last of the memory
    that compilation leaves is given back."""
    jitted = jax.jit(
        function,
        donate_argnums=0 if donate else (),
        compiler_options=_without_library() | _vector_options(args),
    )
    with runtime.tracing():
        lowered = jitted.lower(*args)
    size = sum(_bytes(own) for own in jax.tree.leaves((args, lowered.out_info)))
    check_fits(size, f"what goes into it and comes out of it needs {size / 1e6:,.0f} MB")
    with out_of_memory_said():
        return lowered.compile()


def _bytes(array: Any) -> int:
    """Of an array, or of what is known of one; a number takes next to nothing."""
    return math.prod(array.shape) * array.dtype.itemsize if hasattr(array, "dtype") else 0


def _without_library() -> dict[str, str]:
    return _if_known("xla_cpu_experimental_ynn_fusion_type", "")


def _vector_options(args: Sequence[Any]) -> dict[str, str]:
    """Vectors of 512 bits where all convolutions have whole ones of channels, as their kernels
    [..., k, k, C, D] tell.

    XLA prefers 256, and is right about fewer channels: DARTS takes 0.95 of the time with 512,
    PC-DARTS, whose candidates see 4 channels in the first stage, 1.04.
    """
    if "xla_cpu_prefer_vector_width" in os.environ.get("XLA_FLAGS", ""):
        return {}  # the user's choice
    kernels = [leaf for leaf in jax.tree.leaves(args[:1]) if getattr(leaf, "ndim", 0) > 3]
    if not kernels or any(kernel.shape[-1] % _LANES for kernel in kernels):
        return {}
    return _if_known("xla_cpu_prefer_vector_width", str(32 * _LANES))


_LANES = 16  # numbers of 32 bits in a vector of 512


@functools.cache
def _if_known(option: str, value: str) -> dict[str, str]:
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except (
        RuntimeError
    ):  # this version of XLA refuses the option: it does not have what it is about
        return {}
    return {option: value}
