"""One step of RARTS is its three lines, in their order."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_problems import TREE, quadratic, start, step_of, train_loss, updates_of, valid_loss

from dnas.bilevel import rarts, sgd

LAMBDA, BETA, RATES = 3.0, 7.0, (0.01, 0.02, 0.05)


def toy():
    of_weights, of_copy, of_arch = map(optax.sgd, RATES)
    return rarts(of_weights, of_arch, copy_optimizer=of_copy, inner_weight=LAMBDA, coupling=BETA)


def test_weights_copy_and_arch_move_in_turn_each_at_the_newest():
    carry = start(toy())
    w, y, a = -2.0, -2.0, 2.0
    for _ in range(3):
        carry, metrics = step_of(toy())(carry)
        losses = train_loss(w, a)[0], valid_loss(y, a)[0]
        w = w - RATES[0] * (LAMBDA * (2 * w - 2 * a) + BETA * (w - y))
        y = y - RATES[1] * (a + BETA * (y - w))
        a = a - RATES[2] * (LAMBDA * (2 * a - 2 * w) + y - 2)
        np.testing.assert_allclose([carry[1], carry[0].copy, carry[2]], [w, y, a], rtol=1e-5)
        np.testing.assert_allclose([metrics["loss"], metrics["valid_loss"]], losses, rtol=1e-5)


def test_copy_starts_equal_to_the_weights_in_arrays_of_its_own():
    state = toy().init(TREE, {"cell": jnp.ones((2, 3))})
    jax.tree.map(np.testing.assert_array_equal, state.copy, TREE)
    assert state.copy["a"].unsafe_buffer_pointer() != TREE["a"].unsafe_buffer_pointer()


def test_copy_has_the_optimizer_of_the_weights_unless_another_is_given():
    """Clipped and with momentum both, as the states show."""
    momentum = sgd(0.1)
    state = rarts(momentum, momentum).init(TREE, {"cell": jnp.ones((2, 3))})
    assert jax.tree.structure(state.copy_optimizer) == jax.tree.structure(momentum.init(TREE))


def test_both_halves_of_the_data_drive_arch():
    optimizer = rarts(optax.set_to_zero(), optax.sgd(1.0), inner_weight=LAMBDA)
    train, valid = quadratic(1.0), quadratic(-2.0)
    _, arch_updates, _ = updates_of(optimizer, train, valid)
    arch = {"cell": jnp.full((2, 3), 0.5)}
    expected = (
        -LAMBDA * jax.grad(train, 1, has_aux=True)(TREE, arch)[0]["cell"]
        - jax.grad(valid, 1, has_aux=True)(TREE, arch)[0]["cell"]
    )
    np.testing.assert_allclose(arch_updates["cell"], expected, rtol=1e-6)


@pytest.mark.parametrize("options", [{"inner_weight": 0.0}, {"coupling": -1.0}])
def test_parameters_that_are_not_positive_are_refused(options):
    with pytest.raises(ValueError, match="inner_weight and coupling are positive"):
        rarts(optax.sgd(0.1), optax.sgd(0.1), **options)
