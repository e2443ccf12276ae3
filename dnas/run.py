"""A whole search: from a space and a task down to a genotype."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Mix, PyTree
from dnas.cells import OPS
from dnas.cells.contract import check_op
from dnas.checks import MOST_SEED, at_least, check_fields, checked
from dnas.files import shown
from dnas.hessian import dominant_eigenvalue, hessian_vector_product
from dnas.methods import (
    Method,
    Published,
    SearchResult,
    Stage,
    Training,
    stages_of,
    supernet_of,
)
from dnas.model import Model
from dnas.rules import Observed, Rule, Verdict
from dnas.running.compiling import compile_step
from dnas.running.loop import MOST_STEPS, Hooks, run_steps
from dnas.running.memory import out_of_memory_said
from dnas.search import SearchState, checked_candidates, make_search, read_from
from dnas.space import SearchSpace, check_inputs
from dnas.tasks import Task, images
from dnas.tasks.task import Feed
from dnas.trials import run_trials


@checked
def run_search(
    space: SearchSpace,
    task: Task | tuple[Any, Any],
    method: Method | Published | None = None,
    *,
    model: Model | None = None,
    channels: int | None = None,
    num_cells: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    hooks: Hooks | Callable[[int], Hooks] | None = None,
) -> SearchResult:
    """Searches an architecture for the task and returns its genotype, with all that led to it. The
    same seed gives the same result.

    Args:
      task: what is learnt, or a pair of images uint8 [N, H, W, C] and labels [N] from 0, which is
        taken as `dnas.tasks.images(*pair)`.
      method: a value, or one of `dnas.METHODS`, which is made for the space and the task with the
        sizes that are given here; first-order DARTS unless given.
      model: what is trained, which takes a mix of the space; the supernet of the space unless
        given, of the next two sizes and with the options of the method.
      channels, num_cells: of the supernet; those of the method, or of the space, unless given.
      epochs, batch_size: of the search; those of the method, or 50 and 64, unless given. In a
        method of several stages each has its own.
      max_steps: ends the search, or each of its stages, early.
      hooks: what is done with the state at the start, and with rows and figures on the way. Rows at
        the end of an epoch hold mix and genotype. Of a method of several stages a function of the
        number of the stage, from 0 on, if they are to be told apart.

    Returns:
      What the last stage has found.

    Raises:
      ValueError: before any work, for arguments that are not of the types above, data or sizes that
        do not fit, and a method that was made for a search of another length.
      FloatingPointError: if weights, arch or a loss are no longer finite; names the term or the op
        that is to blame where it is known.
      MemoryError: if the device has too little memory; says what lowers the need.

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
    check_inputs(space, task.inputs)
    given: dict[str, Any] = {
        "channels": channels,
        "num_cells": num_cells,
        "epochs": epochs,
        "batch_size": batch_size,
    }
    given = {name: size for name, size in given.items() if size is not None}
    if isinstance(method, Published):
        method, given = method.for_task(space, task, seed=seed, **given), {}
    at_least(0, most=MOST_STEPS, max_steps=0 if max_steps is None else max_steps)
    runs = [
        _planned(space, task, stage, given, model, seed)
        for stage in stages_of(Method() if method is None else method)
    ]
    result = None
    for number, run in enumerate(runs):
        own_hooks = _hooks_of(hooks, number)
        trials, start = run.stage.method.trials, result and result.genotype
        with out_of_memory_said():
            if trials is None:
                result = _run_stage(space, task, run, result, max_steps, seed, own_hooks)
                continue
            result = run_trials(
                space,
                task,
                trials,
                model=run.model,
                batch_size=run.batch_size,
                start=start,
                number=max_steps,
                seed=seed,
                hooks=own_hooks,
            )
    assert result is not None
    return result


def _hooks_of(hooks: Hooks | Callable[[int], Hooks] | None, number: int) -> Hooks:
    """The hooks of a stage.

    Raises:
      ValueError: for a function that returns none, or hooks that are no functions.
    """
    own = hooks(number) if callable(hooks) else hooks
    own = Hooks() if own is None else own
    if not isinstance(own, Hooks):
        raise ValueError(
            "hooks are dnas.Hooks, or a function that returns those of a stage; for stage"
            f" {number} it returned {shown(own)}"
        )
    check_fields(own)
    return own


class _Run(NamedTuple):
    """A stage with all that is known of it before any work."""

    stage: Stage
    model: Model
    epochs: int
    batch_size: int
    feeds: tuple[Feed, ...]


def _planned(
    space: SearchSpace,
    task: Task,
    stage: Stage,
    given: dict[str, Any],
    model: Model | None,
    seed: int,
) -> _Run:
    """Refuses what does not fit."""
    method = stage.method
    check_fields(method)
    at_least(0, most=MOST_SEED, seed=seed)
    length = {"epochs": 50, "batch_size": 64}
    if method.training is not None:
        length = {name: getattr(method.training, name) for name in length}
    length |= {name: given[name] for name in length if name in given}
    epochs, batch_size = length["epochs"], length["batch_size"]
    untrained = method.training is not None and method.training.epochs == 0  # by intent
    at_least(0 if untrained else 1, epochs=epochs)
    feeds = task.feeds(seed, batch_size, 1 if method.single_level else 2)
    at_least(0, most=MOST_STEPS, steps=epochs * feeds[0].steps)
    if method.training is not None:
        _check_length(method.training, epochs, feeds[0].steps)
    if model is None:
        sizes = {name: given.get(name) for name in ("channels", "num_cells")}
        model = supernet_of(space, task, method, one_hot=method.trials is not None, **sizes)
    return _Run(stage, model, epochs, batch_size, feeds)


