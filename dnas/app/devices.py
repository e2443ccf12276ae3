"""The device at hand: its name, what runs networks on it, and what measures them."""

import pathlib
import platform
import re

import jax

from dnas import export, hw_loss
from dnas.app import named
from dnas.hw_loss.measure import Meter, clock


def device_name(runtime: str) -> str:
    """Returns the name of the device that a runtime uses here: the processor's, or the GPU's where
    it is JAX with one."""
    if runtime.startswith("jax") and jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    names = re.findall(r"^model name\s*: (.*)$", _cpuinfo(), re.MULTILINE)
    return " ".join((names[0] if names else platform.processor() or platform.machine()).split())


def _cpuinfo() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def runtime_named(name: str, *, threads: int = 1) -> hw_loss.Runtime:
    """Returns a runtime by its name in `dnas.hw_loss.RUNTIMES`, or by the one that it has in a
    table, which begins with that.

    Args:
      threads: of ONNX Runtime; the name in a table says it itself.

    Raises:
      ValueError: for another runtime.
      ModuleNotFoundError: without the packages of the extra `export`, for ONNX Runtime.

    Example:
      >>> runtime_named("jax").name.split()[0]
      'jax'
    """
    given = re.search(r"(\d+) threads?$", name)
    offered = {
        "threads": int(given[1]) if given else threads,
        "to_onnx": export.function_to_onnx,
    }
    word = name.partition(" ")[0]
    return named.make(hw_loss.RUNTIMES, "runtime", word, None, offered)


def meter_of(metric: str, runtime: str) -> Meter:
    """Returns the meter of latency, or that of energy on the device that the runtime uses."""
    if metric == "latency":
        return clock()
    return hw_loss.energy_meter(
        "gpu" if runtime.startswith("jax") and jax.default_backend() == "gpu" else "cpu"
    )
