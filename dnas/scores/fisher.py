"""Fisher: what each channel of each layer would cost if it were left out.
https://arxiv.org/abs/1801.05787, for networks https://arxiv.org/abs/2101.08134"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array, Batch, Mix, PyTree
from dnas.cells.norms import NO_NORMS, Norms
from dnas.model import Model
from dnas.scores.forward import loss_of
from dnas.scores.layers import sum_over_layers
from dnas.scores.score import sampled_supernet
from dnas.space import SearchSpace

_EXAMPLES = "examples"  # the axis of a batch whose examples have copies of the weights
_EPS = 1e-5


def fisher(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the sum over the outputs c of each layer of fan_in * 1/2 mean_n (sum a_nc g_nc)^2,
    with a what the layer makes of example n at all positions and g the gradient of the loss by it.

    https://arxiv.org/abs/1801.05787, eq. 6; the factor fan_in is that of the code of
    https://arxiv.org/abs/2101.08134, which counts a channel once for each of its weights.

    Each example has a copy of the weights of its own: a layer is linear in them, so that the sum
    of a g over the positions of a channel is that of w dL/dw over its weights. The norms of the
    network are `SHARED_NORMS`, of all copies together.
    """

    weights, size = variables["params"], len(batch.targets)

    def gradient(one: Batch) -> PyTree:
        # Of all examples' mean loss by the copy of one: what crosses from copy to copy, in norms,
        # is differentiated across them too.
        alone = jax.tree.map(lambda array: array[None], one)
        return jax.grad(lambda own: loss_of(model, variables, mix, alone)(own) / size)(weights)

    gradients = jax.vmap(gradient, axis_name=_EXAMPLES)(batch._replace(key=None))
    # Copies are the last axis, so that layers are the first.
    products = jax.tree.map(lambda w, g: jnp.moveaxis(w * g, 0, -1), weights, gradients)
    products = jax.tree.map(_with_bias, products, is_leaf=_has_bias)

    def of_layer(products: Array, weights: Array) -> Array:
        channels = products.reshape(-1, *products.shape[-2:]).sum(0)  # [C, B]
        fan_in = weights.size // weights.shape[-1]
        return fan_in * jnp.square(channels).mean(-1).sum() / 2

    return sum_over_layers(of_layer, products, weights)


def _has_bias(tree: PyTree) -> bool:
    return isinstance(tree, dict) and set(tree) == {"kernel", "bias"}


def _with_bias(layer: PyTree) -> PyTree:
    """The bias of a linear layer as one more of its inputs: it is part of what the layer makes."""
    if not _has_bias(layer):
        return layer
    inputs = layer["kernel"].reshape(-1, *layer["bias"].shape)
    return {"kernel": jnp.concatenate([inputs, layer["bias"][None]])}


def _shared_norm(x: Array) -> Array:
    """A batch norm over the examples of all copies."""
    mean = lax.pmean(x.mean((0, 1, 2)), _EXAMPLES)
    centred = x - mean
    var = lax.pmean(jnp.square(centred).mean((0, 1, 2)), _EXAMPLES)
    return centred * lax.rsqrt(var + _EPS)


def _make_shared_norm() -> Callable[[Array], Array]:
    return _shared_norm


SHARED_NORMS = Norms(stem=_make_shared_norm, conv=_make_shared_norm, pool=_make_shared_norm)


def supernet_of_copies(space: SearchSpace, inputs: PyTree, **sizes: Any) -> Model:
    """Returns the supernet that `fisher` asks of, with `SHARED_NORMS`. These have copies around
    them only there, and so not when weights are drawn."""
    drawn = sampled_supernet(space, inputs, norms=NO_NORMS, **sizes)
    return drawn._replace(apply=sampled_supernet(space, inputs, norms=SHARED_NORMS, **sizes).apply)
