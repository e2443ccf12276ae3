"""Measuring on the device at hand: what each of many calls costs, all in turn."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from dnas.checks import checked
from dnas.statistics import sample

Name = TypeVar("Name", bound=Hashable)

# Deviations from the median, in robust standard deviations, from which on a sample is refused.
_OUTLIER = 5.0


class Meter(NamedTuple):
    """What is measured: a counter that only grows.

    `read()` returns its value in `unit`; `seconds` is the least time that a block of calls must
    last to be read well.
    """

    metric: str
    unit: str
    read: Callable[[], float]
    seconds: float


class Measured(NamedTuple):
    """What one call costs, in the unit of the meter."""

    median: float
    spread: float  # deviation of the samples that were kept; 0 of a single one
    count: int  # samples kept
    # of the device while it was measured, beside when its table was made; see `measure_networks`
    speed: float = 1.0


@checked
def clock(*, seconds: float = 2e-3) -> Meter:
    """Returns the meter of latency, in milliseconds."""
    return Meter("latency", "ms", lambda: 1e3 * time.perf_counter(), seconds)


@checked
def measure(
    calls: Mapping[Name, Callable[[], object]],
    *,
    meter: Meter | None = None,
    repeats: int = 30,
    warm_up: int = 3,
    seed: int = 0,
    reference: Name | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Name, Measured]:
    """Returns what each call costs.

    Every call is run `warm_up` times. Then, `repeats` times over, each gets one block of as many
    runs as fill the time that the meter needs, after one that does not count, in an order drawn
    anew each time: so a machine that grows slower meanwhile favours nobody. The cost is the median
    over blocks. Samples that deviate from it by more than five standard deviations, estimated from
    the median absolute deviation, are refused: an interrupt is no property of the call.

    Args:
      calls: each runs something once and returns when it is done.
      meter: `clock()` unless given.
      repeats: blocks of each call.
      reference: one of the calls, beside which the others are measured: a block of it runs before
        and after each of theirs, which counts as its ratio to the mean of these two, times the
        median of all of them. A processor that is slower for a moment, for its clock or for other
        programs, is so for both.
      report: called with the number of blocks done and of all.

    Raises:
      ValueError: if there is nothing to measure, the reference is not among the calls, or repeats
        or warm_up are too small.

    Example:
      >>> found = measure(
      ...     {"short": lambda: sum(range(100)), "long": lambda: sum(range(10_000))}, repeats=3
      ... )
      >>> found["short"].median < found["long"].median
      True
    """
    if not calls:
        raise ValueError("there is nothing to measure; give at least one call")
    if repeats < 1 or warm_up < 1:
        raise ValueError(f"repeats and warm_up are at least 1, got {repeats} and {warm_up}")
    if reference is not None and reference not in calls:
        raise ValueError(
            f"the reference {reference!r} is not among the calls: {', '.join(map(str, calls))}"
        )
    meter = clock() if meter is None else meter
    runs = {name: _runs_of_a_block(call, meter.seconds, warm_up) for name, call in calls.items()}

    def block(name: Name) -> float:
        calls[
            name
            # brings weights and input back into the cache, where a device that runs one network has
            # them
        ]()
        return _block(calls[name], runs[name], meter.read)

    names, random = [name for name in calls if name != reference], np.random.default_rng(seed)
    samples: dict[Name, list[float]] = {name: [] for name in names}
    beside = []
    for repeat in range(repeats):
        beside += [] if reference is None else [block(reference)]
        for place, number in enumerate(random.permutation(len(names))):
            name = names[number]
            cost = block(name)
            if reference is not None:
                beside.append(block(reference))
                cost /= max((beside[-2] + beside[-1]) / 2, 1e-12)
            samples[name].append(cost)
            report(repeat * len(names) + place + 1, repeats * len(names))
    found = {name: summarise(own) for name, own in samples.items()}
    if reference is None:
        return found
    own = summarise(beside)
    found = {name: _times(ratio, own.median) for name, ratio in found.items()}
    return {name: own if name == reference else found[name] for name in calls}


def _times(measured: Measured, factor: float) -> Measured:
    return measured._replace(median=measured.median * factor, spread=measured.spread * factor)


def _runs_of_a_block(call: Callable[[], object], seconds: float, warm_up: int) -> int:
    for _ in range(warm_up):
        call()
    runs = 1
    while (taken := _block(call, runs, time.perf_counter) * runs) < seconds:
        # Twice as many at a time at least: a first block may be too short to be timed.
        runs = (
            max(2 * runs, math.ceil(runs * seconds / max(taken, 1e-9)))
            if taken > seconds / 50
            else 4 * runs
        )
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
    # 1.4826 makes it the standard deviation where samples are normal.
    limit = _OUTLIER * 1.4826 * np.median(deviations)
    kept = values[deviations <= max(limit, 1e-9 * abs(np.median(values)))]
    return Measured(float(np.median(kept)), sample(kept).deviation or 0.0, len(kept))
