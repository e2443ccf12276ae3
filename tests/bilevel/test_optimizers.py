"""The optimisers are PyTorch's, as DARTS uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_problems import start, step_of, valid_loss

from dnas.bilevel import alternating, arch_adam, cosine_by_epoch, darts_optimizer, sgd, unrolled


def torch_sgd(weights, gradients, rates, momentum=0.9, weight_decay=3e-4, clip=5.0, nesterov=False):
    """torch.nn.utils.clip_grad_norm_, then torch.optim.SGD."""
    buffer = None
    for gradient, rate in zip(gradients, rates, strict=True):
        norm = np.sqrt((gradient**2).sum())
        scale = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
        gradient = gradient * scale + weight_decay * weights
        buffer = gradient if buffer is None else momentum * buffer + gradient
        weights = weights - rate * (gradient + momentum * buffer if nesterov else buffer)
    return weights


@pytest.mark.parametrize("size", [0.1, 100.0], ids=["below the clip", "clipped"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.5, "weight_decay": 0.2, "clip": 1.0}, {"clip": None}, {"nesterov": True}],
    ids=["darts", "other", "no clip", "nesterov"],
)
def test_sgd_equals_pytorch(size, settings):
    random = np.random.default_rng(0)
    weights, gradients = random.normal(size=6), size * random.normal(size=(5, 6))
    schedule = cosine_by_epoch(5, 1, learning_rate=0.1)
    optimizer = sgd(schedule, **settings)
    # The norm is that of all arrays together.
    found = {
        "x": jnp.asarray(weights[:2]),
        "y": jnp.asarray(weights[2:]),
    }
    state = optimizer.init(found)
    for gradient in gradients:
        parts = {"x": jnp.asarray(gradient[:2]), "y": jnp.asarray(gradient[2:])}
        updates, state = optimizer.update(parts, state, found)
        found = optax.apply_updates(found, updates)
    expected = torch_sgd(
        weights, gradients, [float(schedule(number)) for number in range(5)], **settings
    )
    np.testing.assert_allclose(
        np.concatenate([found["x"], found["y"]]), expected, rtol=1e-5, atol=1e-6
    )


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
    "settings",
    [{}, {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "weight_decay": 0.5}],
    ids=["darts", "other"],
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
    settings = {
        "rate" if name == "learning_rate" else name: value for name, value in settings.items()
    }
    np.testing.assert_allclose(found, torch_adam(arch, gradients, **settings), rtol=1e-5, atol=1e-6)


def test_decay_of_arch_alone_is_a_full_adam_step():
    """Adam normalises a decay that is part of the gradient: decoupled it would be 1000 times
    smaller."""
    optimizer, arch = arch_adam(), jnp.asarray([2.0, -3.0])
    updates, _ = optimizer.update(jnp.zeros(2), optimizer.init(arch), arch)
    np.testing.assert_allclose(updates, [-3e-4, 3e-4], rtol=1e-3)


def test_darts_optimizer_is_made_of_the_published_parts():
    whole = darts_optimizer(50, 10, arch_gradient=unrolled())
    schedule = cosine_by_epoch(50, 10)
    virtual = sgd(schedule, clip=None)
    parts = alternating(unrolled(), sgd(schedule), arch_adam(), virtual_optimizer=virtual)
    one, other = start(whole), start(parts)
    for _ in range(12):
        one, other = step_of(whole)(one)[0], step_of(parts)(other)[0]
    assert (one[1], one[2]) == (other[1], other[2])


def test_darts_optimizer_counts_the_warm_up_in_epochs():
    optimizer = darts_optimizer(3, 2, warmup_epochs=2, arch_every=2, order="weights_first")
    carry, arch = start(optimizer), []
    for _ in range(6):
        carry, _ = step_of(optimizer)(carry)
        arch.append(float(carry[2]))
    assert arch[:5] == [2.0] * 5 and arch[5] != 2.0


def test_virtual_step_is_not_clipped_and_has_momentum_decay_and_the_scheduled_rate():
    """The toy far out, where the gradient is clipped: da = w' - 2 + 2 xi a with w' from an
    unclipped step."""
    optimizer = darts_optimizer(4, 1, arch_gradient=unrolled(), arch_learning_rate=0.0)
    carry, schedule = start(optimizer, -40.0, 2.0), cosine_by_epoch(4, 1)
    for number in range(4):
        state, weights, arch = carry
        rate, trace = schedule(number), optax.tree.get(state.weights, "trace")
        gradient = 2 * weights - 2 * arch
        assert abs(gradient) > 5
        virtual = weights - rate * (0.9 * trace + gradient + 3e-4 * weights)
        carry, metrics = step_of(optimizer)(carry)
        np.testing.assert_allclose(metrics["valid_loss"], valid_loss(virtual, arch)[0], rtol=1e-5)


def test_clip_of_none_keeps_the_structure_of_the_state():
    structures = [jax.tree.structure(sgd(0.1, clip=clip).init(jnp.ones(2))) for clip in (5.0, None)]
    assert structures[0] == structures[1]
