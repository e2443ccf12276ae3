"""Meters of energy: NVML on NVIDIA cards, RAPL on Intel and AMD CPUs."""

import pathlib

from dnas.checks import checked
from dnas.hw_loss.measure import Meter

_RAPL = pathlib.Path("/sys/class/powercap")


@checked
def energy_meter(
    device: str = "cpu", *, seconds: float = 0.5, folder: pathlib.Path = _RAPL
) -> Meter:
    """Returns the meter of the energy that the device has drawn, in millijoules: of all that runs
    on it, not of one process.

    Args:
      device: "gpu", the first card by NVML's total energy counter (Volta and newer); or "cpu", all
        packages by RAPL.
      seconds: the least time of a block; the counters are renewed some ten (NVML) to thousand
        (RAPL) times a second.

    Raises:
      ValueError: where the device has no counter that can be read; says why, and what can be done.
    """
    if device == "gpu":
        return Meter("energy", "mJ", _nvml(), seconds)
    if device != "cpu":
        raise ValueError(
            f"device {device!r} has no energy counter that is known; choose from: cpu, gpu"
        )
    return Meter("energy", "mJ", _rapl(folder), seconds)


def _nvml():
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    # the package is missing, there is no driver, or the card has no counter: all are said alike
    except Exception as error:
        raise ValueError(
            f"the energy of the GPU cannot be read through NVML: {type(error).__name__}: {error}."
            " It needs an NVIDIA card (Volta or newer), its driver, and the package nvidia-ml-py"
        ) from None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))


def _rapl(folder: pathlib.Path):
    counters = sorted(
        path / "energy_uj" for path in folder.glob("*-rapl:[0-9]*") if path.name.count(":") == 1
    )
    if not counters:
        raise ValueError(
            f"the energy of the CPU cannot be read: {folder} has no RAPL counter. Virtual machines"
            " have none as a rule; measure on the machine itself, or latency only"
        )
    try:
        wraps = {
            path: float((path.parent / "max_energy_range_uj").read_text()) for path in counters
        }
        last = {path: float(path.read_text()) for path in counters}
    except PermissionError as error:
        raise ValueError(
            f"the energy of the CPU cannot be read: {error}. Only root may read its counters on"
            f" most systems: run as root, or `chmod a+r {counters[0]}`"
        ) from None
    total = 0.0

    def read() -> float:
        nonlocal total
        for path in counters:
            now = float(path.read_text())
            total += (now - last[path]) % wraps[path]  # the counter starts again at its range
            last[path] = now
        return total / 1e3

    return read
