"""Terms that are added to the outer objective: (arch, mix) -> scalar.

arch is {kind: {"ops": logits [E, O], ...}}; what belongs to ops or edges that have been dropped
(`dnas.base.ABSENT`) does not count. A loss has no weight of its own;
`make_search` takes pairs (weight or schedule, loss).
"""

import math

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike

from dnas.base import Arch, ArchLoss, Array, Mix, add_up, epoch_of
from dnas.checks import checked, one_of
from dnas.relax.dirichlet import concentration
from dnas.relax.relaxation import present

# A term of the outer objective, or a pair of its weight (a number, or a schedule of the step) and
# the term.
WeightedLoss = ArchLoss | tuple[optax.ScalarOrSchedule, ArchLoss]


def entropy() -> ArchLoss:
    """Returns the entropy of softmax(arch), summed over edges, in nats: minimised, it drives each
    edge to one op.

    QuantNAS, https://arxiv.org/abs/2208.14839, with the weight of `quantnas_entropy_schedule`.

    Example:
      >>> arch = {"cell": {"ops": jnp.zeros((3, 5))}}
      >>> round(float(entropy()(arch, {})), 4), round(3 * math.log(5), 4)
      (4.8283, 4.8283)
    """

    def of_edges(logits: Array) -> Array:
        logarithms = jax.nn.log_softmax(logits, axis=-1)
        return -jnp.where(present(logits), jnp.exp(logarithms) * logarithms, 0.0).sum(axis=-1)

    return lambda arch, mix: add_up(of_edges(rows["ops"]).sum() for rows in arch.values())


@checked
def quantnas_entropy_schedule(
    epochs: int, steps_per_epoch: int, *, warm_up: int = 9, coefficient: float = 1e-3
) -> optax.Schedule:
    """Returns QuantNAS's weight of the entropy, which changes once an epoch: zero at first,
    `coefficient` in the last epoch.

    Of the n - w epochs after the warm-up the first quarter q = (n - w) // 4 has zero, too; then,
    with s epochs done since the warm-up, it is coefficient * s / (n - 1 - w) * log(s - q + 2) /
    log(n - w - q + 1). Released code of https://arxiv.org/abs/2208.14839, which searches 20 epochs.

    Args:
      warm_up: w, epochs without arch steps.

    Raises:
      ValueError: unless at least two epochs follow the warm-up.

    Example:
      >>> schedule = quantnas_entropy_schedule(20, 10)
      >>> [round(1e3 * float(schedule(10 * epoch)), 4) for epoch in (0, 10, 11, 19)]
      [0.0, 0.0, 0.0602, 1.0]
    """
    if not 0 <= warm_up <= epochs - 2:
        raise ValueError(
            f"at least two epochs follow the warm-up, got {warm_up} epochs of it out of {epochs}"
        )
    left = epochs - warm_up
    quarter = left // 4

    def schedule(step: ArrayLike) -> Array:
        since = jnp.minimum(epoch_of(step, steps_per_epoch), epochs - 1) - warm_up
        ramp = jnp.log(jnp.maximum(since - quarter, 0) + 2) / math.log(left - quarter + 1)
        return jnp.where(since < quarter, 0.0, coefficient * since / (left - 1) * ramp)

    return schedule


def beta_decay() -> ArchLoss:
    """Returns the mean over edges of log sum_o exp(arch[e, o]), which holds the largest logits
    down.

    beta-DARTS, https://arxiv.org/abs/2203.01665, with the weight of `beta_decay_schedule`. Its
    gradient is softmax(arch) divided by the number of edges, those of all kinds together.

    Example:
      >>> round(float(beta_decay()({"cell": {"ops": jnp.zeros((3, 5))}}, {})), 6)
      1.609438
    """

    def loss(arch: Arch, mix: Mix) -> Array:
        del mix
        logits = [rows["ops"] for rows in arch.values()]
        edges = [present(rows).any(axis=-1) for rows in logits]
        sums = [jax.nn.logsumexp(rows, axis=-1) for rows in logits]
        return _mean(sums, edges)

    return loss


