"""A whole search: from a space and a task down to a genotype."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Mix, PyTree
from dnas.genotype import Genotype
from dnas.hessian import dominant_eigenvalue, hessian_vector_product
from dnas.method import Method
from dnas.model import Model
from dnas.rules import Observed, Rule, Verdict
from dnas.running.compiling import compile_step
from dnas.running.loop import Hooks, run_steps
from dnas.search import SearchState, checked_candidates, make_search, read_from
from dnas.space import SearchSpace, check_inputs
from dnas.tasks import Task, images


class SearchResult(NamedTuple):
    genotype: Genotype
    mix: Mix  # {kind: [E, O]}, what the genotype was read from
    state: SearchState
    history: list[dict[str, Any]]  # a row an epoch that this call has run


def run_search(
    space: SearchSpace,
    task: Task | tuple[Any, Any],
    method: Method | None = None,
    *,
    model: Model | None = None,
    channels: int | None = None,
    num_cells: int | None = None,
    epochs: int = 50,
    batch_size: int = 64,
    max_steps: int | None = None,
    seed: int = 0,
    hooks: Hooks | None = None,
) -> SearchResult:
    """Searches an architecture for the task and returns its genotype, with all that led to it. The
    same seed gives the same result.

    Args:
      task: what is learnt, or a pair of images uint8 [N, H, W, C] and labels [N] from 0, which is
        taken as `dnas.tasks.images(*pair)`.
      method: first-order DARTS unless given.
      model: what is trained, which takes a mix of the space; the supernet of the space unless
        given, of the next two sizes and with the options of the method.
      channels, num_cells: of the supernet, the published ones unless given.
      max_steps: ends the search early.
      hooks: what is done with the state at the start, and with rows and figures on the way. Rows at
        the end of an epoch hold mix and genotype.

    Raises:
      ValueError: before any work, for data or sizes that do not fit.

    Example:
      >>> import dnas, numpy as np
      >>> pictures = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
      >>> result = run_search(
      ...     dnas.SPACES["darts"],
      ...     (pictures, np.arange(32) % 2),
      ...     channels=2,
      ...     num_cells=1,
      ...     epochs=1,
      ...     batch_size=8,
      ...     max_steps=1,
      ...     hooks=dnas.QUIET,
      ... )
      >>> len(result.genotype.cells["reduce"])
      8
    """
    task = task if isinstance(task, Task) else images(*task)
    method = Method() if method is None else method
    hooks = Hooks() if hooks is None else hooks
    check_inputs(space, task.inputs)
    if epochs < 1 or seed < 0:
        raise ValueError(
            f"epochs are at least 1 and seed a whole number from 0 on, got {epochs} and {seed}"
        )
    feeds = task.feeds(seed, batch_size, 1 if method.single_level else 2)
    steps_per_epoch = feeds[0].steps
    total_steps = epochs * steps_per_epoch
    if max_steps is not None:
        total_steps = min(max_steps, total_steps)
    if model is None:
        sizes = {
            "channels": space.channels if channels is None else channels,
            "num_cells": space.num_cells if num_cells is None else num_cells,
        }
        space.layers(**sizes, **task.sizes)  # refuses sizes that do not fit the inputs
        model = space.supernet(**sizes, num_classes=task.num_classes, **method.options)

    search = make_search(
        space,
        model,
        method.optimizer(epochs, steps_per_epoch),
        example=task.example,
        loss=task.loss,
        relaxation=method.relaxation,
        arch_losses=method.arch_losses,
        arch_factors=method.arch_factors,
        constraint=method.constraint,
        perturbation=method.perturbation,
        candidates=method.candidates,
    )

    def step(state: SearchState, data: tuple[PyTree, ...], rows: tuple[PyTree, ...]):
        key, *keys = jax.random.split(state.key, 3)
        batches = [
            feed.batch(own_data, own_rows, own_key, carried)
            for feed, own_data, own_rows, own_key, carried in zip(
                feeds, data, rows, keys, state.carried, strict=False
            )
        ]
        return search.step(state._replace(key=key), batches[0], batches[-1])

    mix_of = jax.jit(search.mix)
    observe = _observer(space, model, method, task, feeds[-1].data, batch_size)

    def at_epoch_end(state: SearchState) -> tuple[SearchState, dict[str, Any], bool]:
        mix = _as_numpy(mix_of(state))
        if method.rule is None or int(state.step) % steps_per_epoch:
            return state, {"mix": mix, "genotype": method.select(space, mix)}, False
        epoch = int(state.step) // steps_per_epoch
        state, verdict = _follow(method.rule, state, observe(state, mix, epoch))
        genotype = method.select(space, verdict.mix or mix)
        return state, {"mix": mix, "genotype": genotype, **verdict.metrics}, verdict.stop

    state = compile_step(search.init, jax.random.key(seed))(jax.random.key(seed))
    mix = mix_of(state)
    # A selection that does not fit the space fails here and not after an epoch.
    method.select(space, _as_numpy(mix))
    outputs, _ = jax.eval_shape(model.apply, {"params": state.weights}, mix, task.example)
    # Each an array of its own: both are donated.
    carried = task.start(outputs, batch_size), task.start(outputs, batch_size)
    state = state._replace(carried=carried)
    if method.rule is not None:
        nothing = jax.tree.map(lambda rows: np.zeros(rows.shape, np.float32), state.candidates)
        between = {"rule": method.rule.init(space, epochs), "stopped": False, "mix": nothing}
        state = state._replace(between=jax.tree.map(jnp.asarray, between))
    state, history = hooks.resume(state), []
    if not _stopped(state):
        state, history = run_steps(
            step,
            state,
            jax.device_put(tuple(feed.data for feed in feeds)),
            lambda epoch: tuple(feed.rows(epoch) for feed in feeds),
            first_step=int(state.step),
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            at_epoch_end=at_epoch_end,
            report=hooks.report,
            announce=hooks.announce,
        )
    mix = _as_numpy(state.between["mix"] if _stopped(state) else mix_of(state))
    return SearchResult(method.select(space, mix), mix, state, history)


def _stopped(state: SearchState) -> bool:
    return bool(state.between and state.between["stopped"])


def _follow(rule: Rule, state: SearchState, observed: Observed) -> tuple[SearchState, Verdict]:
    """Asks the rule, and keeps what it decides in the state, so that a checkpoint holds it."""
    rule_state, verdict = rule.update(_as_numpy(state.between["rule"]), observed)
    between = {
        "rule": rule_state,
        "stopped": np.asarray(verdict.stop),
        "mix": observed.mix if verdict.mix is None else verdict.mix,
    }
    # Shapes and types stay as they are: the step is compiled for them.
    between = jax.tree.map(
        lambda new, old: jnp.asarray(new, old.dtype).reshape(old.shape), between, state.between
    )
    if verdict.candidates is not None:
        candidates = checked_candidates(observed.space, verdict.candidates)
        state = state._replace(candidates=jax.tree.map(jnp.asarray, candidates))
    return state._replace(between=between), verdict


def _observer(
    space: SearchSpace, model: Model, method: Method, task: Task, data: PyTree, batch_size: int
) -> Callable[[SearchState, Mix, int], Observed]:
    """Returns (state, mix, epoch) -> Observed. What it offers to compute is compiled when it is
    first asked for."""
    accuracy = functools.cache(lambda: task.accuracy(model, data))
    first_batch = functools.cache(lambda: task.plain(data, batch_size))

    @jax.jit
    def largest_eigenvalue(weights, arch, candidates, batch):
        def loss(arch) -> Array:
            mix = read_from(space, method.relaxation, arch, candidates)
            outputs, _ = model.apply({"params": weights}, mix, batch.inputs)
            return task.loss(outputs, batch)[0]

        return dominant_eigenvalue(hessian_vector_product(loss, arch), arch, jax.random.key(0))

    def observe(state: SearchState, mix: Mix, epoch: int) -> Observed:
        def accuracy_of(mix: Mix) -> float:
            return accuracy()({"params": state.weights}, jax.tree.map(jnp.float32, mix))

        def sharpness() -> float:
            batch = first_batch()
            return float(largest_eigenvalue(state.weights, state.arch, state.candidates, batch))

        return Observed(space, epoch, mix, _as_numpy(state.candidates), accuracy_of, sharpness)

    return observe


def _as_numpy(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
