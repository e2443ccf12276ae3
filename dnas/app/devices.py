"""The device at hand: its name, what runs networks on it, and what measures them."""

import pathlib
import platform
import re

import jax

from dnas import export, hw_loss
from dnas.app.named import check_known
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
    """Returns a runtime by its name in `dnas.export.RUNTIMES`, or by what it says of itself in a
    table, which begins with that.

    Args:
      threads: that it runs; what stands in a table says it itself.

    Raises:
      ValueError: for another runtime, and for threads that it cannot have.
      ModuleNotFoundError: without the packages of its extra.

    Example:
      >>> runtime_named("jax").describe.split()[0]
      'jax'
    """
    word = name.partition(" ")[0]
    check_known("runtime", word, export.RUNTIMES)
    given = re.search(r"(\d+) threads?$", name)
    return export.RUNTIMES[word](int(given[1]) if given else threads)


def meter_of(metric: str, runtime: str) -> Meter:
    """Returns the meter of latency, or that of energy on the device that the runtime uses."""
    if metric == "latency":
        return clock()
    return hw_loss.energy_meter(
        "gpu" if runtime.startswith("jax") and jax.default_backend() == "gpu" else "cpu"
    )