@checked
def beta_decay_schedule(epochs: int, steps_per_epoch: int, *, end: float = 50.0) -> optax.Schedule:
    """Returns the weight of beta-DARTS's loss, which changes once an epoch: epoch e of n has end *
    e / n.

    Example:
      >>> schedule = beta_decay_schedule(100, 10)
      >>> [float(schedule(step)) for step in (0, 9, 10, 500)]
      [0.0, 0.0, 0.5, 25.0]
    """
    rise = optax.linear_schedule(0.0, end, epochs)
    return lambda step: rise(epoch_of(step, steps_per_epoch))


@checked
def zero_one(*, form: str = "l2") -> ArchLoss:
    """Returns FairDARTS's loss, which drives sigmoid(arch) to 0 or 1: -mean((sigmoid(arch) -
    1/2)^2) over edges and ops.

    https://arxiv.org/abs/1911.12126, where its weight is 10. It is 0 at sigmoid = 1/2 and at least
    -1/4.

    Args:
      form: "l2", the equation above, or "l1", -mean(|sigmoid(arch) - 1/2|), whose gradient does not
        vanish near 1/2.

    Raises:
      ValueError: for another form.

    Example:
      >>> float(zero_one()({"cell": {"ops": jnp.array([[0.0, 100.0], [-100.0, 100.0]])}}, {}))
      -0.1875
    """
    one_of(("l2", "l1"), form=form)
    distance = jnp.square if form == "l2" else jnp.abs

    def loss(arch: Arch, mix: Mix) -> Array:
        del mix
        logits = [rows["ops"] for rows in arch.values()]
        return -_mean(
            [distance(jax.nn.sigmoid(rows) - 0.5) for rows in logits],
            [present(rows) for rows in logits],
        )

    return loss


def l2() -> ArchLoss:
    """Returns half the sum of squares of all of arch, edge weights too: its gradient is arch
    itself, so that a weight of 1e-3 is the weight decay of DARTS and DrNAS,
    https://arxiv.org/abs/2006.10355, where the arch optimiser has none.

    Example:
      >>> float(l2()({"cell": {"ops": jnp.array([[3.0, 4.0]])}}, {}))
      12.5
    """

    def loss(arch: Arch, mix: Mix) -> Array:
        del mix
        return add_up(
            0.5 * jnp.square(jnp.where(present(part), part, 0.0)).sum()
            for part in jax.tree.leaves(arch)
        )

    return loss


def dirichlet_kl() -> ArchLoss:
    """Returns KL(Dir(elu(arch) + 1) || Dir(1)), summed over edges: DrNAS's penalty on
    concentrations away from uniform.

    https://arxiv.org/abs/2006.10355, where its weight is 1e-3. Each edge has a distribution over
    its own ops; one over all edges at once, as some other code has it, gives another number.

    Example:
      >>> round(abs(float(dirichlet_kl()({"cell": {"ops": jnp.zeros((3, 5))}}, {}))), 4)
      0.0
    """

    def of_edges(logits: Array) -> Array:
        kept = present(logits)
        # Dropped ops, and all of an edge that has none left, enter with a concentration of one and
        # are left out of the sums.
        own = concentration(jnp.where(kept, logits, 0.0))
        count = jnp.maximum(kept.sum(axis=-1), 1).astype(own.dtype)
        total = jnp.where(kept.any(axis=-1), jnp.where(kept, own, 0.0).sum(axis=-1), 1.0)
        terms = (own - 1) * (digamma(own) - digamma(total)[..., None]) - gammaln(own)
        return gammaln(total) - gammaln(count) + jnp.where(kept, terms, 0.0).sum(axis=-1)

    return lambda arch, mix: add_up(of_edges(rows["ops"]).sum() for rows in arch.values())


def _mean(values: list[Array], counted: list[Array]) -> Array:
    """The mean of all values that are counted, over several arrays; zero if none is."""
    total = add_up(
        jnp.where(which, part, 0.0).sum() for part, which in zip(values, counted, strict=True)
    )
    return total / jnp.maximum(add_up(which.sum() for which in counted), 1)
