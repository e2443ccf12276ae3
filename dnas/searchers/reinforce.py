"""REINFORCE on a distribution over architectures, the baseline of
https://arxiv.org/abs/2001.00326, section 4."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array
from dnas.searchers.architectures import DROPPED
from dnas.searchers.searcher import Searcher


def reinforce(learning_rate: float = 0.1, decay: float = 0.9) -> Searcher:
    """Returns the searcher that learns logits of the options of every row, and of the rows that
    compete for a place: it descends -log p(architecture) (value - baseline) by Adam.

    The baseline is the bias-corrected running mean of the values, as in D-X-Y/AutoDL-Projects,
    reinforce.py. There the learning rate is 0.001, which on NAS-Bench-201 is no better than random
    search; this default is.

    Args:
      learning_rate: Adam's, for values in per cent.
      decay: of the running mean.

    Raises:
      ValueError: for a decay that is not from 0 to below 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay is a number from 0 to below 1, got {decay}")

    def run(architectures, rng):
        groups = architectures.groups
        size = 1 + max(max(own) for own in architectures.columns)
        allowed = np.array([np.isin(range(size), own) for own in architectures.columns])
        options = np.where(allowed, 1e-3 * rng.standard_normal(allowed.shape), -np.inf)
        logits = {
            "options": jnp.asarray(options, jnp.float32),
            "rows": jnp.zeros(len(allowed), jnp.float32),
        }
        state, mean, number = optax.adam(learning_rate).init(logits), 0.0, 0
        kept = tuple(places for _, places in groups)
        while True:
            noisy = {
                name: np.asarray(own) + rng.gumbel(size=own.shape) for name, own in logits.items()
            }
            columns = noisy["options"].argmax(axis=-1)
            # Gumbel's k largest are a draw of k rows one after the other, without replacement.
            drawn = [np.array(rows)[np.argsort(-noisy["rows"][list(rows)])] for rows, _ in groups]
            for order, (_, places) in zip(drawn, groups, strict=True):
                columns[order[places:]] = DROPPED
            value = yield tuple(columns.tolist())
            number += 1
            mean = decay * mean + (1 - decay) * value
            advantage = value - mean / (1 - decay**number)
            logits, state = _learn(learning_rate, kept, logits, state, columns, drawn, advantage)

    return run


@partial(jax.jit, static_argnums=(0, 1))
def _learn(learning_rate, kept, logits, state, columns, drawn, advantage):
    def objective(logits):
        return -advantage * log_probability(logits, columns, drawn, kept)

    moves, state = optax.adam(learning_rate).update(jax.grad(objective)(logits), state)
    return optax.apply_updates(logits, moves), state


def log_probability(
    logits: dict[str, Array], columns: Array, drawn: list[Array], kept: tuple[int, ...]
) -> Array:
    """Returns log p of an architecture.

    Args:
      logits: {"options": [R, O], -inf where a row may not have the option, "rows": [R]}.
      columns: [R], -1 for a row without a place.
      drawn: of each group its rows, in the order in which they were drawn.
      kept: of each group, how many of those have a place.
    """
    options = jax.nn.log_softmax(logits["options"], axis=-1)
    taken = jnp.take_along_axis(options, jnp.maximum(columns, 0)[:, None], axis=-1)[:, 0]
    total = jnp.where(columns == DROPPED, 0.0, taken).sum()
    for order, places in zip(drawn, kept, strict=True):
        rows = logits["rows"][order]
        for place in range(places):
            total += rows[place] - jax.nn.logsumexp(rows[place:])
    return total
