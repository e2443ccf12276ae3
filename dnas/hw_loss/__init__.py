"""What a network costs: exact counts of parameters and multiply-adds, and models fitted to what was measured."""

from dnas.hw_loss.counts import Counts, count_network, count_supernet
from dnas.hw_loss.fit import CostModel, fit_cost
from dnas.hw_loss.liveness import Liveness, expected_liveness

__all__ = ["CostModel", "Counts", "Liveness", "count_network", "count_supernet", "expected_liveness", "fit_cost"]
