"""Fewer ops an edge: what the stages of a progressive search drop."""

import numpy as np

from dnas.base import Candidates, Mix


def strongest_ops(mix: Mix, candidates: Candidates, keep: int) -> Candidates:
    """Returns candidates of which each edge keeps the `keep` that weigh most; on ties the earlier
    op stays.

    P-DARTS, https://arxiv.org/abs/1904.12760, goes from 8 ops over 5 to 3, progressive DrNAS,
    https://arxiv.org/abs/2006.10355, from 7 to 4, and BNAS, https://arxiv.org/abs/1911.10862, drops
    the worst every few epochs. What had been dropped stays so: the result is a subset. An edge with
    fewer candidates keeps them all.

    Args:
      mix: {kind: [E, O]}.
      candidates: {kind: bool [E, O]}, numpy.
      keep: ops an edge, at least 1.

    Raises:
      ValueError: if keep is below 1, or a mix does not fit its candidates or holds NaN.

    Example:
      >>> mix, candidates = (
      ...     {"cell": np.array([[0.4, 0.3, 0.3]])},
      ...     {"cell": np.array([[False, True, True]])},
      ... )
      >>> strongest_ops(mix, candidates, 1)["cell"].tolist()
      [[False, True, False]]
    """
    if keep < 1:
        raise ValueError(f"each edge keeps at least one op, got keep = {keep}")
    kept = {}
    for kind, allowed in candidates.items():
        allowed, rows = np.asarray(allowed, bool), np.asarray(mix.get(kind, ()), float)
        if rows.shape != allowed.shape or np.isnan(rows).any():
            raise ValueError(
                f"the mix of cell {kind!r} is numbers {allowed.shape}, one a candidate; got"
                f" {rows.shape}: {rows}"
            )
        order = np.argsort(np.where(allowed, -rows, np.inf), axis=-1, kind="stable")
        rank = np.argsort(order, axis=-1, kind="stable")
        kept[kind] = allowed & (rank < keep)
    return kept
