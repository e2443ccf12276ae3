"""Training a discrete language model from scratch, and scoring it. DARTS, appendix A.2.2,
https://arxiv.org/abs/1806.09055."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array, Key, PyTree
from dnas.bilevel import sgd
from dnas.model import Model, Tokens
from dnas.running.loop import Progress, StepMemory, print_epochs, print_memory, run_steps
from dnas.tasks.language import make_perplexity, window_loss
from dnas.tasks.text import Places, Text, epoch_windows, streams, window_at


class TextRetrainState(NamedTuple):
    """Everything that changes during the training of a language model."""

    step: Array  # [] int32, steps done
    key: Key  # []
    weights: PyTree
    optimizer: PyTree
    hidden: Array  # [B, H], where the streams have been read to
    averaged: Array  # [] int32, how many weights the average holds; -1 while there is none
    average: PyTree  # of the weights since averaging began; the weights themselves before
    losses: Array  # [epochs], on the validation part, infinite for epochs that have not ended
    best: PyTree  # the average at the end of the epoch with the lowest of them


class TextRetrainResult(NamedTuple):
    test_perplexity: float  # of the weights below
    valid_perplexity: float
    weights: PyTree  # of the epoch that was best on the validation part
    state: TextRetrainState
    history: list[dict[str, Any]]  # a row an epoch that this call has run


def text_sgd(
    epochs: int,
    steps_per_epoch: int,
    *,
    learning_rate: float = 20.0,
    weight_decay: float = 8e-7,
    clip: float = 0.25,
) -> optax.GradientTransformation:
    """Returns the optimiser of DARTS's evaluation on Penn Treebank: plain SGD at a constant
    rate."""
    del epochs, steps_per_epoch
    return sgd(learning_rate, momentum=0.0, weight_decay=weight_decay, clip=clip)


def retrain_text(
    network: Model,
    text: Text,
    *,
    epochs: int = 8000,
    batch_size: int = 64,
    window: int = 35,
    max_steps: int | None = None,
    optimizer: Callable[[int, int], optax.GradientTransformation] = text_sgd,
    patience: int = 5,
    slowness: float = 1e-3,
    seed: int = 0,
    resume: Callable[[TextRetrainState], TextRetrainState] = lambda state: state,
    report: Callable[[Progress], None] = print_epochs,
    announce: Callable[[StepMemory], None] = print_memory,
) -> TextRetrainResult:
    """Trains a language model from scratch with the recipe of DARTS, and scores its best weights on
    the test part.

    SGD turns into averaged SGD for good after the first epoch whose validation loss is above the
    best one of more than `patience` epochs before (section 5 of https://arxiv.org/abs/1708.02182):
    from then on the mean of the weights of all steps is scored.

    Every window has the same length, where the released code draws it around 35 and scales the
    learning rate with it.

    Args:
      batch_size: pieces that the text is cut into and read side by side; window: tokens of each a
        step.
      optimizer: (epochs, steps_per_epoch) -> optax transformation.
      slowness: as in `search_text`.
      max_steps, resume, report, announce: as in `retrain`; rows hold valid_perplexity.

    Raises:
      ValueError: before any work, for a text or sizes that do not fit.
    """
    if epochs < 1 or batch_size < 1 or window < 1 or patience < 1 or seed < 0:
        raise ValueError(
            "epochs, batch_size, window and patience are at least 1 and seed at least 0, got "
            f"{epochs}, {batch_size}, {window}, {patience} and {seed}"
        )
    data = streams(text.train, batch_size, window)
    steps_per_epoch = (data.shape[1] - 1) // window
    total_steps = (
        epochs * steps_per_epoch if max_steps is None else min(max_steps, epochs * steps_per_epoch)
    )
    transformation = optimizer(epochs, steps_per_epoch)

    def init(key: Key) -> TextRetrainState:
        weights_key, key = jax.random.split(key)
        example = Tokens(jnp.zeros((batch_size, 1), jnp.int32))
        variables = network.init(weights_key, example)
        weights = variables["params"]
        outputs, _ = jax.eval_shape(network.apply, variables, {}, example)
        return TextRetrainState(
            step=jnp.zeros((), jnp.int32),
            key=key,
            weights=weights,
            optimizer=transformation.init(weights),
            hidden=jnp.zeros((batch_size, outputs.hidden.shape[-1])),
            averaged=jnp.full((), -1, jnp.int32),
            average=weights,
            losses=jnp.full(epochs, jnp.inf),
            best=weights,
        )

    def step(state: TextRetrainState, data: Array, place: Places):
        key, dropout_key = jax.random.split(state.key)
        batch = window_at(dropout_key, data, *place, state.hidden, window, slowness)

        def objective(weights):
            inputs = Tokens(batch.tokens, batch.hidden)
            outputs, _ = network.apply({"params": weights}, {}, inputs, key=batch.key, train=True)
            return window_loss(outputs.logits, outputs.hidden, batch)

        gradient, metrics = jax.grad(objective, has_aux=True)(state.weights)
        updates, optimizer_state = transformation.update(gradient, state.optimizer, state.weights)
        weights = optax.apply_updates(state.weights, updates)
        averaged = jnp.where(state.averaged < 0, -1, state.averaged + 1)
        # The first weights of an average, and all before it, replace what is there.
        part = 1 / jnp.maximum(averaged, 1)
        average = jax.tree.map(
            lambda mean, new: ((1 - part) * mean + part * new).astype(new.dtype),
            state.average,
            weights,
        )
        hidden = metrics.pop("hidden")
        after = state._replace(
            step=state.step + 1, key=key, weights=weights, optimizer=optimizer_state, hidden=hidden
        )
        return after._replace(averaged=averaged, average=average), metrics

    valid = make_perplexity(network, text.valid, window=window)
    test = make_perplexity(network, text.test, batch_size=1, window=window)

    def at_epoch_end(state: TextRetrainState) -> tuple[TextRetrainState, dict[str, Any], bool]:
        perplexity = valid(state.average)
        if (
            int(state.step) % steps_per_epoch
        ):  # ended early: a longer run would not have stopped here
            return state, {"valid_perplexity": perplexity}, False
        epoch, loss = int(state.step) // steps_per_epoch - 1, np.log(perplexity)
        if loss < state.losses.min():
            state = state._replace(best=state.average)
        before = np.asarray(state.losses[: max(epoch - patience, 0)])
        if int(state.averaged) < 0 and before.size and loss > before.min():
            state = state._replace(averaged=jnp.zeros_like(state.averaged))
        return (
            state._replace(losses=state.losses.at[epoch].set(loss)),
            {"valid_perplexity": perplexity},
            False,
        )

    state = resume(jax.jit(init)(jax.random.key(seed)))
    state, history = run_steps(
        step,
        state,
        jax.device_put(data),
        lambda epoch: epoch_windows(seed, epoch, data.shape[1] - 1, window),
        first_step=int(state.step),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        at_epoch_end=at_epoch_end,
        report=report,
        announce=announce,
    )
    weights = state.average if np.log(valid(state.average)) < state.losses.min() else state.best
    return TextRetrainResult(test(weights), valid(weights), weights, state, history)
