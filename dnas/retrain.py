"""Training a discrete network from scratch, and scoring it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dnas.base import Array, Key, PyTree
from dnas.bilevel import cosine_by_epoch, sgd
from dnas.model import Model
from dnas.running.loop import (
    Progress,
    StepMemory,
    check_steps,
    print_epochs,
    print_memory,
    run_steps,
)
from dnas.tasks.data import (
    Augmentation,
    Data,
    augmented_batch,
    check_augmentation,
    check_data,
    epoch_batches,
    plain_augmentation,
)
from dnas.tasks.objective import classification_loss
from dnas.tasks.scoring import make_accuracy


class RetrainState(NamedTuple):
    """Everything that changes during retraining."""

    step: Array  # [] int32, steps done
    key: Key  # []
    variables: PyTree  # weights under "params", running averages under "batch_stats"
    optimizer: PyTree


class RetrainResult(NamedTuple):
    test_accuracy: float  # of the last epoch, in 0..1
    variables: PyTree
    state: RetrainState
    history: list[dict[str, Any]]  # a row an epoch that this call has run


def final_sgd(
    epochs: int,
    steps_per_epoch: int,
    *,
    learning_rate: float = 0.025,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float = 5.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Returns the optimiser of DARTS's evaluation: SGD whose rate falls to zero along a cosine.
    Appendix A.1.1."""
    schedule = cosine_by_epoch(
        epochs, steps_per_epoch, learning_rate=learning_rate, min_learning_rate=0.0
    )
    return sgd(schedule, momentum=momentum, weight_decay=weight_decay, clip=clip, nesterov=nesterov)


def retrain(
    network: Model,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    *,
    epochs: int = 600,
    batch_size: int = 96,
    max_steps: int | None = None,
    optimizer: Callable[[int, int], optax.GradientTransformation] = final_sgd,
    drop_path: float = 0.2,
    auxiliary_weight: float = 0.4,
    augmentation: Augmentation | None = None,
    evaluate_every: int = 1,
    seed: int = 0,
    resume: Callable[[RetrainState], RetrainState] = lambda state: state,
    report: Callable[[Progress], None] = print_epochs,
    announce: Callable[[StepMemory], None] = print_memory,
) -> RetrainResult:
    """Trains a network from scratch with the recipe of DARTS, appendix A.1.1, and scores it on the
    test images.

    The test accuracy is that of the last epoch, not the best one; the recipe takes no decision by
    it.

    Args:
      train, test: (images uint8 [N, H, W, C], labels [N]).
      max_steps: ends the training early.
      optimizer: (epochs, steps_per_epoch) -> optax transformation.
      drop_path: the rate at the end; it grows linearly, once an epoch, from 0.
      auxiliary_weight: of the loss of the auxiliary head, where the network has one.
      augmentation: of the training images; test images are only normalised. Unless given, so are
        the training images, by their own statistics. The published recipe on CIFAR-10 is
        `Augmentation(cutout=16)`.
      evaluate_every: epochs between scores on the test images; the last epoch is always scored.
      resume, report, announce: as in `run_search`; rows hold test_accuracy where it was measured.

    Raises:
      ValueError: before any work, for data or rates that do not fit.
    """
    train, test = check_data(*train), check_data(*test)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"training images are {train.images.shape[1:]}, test images {test.images.shape[1:]};"
            " they must agree"
        )
    if not 0.0 <= drop_path < 1.0:
        raise ValueError(f"drop_path is a rate from 0 up to but not 1, got {drop_path}")
    if evaluate_every < 1:
        raise ValueError(f"evaluate_every is a number of epochs from 1 on, got {evaluate_every}")
    largest_label = max(train.labels.max(), test.labels.max())
    augmentation = plain_augmentation(train.images) if augmentation is None else augmentation
    check_augmentation(augmentation, train.images)
    steps_per_epoch = check_steps(len(train.labels), batch_size, epochs)
    total_steps = (
        epochs * steps_per_epoch if max_steps is None else min(max_steps, epochs * steps_per_epoch)
    )
    transformation = optimizer(epochs, steps_per_epoch)

    def init(key: Key) -> RetrainState:
        variables_key, key = jax.random.split(key)
        variables = network.init(variables_key, jnp.zeros((1, *train.images.shape[1:])))
        return RetrainState(
            jnp.zeros((), jnp.int32), key, variables, transformation.init(variables["params"])
        )

    def step(state: RetrainState, data: Data, indices: Array):
        key, batch_key, path_key = jax.random.split(state.key, 3)
        batch = augmented_batch(batch_key, data, indices, augmentation)
        rate = drop_path * (state.step // steps_per_epoch) / epochs if drop_path else 0.0

        def objective(params):
            outputs, variables = network.apply(
                {**state.variables, "params": params},
                {},
                batch.images,
                key=path_key,
                train=True,
                drop_path=rate,
            )
            logits, auxiliary, _ = outputs
            if largest_label >= logits.shape[-1]:
                raise ValueError(
                    f"labels go up to {largest_label}, but the network has {logits.shape[-1]}"
                    f" classes; build it with num_classes={largest_label + 1}"
                )
            loss, metrics = classification_loss(logits, batch.labels)
            if auxiliary is not None:
                loss += auxiliary_weight * classification_loss(auxiliary, batch.labels)[0]
            return loss, (variables, metrics)

        gradient, (variables, metrics) = jax.grad(objective, has_aux=True)(
            state.variables["params"]
        )
        updates, optimizer_state = transformation.update(
            gradient, state.optimizer, state.variables["params"]
        )
        variables = {**variables, "params": optax.apply_updates(state.variables["params"], updates)}
        return RetrainState(state.step + 1, key, variables, optimizer_state), metrics

    score = make_evaluation(network, test, augmentation)

    def at_epoch_end(state: RetrainState) -> tuple[RetrainState, dict[str, Any], bool]:
        done = int(state.step)
        due = done // steps_per_epoch % evaluate_every == 0 or done == total_steps
        return state, {"test_accuracy": score(state.variables)} if due else {}, False

    state = resume(jax.jit(init)(jax.random.key(seed)))
    state, history = run_steps(
        step,
        state,
        jax.device_put(train),
        lambda epoch: epoch_batches(seed, epoch, len(train.labels), batch_size),
        first_step=int(state.step),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        at_epoch_end=at_epoch_end,
        report=report,
        announce=announce,
    )
    accuracy = history[-1]["test_accuracy"] if history else score(state.variables)
    return RetrainResult(accuracy, state.variables, state, history)


def make_evaluation(
    network: Model, data: tuple[Any, Any], augmentation: Augmentation, *, batch_size: int = 256
) -> Callable[[PyTree], float]:
    """Returns variables -> accuracy in 0..1 on the images, which are only normalised; compiled
    once.

    Args:
      data: (images uint8 [N, H, W, C], labels [N]); every image counts, also those of the last,
        smaller batch.
    """

    def logits(variables, images):
        return network.apply(variables, {}, images)[0].logits

    return make_accuracy(logits, check_data(*data), augmentation, batch_size=batch_size)
