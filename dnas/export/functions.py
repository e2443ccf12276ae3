"""What is exported of a network: a function of arrays, and the shapes of its inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from dnas.base import Array, PyTree
from dnas.model import Model, Tokens


def network_logits(network: Model, variables: PyTree) -> Callable[[Array], Array]:
    """Returns images [B, H, W, C] -> logits of a trained network."""

    def logits(images: Array) -> Array:
        return network.apply(variables, {}, images)[0].logits

    return logits


def image_batch(image_shape: tuple[int, int, int], batch_size: int | None) -> jax.ShapeDtypeStruct:
    """Returns the shape of a batch of images, of any number of them where the size is None.

    Raises:
      ValueError: for sizes below 1.
    """
    if len(image_shape) != 3 or min(*image_shape, 1 if batch_size is None else batch_size) < 1:
        raise ValueError(
            f"images have a shape (H, W, C) and come at least one at once, got {image_shape} and"
            f" {batch_size}"
        )
    batch = jax_export.symbolic_shape("B") if batch_size is None else (batch_size,)
    return jax.ShapeDtypeStruct((*batch, *image_shape), jnp.float32)


def check_computes(function: Callable[[Any], Any], x: Any) -> None:
    """Raises ValueError for a function that returns its input."""
    jaxpr = jax.make_jaxpr(function)(x).jaxpr
    if jaxpr.outvars[0] in jaxpr.invars:
        raise ValueError("the function returns its input as it is: there is nothing to export")


def language_model_step(
    network: Model, variables: PyTree, num_tokens: int, batch_size: int
) -> tuple[Callable[[Array, Array], tuple[Array, Array]], dict[str, Any]]:
    """Returns (tokens [B, T], hidden [B, H]) -> (logits [B, T, V], states [B, T, H]) of a trained
    language model, and the shapes of its inputs by name.

    Raises:
      ValueError: for sizes below 1.
    """
    if min(num_tokens, batch_size) < 1:
        raise ValueError(
            f"a text has at least one token and comes at least once, got {num_tokens} and"
            f" {batch_size}"
        )

    def read(tokens: Array, hidden: Array) -> tuple[Array, Array]:
        outputs, _ = network.apply(variables, {}, Tokens(tokens, hidden))
        assert outputs.hidden is not None  # of a network that reads tokens
        return outputs.logits, outputs.hidden

    tokens: Any = jax.ShapeDtypeStruct((batch_size, num_tokens), jnp.int32)
    states = jax.eval_shape(network.apply, variables, {}, Tokens(tokens))[0].hidden
    hidden = jax.ShapeDtypeStruct((batch_size, states.shape[-1]), states.dtype)
    return read, {"tokens": tokens, "hidden": hidden}
