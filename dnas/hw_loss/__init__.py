"""What a network costs: exact counts of parameters and multiply-adds."""

from dnas.hw_loss.counts import Counts, count_network, count_supernet

__all__ = ["Counts", "count_network", "count_supernet"]
