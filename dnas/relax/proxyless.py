"""The relaxation of ProxylessNAS: one op an edge, chosen by binary gates. Section 3,
https://arxiv.org/abs/1812.00332"""

import jax
import jax.numpy as jnp
import optax

from dnas.base import ABSENT, Array, Key, Logits, PyTree
from dnas.checks import checked, one_of
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, normal_logits, read_softmax, straight_through


@checked
def binary_gates(*, paths: str = "full", init_scale: float = 1e-3) -> Relaxation:
    """Returns the relaxation whose mix is one-hot, drawn from p = softmax(arch), with
    ProxylessNAS's gradient.

    Eq. 4: dL/darch_i = sum_j dL/dmix_j p_j (delta_ij - p_i), that of softmax taken at the drawn
    gates. Its expectation is the exact gradient of E[L] where L is linear in the gates. Genotypes
    are read from softmax(arch).

    With two paths, as the paper's section 3.2.1 saves memory: two ops are drawn from p without
    replacement, one of them is active with the probabilities renormalised, and only these two
    logits get a gradient, that of their own softmax. The exact gradient is a sum over pairs of ops,
    sum_j p_i p_j (c_i - c_j) for L = c . mix; here each pair counts P_ij / (p_i + p_j)^2 times as
    much, P_ij the probability that it is drawn: as much for two ops, not so for more. The arch
    optimiser then belongs in `keep_pair_mass`.

    Args:
      paths: "full", every gate gets a gradient, as the released code has it by default; or "two".
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from.

    Raises:
      ValueError: for other paths.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = binary_gates().sample(key, binary_gates().init(key, choices), choices, 0)
      >>> mix.shape, float(mix.max()), float(mix.sum())
      ((14, 8), 1.0, 14.0)
    """
    one_of(("full", "two"), paths=paths)

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del choices, step
        pair_key, gate_key = jax.random.split(key)
        logits = arch["ops"]
        if paths == "two":
            # The two largest of logits plus Gumbel noise are draws without replacement:
            #   https://arxiv.org/abs/1903.06059
            _, pair = jax.lax.top_k(
                logits + jax.random.gumbel(pair_key, logits.shape), min(2, logits.shape[-1])
            )
            drawn = jax.nn.one_hot(pair, logits.shape[-1]).any(axis=-2)
            # Below a dropped op that was drawn for want of others.
            logits = jnp.where(drawn, logits, 2 * ABSENT)
        gates = jax.nn.one_hot(jax.random.categorical(gate_key, logits), logits.shape[-1])
        return straight_through(gates, jax.nn.softmax(logits, axis=-1))

    return Relaxation(normal_logits(init_scale), sample, read_softmax)


@checked
def keep_pair_mass(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the arch optimiser of `binary_gates(paths="two")`: `inner`, after which each row's
    drawn logits are shifted by a common amount so that the sum of their exponentials is what it
    was.

    ProxylessNAS, section 3.2.1: so the probabilities of the ops that were not drawn do not move.
    Drawn are those whose
    gradient is not zero. `inner` must leave the others alone: Adam with b1=0, or else its momentum
    moves logits that had a gradient in earlier steps, and no weight decay. The published settings
    are `optax.adam(1e-3, b1=0.0)`. Arrays that have no rows of ops, such as edge weights [E], get
    the updates of `inner` as they are. Where a cost is part of the objective, all logits have a
    gradient, that of its expectation, and a row keeps the sum of all.

    Raises:
      ValueError: on update without params.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> optimizer = keep_pair_mass(optax.sgd(1.0))
      >>> arch, gradient = jnp.zeros((1, 3)), jnp.array([[1.0, -1.0, 0.0]])
      >>> updates, _ = optimizer.update(gradient, optimizer.init(arch), arch)
      >>> [round(float(number), 3) for number in jnp.exp(arch + updates)[0]]
      [0.238, 1.762, 1.0]
    """

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError(
                "keep_pair_mass shifts logits and needs them: call update(gradients, state, params)"
            )
        moved, state = inner.update(updates, state, params)
        return jax.tree.map(_shifted, moved, updates, params), state

    return optax.GradientTransformation(inner.init, update)


def _shifted(update: Array, gradient: Array, logits: Array) -> Array:
    if logits.ndim < 2:
        return update
    drawn = gradient != 0
    before, after = (
        jax.nn.logsumexp(jnp.where(drawn, values, ABSENT), axis=-1, keepdims=True)
        for values in (logits, logits + update)
    )
    return jnp.where(drawn, update - (after - before), update)
