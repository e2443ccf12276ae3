"""Final networks as StableHLO, for whatever runs XLA programs."""

from collections.abc import Callable
from typing import Any

import jax
from jax import export as jax_export

from dnas.base import PyTree
from dnas.checks import checked
from dnas.export.functions import image_batch, network_logits
from dnas.export.standard import standard_ops
from dnas.model import Model


@checked
def to_stablehlo(
    network: Model,
    variables: PyTree,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int | None = 1,
) -> str:
    """Returns the trained network as the text of a StableHLO module, images [B, H, W, C] -> logits
    [B, num_classes].

    Args, Raises: as `to_onnx`, of which it needs none of the packages.

    Example:
      >>> import dnas, jax, jax.numpy as jnp
      >>> network = dnas.SPACES["darts"].network(
      ...     dnas.PUBLISHED["DARTS_V2"], channels=2, num_cells=1
      ... )
      >>> variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
      >>> "stablehlo.convolution" in to_stablehlo(network, variables, (8, 8, 3))
      True
    """
    x = image_batch(image_shape, batch_size)
    return function_to_stablehlo(network_logits(network, variables), x)


@checked
def function_to_stablehlo(function: Callable[..., Any], *inputs: Any) -> str:
    """Returns a function of arrays as the text of a StableHLO module; what it closes over becomes
    constants.

    Args:
      inputs: arrays or shapes that it is called with.
    """
    # An input that nothing depends on is one all the same.
    standard = jax.jit(standard_ops(function, *inputs), keep_unused=True)
    return jax_export.export(standard)(*inputs).mlir_module()
