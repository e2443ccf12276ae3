"""What some values say of all that might have come in their place, and whether two methods differ.

Tests and intervals are those of `scipy.stats`, which is imported where one is computed.
"""

from dnas.statistics.comparing import (
    Comparison,
    compare,
    probability_of_better,
    relative_improvement,
)
from dnas.statistics.draws import expected_best_of
from dnas.statistics.ranks import kendall, precision_at, spearman
from dnas.statistics.samples import (
    REPORTED,
    Interval,
    Sample,
    bootstrap_interval,
    deviations_needed,
    mean_interval,
    prediction_interval,
    reported,
    sample,
)

__all__ = [
    "REPORTED",
    "Comparison",
    "Interval",
    "Sample",
    "bootstrap_interval",
    "compare",
    "deviations_needed",
    "expected_best_of",
    "kendall",
    "mean_interval",
    "precision_at",
    "prediction_interval",
    "probability_of_better",
    "relative_improvement",
    "reported",
    "sample",
    "spearman",
]
