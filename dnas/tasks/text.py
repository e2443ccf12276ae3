"""A text that is predicted word by word: the task of DARTS on Penn Treebank, sections 3.1.2 and
A.2.2."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Key, Metrics, Mix, PyTree
from dnas.checks import checked
from dnas.model import Model, Outputs, Tokens
from dnas.tasks.reading import Text, check_tokens
from dnas.tasks.task import Feed, Task, classification_loss


class Window(NamedTuple):
    """Some tokens of every stream of a batch: what a step reads."""

    inputs: Tokens
    targets: Array  # [B, T] int32, the token after each
    key: Key | None = None  # [], of dropout
    slowness: float = 0.0  # weight of the change of the hidden state in the loss


@checked
def text(text: Text, *, window: int = 35, slowness: float = 1e-3) -> Task:
    """Returns the task of predicting each token of a text from those before it.

    Each part of the text is cut into as many pieces as a batch has, which are read side by side,
    and the hidden state goes on from one window to the next; gradients do not (truncated
    backpropagation). In a search the weights learn from the part for training and arch from that
    for validation. A training is judged by its perplexity on those for validation and test.

    Every window has the same length, where the released code draws it around 35, or 17 for one in
    twenty.

    Args:
      window: tokens of each piece a step.
      slowness: weight of the squared change of the hidden state in the loss of the weights: 1e-3 in
        the released code; the paper refers to others for it.

    Raises:
      ValueError: for a window without a token, and tokens that are not in the vocabulary.

    Example:
      >>> import dnas
      >>> task = text(dnas.read_text("to be or not to be , that is the question . " * 20), window=3)
      >>> task.num_classes, [feed.steps for feed in task.feeds(0, 4, 2)]
      (11, [16, 16])
    """
    if window < 1:
        raise ValueError(f"a window has at least one token, got window={window}")
    train, valid, test = (check_tokens(part, len(text.vocabulary)) for part in text[:3])
    text = Text(train, valid, test, text.vocabulary)

    def batches(slowness: float) -> Callable[[PyTree, PyTree, Key, PyTree], Window]:
        def batch(data: PyTree, place: PyTree, key: Key, hidden: PyTree) -> Window:
            start, fresh = place
            return window_at(key, data, start, fresh, hidden, window, slowness)

        return batch

    def feeds(seed: int, batch_size: int, levels: int) -> tuple[Feed, ...]:
        if batch_size < 1:
            raise ValueError(f"a batch has at least one piece of the text, got {batch_size}")
        read = streams(text.train, batch_size, window)
        length = read.shape[1] - 1
        steps = length // window

        def in_turn(epoch: int) -> Places:
            return epoch_windows(seed, epoch, length, window)

        train = Feed(read, steps, in_turn, batches(slowness))
        if levels == 1:
            return (train,)

        beside = streams(text.valid, batch_size, window)

        def repeated(epoch: int) -> Places:
            return repeated_windows(epoch, beside.shape[1] - 1, window, steps)

        return train, Feed(beside, steps, repeated, batches(0.0))

    return Task(
        inputs="tokens",
        example=Tokens(jnp.zeros((1, 1), jnp.int32)),
        num_classes=len(text.vocabulary),
        feeds=feeds,
        loss=window_loss,
        accuracy=lambda model, data: make_accuracy(model, data, window=window),
        start=_start,
        measure="perplexity",
        valid=lambda model: make_perplexity(model, text.valid, window=window),
        test=lambda model: make_perplexity(model, text.test, batch_size=1, window=window),
    )


def _start(outputs: Outputs, batch_size: int) -> Array:
    """The state of pieces of which nothing has been read."""
    states = _states(outputs)
    return jnp.zeros((batch_size, states.shape[-1]), states.dtype)


def _states(outputs: Outputs) -> Array:
    """The states [B, T, H] after each token."""
    if outputs.hidden is None:
        raise ValueError(
            "the model gives no states back, from which the next window of a text starts; return"
            " them as Outputs(logits, hidden=states)"
        )
    return outputs.hidden


def window_loss(outputs: Outputs, window: Window) -> tuple[Array, Metrics]:
    """Returns the loss of logits [B, T, V] and states [B, T, H] on a window, and the metrics loss
    and accuracy.

    The loss is the mean cross entropy, which the metric holds, plus `window.slowness` times the
    mean square of what the state changes by from token to token. The metric "carried" [B, H] is the
    state after the window, which the next one starts from.
    """
    loss, metrics = classification_loss(outputs.logits, window.targets)
    states = _states(outputs)
    change = jnp.square(states[:, 1:] - states[:, :-1])
    slow = change.mean() if change.size else 0.0
    carried = jax.lax.stop_gradient(states[:, -1])
    return loss + window.slowness * slow, metrics | {"carried": carried}


@checked
def make_perplexity(
    model: Model, tokens: np.ndarray, *, batch_size: int = 10, window: int = 35
) -> Callable[..., float]:
    """Returns (variables, mix={}) -> perplexity on all of the tokens but the first; compiled once.

    Args:
      tokens: [N]; they are read as `batch_size` pieces side by side, as if each began a text. With
        1 nothing is cut.
      window: tokens at once, without influence on the result.
    """
    count = len(tokens) - 1
    batch_size = min(batch_size, count)
    length = -(-count // batch_size)
    padded = -(-length // window) * window

    def windows(values: np.ndarray) -> np.ndarray:
        """[number of windows, B, T]"""
        rows = np.pad(values, (0, batch_size * length - count)).reshape(batch_size, length)
        return _windows(np.pad(rows, ((0, 0), (0, padded - length))), window)

    counted = windows(np.ones(count, bool))
    read = _reader(model, windows(tokens[:-1]), windows(tokens[1:]), counted)

    def perplexity(variables: PyTree, mix: Mix = {}) -> float:  # noqa: B006
        losses, _ = read(variables, mix)
        return float(np.exp(np.asarray(losses, np.float64).sum() / count))

    return perplexity


def make_accuracy(
    model: Model, streams: np.ndarray, *, window: int = 35
) -> Callable[[PyTree, Mix], float]:
    """Returns (variables, mix) -> share of the tokens of the streams [B, L + 1] that are predicted
    right, what does not fill a window left out; compiled once."""
    streams = np.asarray(streams)
    used = (streams.shape[1] - 1) // window * window
    tokens, targets = (_windows(streams[:, at : at + used], window) for at in (0, 1))
    read = _reader(model, tokens, targets, np.ones(tokens.shape, bool))
    return lambda variables, mix: int(read(variables, mix)[1].sum()) / tokens.size


def _windows(rows: np.ndarray, window: int) -> np.ndarray:
    """[number of windows, B, T] of rows [B, L]."""
    return rows.reshape(len(rows), -1, window).swapaxes(0, 1)


def _reader(model: Model, *windows: np.ndarray) -> Callable[[PyTree, Mix], tuple[Array, Array]]:
    """Returns (variables, mix) -> (summed cross entropy, tokens that are right) of each window.

    Windows are tokens, targets and whether they count, each [number of windows, B, T]; the state
    goes on from one to the next.
    """
    batches = jax.device_put(windows)

    @jax.jit
    def losses(variables, mix, batches):
        def of_window(hidden, batch):
            tokens, targets, counted = batch
            outputs, _ = model.apply(variables, mix, Tokens(tokens, hidden))
            chosen = jnp.take_along_axis(
                jax.nn.log_softmax(outputs.logits), targets[..., None], axis=-1
            )[..., 0]
            right = (outputs.logits.argmax(-1) == targets) & counted
            loss = -jnp.where(counted, chosen, 0.0).sum()
            return _states(outputs)[:, -1], (loss, right.sum())

        tokens = batches[0][0]
        outputs, _ = jax.eval_shape(model.apply, variables, mix, Tokens(tokens))
        return jax.lax.scan(of_window, _start(outputs, len(tokens)), batches)[1]

    return lambda variables, mix: losses(variables, mix, batches)


def streams(tokens: np.ndarray, batch_size: int, window: int) -> np.ndarray:
    """Returns [B, L + 1] of tokens [N]: B consecutive pieces, each with the token after it. What is
    left over is cut off.

    Raises:
      ValueError: if the pieces are shorter than a window.
    """
    length = (len(tokens) - 1) // batch_size
    if length < window:
        raise ValueError(
            f"{len(tokens)} tokens in a batch of {batch_size} streams leave {max(length, 0)} for"
            f" each, fewer than the {window} of a window; lower the batch size or the window, or"
            " give more text"
        )
    return np.stack(
        [tokens[start : start + length + 1] for start in range(0, batch_size * length, length)]
    )


def window_at(
    key: Key, stream: Array, start: Array, fresh: Array, hidden: Array, window: int, slowness: float
) -> Window:
    """Returns the tokens of streams [B, L + 1] from `start` on; where they are `fresh`, the hidden
    state is zero."""
    tokens = jax.lax.dynamic_slice_in_dim(stream, start, window + 1, axis=1)
    inputs = Tokens(tokens[:, :-1], jnp.where(fresh, 0.0, hidden))
    return Window(inputs, tokens[:, 1:], key, slowness)


class Places(NamedTuple):
    """Where the windows of an epoch begin."""

    start: np.ndarray  # [S] int32
    fresh: np.ndarray  # bool [S], whether nothing has been read before


def epoch_windows(seed: int, epoch: int, length: int, window: int) -> Places:
    """Returns the windows that an epoch reads of streams of `length`, one after another, from a
    random place on.

    What does not fill a window is left over, at the start and at the end. DARTS draws the length of
    every window instead (35 or 17 in the search), so that their borders differ between epochs; here
    shapes are fixed.
    """
    steps, left = divmod(length, window)
    first = np.random.default_rng([seed, 3, epoch]).integers(0, left + 1)
    return Places((first + window * np.arange(steps)).astype(np.int32), np.arange(steps) == 0)


def repeated_windows(epoch: int, length: int, window: int, steps: int) -> Places:
    """Returns the windows of an epoch of `steps`, over streams of `length` that are read from the
    start again and again."""
    count = length // window
    place = (epoch * steps + np.arange(steps)) % count
    return Places((window * place).astype(np.int32), place == 0)
