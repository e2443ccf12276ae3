"""What a language model minimises on a window, and its perplexity on a text."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Metrics, PyTree
from dnas.model import Model, Tokens
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
    network: Model,
    tokens: np.ndarray,
    *,
    batch_size: int = 10,
    window: int = 35,
) -> Callable[[PyTree], float]:
    """Returns weights -> perplexity on all of the tokens but the first; compiled once.

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
        rows = np.pad(rows, ((0, 0), (0, padded - length)))
        return rows.reshape(batch_size, -1, window).swapaxes(0, 1)

    counted = windows(np.ones(count, bool))
    batches = jax.device_put((windows(tokens[:-1]), windows(tokens[1:]), counted))

    @jax.jit
    def losses(weights, batches):
        def of_window(hidden, batch):
            tokens, targets, counted = batch
            outputs, _ = network.apply({"params": weights}, {}, Tokens(tokens, hidden))
            chosen = jnp.take_along_axis(
                jax.nn.log_softmax(outputs.logits), targets[..., None], axis=-1
            )[..., 0]
            return outputs.hidden[:, -1], -jnp.where(counted, chosen, 0.0).sum()

        states = jax.eval_shape(network.apply, {"params": weights}, {}, Tokens(batches[0][0]))[0]
        hidden = jnp.zeros((batch_size, states.hidden.shape[-1]), states.hidden.dtype)
        return jax.lax.scan(of_window, hidden, batches)[1]

    return lambda weights: float(
        np.exp(np.asarray(losses(weights, batches), np.float64).sum() / count)
    )
