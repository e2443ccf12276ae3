"""Final networks for other runtimes: ONNX, and StableHLO for whatever runs XLA programs."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from dnas.base import Array, PyTree
from dnas.cells import standard_ops
from dnas.space import Network


def to_onnx(network: Network, variables: PyTree, image_shape: tuple[int, int, int], *, batch_size: int = 1, opset: int = 21):
    """Returns the trained network as an `onnx.ModelProto`, images [B, H, W, C] -> logits [B, num_classes], both float32.

    It computes what `network.apply(variables, images, False, key)` does: norms use their running averages, and are folded into
    the convolutions before them. Written by jax2onnx, https://github.com/enpasos/jax2onnx; `onnx.save(model, path)` keeps it.

    Args:
      variables: of the network, weights under "params"; they become constants of the model.
      image_shape: (H, W, C); images are normalised as in training, which is not part of the model.
      batch_size: B, fixed.

    Raises:
      ValueError: for sizes below 1.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    return function_to_onnx(_logits(network, variables), _images(image_shape, batch_size), opset=opset)


def function_to_onnx(function, x: Any, *, opset: int = 21):
    """Returns a function of one array as an `onnx.ModelProto`; what it closes over becomes constants.

    Args:
      x: an array or shape that it is called with.

    Raises:
      ValueError: if the function computes nothing.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    jaxpr = jax.make_jaxpr(function)(x).jaxpr
    if jaxpr.outvars[0] in jaxpr.invars:
        raise ValueError("the function returns its input as it is: there is nothing to export")
    try:
        from jax2onnx import to_onnx as convert
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: export to ONNX needs the extra packages: pip install 'dnas[export]'") from None
    return convert(standard_ops(function, x), [tuple(x.shape)], opset=opset, input_names=["images"], output_names=["logits"])


def to_stablehlo(network: Network, variables: PyTree, image_shape: tuple[int, int, int], *, batch_size: int = 1) -> str:
    """Returns the trained network as the text of a StableHLO module, images [B, H, W, C] -> logits [B, num_classes].

    Args, Raises: as `to_onnx`, of which it needs none of the packages.

    Example:
      >>> import dnas
      >>> network = dnas.SPACES["darts"].network(dnas.PUBLISHED["DARTS_V2"], channels=2, num_cells=1)
      >>> variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
      >>> "stablehlo.convolution" in to_stablehlo(network, variables, (8, 8, 3))
      True
    """
    x = _images(image_shape, batch_size)
    return jax_export.export(jax.jit(standard_ops(_logits(network, variables), x)))(x).mlir_module()


def _logits(network: Network, variables: PyTree):
    def logits(images: Array) -> Array:
        return network.apply(variables, images, False, jax.random.key(0))[0]

    return logits


def _images(image_shape: tuple[int, int, int], batch_size: int) -> jax.ShapeDtypeStruct:
    if len(image_shape) != 3 or min(*image_shape, batch_size) < 1:
        raise ValueError(f"images have a shape (H, W, C) and come at least one at once, got {image_shape} and {batch_size}")
    return jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
