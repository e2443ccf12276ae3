"""What a language model minimises on a window, and its perplexity on a text."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Key, Metrics, PyTree
from dnas.tasks.objective import classification_loss
from dnas.tasks.text import Window


def window_loss(logits: Array, states: Array, window: Window) -> tuple[Array, Metrics]:
    """Returns the loss of logits [B, T, V] and states [B, T, H] on a window, and the metrics loss
    and accuracy.

    The loss is the mean cross entropy, which the metric holds, plus `window.slowness` times the
    mean square of what the state changes by from token to token. The metric "hidden" [B, H] is the
    state after the window, which the next one starts from.
    """
    loss, metrics = classification_loss(logits, window.targets)
    change = jnp.square(states[:, 1:] - states[:, :-1])
    slow = change.mean() if change.size else 0.0
    return loss + window.slowness * slow, metrics | {"hidden": jax.lax.stop_gradient(states[:, -1])}


def make_perplexity(
    apply: Callable[[PyTree, Array, Array, bool, Key], tuple[Array, Array]],
    start: Callable[[int], Array],
    tokens: np.ndarray,
    *,
    batch_size: int = 10,
    window: int = 35,
) -> Callable[[PyTree], float]:
    """Returns weights -> perplexity on all of the tokens but the first; compiled once.

    Args:
      apply, start: of a `SequenceNetwork`, without dropout here.
      tokens: [N]; they are read as `batch_size` pieces side by side, each from the state `start`.
        With 1 nothing is cut.
      window: tokens at once, without influence on the result.
    """
    count = len(tokens) - 1
    batch_size = min(batch_size, count)
    length = -(-count // batch_size)
    padded = -(-length // window) * window

    def windows(values: np.ndarray) -> np.ndarray:
        """[number of windows, B, T]"""
        rows = np.pad(values, (0, batch_size * length - count)).reshape(batch_size, length)
        rows = np.pad(rows, ((0, 0), (0, padded - length)))
        return rows.reshape(batch_size, -1, window).swapaxes(0, 1)

    counted = windows(np.ones(count, bool))
    batches = jax.device_put((windows(tokens[:-1]), windows(tokens[1:]), counted))

    @jax.jit
    def losses(weights, batches):
        def of_window(hidden, batch):
            tokens, targets, counted = batch
            logits, states = apply(weights, tokens, hidden, False, jax.random.key(0))
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[
                ..., 0
            ]
            return states[:, -1], -jnp.where(counted, chosen, 0.0).sum()

        hidden = start(batch_size).astype(jax.tree.leaves(weights)[0].dtype)
        return jax.lax.scan(of_window, hidden, batches)[1]

    return lambda weights: float(
        np.exp(np.asarray(losses(weights, batches), np.float64).sum() / count)
    )
