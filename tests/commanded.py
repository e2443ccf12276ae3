"""Methods as a command line of `dnas search` makes them, for tests."""

import functools

import numpy as np

import dnas
from dnas.app import build, hardware
from dnas.app.config import SearchConfig, parse


@functools.cache
def task_of(size: int = 8, number: int = 1437) -> dnas.Task:
    """As many images as the digits have for training."""
    images = np.zeros((number, size, size, 1), np.uint8)
    return dnas.tasks.images(images, np.arange(number, dtype=np.int32) % 10, num_classes=10)


def commanded(*flags: str, limits: tuple[hardware.Limit, ...] = ()) -> dnas.Method:
    return build.method_of(parse(SearchConfig, [*flags]), task_of(), limits)
