"""Samples of one op an edge, made differentiable: Gumbel-softmax, soft (SNAS, FBNet) and hard
(GDAS)."""

import jax
import jax.numpy as jnp
import optax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import (
    Relaxation,
    normal_logits,
    read_softmax,
    straight_through,
    value_at,
)


@checked
def gumbel_softmax(
    *, temperature: optax.ScalarOrSchedule = 1.0, init_scale: float = 1e-3
) -> Relaxation:
    """Returns the relaxation mix = softmax((arch + g) / temperature), with g drawn from Gumbel(0,
    1) for every edge and op.

    SNAS, https://arxiv.org/abs/1812.09926; FBNet, https://arxiv.org/abs/1812.03443. The largest
    entry of a row is distributed as softmax(arch). Genotypes are read from softmax(arch).

    Args:
      temperature: a number or an optax schedule of the step, see `linear_temperature` and
        `exponential_temperature`; 1 is where SNAS starts. Values and gradients are finite from 1e-3
        on.
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from.

    Raises:
      ValueError: if the temperature is a number and not positive.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> from dnas.relax import linear_temperature
      >>> relaxation = gumbel_softmax(temperature=linear_temperature(50, 100, start=1.0, end=0.03))
      >>> mix = relaxation.sample(key, relaxation.init(key, choices), choices, 0)
      >>> mix.shape, float(mix[0].sum().round(5))
      ((14, 8), 1.0)
    """
    _check(temperature)

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del choices
        return jax.nn.softmax(_noisy(key, arch["ops"]) / value_at(step, temperature), axis=-1)

    return Relaxation(normal_logits(init_scale), sample, read_softmax)


@checked
def gumbel_hard(
    *, temperature: optax.ScalarOrSchedule = 10.0, init_scale: float = 1e-3
) -> Relaxation:
    """Returns the relaxation whose mix is one-hot, the largest entry of a Gumbel-softmax sample,
    with that sample's gradient.

    GDAS, https://arxiv.org/abs/1910.04465: straight through, so that dL/dmix reaches arch by the
    soft sample at the same draw. With a supernet that runs the sampled op only, {"sampled": True},
    a step costs as much as one path, and dL/dmix is zero for all other ops. In the searches of
    NAS-Bench-201 it is not: their released code adds the entries of the others, which are zero, to
    the edge as bare numbers, so that each has the gradient that an op of all ones would have.

    Args:
      temperature: of the soft sample, a number or an optax schedule of the step; GDAS falls from 10
        to 0.1, `linear_temperature(epochs, steps_per_epoch)`. The mix itself does not depend on it.
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from.

    Raises:
      ValueError: if the temperature is a number and not positive.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = gumbel_hard().sample(key, gumbel_hard().init(key, choices), choices, 0)
      >>> mix.shape, float(mix.max()), float(mix.sum())
      ((14, 8), 1.0, 14.0)
    """
    _check(temperature)

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del choices
        noisy = _noisy(key, arch["ops"])
        soft = jax.nn.softmax(noisy / value_at(step, temperature), axis=-1)
        # Of `noisy`, not `soft`, in which two entries may round to the same number.
        hard = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), noisy.shape[-1], dtype=soft.dtype)
        return straight_through(hard, soft)

    return Relaxation(normal_logits(init_scale), sample, read_softmax)


def _check(temperature: optax.ScalarOrSchedule) -> None:
    if not callable(temperature) and temperature <= 0:
        raise ValueError(
            f"the temperature is a positive number or a schedule of the step, got {temperature}"
        )


def _noisy(key: Key, logits: Array) -> Array:
    """Logits plus Gumbel noise. Everything stays in log space: no probability is divided by or
    taken the logarithm of."""
    return logits + jax.random.gumbel(key, logits.shape, logits.dtype)
