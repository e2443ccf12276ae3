"""Measuring on the device at hand: what each of many calls costs, all in turn."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)

# Deviations from the median, in robust standard deviations, from which on a sample is refused.
_OUTLIER = 5.0


class Meter(NamedTuple):
    """What is measured: a counter that only grows.

    `read()` returns its value in `unit`; `seconds` is the least time that a block of calls must last to be read well.
    """

    metric: str
    unit: str
    read: Callable[[], float]
    seconds: float


class Measured(NamedTuple):
    """What one call costs, in the unit of the meter."""

    median: float
    spread: float  # standard deviation of the samples that were kept
    count: int  # samples kept


def clock(*, seconds: float = 2e-3) -> Meter:
    """Returns the meter of latency, in milliseconds."""
    return Meter("latency", "ms", lambda: 1e3 * time.perf_counter(), seconds)


def measure(
    calls: Mapping[Name, Callable[[], object]],
    *,
    meter: Meter | None = None,
    repeats: int = 30,
    warm_up: int = 3,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Name, Measured]:
    """Returns what each call costs.

    Every call is run `warm_up` times. Then, `repeats` times over, each gets one block of as many runs as fill the time that
    the meter needs, after one that is not counted, in an order drawn anew each time: so a machine that grows slower meanwhile favours nobody. The cost is the
    median over blocks. Samples that deviate from it by more than five standard deviations, estimated from the median absolute
    deviation, are refused: an interrupt is no property of the call.

    Args:
      calls: each runs something once and returns when it is done.
      meter: `clock()` unless given.
      repeats: blocks of each call.
      report: called with the number of blocks done and of all.

    Raises:
      ValueError: if there is nothing to measure, or repeats or warm_up are too small.

    Example:
      >>> found = measure({"short": lambda: sum(range(100)), "long": lambda: sum(range(10_000))}, repeats=3)
      >>> found["short"].median < found["long"].median
      True
    """
    if not calls:
        raise ValueError("there is nothing to measure; give at least one call")
    if repeats < 1 or warm_up < 1:
        raise ValueError(f"repeats and warm_up are at least 1, got {repeats} and {warm_up}")
    meter = clock() if meter is None else meter
    runs = {name: _runs_of_a_block(call, meter.seconds, warm_up) for name, call in calls.items()}
    samples: dict[Name, list[float]] = {name: [] for name in calls}
    names, random = list(calls), np.random.default_rng(seed)
    for repeat in range(repeats):
        for place, number in enumerate(random.permutation(len(names))):
            name = names[number]
            calls[name]()  # with its weights and its input back in the cache, as in a device that runs one network
            samples[name].append(_block(calls[name], runs[name], meter.read))
            report(repeat * len(names) + place + 1, repeats * len(names))
    return {name: summarise(own) for name, own in samples.items()}


def _runs_of_a_block(call: Callable[[], object], seconds: float, warm_up: int) -> int:
    for _ in range(warm_up):
        call()
    runs = 1
    while (taken := _block(call, runs, time.perf_counter) * runs) < seconds:
        # Twice as many at a time at least: a first block may be too short to be timed.
        runs = max(2 * runs, math.ceil(runs * seconds / max(taken, 1e-9))) if taken > seconds / 50 else 4 * runs
    return runs


def _block(call: Callable[[], object], runs: int, read: Callable[[], float]) -> float:
    start = read()
    for _ in range(runs):
        call()
    return (read() - start) / runs


def summarise(samples: list[float]) -> Measured:
    """Returns median, spread and number of the samples without those that lie far from the others.

    Example:
      >>> found = summarise([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 9.0])
      >>> found.median, found.count
      (1.0, 6)
    """
    values = np.asarray(samples, float)
    deviations = np.abs(values - np.median(values))
    limit = _OUTLIER * 1.4826 * np.median(deviations)  # 1.4826 makes it the standard deviation where samples are normal
    kept = values[deviations <= max(limit, 1e-9 * abs(np.median(values)))]
    return Measured(float(np.median(kept)), float(kept.std()), len(kept))
