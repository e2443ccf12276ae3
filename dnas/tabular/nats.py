"""NATS-Bench as a tabular benchmark, through its own package: pip install 'dnas[nats]'."""

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.tabular.benchmark import Benchmark

# {name: (data set, epochs, what)}, as https://arxiv.org/abs/2009.00437 trains them.
NATS_METRICS = {
    "cifar10_valid_12ep": ("cifar10-valid", 12, "valid-accuracy"),
    "cifar10_test_200ep": ("cifar10", 200, "test-accuracy"),
    "cifar100_test_200ep": ("cifar100", 200, "test-accuracy"),
    "imagenet16_test_200ep": ("ImageNet16-120", 200, "test-accuracy"),
}
_COSTS = ("flops", "params", "latency")


@checked
def from_nats(
    source: Any,
    *,
    metrics: Mapping[str, tuple[str, int, str]] = NATS_METRICS,
    costs: Collection[str] | None = None,
) -> Benchmark:
    """Returns the topology space of NATS-Bench (https://arxiv.org/abs/2009.00437), each metric the
    mean over its seeds.

    It takes minutes; `Benchmark.write` keeps the result as a CSV that loads in seconds.

    Args:
      source: what `nats_bench.create(path, "tss")` returned, or the path itself: the file
        NATS-tss-v1_0-3ffb9.pickle.pbz2 or the unpacked folder NATS-tss-v1_0-3ffb9-simple, published
        at https://github.com/D-X-Y/NATS-Bench. **Both are pickles, which run whatever code is in
        them as nats_bench reads them**: give a path only to a file you trust. Nothing else in dnas
        unpickles.
      metrics: {name of a metric: (data set, epochs, key)}: the key is one of the API's
        `get_more_info`, or flops (millions), params (millions) or latency (seconds) of
        `get_cost_info`.
      costs: of which metrics less is better, as `Benchmark` takes it.

    Raises:
      ValueError: if there is no such path, nats_bench is not installed or cannot read it, the API
        is not that of the topology space or has no such metric.
    """
    api = _open(pathlib.Path(source)) if isinstance(source, (str, os.PathLike)) else source
    if getattr(api, "search_space_name", None) != "topology":
        raise ValueError(
            "the API of the topology space is needed, nats_bench.create(path, 'tss'), not"
            f" {api!r:.80}"
        )
    # In fast mode, where each architecture is read when asked for, those evaluated are not known
    # beforehand.
    rows = range(len(api)) if api.fast_mode else sorted(api.evaluated_indexes)
    values = {
        name: np.asarray([_value(api, row, *where) for row in rows])
        for name, where in metrics.items()
    }
    return Benchmark([Genotype.from_text(api.arch(row)) for row in rows], values, costs)


def _open(path: pathlib.Path) -> Any:
    if not path.exists():
        raise ValueError(
            f"there is no {path}; NATS-Bench publishes its files at"
            " https://github.com/D-X-Y/NATS-Bench"
        )
    try:
        import nats_bench
    except ImportError:
        raise ValueError(
            f"{path} is read by the package nats_bench; install it with: pip install 'dnas[nats]'"
        ) from None
    try:
        return nats_bench.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)
    except Exception as error:  # of any kind: those of bz2, of pickle and asserts
        raise ValueError(
            f"nats_bench cannot read {path}: {type(error).__name__}: {error!s:.300}; it may be"
            " damaged or another file: fetch it again from https://github.com/D-X-Y/NATS-Bench"
        ) from error


def _value(api: Any, row: int, dataset: str, epochs: int, key: str) -> float:
    try:
        if key in _COSTS:
            found = api.get_cost_info(row, dataset, hp=str(epochs))
        else:
            found = api.get_more_info(row, dataset, hp=str(epochs), is_random=False)
    except Exception as error:  # KeyError, AssertionError, and in fast mode those of reading files
        raise ValueError(
            f"NATS-Bench has no result of architecture {row} on {dataset!r} at {epochs} epochs:"
            f" {type(error).__name__}: {error!s:.300}"
        ) from error
    if found.get(key) is None:
        raise ValueError(
            f"NATS-Bench has no {key!r} of architecture {row} on {dataset!r}; it has:"
            f" {', '.join(sorted(found))}"
        )
    return found[key]
