"""Temperatures of Gumbel-softmax samples, as optax schedules of the step that change once an
epoch."""

import math

import jax.numpy as jnp
import optax

from dnas.base import epoch_of
from dnas.checks import checked


@checked
def linear_temperature(
    epochs: int, steps_per_epoch: int, *, start: float = 10.0, end: float = 0.1
) -> optax.Schedule:
    """Returns the temperature of GDAS: epoch e of n has start + (end - start) * e / (n - 1), `end`
    from the last one on.

    https://arxiv.org/abs/1910.04465. SNAS goes from 1 to 0.03.

    Example:
      >>> schedule = linear_temperature(250, 10)
      >>> [round(float(schedule(10 * epoch)), 4) for epoch in (0, 1, 125, 249)]
      [10.0, 9.9602, 5.0301, 0.1]
    """
    fall = optax.linear_schedule(start, end, max(epochs - 1, 1))
    return lambda step: fall(epoch_of(step, steps_per_epoch).astype(jnp.float32))


@checked
def exponential_temperature(
    epochs: int, steps_per_epoch: int, *, start: float = 5.0, rate: float = 0.045
) -> optax.Schedule:
    """Returns the temperature of FBNet: epoch e has start * exp(-rate * e), a factor of 0.956 an
    epoch.

    https://arxiv.org/abs/1812.03443. From the last epoch on it stays.

    Example:
      >>> schedule = exponential_temperature(90, 10)
      >>> [round(float(schedule(10 * epoch)), 4) for epoch in (0, 10, 45, 89)]
      [5.0, 3.1881, 0.66, 0.0911]
    """
    fall = optax.exponential_decay(
        start, 1, math.exp(-rate), end_value=start * math.exp(-rate * (epochs - 1))
    )
    return lambda step: fall(epoch_of(step, steps_per_epoch).astype(jnp.float32))
