"""Zen: how much the features of a network of Gaussian weights move with its inputs.
https://arxiv.org/abs/2102.01063"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from dnas.base import Array, Batch, Key, Mix, PyTree
from dnas.kernels.norms import NORMS
from dnas.model import Model
from dnas.scores.forward import logits_of
from dnas.scores.layers import map_layers
from dnas.scores.probes import probed
from dnas.scores.score import unrolled_supernet
from dnas.space import SearchSpace

_STEP = 0.01  # alpha of the paper


def zen(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns log E |f(x) - f(x + 0.01 e)|_1 + sum over norms of log sqrt(mean variance).

    f are the features before they are averaged over all positions, x and e are from N(0, 1), and
    the variances those of the channels that a norm is given, https://arxiv.org/abs/2102.01063,
    algorithm 1.

    Of the batch only the shape of the inputs is used, and its key, unless that is None. Weights are
    from N(0, 1), see `gaussian_supernet`. Branches that lead nowhere must not run: see `live_mix`.

    Raises:
      ValueError: for a network that averages nothing over all positions.
    """
    key = jax.random.key(0) if batch.key is None else batch.key
    keys, inputs = jax.random.split(key), batch.inputs
    first, moved = (jax.random.normal(own, inputs.shape, inputs.dtype) for own in keys)
    moved = first + _STEP * moved

    def logits(inputs: Array) -> Array:
        return logits_of(model, variables, mix, batch._replace(inputs=inputs))

    zero = jnp.zeros((), inputs.dtype)
    scales = probed(logits, _log_scale, zero, first)[1]
    features, others = (probed(logits, _features, zero, own)[1] for own in (first, moved))
    if not features.ndim:
        raise ValueError("zen needs a network that averages an image over all of its positions")
    return jnp.log(jnp.abs(features - others).sum((1, 2, 3)).mean()) + scales


def gaussian_supernet(space: SearchSpace, inputs: PyTree, **sizes: Any) -> Model:
    """Returns the supernet whose weights are drawn from N(0, 1); biases and norms are as ever."""
    model = unrolled_supernet(space, inputs, **sizes)

    def init(key: Key, inputs: PyTree) -> PyTree:
        variables = model.init(key, inputs)
        keys = iter(jax.random.split(key, len(jax.tree.leaves(variables["params"]))))

        def drawn(array: Array) -> Array:
            return jax.random.normal(next(keys), array.shape, array.dtype)

        weights = map_layers(drawn, variables["params"], others=lambda array: array)
        return {**variables, "params": weights}

    return model._replace(init=init)


def _features(equation: Any) -> Callable[..., Array] | None:
    """What is summed over all positions of images."""
    if equation.primitive is not primitives.reduce_sum_p:
        return None
    is_mean = equation.invars[0].aval.ndim == 4 and tuple(equation.params["axes"]) == (1, 2)
    return (lambda x: x) if is_mean else None


def _log_scale(equation: Any) -> Callable[..., Array] | None:
    """Of what a norm is given."""
    if not any(equation.primitive is norm.primitive for norm in NORMS):
        return None
    return lambda x, *rest: jnp.log(x.var((0, 1, 2)).mean()) / 2
