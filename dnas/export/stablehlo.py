"""Final networks as StableHLO, for whatever runs XLA programs."""

import jax
from jax import export as jax_export

from dnas.base import PyTree
from dnas.export.standard import image_batch, network_logits, standard_ops
from dnas.model import Model


def to_stablehlo(
    network: Model, variables: PyTree, image_shape: tuple[int, int, int], *, batch_size: int = 1
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
    return jax_export.export(jax.jit(standard_ops(network_logits(network, variables), x)))(
        x
    ).mlir_module()
