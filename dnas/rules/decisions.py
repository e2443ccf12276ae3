"""What deciding an edge during a search means for its candidates and for the mix."""

import numpy as np

from dnas.base import AnyArray, Candidates, Mix


def keep_op(rows: AnyArray, edge: int, op: int) -> np.ndarray:
    """Returns the candidates [E, O] of one kind with nothing but `op` left on `edge`."""
    kept = np.array(rows)
    kept[edge] = np.arange(kept.shape[1]) == op
    return kept


def drop_edge(rows: AnyArray, edge: int) -> np.ndarray:
    """Returns the candidates [E, O] of one kind with nothing left on `edge`."""
    kept = np.array(rows)
    kept[edge] = False
    return kept


def decided_mix(mix: Mix, candidates: Candidates) -> dict[str, np.ndarray]:
    """Returns the mix under the candidates: weight one for the only op of an edge, zero for every
    op that was dropped.

    Example:
      >>> decided_mix(
      ...     {"cell": np.full((3, 2), 0.4)},
      ...     {"cell": np.array([[True, True], [False, True], [False, False]])},
      ... )
      {'cell': array([[0.4, 0.4],
             [0. , 1. ],
             [0. , 0. ]])}
    """
    found = {}
    for kind, rows in mix.items():
        left = np.asarray(candidates[kind])
        alone = left.sum(1, keepdims=True) == 1
        found[kind] = np.where(alone, left, np.asarray(rows) * left).astype(np.asarray(rows).dtype)
    return found
