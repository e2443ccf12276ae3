"""What runs a network on the device at hand: XLA through JAX, or ONNX Runtime."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dnas.base import Array


class Runtime(NamedTuple):
    """A way to run a function of one array.

    `name` is that of the header of a table; `prepare(function, x)` compiles, and returns a call
    without arguments that runs the function on x once and returns its result when it is there.
    `again(call)` loads what was compiled for a call once more, elsewhere in memory, or returns the
    call where that makes no difference.
    """

    name: str
    prepare: Callable[[Callable[[Array], Array], np.ndarray], Callable[[], np.ndarray]]
    again: Callable[[Callable[[], np.ndarray]], Callable[[], np.ndarray]] = lambda call: call


def jax_runtime() -> Runtime:
    """Returns JAX on its default device."""

    def prepare(function: Callable[[Array], Array], x: np.ndarray) -> Callable[[], np.ndarray]:
        there = jax.device_put(x)
        compiled = jax.jit(function).lower(there).compile()
        return lambda: jax.block_until_ready(compiled(there))

    return Runtime(f"jax {jax.__version__} {jax.default_backend()}", prepare)


def onnx_runtime(to_onnx: Callable, *, threads: int = 1) -> Runtime:
    """Returns ONNX Runtime on the CPU.

    Args:
      to_onnx: (function, x) -> `onnx.ModelProto`, such as `dnas.export.function_to_onnx`.
      threads: of one op; 1 is the most even on a machine that does other things too.

    Raises:
      ModuleNotFoundError: without the packages of the extra `export`.
      ValueError: for less than one thread.
    """
    if threads < 1:
        raise ValueError(f"ONNX Runtime needs at least one thread, got {threads}")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: ONNX Runtime is among the extra packages: pip install 'dnas[export]'"
        ) from None

    class Session:
        """A model, loaded, and its input."""

        def __init__(self, model: bytes, x: np.ndarray):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
            self.model, self.x = model, x
            self._inputs = {self._session.get_inputs()[0].name: x}

        def __call__(self) -> np.ndarray:
            return np.asarray(self._session.run(None, self._inputs)[0])

    def prepare(function: Callable[[Array], Array], x: np.ndarray) -> Session:
        return Session(to_onnx(function, x).SerializeToString(), np.asarray(x))

    plural = "thread" if threads == 1 else "threads"
    name = f"onnxruntime {onnxruntime.__version__} cpu {threads} {plural}"
    return Runtime(name, prepare, lambda call: Session(call.model, call.x))


# Each entry makes a runtime, whose own name begins with the entry's: so a table says what measured
# it. A command offers it `threads` and `to_onnx`.
RUNTIMES = {"jax": jax_runtime, "onnxruntime": onnx_runtime}
