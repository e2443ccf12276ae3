"""What runs exported networks on the device at hand: ONNX Runtime and LiteRT, beside JAX."""

import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dnas.base import Array
from dnas.checks import checked
from dnas.export.litert import function_to_litert
from dnas.export.onnx import function_to_onnx
from dnas.hw_loss.runtimes import Runtime, jax_runtime

# A file that has been loaded: arrays by name -> arrays by name.
Loaded = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@checked
def load_onnx(model: bytes, *, threads: int = 1) -> Loaded:
    """Returns an ONNX model as a function of its inputs by name, {"images": ...} -> {"logits": ...}
    for networks on images, run by ONNX Runtime on the CPU.

    Args:
      model: the content of a file.
      threads: of one op; 1 is the most even on a machine that does other things too.

    Raises:
      ValueError: for less than one thread.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = _checked(threads), 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


@checked
def load_litert(model: bytes, *, threads: int = 1) -> Loaded:
    """Returns a LiteRT model as a function of its inputs by name, see `load_onnx`; run on the CPU.

    Raises:
      ValueError: for less than one thread.
      ModuleNotFoundError: without the packages of the extra `litert`.
    """
    interpreter = _litert().Interpreter(model_content=model, num_threads=_checked(threads))
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    inputs = {name: own["index"] for name, own in signature.get_input_details().items()}
    outputs = {name: own["index"] for name, own in signature.get_output_details().items()}

    def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in arrays.items():
            interpreter.set_tensor(inputs[name], array)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}

    return run


@checked
def onnx_runtime(threads: int = 1) -> Runtime:
    """Returns ONNX Runtime on the CPU. Args, Raises: as `load_onnx`."""

    def convert(function: Callable[[Array], Array], x: np.ndarray) -> bytes:
        return function_to_onnx(function, x).SerializeToString()

    version = _onnxruntime().__version__
    return _of_files(f"onnxruntime {version}", convert, load_onnx, threads)


@checked
def litert_runtime(threads: int = 1) -> Runtime:
    """Returns LiteRT on the CPU. Args, Raises: as `load_litert`."""
    _litert()
    version = importlib.metadata.version("ai-edge-litert")
    return _of_files(f"litert {version}", function_to_litert, load_litert, threads)


# By the first word of what they say of themselves; each takes the number of threads.
RUNTIMES: dict[str, Callable[[int], Runtime]] = {
    "jax": jax_runtime,
    "onnxruntime": onnx_runtime,
    "litert": litert_runtime,
}


class _Program(NamedTuple):
    file: bytes
    loaded: Loaded
    inputs: dict[str, np.ndarray]


def _of_files(
    name: str,
    convert: Callable[[Callable[[Array], Array], np.ndarray], bytes],
    load_file: Callable[..., Loaded],
    threads: int,
) -> Runtime:
    """The runtime that reads what `convert` has written."""
    load_file = functools.partial(load_file, threads=_checked(threads))

    def load(function: Callable[[Array], Array], x: np.ndarray) -> _Program:
        file = convert(function, x)
        return _Program(file, load_file(file), {"images": np.asarray(x)})

    def run(program: _Program) -> np.ndarray:
        return program.loaded(program.inputs)["logits"]

    def repeat(program: _Program) -> _Program:
        return program._replace(loaded=load_file(program.file))

    plural = "thread" if threads == 1 else "threads"
    return Runtime(f"{name} cpu {threads} {plural}", load, run, repeat)


def _checked(threads: int) -> int:
    if threads < 1:
        raise ValueError(f"a runtime needs at least one thread, got {threads}")
    return threads


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: ONNX Runtime is among the extra packages: pip install 'dnas[export]'"
        ) from None
    return onnxruntime


def _litert() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: LiteRT is among the extra packages: pip install 'dnas[litert]'"
        ) from None
    return interpreter
