"""Tabular benchmarks: architectures whose networks were trained once, for everyone to look up."""

from dnas.tabular.benchmark import Benchmark
from dnas.tabular.canonical import canonical_form, is_connected
from dnas.tabular.nats import NATS_METRICS, from_nats
from dnas.tabular.reading import load_benchmark
from dnas.tabular.standing import Standing, standings

__all__ = [
    "NATS_METRICS",
    "Benchmark",
    "Standing",
    "canonical_form",
    "from_nats",
    "is_connected",
    "load_benchmark",
    "standings",
]
