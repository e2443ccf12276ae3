"""Candidates that begin to overfit are no longer trained: operation-level early stopping, OLES.

https://papers.nips.cc/paper_files/paper/2023/hash/e0bc6dbcbcc957b2aeadb20c39ba7f05-Abstract-Conference.html
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dnas.base import Arch, Array, Objective, PyTree
from dnas.bilevel.alternating import ORDERS
from dnas.bilevel.optimizer import BilevelOptimizer, name_metrics
from dnas.checks import checked, one_of


class OpStoppingState(NamedTuple):
    step: Array  # [] int32
    weights: optax.OptState
    arch: optax.OptState
    alignment: dict[str, Array]  # {candidate: [E]}, summed since the last decision
    stopped: dict[str, Array]  # {candidate: bool [E]}, which are no longer trained


@checked
def op_stopping(
    weight_optimizer: optax.GradientTransformation,
    arch_optimizer: optax.GradientTransformation,
    candidates_of: Callable[[PyTree], PyTree],
    *,
    threshold: float = 0.4,
    interval: int = 20,
    added: bool = True,
    clip: float | None = 5.0,
    order: str = "arch_first",
) -> BilevelOptimizer:
    """Returns first-order alternation in which the weights of a candidate stay as they are once
    what is good for the training batch is no longer good for the validation batch.

    OLES, algorithm 1: the gradient of the validation batch, whose part for arch moves arch, has one
    for the weights too; no pass is added. Every `interval` steps a candidate is stopped for good if
    the alignment of its two gradients was less than `threshold` in their mean. The alignment of two
    gradients of a kernel is the mean over its filters of the cosine along the output channels, that
    of a candidate the mean over its kernels. Kernels of one axis, such as a bias, do not count.

    Args:
      weight_optimizer, arch_optimizer: any optax transformation.
      candidates_of: weights -> the same tree with the name of the candidate that each array [E,
        ...] belongs to, where E are the edges, each of which is stopped by itself; "" for none.
      threshold: xi of the paper.
      interval: M of the paper.
      added: whether the gradient of the validation batch is added to that of the training batch
        before the two are compared, as the released code has it, to which its threshold belongs:
        with gradients of equal length that are independent the cosine is then 0.7 and not 0.
        Otherwise the paper's equation.
      clip: the largest norm of the gradient of the training batch, for the sum.
      order: as in `alternating`.

    Raises:
      ValueError: if an option is out of its range; from init if no array belongs to a candidate.
    """
    if not -1 <= threshold <= 1 or interval < 1:
        raise ValueError(
            "threshold is a cosine, from -1 to 1, and interval a number of steps from 1 on, got"
            f" {threshold} and {interval}"
        )
    one_of(ORDERS, order=order)

    def init(weights: PyTree, arch: Arch) -> OpStoppingState:
        edges = _edges_of(candidates_of(weights), weights)
        if not edges:
            raise ValueError(
                "no weights of the model belong to a candidate by themselves, so that none can be"
                " stopped; take a space of cells, such as 'darts' or 'nasbench201'"
            )
        return OpStoppingState(
            step=jnp.zeros((), jnp.int32),
            weights=weight_optimizer.init(weights),
            arch=arch_optimizer.init(arch),
            alignment={name: jnp.zeros(number) for name, number in edges.items()},
            stopped={name: jnp.zeros(number, bool) for name, number in edges.items()},
        )

    def move_weights(inner: Objective, state: OpStoppingState, weights: PyTree, arch: Arch):
        gradient, metrics = jax.grad(inner, has_aux=True)(weights, arch)
        updates, weight_state = weight_optimizer.update(gradient, state.weights, weights)
        updates = _kept(updates, candidates_of(weights), state.stopped)
        return updates, weight_state, gradient, metrics

    def decide(train: PyTree, valid: PyTree, names: PyTree, state: OpStoppingState):
        if added:
            train = _clipped(train, clip)
            valid = jax.tree.map(jnp.add, train, valid)
        found = _alignment(train, valid, names)
        summed = {name: rows + found[name] for name, rows in state.alignment.items()}
        due = (state.step + 1) % interval == 0
        stopped = {
            name: state.stopped[name] | (due & (rows / interval < threshold))
            for name, rows in summed.items()
        }
        return {name: jnp.where(due, 0.0, rows) for name, rows in summed.items()}, stopped

    def update(
        inner: Objective, outer: Objective, state: OpStoppingState, weights: PyTree, arch: Arch
    ):
        done = None  # the step of the weights
        if order == "weights_first":
            done = move_weights(inner, state, weights, arch)
            weights = optax.apply_updates(weights, done[0])

        (valid, arch_gradient), outer_metrics = jax.grad(outer, argnums=(0, 1), has_aux=True)(
            weights, arch
        )
        arch_updates, arch_state = arch_optimizer.update(arch_gradient, state.arch, arch)

        if done is None:
            moved: PyTree = optax.apply_updates(arch, arch_updates)
            done = move_weights(inner, state, weights, moved)

        weight_updates, weight_state, train, inner_metrics = done
        alignment, stopped = decide(train, valid, candidates_of(weights), state)
        count = jnp.concatenate([*stopped.values()]).mean()
        state = OpStoppingState(state.step + 1, weight_state, arch_state, alignment, stopped)
        metrics = name_metrics(inner_metrics, outer_metrics) | {"stopped": count}
        return weight_updates, arch_updates, state, metrics

    return BilevelOptimizer(init, update)


def _edges_of(names: PyTree, weights: PyTree) -> dict[str, int]:
    """{candidate: on how many edges it is}."""
    pairs = zip(jax.tree.leaves(names), jax.tree.leaves(weights), strict=True)
    return {name: len(array) for name, array in pairs if name and array.ndim > 2}


def _kept(updates: PyTree, names: PyTree, stopped: dict[str, Array]) -> PyTree:
    """The updates, with zeros for what is stopped."""

    def keep(update: Array, name: str) -> Array:
        if name not in stopped:
            return update
        still = stopped[name].reshape(-1, *[1] * (update.ndim - 1))
        return jnp.where(still, 0.0, update).astype(update.dtype)

    return jax.tree.map(keep, updates, names)


def _clipped(gradient: PyTree, clip: float | None) -> PyTree:
    if clip is None:
        return gradient
    clipping = optax.clip_by_global_norm(clip)
    return clipping.update(gradient, clipping.init(gradient))[0]


def _alignment(one: PyTree, other: PyTree, names: PyTree) -> dict[str, Array]:
    """{candidate: [E]}, the mean over its kernels of the mean cosine along output channels."""
    kernels: dict[str, list[Array]] = {}
    for name, left, right in zip(*map(jax.tree.leaves, (names, one, other)), strict=True):
        if name and left.ndim > 2:
            cosines = _cosine(left, right)
            own = cosines.reshape(len(cosines), -1).mean(axis=-1)
            kernels.setdefault(name, []).append(own)
    return {name: jnp.stack(own).mean(axis=0) for name, own in kernels.items()}


def _cosine(one: Array, other: Array) -> Array:
    """Along the last axis; 0 where a vector is zero."""
    lengths = jnp.linalg.norm(one, axis=-1) * jnp.linalg.norm(other, axis=-1)
    product = (one * other).sum(axis=-1)
    return jnp.where(lengths > 0, product / jnp.where(lengths > 0, lengths, 1.0), 0.0)
