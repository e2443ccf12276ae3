"""What a device has room for, said before it is needed or once it is not enough."""

import contextlib
import os
from collections.abc import Iterator

import jax

_ADVICE = (
    "Lower the batch size, the channels or the number of cells; or, of the options of a supernet,"
    " remat=True keeps less for the gradient, partial_channels=4 computes a part of the channels,"
    " and sampled=True one op an edge. Of a final network there is remat=True (--retrain-remat)"
)


def device_memory() -> int | None:
    """Returns the bytes that the device has in all: an accelerator as it says, a CPU those of the
    machine; None where nobody says."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is not None or device.platform != "cpu":
        return limit
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # a system that does not say
        return None


def check_fits(size: int, what: str) -> None:
    """Raises MemoryError, which says what to do, if the device has less than so many bytes.

    Args:
      what: that needs them, in words.
    """
    memory = device_memory()
    if memory is not None and size > memory:
        raise MemoryError(_sentence(what))


@contextlib.contextmanager
def out_of_memory_said(what: str = "") -> Iterator[None]:
    """Within it, what XLA raises when memory is exhausted becomes a MemoryError that says what to
    do.

    Args:
      what: is known of the need, in words.
    """
    try:
        yield
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(_sentence(what)) from error


def _sentence(what: str) -> str:
    device, memory = jax.local_devices()[0], device_memory()
    has = f", which has {memory / 1e6:,.0f} MB" if memory is not None else ""
    need = f"; {what}" if what else ""
    return f"out of memory on the device {device}{has}{need}. {_ADVICE}"
