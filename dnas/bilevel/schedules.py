"""Learning rates that change once an epoch."""

import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from dnas.base import Array, epoch_of
from dnas.checks import checked


@checked
def cosine_by_epoch(
    epochs: int,
    steps_per_epoch: int,
    *,
    learning_rate: float = 0.025,
    min_learning_rate: float = 0.001,
    warmup_epochs: int = 0,
) -> optax.Schedule:
    """Returns the cosine schedule of DARTS, which changes once an epoch: epoch e of n has min +
    (max - min) * (1 + cos(pi * e / n)) / 2, so that the whole first epoch runs at the maximum.

    Args:
      warmup_epochs: in a warm-up of m epochs epoch t, counted from 1, is a part t / (m + 1) of the
        way from the minimum to the maximum; the cosine follows, over n - m epochs.

    Raises:
      ValueError: if the warm-up leaves no epoch for the cosine.

    Example:
      >>> schedule = cosine_by_epoch(50, 10)
      >>> [round(float(schedule(step)), 6) for step in (0, 9, 10, 499)]
      [0.025, 0.025, 0.024976, 0.001024]
    """
    _check_warmup(warmup_epochs, epochs)
    fall = optax.cosine_decay_schedule(1.0, epochs - warmup_epochs)
    height = learning_rate - min_learning_rate

    def schedule(step: ArrayLike) -> Array:
        epoch = epoch_of(step, steps_per_epoch)
        part = jnp.asarray(fall((epoch - warmup_epochs).astype(jnp.float32)))
        if warmup_epochs:
            part = jnp.where(epoch < warmup_epochs, (epoch + 1) / (warmup_epochs + 1), part)
        return min_learning_rate + height * part

    return schedule


@checked
def exponential_by_epoch(
    steps_per_epoch: int, *, learning_rate: float = 0.1, factor: float = 0.97
) -> optax.Schedule:
    """Returns the schedule of DARTS on ImageNet: epoch e, counted from 0, has learning_rate *
    factor^e.

    Example:
      >>> schedule = exponential_by_epoch(10)
      >>> [round(float(schedule(step)), 6) for step in (0, 9, 10, 20)]
      [0.1, 0.1, 0.097, 0.09409]
    """

    def schedule(step: ArrayLike) -> Array:
        return learning_rate * factor ** epoch_of(step, steps_per_epoch).astype(jnp.float32)

    return schedule


@checked
def cosine_power_annealing(
    epochs: int,
    steps_per_epoch: int,
    *,
    learning_rate: float = 0.025,
    min_learning_rate: float = 1e-4,
    power: float = 2.0,
    warmup_epochs: int = 0,
) -> optax.Schedule:
    """Returns the schedule of sharpDARTS, section 3.3, https://arxiv.org/abs/1903.09900, which
    changes once an epoch.

    Epoch t of T, counted from 1, has power^(1 + c) with c = (1 + cos(pi t / T)) / 2, moved and
    stretched so that the first epoch has exactly the maximum and the last exactly the minimum.
    power=1 is the cosine itself. In a warm-up of n epochs epoch t is a part t / (n + 1) of the way
    from the minimum to the maximum; the curve follows, over T - n epochs.

    Args:
      power: the larger, the sooner the rate falls; 2 on CIFAR-10, 10 on ImageNet.

    Raises:
      ValueError: if power is below 1, or the warm-up leaves no epoch for the curve.

    Example:
      >>> schedule = cosine_power_annealing(10, 5, learning_rate=1.0, min_learning_rate=0.0)
      >>> [round(float(schedule(step)), 6) for step in (0, 4, 5, 49)]
      [1.0, 1.0, 0.902258, 0.0]
    """
    if power < 1:
        raise ValueError(f"power must be 1 or more, got {power}")
    _check_warmup(warmup_epochs, epochs)
    length = epochs - warmup_epochs
    cosine = (1 + np.cos(np.pi * np.arange(1, length + 1) / length)) / 2
    curve = cosine if power == 1 else power ** (1 + cosine)
    curve = (curve - curve[-1]) / (curve[0] - curve[-1]) if length > 1 else np.ones(1)
    rise = np.arange(1, warmup_epochs + 1) / (warmup_epochs + 1)
    rates = min_learning_rate + (learning_rate - min_learning_rate) * np.concatenate([rise, curve])

    def schedule(step: ArrayLike) -> Array:
        epoch = jnp.minimum(epoch_of(step, steps_per_epoch), epochs - 1)
        return jnp.asarray(rates)[epoch]

    return schedule


def _check_warmup(warmup_epochs: int, epochs: int) -> None:
    if warmup_epochs and not 0 < warmup_epochs < epochs:
        raise ValueError(
            f"a warm-up has 0 epochs or more and fewer than the {epochs} of the run, got"
            f" {warmup_epochs}"
        )
