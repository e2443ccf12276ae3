"""Scores by what single weights do: the gradient of the loss, or of what flows through a network,
times the weight."""

import jax
import jax.numpy as jnp

from dnas.base import Array, Batch, Mix, PyTree
from dnas.hessian import hessian_vector_product
from dnas.model import Model
from dnas.scores.forward import logits_of, loss_of
from dnas.scores.layers import map_layers, sum_over_layers


def grad_norm(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the sum over layers of the norms of the loss's gradient,
    https://arxiv.org/abs/2101.08134, section 3.1; not the norm of all of it.

    This and all scores like it have arguments and a result of one meaning, and work under jit.

    Args:
      model: a supernet, or the network of a genotype with the mix {}.
      variables: at their initialisation.
      mix: one-hot, see `live_mix`.
      batch: some examples; norms use their statistics.

    Returns:
      A number of which more is better, []. Of scores whose last step is done in 64 bits, see
      `Score`, it is what that step is given.
    """
    gradient = jax.grad(loss_of(model, variables, mix, batch))(variables["params"])
    return sum_over_layers(lambda g: jnp.linalg.norm(g.ravel()), gradient)


def snip(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the sum of |w dL/dw| over the weights, https://arxiv.org/abs/1810.02340, eq. 6, and
    for networks https://arxiv.org/abs/2101.08134, eq. 1."""
    weights = variables["params"]
    gradient = jax.grad(loss_of(model, variables, mix, batch))(weights)
    return sum_over_layers(lambda w, g: jnp.abs(w * g).sum(), weights, gradient)


def grasp(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns -sum of w (H g) over the weights, with g the gradient of the loss and H its Hessian,
    https://arxiv.org/abs/2002.07376, eq. 8, at temperature 1.

    The sign is that of the code of https://arxiv.org/abs/2101.08134; others turn it round.
    """
    weights, loss = variables["params"], loss_of(model, variables, mix, batch)
    gradient = jax.grad(loss)(weights)
    # The direction lies in the weights of layers alone: biases and scales stay.
    direction = map_layers(lambda g: g, gradient, others=jnp.zeros_like)
    product = hessian_vector_product(loss, weights)(direction)
    return -sum_over_layers(lambda w, h: (w * h).sum(), weights, product)


def synflow(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the sum of |w dR/dw| over the weights, with |w| for every weight and no biases, and R
    the sum of the logits at an input of ones, https://arxiv.org/abs/2006.05467, eq. 1 and algorithm
    1. Of the batch only the shape of an input is used.

    The network has no norms. In a chain each layer adds R, the law of the paper's section 4. It
    grows beyond what 32 bits hold, so `SCORES` computes in 64 and takes the logarithm.
    """
    weights = map_layers(jnp.abs, variables["params"], others=jnp.zeros_like)
    ones = batch._replace(inputs=jnp.ones_like(batch.inputs[:1]))

    def flow(weights: PyTree) -> Array:
        return logits_of(model, {**variables, "params": weights}, mix, ones).sum()

    return sum_over_layers(lambda w, g: jnp.abs(w * g).sum(), weights, jax.grad(flow)(weights))
