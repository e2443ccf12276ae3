"""A step of arch, a step of the weights, and so on; and the first-order gradient of arch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dnas.base import Arch, Array, Objective, PyTree
from dnas.bilevel.optimizer import ArchGradient, BilevelOptimizer, name_metrics
from dnas.checks import checked, one_of

ORDERS = ("arch_first", "weights_first")


class AlternatingState(NamedTuple):
    step: Array  # [] int32
    weights: optax.OptState
    arch: optax.OptState


@checked
def alternating(
    arch_gradient: ArchGradient,
    weight_optimizer: optax.GradientTransformation,
    arch_optimizer: optax.GradientTransformation,
    *,
    virtual_optimizer: optax.GradientTransformation | None = None,
    warmup_steps: int = 0,
    arch_every: int = 1,
    order: str = "arch_first",
) -> BilevelOptimizer:
    """Returns DARTS's alternation: a step of arch on the outer loss, then a step of the weights at
    the new arch.

    Algorithm 1 of DARTS, https://arxiv.org/abs/1806.09055. Metrics of inner are taken where the
    gradient of the weights is, metrics of outer where the gradient of arch is: see the arch
    gradient.

    In a step that leaves arch alone its bits stay, and so does the state of its optimiser; metrics
    of outer are then those at the present weights, from a forward pass only. Which steps these are
    is decided by the step counter inside one compiled program, which holds both branches; under
    vmap each step computes both.

    Args:
      arch_gradient: such as `first_order()` or `unrolled()`.
      weight_optimizer, arch_optimizer: any optax transformation.
      virtual_optimizer: takes the virtual step of unrolled gradients, from the present state of the
        weight optimiser: the structure of its state must be the same. The weight optimiser itself
        unless given; DARTS leaves out the clipping.
      warmup_steps: arch stays as it is for so many steps, as in PC-DARTS,
        https://arxiv.org/abs/1907.05737.
      arch_every: after the warm-up arch moves in every n-th step, as in ProxylessNAS,
        https://arxiv.org/abs/1812.00332.
      order: "arch_first", or "weights_first" as the code of NAS-Bench-201 and GDAS has it,
        https://arxiv.org/abs/2001.00326: the step of the weights at the old arch, then the gradient
        of arch at the new weights.

    Raises:
      ValueError: if an option is out of its range; by `init`, if the state of virtual_optimizer has
        another structure.
    """
    if warmup_steps < 0 or arch_every < 1:
        raise ValueError(
            f"warmup_steps is 0 or more and arch_every 1 or more, got {warmup_steps} and"
            f" {arch_every}"
        )
    one_of(ORDERS, order=order)
    virtual = weight_optimizer if virtual_optimizer is None else virtual_optimizer

    def init(weights: PyTree, arch: Arch) -> AlternatingState:
        if virtual is not weight_optimizer:
            _check_virtual(virtual, weight_optimizer, weights)
        return AlternatingState(
            jnp.zeros((), jnp.int32), weight_optimizer.init(weights), arch_optimizer.init(arch)
        )

    def move_arch(gradient: Arch, state: AlternatingState, arch: Arch):
        updates, arch_state = arch_optimizer.update(gradient, state.arch, arch)
        return updates, state._replace(arch=arch_state)

    def move_weights(inner: Objective, state: AlternatingState, weights: PyTree, arch: Arch):
        gradient, metrics = jax.grad(inner, has_aux=True)(weights, arch)
        updates, weight_state = weight_optimizer.update(gradient, state.weights, weights)
        return updates, state._replace(weights=weight_state), metrics

    def move_arch_at_times(inner, outer, state: AlternatingState, weights: PyTree, arch: Arch):
        def move(state, weights, arch):
            given = (weights, arch, virtual, state.weights)
            gradient, metrics = arch_gradient(inner, outer, *given)
            return *move_arch(gradient, state, arch), metrics

        def leave(state, weights, arch):
            return jax.tree.map(jnp.zeros_like, arch), state, outer(weights, arch)[1]

        since = state.step - warmup_steps
        due = (since >= 0) & ((since + 1) % arch_every == 0)
        return jax.lax.cond(due, move, leave, state, weights, arch)

    def update(
        inner: Objective, outer: Objective, state: AlternatingState, weights: PyTree, arch: Arch
    ):
        done = None  # the step of the weights
        if order == "weights_first":
            done = move_weights(inner, state, weights, arch)
            weights, state = optax.apply_updates(weights, done[0]), done[1]

        if warmup_steps == 0 and arch_every == 1:
            # Without a branch, whose other side would have to be compiled too.
            given = (weights, arch, virtual, state.weights)
            gradient, outer_metrics = arch_gradient(inner, outer, *given)
            arch_updates, state = move_arch(gradient, state, arch)
        else:
            arch_updates, state, outer_metrics = move_arch_at_times(
                inner, outer, state, weights, arch
            )

        if done is None:
            moved: PyTree = optax.apply_updates(arch, arch_updates)
            done = move_weights(inner, state, weights, moved)
            state = done[1]

        weight_updates, _, inner_metrics = done
        metrics = name_metrics(inner_metrics, outer_metrics)
        return weight_updates, arch_updates, state._replace(step=state.step + 1), metrics

    return BilevelOptimizer(init, update)


def first_order() -> ArchGradient:
    """Returns the gradient of the outer loss at the current weights, as though they were the best
    ones already: DARTS section 2.3 with xi = 0.

    https://arxiv.org/abs/1806.09055. Metrics are those of outer at the current weights.
    """

    def gradient(inner, outer, weights, arch, optimizer, state):
        del inner, optimizer, state
        return jax.grad(outer, argnums=1, has_aux=True)(weights, arch)

    return gradient


def _check_virtual(
    virtual: optax.GradientTransformation,
    weight_optimizer: optax.GradientTransformation,
    weights: PyTree,
) -> None:
    found, expected = (
        jax.tree.structure(jax.eval_shape(one.init, weights)) for one in (virtual, weight_optimizer)
    )
    if found != expected:
        raise ValueError(
            "virtual_optimizer starts from the state of weight_optimizer, but its own state is"
            f" {found} and not {expected}; build both from the same parts, with optax.identity() in"
            " the place of one that is left out"
        )
