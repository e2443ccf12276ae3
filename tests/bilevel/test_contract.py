"""Every optimiser of both levels keeps the contract, and the contract fails on one that breaks a
law."""

import jax
import jax.numpy as jnp
import optax
import pytest

from dnas.bilevel import (
    BilevelOptimizer,
    alternating,
    arch_adam,
    conjugate_gradient,
    darts_optimizer,
    finite_differences,
    first_order,
    implicit,
    neumann,
    rarts,
    sgd,
    single_level,
    unrolled,
)
from dnas.contracts import check_bilevel

DARTS = {
    "first order": first_order(),
    "unrolled": unrolled(),
    "unrolled, two steps": unrolled(2),
    "finite differences": finite_differences(),
    "implicit, Neumann": implicit(neumann(rate=0.01)),
    "implicit, conjugate gradients": implicit(conjugate_gradient(), damping=1.0),
}
OPTIMIZERS = {
    name: darts_optimizer(2, 2, arch_gradient=gradient) for name, gradient in DARTS.items()
} | {
    "weights first": darts_optimizer(2, 2, arch_gradient=unrolled(), order="weights_first"),
    "warm-up": darts_optimizer(2, 2, arch_gradient=unrolled(), warmup_epochs=1),
    "every second step": darts_optimizer(2, 2, arch_every=2, order="weights_first"),
    "any optax": alternating(unrolled(), optax.adamw(1e-3), optax.rmsprop(1e-3)),
    "single level": single_level(sgd(0.01), arch_adam()),
    "training loss only": single_level(sgd(0.01), arch_adam(), outer_weight=0.0),
    "validation loss only": single_level(sgd(0.01), arch_adam(), inner_weight=0.0),
    "RARTS": rarts(sgd(0.01), arch_adam()),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.contract
def test_optimizer_keeps_its_contract(name):
    check_bilevel(OPTIMIZERS[name])


GOOD = alternating(first_order(), optax.sgd(0.01), optax.sgd(0.01))


def breaking(change):
    """GOOD with what its update returns changed: change(weight_updates, arch_updates, state,
    metrics, carry)."""

    def update(inner, outer, *carry):
        return change(*GOOD.update(inner, outer, *carry), carry)

    return BilevelOptimizer(GOOD.init, update)


def frozen(number):
    def change(*values):
        values = list(values[:4])
        values[number] = jax.tree.map(jnp.zeros_like, values[number])
        return tuple(values)

    return breaking(change)


def by_tracing(w, a, state, metrics, carry):
    factor = 1.1 if isinstance(state.step, jax.core.Tracer) else 1.0
    return jax.tree.map(lambda leaf: leaf * factor, w), a, state, metrics


def across_seeds(w, a, state, metrics, carry):
    """Draws the seeds of a vmap together."""

    @jax.custom_batching.custom_vmap
    def share(leaf):
        return leaf

    share.def_vmap(lambda size, batched, leaf: (jnp.broadcast_to(leaf.mean(0), leaf.shape), True))
    return jax.tree.map(share, w), a, state, metrics


BROKEN = {
    "structures, shapes and dtypes": breaking(
        lambda w, a, state, metrics, _: (w["layer"], a, state, metrics)
    ),
    "a state of the structure": breaking(lambda w, a, state, metrics, _: (w, a, (state,), metrics)),
    "metrics are scalars": breaking(
        lambda w, a, state, metrics, _: (w, a, state, {"loss": metrics["loss"]})
    ),
    "is finite": breaking(
        lambda w, a, state, metrics, _: (w, a, state, metrics | {"valid_loss": jnp.log(-1.0)})
    ),
    "weights move": frozen(0),
    "arch move": frozen(1),
    "the same under jit": breaking(by_tracing),
    "vmap of init and update": breaking(across_seeds),
    "returns a state": BilevelOptimizer(lambda weights, arch: 1 / 0, GOOD.update),
}


@pytest.mark.parametrize("law", BROKEN)
def test_contract_names_the_broken_law(law):
    with pytest.raises(AssertionError, match=f"law broken: .*{law}"):
        check_bilevel(BROKEN[law])


def test_a_warm_up_longer_than_the_check_is_named():
    long = darts_optimizer(3, 2, warmup_epochs=2)
    with pytest.raises(AssertionError, match="give more steps"):
        check_bilevel(long)
    check_bilevel(long, steps=5)
