"""Loops over the edges of cells, forward and backward, that XLA compiles once. One loop a file."""

from dnas.kernels.backend import on_cpu
from dnas.kernels.loops.arrays import EdgeArrays, EdgeLoop, Links, RunEdge
from dnas.kernels.loops.plain import plain_loop
from dnas.kernels.loops.sampled import OneOf, SampledOp, sampled_loop
from dnas.kernels.loops.shared import Shared, shared_loop

__all__ = [
    "EdgeArrays",
    "EdgeLoop",
    "Links",
    "OneOf",
    "RunEdge",
    "SampledOp",
    "Shared",
    "edge_loop",
]


def edge_loop(
    run_edge: RunEdge | Shared | OneOf, links: Links, *, remat: bool = True, waves: bool = False
) -> EdgeLoop:
    """Returns the loop that does best on the device at hand: arrays -> the nodes with the output of
    every edge added to its target.

    Args:
      run_edge: what an edge computes.
      links: (source, target) of E edges.
      remat, waves: as `plain_loop` has them. What edges that leave a node have in common runs once
        for them where they run one by one on a CPU and are computed again for the gradient.

    Raises:
      ValueError: for waves of sampled ops.
    """
    if isinstance(run_edge, OneOf):
        if waves:
            raise ValueError(
                "each edge runs an op of its own where ops are sampled; run them one by one:"
                " waves=False"
            )
        return sampled_loop(run_edge, links, remat=remat)
    if isinstance(run_edge, Shared):
        if remat and not waves and on_cpu():
            return shared_loop(run_edge, links)
        run_edge = run_edge.alone
    return plain_loop(run_edge, links, remat=remat, waves=waves, flat=waves or not on_cpu())