def _check_length(training: Training, epochs: int, steps_per_epoch: int) -> None:
    made_for = training.epochs, training.steps_per_epoch
    if made_for != (epochs, steps_per_epoch):
        raise ValueError(
            f"the method was made for {made_for[0]} epochs of {made_for[1]} steps, the search has"
            f" {epochs} of {steps_per_epoch}; make it for that length, with epochs={epochs} and"
            f" steps_per_epoch={steps_per_epoch}"
        )


def _run_stage(
    space: SearchSpace,
    task: Task,
    run: _Run,
    before: SearchResult | None,
    max_steps: int | None,
    seed: int,
    hooks: Hooks,
) -> SearchResult:
    """Runs a stage by gradients from what the one before has found."""
    stage, model, epochs, batch_size, feeds = run
    method = stage.method
    if before is not None and stage.candidates is not None:
        method = method._replace(candidates=stage.candidates(before))
    steps_per_epoch = feeds[0].steps
    total_steps = epochs * steps_per_epoch
    if max_steps is not None:
        total_steps = min(max_steps, total_steps)

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

    def drawn(state: SearchState, data: tuple[PyTree, ...], rows: tuple[PyTree, ...]):
        """The arguments of a step: batches of these rows, and the state with a new key."""
        key, *keys = jax.random.split(state.key, 3)
        batches = [
            feed.batch(own_data, own_rows, own_key, carried)
            for feed, own_data, own_rows, own_key, carried in zip(
                feeds, data, rows, keys, state.carried, strict=False
            )
        ]
        return state._replace(key=key), batches[0], batches[-1]

    def step(state: SearchState, data: tuple[PyTree, ...], rows: tuple[PyTree, ...]):
        return search.step(*drawn(state, data, rows))

    data = jax.device_put(tuple(feed.data for feed in feeds))

    def explain(state: SearchState, rows: tuple[PyTree, ...]) -> str:
        terms = jax.jit(lambda *given: search.terms(*drawn(*given)))(state, data, rows)
        return _culprit(space, _as_numpy(terms))

    mix_of = jax.jit(search.mix)
    observe = _observer(space, model, method, task, feeds[-1], batch_size)

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
    if before is not None and stage.begin is not None:
        state = stage.begin(state, before)
    state, history = hooks.resume(state), []
    if not _stopped(state):
        state, history = run_steps(
            step,
            state,
            data,
            lambda epoch: tuple(feed.rows(epoch) for feed in feeds),
            first_step=int(state.step),
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            at_epoch_end=at_epoch_end,
            report=hooks.report,
            announce=hooks.announce,
            sums=hooks.sums(),
            learnt=lambda state: {"weights": state.weights, "arch": state.arch},
            explain=explain,
            most_steps=min(feed.most_steps for feed in feeds),
        )
    mix = _as_numpy(state.between["mix"] if _stopped(state) else mix_of(state))
    return SearchResult(method.select(space, mix), mix, state, history)


def _culprit(space: SearchSpace, terms: dict[str, tuple[np.ndarray, PyTree]]) -> str:
    """What in a step is not finite, in words; "" where each term is, and steps were too long."""
    for name, (value, gradient) in terms.items():
        of_loss = not jax.tree.leaves(gradient)
        fault = "" if np.isfinite(value) else f"{name} is {value}"
        if not fault and not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)):
            fault = f"the gradient of {name} is not finite"
        if fault and not of_loss:
            return f"{fault} before the step, though arch is finite: mend or leave out that term"
        if fault and (broken := _broken_op(space)):
            return f"{fault} before the step: {broken}"
    return ""


def _broken_op(space: SearchSpace) -> str:
    """Which op of the space does not keep the laws of an op, and which law; "" if all do."""
    for op in dict.fromkeys(op for spec in space.cells.values() for op in spec.ops):
        if op in OPS:
            try:
                check_op(OPS[op])
            except AssertionError as error:
                return f"op {op!r} is to blame, {error}"
    return ""


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
    space: SearchSpace, model: Model, method: Method, task: Task, feed: Feed, batch_size: int
) -> Callable[[SearchState, Mix, int], Observed]:
    """Returns (state, mix, epoch) -> Observed. What it offers to compute is compiled when it is
    first asked for.

    Args:
      feed: what arch learns from.
    """

    @functools.cache
    def make_accuracy(batches: int | None) -> Callable[[PyTree, Mix], float]:
        if batches is None:
            return task.accuracy(model, feed.data)
        return task.accuracy(
            model, jax.tree.map(lambda array: array[: batches * batch_size], feed.data)
        )

    @jax.jit
    def largest_eigenvalue(weights, arch, candidates, data, rows, key, carried):
        batch = feed.batch(data, rows, key, carried)

        def loss(arch) -> Array:
            mix = read_from(space, method.relaxation, arch, candidates)
            outputs, _ = model.apply({"params": weights}, mix, batch.inputs)
            return task.loss(outputs, batch)[0]

        return dominant_eigenvalue(hessian_vector_product(loss, arch), arch, jax.random.key(0))

    def observe(state: SearchState, mix: Mix, epoch: int) -> Observed:
        def accuracy(mix: Mix, *, batches: int | None = None) -> float:
            evaluate = make_accuracy(batches)
            return evaluate({"params": state.weights}, jax.tree.map(jnp.float32, mix))

        def sharpness() -> float:
            last = jax.tree.map(lambda rows: rows[-1], feed.rows(epoch - 1))
            return float(
                largest_eigenvalue(
                    state.weights,
                    state.arch,
                    state.candidates,
                    feed.data,
                    last,
                    jax.random.fold_in(jax.random.key(0), epoch),
                    state.carried[-1],
                )
            )

        return Observed(space, epoch, mix, _as_numpy(state.candidates), accuracy, sharpness)

    return observe


def _as_numpy(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
