"""NASWOT: how differently the ReLUs of a network take different inputs.
https://arxiv.org/abs/2006.04647"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, primitives

from dnas.base import AnyArray, Array, Batch, Mix, PyTree
from dnas.kernels.kernel import KERNELS, Convolution
from dnas.model import Model
from dnas.scores.forward import logits_of
from dnas.scores.probes import probed


def naswot(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns K [B, B], the logarithm of whose determinant is the score, see `log_determinant`,
    https://arxiv.org/abs/2006.04647, section 3.

    K_ij counts the units of all ReLUs that take examples i and j alike, both as positive or both
    not. ReLUs of branches that lead nowhere must not run: see `live_mix`.
    """

    def logits(batch: Batch) -> Array:
        return logits_of(model, variables, mix, batch)

    size = len(batch.targets)
    zero = jnp.zeros((size, size), batch.inputs.dtype)
    return probed(logits, partial(_relu, size), zero, batch)[1]


def log_determinant(matrix: AnyArray) -> float:
    """Returns log |det| of a symmetric matrix; nan where that is singular, as where a network takes
    two examples alike.

    Example:
      >>> round(log_determinant(np.array([[3, 1, 0], [1, 3, 2], [0, 2, 3]])), 6)
      2.484907
    """
    sign, found = np.linalg.slogdet(np.asarray(matrix, np.float64))
    return float(found) if sign > 0 else float("nan")


def _relu(size: int, equation: Any) -> Callable[..., Array] | None:
    """How the inputs of a ReLU add to K: of the larger of zero and what so many examples have, and
    of a convolution that takes the ReLU in front of it."""
    kernel = KERNELS.get(equation.primitive)
    if kernel is not None:
        form = kernel.standard_of(equation)
        gated = isinstance(form, Convolution) and form.relu
        return (lambda x, *rest: _alike(x)) if gated else None
    if equation.primitive is not primitives.max_p:
        return None
    x, zero = equation.invars
    if not isinstance(zero, Literal) or np.ndim(zero.val) or zero.val != 0:
        return None
    is_of_batch = x.aval.ndim > 1 and x.aval.shape[0] == size
    return (lambda x, zero: _alike(x)) if is_of_batch else None


def _alike(x: Array) -> Array:
    """How many numbers of each two examples have the same sign, [B, B], of x [B, ...]."""
    signs = jnp.where(x > 0, 1, -1).astype(x.dtype).reshape(len(x), -1)
    return (signs.shape[1] + signs @ signs.T) / 2
