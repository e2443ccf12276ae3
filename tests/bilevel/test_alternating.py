"""The alternation is DARTS's, neither level sees what belongs to the other, and what an option
leaves alone stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_problems import TREE, quadratic, start, step_of, train_loss, updates_of, valid_loss

from dnas.bilevel import alternating, arch_adam, darts_optimizer, first_order, sgd, unrolled

RATE = optax.sgd(0.05)
TOY = alternating(first_order(), RATE, RATE)


def test_arch_moves_first_and_weights_follow_at_the_new_arch():
    (_, weights, arch), _ = step_of(TOY)(start(TOY))
    new_arch = 2.0 - 0.05 * (-2.0 - 2)
    new_weights = -2.0 - 0.05 * (2 * -2.0 - 2 * new_arch)
    np.testing.assert_allclose([weights, arch], [new_weights, new_arch], rtol=1e-6)
    # At the old arch it would be another.
    assert abs(new_weights - (-2.0 - 0.05 * (2 * -2.0 - 2 * 2.0))) > 1e-2


def test_training_batch_never_enters_the_arch_update():
    optimizer = darts_optimizer(2, 3)
    _, one, _ = updates_of(optimizer, quadratic(1.0), quadratic(1.0))
    _, other, _ = updates_of(optimizer, quadratic(-7.0), quadratic(1.0))
    np.testing.assert_array_equal(one["cell"], other["cell"])
    assert (one["cell"] != 0).all()


def test_validation_batch_enters_the_weights_through_arch_only():
    frozen = alternating(first_order(), sgd(0.1), optax.set_to_zero())
    one, arch_updates, _ = updates_of(frozen, quadratic(1.0), quadratic(1.0))
    other, _, _ = updates_of(frozen, quadratic(1.0), quadratic(-7.0))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert not arch_updates["cell"].any()
    moved, _, _ = updates_of(
        darts_optimizer(2, 3, arch_learning_rate=0.1), quadratic(1.0), quadratic(-7.0)
    )
    assert (moved["a"] != one["a"]).any()


def test_frozen_weights_stay_while_arch_moves():
    frozen = alternating(first_order(), optax.set_to_zero(), arch_adam())
    weight_updates, arch_updates, _ = updates_of(frozen, quadratic(1.0), quadratic(1.0))
    assert not any(leaf.any() for leaf in jax.tree.leaves(weight_updates))
    assert (arch_updates["cell"] != 0).all()


def test_first_order_gradient_equals_finite_differences():
    arch = {"cell": jnp.asarray([[0.3, -0.2, 0.9]])}
    gradient, metrics = first_order()(None, quadratic(0.1), TREE, arch, None, None)
    for column in range(3):
        shift = jnp.zeros((1, 3)).at[0, column].set(1e-2)
        up, down = (
            quadratic(0.1)(TREE, {"cell": arch["cell"] + sign * shift})[0] for sign in (1, -1)
        )
        np.testing.assert_allclose(gradient["cell"][0, column], (up - down) / 2e-2, rtol=1e-3)
    assert set(metrics) == {"loss"}


def test_metrics_carry_both_losses_under_their_names():
    _, _, metrics = updates_of(TOY, quadratic(2.0), quadratic(3.0))
    assert set(metrics) == {"loss", "valid_loss"}
    arch = {"cell": jnp.full((2, 3), 0.5)}
    np.testing.assert_allclose(
        metrics["valid_loss"], quadratic(3.0)(TREE, arch)[1]["loss"], rtol=1e-6
    )


def test_weights_first_moves_the_weights_at_the_old_arch_and_arch_at_the_new_weights():
    (_, weights, arch), metrics = step_of(
        alternating(first_order(), RATE, RATE, order="weights_first")
    )(start(TOY))
    new_weights = -2.0 - 0.05 * (2 * -2.0 - 2 * 2.0)
    new_arch = 2.0 - 0.05 * (new_weights - 2)
    np.testing.assert_allclose([weights, arch], [new_weights, new_arch], rtol=1e-6)
    losses = train_loss(-2.0, 2.0)[0], valid_loss(new_weights, 2.0)[0]
    np.testing.assert_allclose([metrics["loss"], metrics["valid_loss"]], losses, rtol=1e-6)


@pytest.mark.parametrize("order", ["arch_first", "weights_first"])
def test_virtual_step_starts_from_the_newest_state_of_the_weight_optimizer(order):
    seen = []

    def gradient(inner, outer, weights, arch, optimizer, state):
        seen.append((optimizer, state))
        return first_order()(inner, outer, weights, arch, optimizer, state)

    weight_optimizer, virtual = sgd(0.1), sgd(0.2, clip=None)
    optimizer = alternating(
        gradient, weight_optimizer, RATE, virtual_optimizer=virtual, order=order
    )
    before = start(optimizer)
    (after, *_), _ = step_of(optimizer)(before)
    found, state = seen[0]
    assert found is virtual
    expected = before[0].weights if order == "arch_first" else after.weights
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_without_a_virtual_optimizer_it_is_the_weight_optimizer():
    clipped = sgd(0.1, clip=0.5)
    one, other = (
        alternating(unrolled(), clipped, RATE, **given)
        for given in ({}, {"virtual_optimizer": clipped})
    )
    free = alternating(unrolled(), clipped, RATE, virtual_optimizer=sgd(0.1, clip=None))
    arch = [step_of(optimizer)(start(optimizer))[0][2] for optimizer in (one, other, free)]
    assert arch[0] == arch[1] != arch[2]


def test_virtual_optimizer_of_another_state_is_refused():
    optimizer = alternating(unrolled(), sgd(0.1), RATE, virtual_optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match="optax.identity"):
        start(optimizer)


def adam_runs(steps, **options):
    """(state, weights, arch) and metrics of each step, with optimisers that have states, in one
    compiled program."""
    optimizer = alternating(first_order(), sgd(0.05), arch_adam(0.1), **options)
    carry, found = start(optimizer), []
    step = jax.jit(step_of(optimizer)).lower(carry).compile()
    for _ in range(steps):
        carry, metrics = step(carry)
        found.append((carry, metrics))
    return start(optimizer), found


def moved(before, after):
    """Whether arch and the state of its optimiser have changed; both or none have."""
    same = [
        np.array_equal(a, b)
        for a, b in zip(
            *(jax.tree.leaves((carry[0].arch, carry[2])) for carry in (before, after)), strict=True
        )
    ]
    assert all(same) or not any(same)
    return not all(same)


@pytest.mark.parametrize("order", ["arch_first", "weights_first"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1, 1]),
        ({"warmup_steps": 3}, [0, 0, 0, 1, 1, 1, 1]),
        ({"arch_every": 3}, [0, 0, 1, 0, 0, 1, 0]),
        ({"warmup_steps": 2, "arch_every": 2}, [0, 0, 0, 1, 0, 1, 0]),
    ],
    ids=["every step", "warm-up", "every third", "both"],
)
def test_arch_and_its_optimizer_move_in_their_steps_only_and_weights_in_all(
    options, expected, order
):
    before, found = adam_runs(7, order=order, **options)
    steps = []
    for after, metrics in found:
        steps.append(int(moved(before, after)))
        assert before[1] != after[1]
        weights = before[1] if order == "arch_first" else after[1]
        np.testing.assert_allclose(
            metrics["valid_loss"], valid_loss(weights, before[2])[0], rtol=1e-5, atol=1e-6
        )
        before = after
    assert steps == expected


def test_after_the_warm_up_all_is_as_without_one_from_those_weights():
    _, late = adam_runs(5, warmup_steps=2)
    optimizer = alternating(first_order(), sgd(0.05), arch_adam(0.1))
    carry = late[1][0]
    for (state, *expected), _ in late[2:]:
        carry, _ = step_of(optimizer)(carry)
        np.testing.assert_allclose(carry[1:], expected, rtol=1e-6)
        assert carry[0].step == state.step


def primitives(**options):
    optimizer = alternating(first_order(), RATE, RATE, **options)
    return {
        equation.primitive.name
        for equation in jax.make_jaxpr(step_of(optimizer))(start(optimizer)).eqns
    }


def test_only_options_that_need_a_branch_put_one_in_the_program():
    assert "cond" not in primitives() | primitives(order="weights_first")
    assert "cond" in primitives(warmup_steps=1) & primitives(arch_every=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": -1}, "got -1 and 1"),
        ({"arch_every": 0}, "got 0 and 0"),
        (
            {"order": "weights"},
            "order 'weights' does not exist; choose from: arch_first, weights_first",
        ),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        alternating(first_order(), RATE, RATE, **options)
