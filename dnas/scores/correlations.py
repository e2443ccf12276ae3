"""Scores by how alike a network finds different inputs: the eigenvalues of a correlation matrix."""

import jax
import numpy as np

from dnas.base import AnyArray, Array, Batch, Mix, PyTree
from dnas.model import Model
from dnas.scores.forward import logits_of, outputs_of

_SMALL = 1e-5  # k of the paper


def jacob_cov(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the gradients of the sum of the logits by the inputs, [B, ...], whose
    `eigenvalue_score` is the score: the first version of https://arxiv.org/abs/2006.04647, in the
    form of https://arxiv.org/abs/2101.08134, section 3.2."""

    def total(inputs: Array) -> Array:
        return logits_of(model, variables, mix, batch._replace(inputs=inputs)).sum()

    return jax.grad(total)(batch.inputs)


def hidden_covariance(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the states after each token, [B, T, H], of a recurrent network, whose
    `eigenvalue_score` is the score: https://arxiv.org/abs/2306.00288, section 3.2.

    Raises:
      ValueError: for a network without such states.
    """
    hidden = outputs_of(model, variables, mix, batch).hidden
    if hidden is None:
        raise ValueError(
            "the network returns no hidden states: hidden_covariance is of recurrent networks, and"
            " others have jacob_cov"
        )
    return hidden


def eigenvalue_score(rows: AnyArray) -> float:
    """Returns -sum_i log(v_i + k) + 1 / (v_i + k), with v the eigenvalues of the correlations of
    the rows [B, ...] with each other and k = 1e-5; nan where a row is constant.

    Largest, -B, where no two rows have anything in common.

    Example:
      >>> round(eigenvalue_score(np.array([[1.0, -1, 1, -1], [1, 1, -1, -1]])), 3)
      -2.0
    """
    rows = np.asarray(rows, np.float64).reshape(len(rows), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = np.corrcoef(rows)
    if not np.isfinite(correlations).all():
        return float("nan")
    values = np.linalg.eigvalsh(correlations) + _SMALL
    return -float(np.sum(np.log(values) + 1 / values))
