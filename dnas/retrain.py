"""Training a discrete network from scratch, and scoring it on data that it has never seen."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array, Key, Metrics, Mix, PyTree
from dnas.bilevel import cosine_by_epoch, exponential_by_epoch, sgd
from dnas.checks import MOST_SEED, at_least, check_fields, checked
from dnas.model import Model, Outputs
from dnas.running.compiling import compile_step
from dnas.running.loop import MOST_STEPS, Hooks, run_steps
from dnas.running.memory import out_of_memory_said
from dnas.tasks import Feed, Task, images


class Keep(NamedTuple):
    """Which weights of a training count in the end.

    `init(weights, epochs)` returns a state; `step(state, weights)` the one after a step, within
    the compiled step. `now(state, weights)` are the weights that an epoch is scored with. Where a
    task has data for validation, `epoch(state, number, score)` returns the state after an epoch,
    numbered from 0, and `best(state, weights, score)` the weights that count, by a score of which
    less is better; otherwise those of now count.
    """

    init: Callable[[PyTree, int], PyTree]
    step: Callable[[PyTree, PyTree], PyTree]
    now: Callable[[PyTree, PyTree], PyTree]
    epoch: Callable[[PyTree, int, float], PyTree]
    best: Callable[[PyTree, PyTree, float], PyTree]


def last() -> Keep:
    """Returns the choice of the last weights, as DARTS makes it on images."""
    return Keep(
        init=lambda weights, epochs: (),
        step=lambda state, weights: state,
        now=lambda state, weights: weights,
        epoch=lambda state, number, score: state,
        best=lambda state, weights, score: weights,
    )


class AverageState(NamedTuple):
    averaged: Array  # [] int32, how many weights the average holds; -1 while there is none
    average: PyTree  # of the weights since averaging began; the weights themselves before
    scores: Array  # [epochs], infinite for epochs that have not ended
    best: PyTree  # the average at the end of the epoch with the lowest of them


@checked
def best_average(patience: int = 5) -> Keep:
    """Returns the choice of the weights with the best validation score, averaged from the time on
    when they no longer improve: averaged SGD, as DARTS trains language models, appendix A.2.2.

    Averaging begins for good after the first epoch whose score is above the best one of more than
    `patience` epochs before (section 5 of https://arxiv.org/abs/1708.02182): from then on the mean
    of the weights of all steps is scored.

    Raises:
      ValueError: for a patience below 1.
    """
    if patience < 1:
        raise ValueError(f"patience is at least one epoch, got {patience}")

    def init(weights: PyTree, epochs: int) -> AverageState:
        return AverageState(
            averaged=jnp.full((), -1, jnp.int32),
            average=weights,
            scores=jnp.full(epochs, jnp.inf),
            best=weights,
        )

    def step(state: AverageState, weights: PyTree) -> AverageState:
        averaged = jnp.where(state.averaged < 0, -1, state.averaged + 1)
        # The first weights of an average, and all before it, replace what is there.
        part = 1 / jnp.maximum(averaged, 1)
        average = jax.tree.map(
            lambda mean, new: ((1 - part) * mean + part * new).astype(new.dtype),
            state.average,
            weights,
        )
        return state._replace(averaged=averaged, average=average)

    def epoch(state: AverageState, number: int, score: float) -> AverageState:
        if score < state.scores.min():
            state = state._replace(best=state.average)
        before = np.asarray(state.scores[: max(number - patience, 0)])
        if int(state.averaged) < 0 and before.size and score > before.min():
            state = state._replace(averaged=jnp.zeros_like(state.averaged))
        return state._replace(scores=state.scores.at[number].set(score))

    def best(state: AverageState, weights: PyTree, score: float) -> PyTree:
        return state.average if score < state.scores.min() else state.best

    return Keep(init, step, lambda state, weights: state.average, epoch, best)


class RetrainState(NamedTuple):
    """Everything that changes during retraining."""

    step: Array  # [] int32, steps done
    key: Key  # []
    variables: PyTree  # weights under "params", running averages under "batch_stats"
    optimizer: PyTree
    carried: PyTree = ()  # what a batch goes on from, such as the state of a text that is read
    kept: PyTree = ()  # of `Keep`


class RetrainResult(NamedTuple):
    scores: dict[str, float]  # "test_accuracy" in 0..1; or "valid_perplexity", "test_perplexity"
    variables: PyTree  # that are scored
    state: RetrainState
    history: list[dict[str, Any]]  # a row an epoch that this call has run

    @property
    def test_accuracy(self) -> float:
        return self.scores["test_accuracy"]

    @property
    def test_perplexity(self) -> float:
        return self.scores["test_perplexity"]

    @property
    def valid_perplexity(self) -> float:
        return self.scores["valid_perplexity"]


@checked
def final_sgd(
    epochs: int,
    steps_per_epoch: int,
    *,
    learning_rate: float = 0.025,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
    nesterov: bool = False,
    schedule: Literal["epoch", "step", "exponential"] = "epoch",
) -> optax.GradientTransformation:
    """Returns the optimiser of DARTS's evaluation on CIFAR-10: SGD whose rate falls to zero along a
    cosine. Appendix A.1.1.

    Args:
      clip: largest norm of the gradient; None to clip nothing.
      schedule: whether that cosine falls once an "epoch" or in every "step", as in the training
        behind NAS-Bench-201; or "exponential", 3 % less in every epoch, as DARTS has it on
        ImageNet.
    """
    if schedule == "exponential":
        rate = exponential_by_epoch(steps_per_epoch, learning_rate=learning_rate)
    else:
        every_step = schedule == "step"
        length = (epochs * steps_per_epoch, 1) if every_step else (epochs, steps_per_epoch)
        rate = cosine_by_epoch(*length, learning_rate=learning_rate, min_learning_rate=0.0)
    return sgd(rate, momentum=momentum, weight_decay=weight_decay, clip=clip, nesterov=nesterov)


@checked
def text_sgd(
    epochs: int,
    steps_per_epoch: int,
    *,
    learning_rate: float = 20.0,
    weight_decay: float = 8e-7,
    clip: float | None = 0.25,
) -> optax.GradientTransformation:
    """Returns the optimiser of DARTS's evaluation on Penn Treebank: plain SGD at a constant
    rate."""
    del epochs, steps_per_epoch
    return sgd(learning_rate, momentum=0.0, weight_decay=weight_decay, clip=clip)


def make_training(
    network: Model,
    task: Task,
    feed: Feed,
    transformation: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    keep: Keep,
    drop_path: float = 0.0,
    auxiliary_weight: float = 0.0,
) -> tuple[Callable[..., RetrainState], Callable[..., tuple[RetrainState, Metrics]]]:
    """Returns (init, step) of a training from scratch: `init(key, mix)` is the first state, and
    `step(state, data, rows, mix)` one step on a batch of the feed, pure.

    Args:
      network: of a genotype, whose mix is left out, or a supernet, which is trained at one mix.
    """

    def init(key: Key, mix: Mix | None = None) -> RetrainState:
        variables_key, key = jax.random.split(key)
        variables = network.init(variables_key, task.example)
        outputs, _ = jax.eval_shape(network.apply, variables, mix or {}, task.example)
        _check_classes(outputs, task)
        weights = variables["params"]
        return RetrainState(
            step=jnp.zeros((), jnp.int32),
            key=key,
            variables=variables,
            optimizer=transformation.init(weights),
            carried=task.start(outputs, batch_size),
            kept=keep.init(weights, epochs),
        )

    def step(state: RetrainState, data: PyTree, rows: PyTree, mix: Mix | None = None):
        key, batch_key, model_key = jax.random.split(state.key, 3)
        batch = feed.batch(data, rows, batch_key, state.carried)
        drawn = model_key if batch.key is None else batch.key
        epoch = (state.step // feed.steps).astype(jnp.float32)
        rate = drop_path * epoch / epochs if drop_path else 0.0

        def objective(weights: PyTree):
            outputs, variables = network.apply(
                {**state.variables, "params": weights},
                mix or {},
                batch.inputs,
                key=drawn,
                train=True,
                drop_path=rate,
            )
            loss, metrics = task.loss(outputs, batch)
            if outputs.auxiliary is not None:
                loss += auxiliary_weight * task.loss(Outputs(outputs.auxiliary), batch)[0]
            return loss, (variables, metrics)

        weights = state.variables["params"]
        gradient, (variables, metrics) = jax.grad(objective, has_aux=True)(weights)
        updates, optimizer_state = transformation.update(gradient, state.optimizer, weights)
        weights = optax.apply_updates(weights, updates)
        state = RetrainState(
            step=state.step + 1,
            key=key,
            variables={**variables, "params": weights},
            optimizer=optimizer_state,
            carried=metrics.pop("carried", ()),
            kept=keep.step(state.kept, weights),
        )
        return state, metrics

    return init, step


@checked
def retrain(
    network: Model,
    task: Task | tuple[Any, Any],
    test: tuple[Any, Any] | None = None,
    *,
    epochs: int = 600,
    batch_size: int = 96,
    max_steps: int | None = None,
    optimizer: Callable[[int, int], optax.GradientTransformation] = final_sgd,
    keep: Keep | None = None,
    drop_path: float = 0.2,
    auxiliary_weight: float = 0.4,
    evaluate_every: int = 1,
    seed: int = 0,
    hooks: Hooks | None = None,
) -> RetrainResult:
    """Trains a network from scratch and scores it on data that is held out.

    The defaults are the recipe of DARTS for images, appendix A.1.1: the test accuracy is that of
    the last epoch, not the best one, and no decision is taken by it. Its recipe for texts, appendix
    A.2.2, is optimizer=text_sgd, keep=best_average(), epochs=8000 and batch_size=64.

    Args:
      task: what is learnt; or a pair of images and labels, which is taken with `test` as
        `dnas.tasks.images(*pair, test=test)`.
      test: (images, labels), where the task is given as a pair.
      max_steps: ends the training early.
      optimizer: (epochs, steps_per_epoch) -> optax transformation.
      keep: which weights count, the last ones unless given.
      drop_path: the rate at the end; it grows linearly, once an epoch, from 0.
      auxiliary_weight: of the loss of the auxiliary head, where the network has one.
      evaluate_every: epochs between scores, of which the rows hold valid_perplexity or
        test_accuracy; the last epoch is always scored.
      hooks: as in `run_search`.

    Raises:
      ValueError: before any work, for arguments that are not of the types above, and for data or
        rates that do not fit.
      FloatingPointError: if weights or a loss are no longer finite.
      MemoryError: if the device has too little memory; says what lowers the need.
    """
    if not isinstance(task, Task):
        task = images(*task, test=test)
    elif test is not None:
        raise ValueError("test images are part of a task: dnas.tasks.images(..., test=test)")
    if task.test is None:
        raise ValueError("a training is scored on test data, and the task has none; give test=...")
    if not 0.0 <= drop_path < 1.0:
        raise ValueError(f"drop_path is a rate from 0 up to but not 1, got {drop_path}")
    at_least(1, epochs=epochs, evaluate_every=evaluate_every)
    at_least(0, most=MOST_SEED, seed=seed)
    at_least(0, most=MOST_STEPS, max_steps=0 if max_steps is None else max_steps)
    keep = last() if keep is None else keep
    hooks = Hooks() if hooks is None else hooks
    check_fields(keep)
    check_fields(hooks)
    (feed,) = task.feeds(seed, batch_size, 1)
    steps_per_epoch = feed.steps
    total_steps = epochs * steps_per_epoch
    at_least(0, most=MOST_STEPS, steps=total_steps)
    if max_steps is not None:
        total_steps = min(max_steps, total_steps)
    init, step = make_training(
        network,
        task,
        feed,
        optimizer(epochs, steps_per_epoch),
        epochs=epochs,
        batch_size=batch_size,
        keep=keep,
        drop_path=drop_path,
        auxiliary_weight=auxiliary_weight,
    )
    test_score = task.test(network)
    valid_score = None if task.valid is None else task.valid(network)

    def now(state: RetrainState) -> PyTree:
        weights = keep.now(state.kept, state.variables["params"])
        return {**state.variables, "params": weights}

    def at_epoch_end(state: RetrainState) -> tuple[RetrainState, dict[str, Any], bool]:
        done = int(state.step)
        epoch, early = divmod(done, steps_per_epoch)
        if epoch % evaluate_every and done != total_steps:
            return state, {}, False
        if valid_score is None:
            return state, {f"test_{task.measure}": test_score(now(state))}, False
        score = valid_score(now(state))
        # After an early end within an epoch a longer run would not have looked here.
        if not early:
            state = state._replace(kept=keep.epoch(state.kept, epoch - 1, score))
        return state, {f"valid_{task.measure}": score}, False

    with out_of_memory_said():
        state = hooks.resume(compile_step(init, jax.random.key(seed))(jax.random.key(seed)))
    state, history = run_steps(
        step,
        state,
        jax.device_put(feed.data),
        feed.rows,
        first_step=int(state.step),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        at_epoch_end=at_epoch_end,
        report=hooks.report,
        announce=hooks.announce,
        sums=hooks.sums(),
        learnt=lambda state: state.variables,
        most_steps=feed.most_steps,
    )
    variables = now(state)
    if valid_score is None:
        known = history[-1] if history else {}
        name = f"test_{task.measure}"
        scores = {name: known[name] if name in known else test_score(variables)}
        return RetrainResult(scores, variables, state, history)
    weights = keep.best(state.kept, state.variables["params"], valid_score(variables))
    variables = {**state.variables, "params": weights}
    scores = {
        f"valid_{task.measure}": valid_score(variables),
        f"test_{task.measure}": test_score(variables),
    }
    return RetrainResult(scores, variables, state, history)


def _check_classes(outputs: Outputs, task: Task) -> None:
    """Raises ValueError unless there is a logit for every class."""
    if outputs.logits.shape[-1] < task.num_classes:
        raise ValueError(
            f"labels go up to {task.num_classes - 1}, but the network has"
            f" {outputs.logits.shape[-1]} classes; build it with num_classes={task.num_classes}"
        )
