"""Weights and arch descend one loss from the same point, with one gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_problems import TREE, quadratic, start, step_of, updates_of

from dnas.bilevel import single_level

ARCH = {"cell": jnp.full((2, 3), 0.5)}


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_updates_are_the_gradients_of_the_weighted_sum_at_the_same_point(weights):
    train, valid = quadratic(1.0), quadratic(-2.0)
    optimizer = single_level(
        optax.sgd(1.0), optax.sgd(1.0), inner_weight=weights[0], outer_weight=weights[1]
    )
    *found, metrics = updates_of(optimizer, train, valid)
    gradients = jax.grad(
        lambda *both: weights[0] * train(*both)[0] + weights[1] * valid(*both)[0], (0, 1)
    )(TREE, ARCH)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, rtol=1e-6), tuple(found), gradients)
    expected = {"loss": train(TREE, ARCH)[1]["loss"], "valid_loss": valid(TREE, ARCH)[1]["loss"]}
    assert {name: float(value) for name, value in metrics.items()} == {
        name: float(x) for name, x in expected.items()
    }


def counting(objective, passes):
    """The objective, counting in `passes` how often it is run forward and backward."""

    @jax.custom_vjp
    def counted(weights, arch):
        passes["forward"] += 1
        return objective(weights, arch)

    def backward(saved, g):
        passes["backward"] += 1
        return jax.vjp(objective, *saved)[1](g)

    counted.defvjp(lambda *both: (counted(*both), both), backward)
    return counted


@pytest.mark.parametrize(("outer_weight", "backward"), [(1.0, 1), (0.0, 0)])
def test_each_batch_is_run_once_and_backward_only_where_it_counts(outer_weight, backward):
    passes = [{"forward": 0, "backward": 0} for _ in range(2)]
    objectives = [counting(quadratic(1.0), one) for one in passes]
    updates_of(single_level(optax.sgd(1.0), optax.sgd(1.0), outer_weight=outer_weight), *objectives)
    assert passes == [{"forward": 1, "backward": 1}, {"forward": 1, "backward": backward}]


def test_optimizers_keep_their_states():
    optimizer = single_level(optax.sgd(0.1, momentum=0.9), optax.adam(0.1))
    carry = start(optimizer)
    for number in range(1, 4):
        carry, _ = step_of(optimizer)(carry)
        assert optax.tree.get(carry[0].arch, "count") == number
    assert optax.tree.get(carry[0].weights, "trace") != 0


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 1.0), (1.0, -1.0)])
def test_weights_that_leave_no_loss_to_descend_are_refused(weights):
    with pytest.raises(ValueError, match="not negative nor both zero"):
        single_level(
            optax.sgd(0.1), optax.sgd(0.1), inner_weight=weights[0], outer_weight=weights[1]
        )
