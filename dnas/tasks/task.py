"""What is learnt, whatever networks read."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from dnas.base import AnyBatch, Array, Batch, Key, Metrics, Mix, PyTree
from dnas.model import Model, Outputs


class Feed(NamedTuple):
    """What one level of a run learns from, batch by batch."""

    data: PyTree  # arrays, that stay on the device
    steps: int  # of an epoch
    # epoch -> where its batches are in the data; first axis: steps. Or, where data do not fit, what
    # is read when steps of it are asked for, [step] or [first:end]: the batches themselves.
    rows: Callable[[int], PyTree]
    # (data, rows of a step, key, what the batch before has left) -> batch; runs inside the step
    batch: Callable[[PyTree, PyTree, Key, PyTree], AnyBatch]
    most_steps: int = 2**31 - 1  # whose rows there is room for at once


class Task(NamedTuple):
    """What a search or a training learns: data, a loss, and what it is judged by.

    `feeds(seed, batch_size, levels)` returns a `Feed` for the weights and, with levels=2, one for
    arch. `loss(outputs, batch)` returns (loss, metrics) with the metrics loss and accuracy; where a
    batch goes on from the one before, the metric "carried" is what it leaves to the next, and
    `start(outputs, batch_size)` what there is before the first, of the shapes that `outputs` have
    for one example. `accuracy(model, data)` returns (variables, mix) -> accuracy in 0..1 on the
    data of a feed. `valid(model)` and `test(model)` return variables -> `measure` of the network of
    a genotype on data that is held out.
    """

    inputs: str  # what networks read, as `SearchSpace.inputs` has it
    example: PyTree  # the inputs of one example, zeros
    num_classes: int
    feeds: Callable[[int, int, int], tuple[Feed, ...]]
    loss: Callable[[Outputs, Any], tuple[Array, Metrics]]
    accuracy: Callable[[Model, PyTree], Callable[[PyTree, Mix], float]]
    sizes: Mapping[str, Any] = {}  # of inputs, as keywords of `SearchSpace.layers`
    start: Callable[[Outputs, int], PyTree] = lambda outputs, batch_size: ()
    measure: str = "accuracy"  # or "perplexity", of which less is better
    valid: Callable[[Model], Callable[[PyTree], float]] | None = None
    test: Callable[[Model], Callable[[PyTree], float]] | None = None


def classification_loss(logits: Array, targets: Array) -> tuple[Array, Metrics]:
    """Returns the mean cross entropy of logits [..., num_classes] and targets [...], and the
    metrics loss and accuracy."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    return loss, {"loss": loss, "accuracy": (logits.argmax(-1) == targets).mean()}


def smoothed_loss(logits: Array, targets: Array, smoothing: float) -> tuple[Array, Metrics]:
    """Returns `classification_loss` of targets of which a part `smoothing` is spread evenly over
    all classes. Section 7 of https://arxiv.org/abs/1512.00567."""
    spread = optax.smooth_labels(jax.nn.one_hot(targets, logits.shape[-1]), smoothing)
    loss = optax.softmax_cross_entropy(logits, spread).mean()
    return loss, {"loss": loss, "accuracy": (logits.argmax(-1) == targets).mean()}


def smoothed_cross_entropy(
    smoothing: float,
) -> Callable[[Outputs, Batch], tuple[Array, Metrics]]:
    """Returns the function (outputs, batch) -> `smoothed_loss`, with no smoothing `cross_entropy`.

    Raises:
      ValueError: for a smoothing that is no part.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing is a part from 0 up to but not 1, got {smoothing}")

    def smoothed(outputs: Outputs, batch: Batch) -> tuple[Array, Metrics]:
        return smoothed_loss(outputs.logits, batch.targets, smoothing)

    return smoothed if smoothing else cross_entropy


def cross_entropy(outputs: Outputs, batch: Batch) -> tuple[Array, Metrics]:
    """Returns `classification_loss` of what a model says of a batch."""
    return classification_loss(outputs.logits, batch.targets)
