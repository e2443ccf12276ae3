"""Small problems of two levels, and how the tests run an optimiser on them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = [
    "TREE",
    "quadratic",
    "run",
    "smooth_problem",
    "start",
    "step_of",
    "train_loss",
    "updates_of",
    "valid_loss",
]


def train_loss(weights, arch):
    """L_t = w^2 - 2 a w + a^2 of the toy problem, whose bilevel optimum is a = w = 1."""
    loss = weights**2 - 2 * arch * weights + arch**2
    return loss, {"loss": loss}


def valid_loss(weights, arch):
    """L_v = a w - 2 a + 1."""
    loss = arch * weights - 2 * arch + 1
    return loss, {"loss": loss}


def step_of(optimizer, inner=train_loss, outer=valid_loss):
    """(state, weights, arch) -> the same after a step, and metrics."""

    def step(carry):
        state, weights, arch = carry
        weight_updates, arch_updates, state, metrics = optimizer.update(
            inner, outer, state, weights, arch
        )
        carry = (
            state,
            optax.apply_updates(weights, weight_updates),
            optax.apply_updates(arch, arch_updates),
        )
        return carry, metrics

    return step


def start(optimizer, weights=-2.0, arch=2.0):
    weights, arch = (jnp.asarray(number, jnp.result_type(float)) for number in (weights, arch))
    return optimizer.init(weights, arch), weights, arch


def run(optimizer, steps=2000):
    """(state, weights, arch) after so many steps on the toy problem."""
    step = step_of(optimizer)
    return jax.jit(
        lambda carry: jax.lax.fori_loop(0, steps, lambda _, carry: step(carry)[0], carry)
    )(start(optimizer))


TREE = {"a": jnp.arange(3.0), "b": jnp.ones((2, 2))}


def quadratic(scale):
    """(weights, arch) -> a loss in which every entry of both has a gradient."""

    def loss(weights, arch):
        total = (
            sum((leaf**2).sum() for leaf in jax.tree.leaves(weights)) * (arch["cell"] ** 2).sum()
        )
        return scale * total + arch["cell"].sum(), {"loss": scale * total}

    return loss


def updates_of(optimizer, inner, outer):
    arch = {"cell": jnp.full((2, 3), 0.5)}
    weight_updates, arch_updates, _, metrics = optimizer.update(
        inner, outer, optimizer.init(TREE, arch), TREE, arch
    )
    return weight_updates, arch_updates, metrics


def smooth_problem():
    """(inner, outer, weights, arch): a network of two mixed layers, smooth and far from
    quadratic."""
    random = np.random.default_rng(0)
    images, targets = (
        jnp.asarray(random.normal(size=(2, 5, 3))),
        jnp.asarray(random.normal(size=(2, 5, 2))),
    )
    weights = {
        "first": jnp.asarray(random.normal(size=(3, 4))),
        "second": jnp.asarray(random.normal(size=(4, 2))),
    }
    arch = {"cell": jnp.asarray(random.normal(size=(2, 3)))}

    def objective(number):
        def loss(weights, arch):
            x = images[number]
            for kernel, mix in zip(weights.values(), jax.nn.softmax(arch["cell"]), strict=True):
                x = sum(
                    part * op(x @ kernel)
                    for part, op in zip(mix, (jnp.tanh, jnp.sin, jnp.square), strict=True)
                )
            loss = ((x - targets[number]) ** 2).mean()
            return loss, {"loss": loss}

        return loss

    return objective(0), objective(1), weights, arch
