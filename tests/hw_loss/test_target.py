"""Penalties, factors and multipliers: their published values, their gradients, and what they bring
a cost to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.hw_loss import target as forms

T = 20.0
# form, cost, value, derivative
VALUES = [
    (forms.logarithm(), 8.0, np.log(8), 1 / 8),
    (forms.relative(T), 25.0, 0.25, 1 / T),
    (forms.relative(T), 15.0, -0.25, 1 / T),
    (forms.hinge(T), 25.0, 0.25, 1 / T),
    (forms.hinge(T), 15.0, 0.0, 0.0),
    (forms.hinge(T, power=2), 25.0, 0.0625, 0.5 / T),
    (forms.absolute(T), 25.0, 0.25, 1 / T),
    (forms.absolute(T), 15.0, 0.25, -1 / T),
    (forms.band(T), 22.0, np.log(22), 1 / 22),
    (forms.band(T), 20.9, 0.0, 0.0),
    (forms.band(T), 19.1, 0.0, 0.0),
    (forms.band(T), 18.0, -np.log(18), -1 / 18),
    (forms.mnasnet(T), 40.0, 0.07 * np.log(2), 0.07 / 40),
    (forms.mnasnet(T), 10.0, 0.07 * np.log(0.5), 0.07 / 10),
    (forms.mnasnet(T, below=0.0, above=-1.0), 10.0, 0.0, 0.0),
    (forms.mnasnet(T, below=0.0, above=-1.0), 40.0, np.log(2), 1 / 40),
    (
        forms.log_power(least=2.0),
        20.0,
        0.2 * np.log(20) ** 0.6,
        0.2 * 0.6 * np.log(20) ** -0.4 / 20,
    ),
    (forms.log_power(least=2.0, target=T), T, 0.2, 0.2 * 0.6 / np.log(T) / T),
    (forms.excess_power(T, power=2), 25.0, 1.5625, 2 * 1.25 / T),
    (forms.excess_power(T, power=2), 15.0, 1.0, 0.0),
]


@pytest.mark.parametrize(("form", "cost", "value", "slope"), VALUES)
def test_a_form_has_its_published_value_and_derivative(form, cost, value, slope):
    found = jax.jit(jax.value_and_grad(form))(jnp.float32(cost))
    np.testing.assert_allclose(found, (value, slope), rtol=2e-5, atol=1e-7)


RELATIVE = {
    "relative": forms.relative,
    "hinge": forms.hinge,
    "absolute": forms.absolute,
    "excess": forms.excess_power,
}


@pytest.mark.parametrize("name", RELATIVE)
def test_what_is_relative_to_a_target_does_not_depend_on_the_unit(name):
    make = RELATIVE[name]
    for cost in (15.0, 25.0):
        np.testing.assert_allclose(
            make(T)(jnp.float32(cost)), make(1e3 * T)(jnp.float32(1e3 * cost)), rtol=1e-5
        )


def test_fbnets_loss_has_the_gradient_of_the_product_rule():
    factor = forms.log_power(least=2.0)
    logits, table = jnp.array([0.3, -0.2]), jnp.array([5.0, 9.0])

    def loss(logits):
        cost = jax.nn.softmax(logits) @ table
        return (logits**2).sum() * factor(cost)

    share = jax.nn.softmax(logits)
    cost = share @ table
    of_cost = share * (table - cost)
    of_loss = (logits**2).sum() * 0.2 * 0.6 * jnp.log(cost) ** -0.4 / cost * of_cost
    expected = 2 * logits * 0.2 * jnp.log(cost) ** 0.6 + of_loss
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(logits), expected, rtol=1e-5)


def test_an_arch_loss_is_the_penalty_of_the_cost_of_the_mix():
    mix = {"cell": jnp.array([[0.25, 0.75]])}
    cost = lambda mix: (mix["cell"] * jnp.array([[8.0, 16.0]])).sum()  # noqa: E731
    assert float(forms.arch_loss(cost)({}, mix)) == 14.0
    assert float(forms.arch_loss(cost, forms.hinge(7.0))({}, mix)) == 1.0


MULTIPLIERS = {
    "lightnas": forms.lightnas,
    "lagrangian": forms.lagrangian,
    "equality": lambda target: forms.lagrangian(target, equality=True),
}


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_without_a_multiplier_nothing_is_added(name):
    own = MULTIPLIERS[name](T)
    penalty = lambda cost: own.penalty(own.init(), cost)  # noqa: E731
    found = jax.jit(jax.value_and_grad(penalty))(jnp.array([50.0]))
    assert float(found[0]) == 0 and float(found[1][0]) == 0


def test_lightnas_goes_back_to_zero_when_its_sign_opposes_the_violation():
    own = forms.lightnas(10.0, learning_rate=0.1)
    step = lambda state, cost: own.update(state, jnp.array([cost]), jnp.array([np.nan]))  # noqa: E731
    up = step(own.init(), 20.0)
    assert float(up[0]) == pytest.approx(0.1)
    assert float(step(up, 9.0)[0]) == 0.0  # below the target with l > 0
    assert float(step(-up, 11.0)[0]) == 0.0
    assert float(step(up, 20.0)[0]) == pytest.approx(0.2)
    assert float(step(up, 10.0)[0]) == pytest.approx(0.1)


def test_the_multiplier_of_a_bound_stays_above_zero_and_that_of_an_equality_need_not():
    for make in (forms.lagrangian, forms.augmented_lagrangian):
        bound, equality = make(10.0), make(10.0, equality=True)
        cost = jnp.array([5.0])
        assert float(bound.update(bound.init(), cost, cost)[0]) == 0.0
        assert float(equality.update(equality.init(), cost, cost)[0]) < 0.0


def test_the_gradient_of_the_augmented_lagrangian_is_the_textbook_one():
    own = forms.augmented_lagrangian(10.0, rho=2.0)
    for multiplier, cost in ((0.0, 12.0), (0.3, 12.0), (0.3, 9.0), (0.3, 5.0)):
        slope = jax.grad(own.penalty, argnums=1)(jnp.array([multiplier]), jnp.array([cost]))
        expected = max(0.0, multiplier + 2.0 * (cost / 10 - 1)) / 10
        np.testing.assert_allclose(slope, [expected], atol=1e-6)


def test_multipliers_follow_what_they_are_told_to_watch():
    discrete, expected = jnp.array([8.0]), jnp.array([14.0])
    found = {}
    for watch in ("discrete", "expected", "worst"):
        own = forms.lagrangian(10.0, rate=1.0, equality=True, watch=watch)
        found[watch] = round(float(own.update(own.init(), discrete, expected)[0]), 5)
    assert found == {"discrete": -0.2, "expected": 0.4, "worst": 0.4}


@pytest.mark.parametrize("make", [forms.lightnas, forms.lagrangian, forms.augmented_lagrangian])
def test_several_constraints_are_their_sum_and_a_constraint_twice_counts_twice(make):
    both, one, other = make([10.0, 3.0]), make(10.0), make(3.0)
    cost = jnp.array([12.0, 4.0])
    state = both.update(both.init(), cost, cost)
    parts = [
        own.update(own.init(), cost[n : n + 1], cost[n : n + 1])
        for n, own in enumerate((one, other))
    ]
    np.testing.assert_allclose(state, jnp.concatenate(parts), rtol=1e-6)
    total = sum(
        float(own.penalty(part, cost[n : n + 1]))
        for n, (own, part) in enumerate(zip((one, other), parts, strict=True))
    )
    assert float(both.penalty(state, cost)) == pytest.approx(float(total), rel=1e-5)
    twice = make([10.0, 10.0])
    same = jnp.array([12.0, 12.0])
    double = twice.penalty(twice.update(twice.init(), same, same), same)
    assert float(double) == pytest.approx(2 * float(one.penalty(parts[0], cost[:1])), rel=1e-5)


@pytest.mark.parametrize("name", ["lagrangian", "augmented", "lightnas"])
def test_a_multiplier_brings_the_cost_to_its_target(name):
    """min (x - 5)^2 with the cost e^x at most, or equal to, e^2: a convex stand-in for a search
    whose loss wants more cost."""
    bound = float(np.exp(2.0))
    make = {
        "lagrangian": lambda: forms.lagrangian(bound, rate=0.3, watch="expected"),
        "augmented": lambda: forms.augmented_lagrangian(bound, rho=2.0, watch="expected"),
        "lightnas": lambda: forms.lightnas(bound, learning_rate=0.3),
    }[name]
    own = make()

    def step(carry, _):
        x, multipliers = carry
        slope = jax.grad(lambda x: (x - 5.0) ** 2 + own.penalty(multipliers, jnp.exp(x)[None]))(x)
        x = x - 0.02 * slope
        cost = jnp.exp(x)[None]
        return (x, own.update(multipliers, cost, cost)), None

    (x, multipliers), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=3000))(
        (jnp.float32(1.0), own.init())
    )
    assert float(x) == pytest.approx(2.0, abs=0.02)
    # 2 (x - 5) + m e^x / T = 0 at the solution.
    assert float(multipliers[0]) == pytest.approx(6.0, rel=0.05)


def test_what_is_wrong_is_refused():
    for bad in (0.0, -1.0, float("nan"), float("inf"), "20ms", None):
        with pytest.raises(ValueError, match="target is a"):
            forms.hinge(bad)
        with pytest.raises(ValueError, match="target is a"):
            forms.lagrangian([1.0, bad])
    with pytest.raises(ValueError, match="at least one target"):
        forms.lagrangian([])
    with pytest.raises(ValueError, match="smaller unit"):
        forms.log_power(least=0.5)
    with pytest.raises(ValueError, match="smaller unit"):
        forms.log_power(least=2.0, target=1.0)
    with pytest.raises(ValueError, match="share of the target"):
        forms.band(1.0, width=1.0)
    with pytest.raises(ValueError, match="watch 'mean' does not exist"):
        forms.lagrangian(1.0, watch="mean")
    with pytest.raises(ValueError, match="rate of a multiplier is positive"):
        forms.augmented_lagrangian(1.0, rho=0.0)
