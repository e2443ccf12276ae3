"""The alternation is DARTS's, the optimisers are PyTorch's, and neither level sees what belongs to the other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.bilevel import alternating, arch_adam, cosine_by_epoch, darts_optimizer, first_order, sgd


def train_loss(weights, arch):
    """L_t = w^2 - 2 a w + a^2 of the toy problem, whose bilevel optimum is a = w = 1."""
    return weights**2 - 2 * arch * weights + arch**2, {}


def valid_loss(weights, arch):
    """L_v = a w - 2 a + 1."""
    return arch * weights - 2 * arch + 1, {}


def toy(rate=0.05):
    return alternating(first_order(), optax.sgd(rate), optax.sgd(rate), rate)


def step_of(optimizer, inner=train_loss, outer=valid_loss):
    def step(carry):
        state, weights, arch = carry
        weight_updates, arch_updates, state, metrics = optimizer.update(inner, outer, state, weights, arch)
        carry = state, optax.apply_updates(weights, weight_updates), optax.apply_updates(arch, arch_updates)
        return carry, metrics

    return step


def start(optimizer, weights=-2.0, arch=2.0):
    weights, arch = jax.tree.map(jnp.asarray, (weights, arch))
    return optimizer.init(weights, arch), weights, arch


def test_first_order_on_the_toy_problem_ends_at_two():
    step = step_of(toy())
    state, weights, arch = jax.lax.fori_loop(0, 2000, lambda _, carry: step(carry)[0], start(toy()))
    np.testing.assert_allclose([weights, arch], 2.0, atol=1e-4)
    assert state.step == 2000


def test_arch_moves_first_and_weights_follow_at_the_new_arch():
    (_, weights, arch), _ = step_of(toy())(start(toy()))
    new_arch = 2.0 - 0.05 * (-2.0 - 2)
    new_weights = -2.0 - 0.05 * (2 * -2.0 - 2 * new_arch)
    np.testing.assert_allclose([weights, arch], [new_weights, new_arch], rtol=1e-6)
    assert abs(new_weights - (-2.0 - 0.05 * (2 * -2.0 - 2 * 2.0))) > 1e-2  # at the old arch it would be another


TREE = {"a": jnp.arange(3.0), "b": jnp.ones((2, 2))}


def quadratic(scale):
    """(weights, arch) -> a loss in which every entry of both has a gradient."""

    def loss(weights, arch):
        total = sum((leaf**2).sum() for leaf in jax.tree.leaves(weights)) * (arch["cell"] ** 2).sum()
        return scale * total + arch["cell"].sum(), {"loss": scale * total}

    return loss


def updates_of(optimizer, inner, outer):
    arch = {"cell": jnp.full((2, 3), 0.5)}
    weight_updates, arch_updates, _, metrics = optimizer.update(inner, outer, optimizer.init(TREE, arch), TREE, arch)
    return weight_updates, arch_updates, metrics


def test_training_batch_never_enters_the_arch_update():
    optimizer = darts_optimizer(2, 3)
    _, one, _ = updates_of(optimizer, quadratic(1.0), quadratic(1.0))
    _, other, _ = updates_of(optimizer, quadratic(-7.0), quadratic(1.0))
    np.testing.assert_array_equal(one["cell"], other["cell"])
    assert (one["cell"] != 0).all()


def test_validation_batch_enters_the_weights_through_arch_only():
    frozen = alternating(first_order(), sgd(0.1), optax.set_to_zero(), 0.1)
    one, arch_updates, _ = updates_of(frozen, quadratic(1.0), quadratic(1.0))
    other, _, _ = updates_of(frozen, quadratic(1.0), quadratic(-7.0))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert not arch_updates["cell"].any()
    moved, _, _ = updates_of(darts_optimizer(2, 3, arch_learning_rate=0.1), quadratic(1.0), quadratic(-7.0))
    assert (moved["a"] != one["a"]).any()


def test_frozen_weights_stay_while_arch_moves():
    frozen = alternating(first_order(), optax.set_to_zero(), arch_adam(), 0.1)
    weight_updates, arch_updates, _ = updates_of(frozen, quadratic(1.0), quadratic(1.0))
    assert not any(leaf.any() for leaf in jax.tree.leaves(weight_updates))
    assert (arch_updates["cell"] != 0).all()


def test_first_order_gradient_equals_finite_differences():
    arch = {"cell": jnp.asarray([[0.3, -0.2, 0.9]])}
    gradient, metrics = first_order()(None, quadratic(0.1), TREE, arch, 0.1)
    for column in range(3):
        shift = jnp.zeros((1, 3)).at[0, column].set(1e-2)
        up, down = (quadratic(0.1)(TREE, {"cell": arch["cell"] + sign * shift})[0] for sign in (1, -1))
        np.testing.assert_allclose(gradient["cell"][0, column], (up - down) / 2e-2, rtol=1e-3)
    assert set(metrics) == {"loss"}


def test_metrics_carry_both_losses_under_their_names():
    _, _, metrics = updates_of(toy(), quadratic(2.0), quadratic(3.0))
    assert set(metrics) == {"loss", "valid_loss"}
    arch = {"cell": jnp.full((2, 3), 0.5)}
    np.testing.assert_allclose(metrics["valid_loss"], quadratic(3.0)(TREE, arch)[1]["loss"], rtol=1e-6)


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_cosine_by_epoch_is_the_formula_of_the_paper(steps_per_epoch):
    schedule = cosine_by_epoch(50, steps_per_epoch)
    for epoch in range(50):
        expected = 0.001 + 0.012 * (1 + np.cos(np.pi * epoch / 50))
        for step in {epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1}:
            np.testing.assert_allclose(schedule(step), expected, rtol=2e-6)
            np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(step)), expected, rtol=2e-6)


def test_arch_gradient_is_told_the_scheduled_learning_rate():
    def gradient(inner, outer, weights, arch, learning_rate):
        del inner, outer, weights
        return jax.tree.map(jnp.zeros_like, arch), {"rate": learning_rate}

    optimizer = darts_optimizer(4, 2, arch_gradient=gradient)
    carry = start(optimizer)
    for number in range(8):
        carry, metrics = step_of(optimizer)(carry)
        expected = 0.001 + 0.012 * (1 + np.cos(np.pi * (number // 2) / 4))
        np.testing.assert_allclose(metrics["valid_rate"], expected, rtol=2e-6)


def torch_sgd(weights, gradients, rates, momentum=0.9, weight_decay=3e-4, clip=5.0):
    """torch.nn.utils.clip_grad_norm_, then torch.optim.SGD."""
    buffer = None
    for gradient, rate in zip(gradients, rates, strict=True):
        norm = np.sqrt((gradient**2).sum())
        gradient = gradient * min(1.0, clip / (norm + 1e-6)) + weight_decay * weights
        buffer = gradient if buffer is None else momentum * buffer + gradient
        weights = weights - rate * buffer
    return weights


@pytest.mark.parametrize("size", [0.1, 100.0], ids=["below the clip", "clipped"])
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "weight_decay": 0.2, "clip": 1.0}], ids=["darts", "other"])
def test_sgd_equals_pytorch(size, settings):
    random = np.random.default_rng(0)
    weights, gradients = random.normal(size=6), size * random.normal(size=(5, 6))
    schedule = cosine_by_epoch(5, 1, learning_rate=0.1)
    optimizer = sgd(schedule, **settings)
    found = {"x": jnp.asarray(weights[:2]), "y": jnp.asarray(weights[2:])}  # the norm is that of all arrays together
    state = optimizer.init(found)
    for gradient in gradients:
        parts = {"x": jnp.asarray(gradient[:2]), "y": jnp.asarray(gradient[2:])}
        updates, state = optimizer.update(parts, state, found)
        found = optax.apply_updates(found, updates)
    expected = torch_sgd(weights, gradients, [float(schedule(number)) for number in range(5)], **settings)
    np.testing.assert_allclose(np.concatenate([found["x"], found["y"]]), expected, rtol=1e-5, atol=1e-6)


def torch_adam(arch, gradients, rate=3e-4, b1=0.5, b2=0.999, weight_decay=1e-3):
    """torch.optim.Adam with weight_decay: L2 added to the gradient."""
    first, second = np.zeros_like(arch), np.zeros_like(arch)
    for number, gradient in enumerate(gradients, start=1):
        gradient = gradient + weight_decay * arch
        first = b1 * first + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient**2
        denominator = np.sqrt(second) / np.sqrt(1 - b2**number) + 1e-8
        arch = arch - rate / (1 - b1**number) * first / denominator
    return arch


@pytest.mark.parametrize(
    "settings", [{}, {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "weight_decay": 0.5}], ids=["darts", "other"]
)
def test_arch_adam_equals_pytorch(settings):
    random = np.random.default_rng(1)
    arch, gradients = random.normal(size=(3, 4)), random.normal(size=(5, 3, 4))
    optimizer = arch_adam(**settings)
    found = jnp.asarray(arch)
    state = optimizer.init(found)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, found)
        found = optax.apply_updates(found, updates)
    settings = {"rate" if name == "learning_rate" else name: value for name, value in settings.items()}
    np.testing.assert_allclose(found, torch_adam(arch, gradients, **settings), rtol=1e-5, atol=1e-6)


def test_decay_of_arch_alone_is_a_full_adam_step():
    """Adam normalises a decay that is part of the gradient: decoupled it would be 1000 times smaller."""
    optimizer, arch = arch_adam(), jnp.asarray([2.0, -3.0])
    updates, _ = optimizer.update(jnp.zeros(2), optimizer.init(arch), arch)
    np.testing.assert_allclose(updates, [-3e-4, 3e-4], rtol=1e-3)


def test_darts_optimizer_is_made_of_the_published_parts():
    whole = darts_optimizer(50, 10)
    schedule = cosine_by_epoch(50, 10)
    parts = alternating(first_order(), sgd(schedule), arch_adam(), schedule)
    one, other = start(whole), start(parts)
    for _ in range(12):
        one, other = step_of(whole)(one)[0], step_of(parts)(other)[0]
    assert (one[1], one[2]) == (other[1], other[2])


def test_update_under_jit_equals_update_without():
    optimizer = darts_optimizer(3, 2)
    plain, jitted = start(optimizer), start(optimizer)
    step = step_of(optimizer)
    for _ in range(3):
        plain, jitted = step(plain)[0], jax.jit(step)(jitted)[0]
    np.testing.assert_allclose(plain[1:], jitted[1:], rtol=1e-6)


def test_update_under_vmap_equals_one_run_after_another():
    optimizer = darts_optimizer(3, 2)
    weights, arch = jnp.asarray([-2.0, 0.5, 3.0]), jnp.asarray([2.0, 1.0, -1.0])
    carry = jax.vmap(optimizer.init)(weights, arch), weights, arch
    for _ in range(3):
        carry, _ = jax.vmap(step_of(optimizer))(carry)
    for number in range(3):
        alone = start(optimizer, weights[number], arch[number])
        for _ in range(3):
            alone, _ = step_of(optimizer)(alone)
        np.testing.assert_allclose([carry[1][number], carry[2][number]], alone[1:], rtol=1e-6)
