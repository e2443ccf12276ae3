"""Numbers that tests draw, by NumPy: what JAX draws is another program for each shape."""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["enable_x64", "filled", "normal"]

try:
    from jax import enable_x64
except ImportError:  # jax before 0.8
    from jax.experimental import enable_x64


def normal(seed, *shape):
    """float32 [*shape], float64 where that is enabled."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def filled(module, *args, seed=0):
    """Variables of a flax module that is called with args, every array drawn."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(module.init, jax.random.key(seed), *args))
    return tree.unflatten(
        [normal((seed, number), *leaf.shape) for number, leaf in enumerate(leaves)]
    )
