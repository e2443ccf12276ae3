"""Architectures judged by the beginning of their training: one program for all of them.

Training speed estimation, https://arxiv.org/abs/2006.04492: of networks of a space, those whose
training loss has fallen further after a few epochs are those that generalise better in the end.
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array, Mix, PyTree
from dnas.checks import MOST_SEED, at_least, checked
from dnas.genotype import Genotype
from dnas.methods import Method, supernet_of
from dnas.model import Model
from dnas.retrain import RetrainState, final_sgd, last, make_training
from dnas.running.compiling import compile_step
from dnas.space import SearchSpace, one_hot_mix
from dnas.tasks import Task

_SGD = functools.partial(
    final_sgd, learning_rate=0.1, weight_decay=5e-4, nesterov=True, schedule="step"
)

_WORST = float(np.finfo(np.float32).max)


@checked
def short_training(
    space: SearchSpace,
    task: Task,
    *,
    epochs: int = 4,
    steps: int = 100,
    batch_size: int = 64,
    model: Model | None = None,
    channels: int | None = None,
    num_cells: int | None = None,
    optimizer: Callable[[int, int], optax.GradientTransformation] = _SGD,
    seed: int = 0,
) -> Callable[..., Iterator[float]]:
    """Returns what trains an architecture from scratch for a short while, as `search_trainings`
    takes it: of a genotype it yields minus the mean loss of the training in each epoch, all of
    whose batches are new to it. More is better.

    What is trained is the supernet at the genotype's one-hot mix, so that one program serves all
    architectures; on a CPU ops that are off do not run. All start from the same weights and see the
    same batches, which takes from their differences what has nothing to do with them; `seed=` as a
    keyword of what is returned is another one for a training, which says how far values vary.

    A network that is shallower than the one that is wanted hides what is hard to train in that:
    where time is short, take fewer channels and smaller images, and not fewer cells.

    Args:
      epochs: how many values there are; steps: that each of them is the mean of.
      model: what is trained, which takes a mix of the space; the supernet of the space unless
        given, of the next two sizes.
      channels, num_cells: of the supernet, those of the space unless given.
      optimizer: (epochs, steps of an epoch) -> optax transformation.
      seed: of weights and batches.

    Raises:
      ValueError: for sizes that do not fit the data.

    Example:
      >>> import dnas, numpy as np
      >>> pictures = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
      >>> space, task = dnas.SPACES["nasbench201"], dnas.tasks.images(pictures, np.arange(64) % 2)
      >>> sizes = {"epochs": 2, "steps": 3, "batch_size": 8, "channels": 2, "num_cells": 3}
      >>> train = short_training(space, task, **sizes)
      >>> len([*train(dnas.random_genotype(jax.random.key(0), space))])
      2
    """
    at_least(1, epochs=epochs, steps=steps)
    at_least(0, most=MOST_SEED, seed=seed)
    if model is None:
        sizes = {"channels": channels, "num_cells": num_cells}
        model = supernet_of(space, task, Method(), one_hot=True, **sizes)
    (feed,) = task.feeds(seed, batch_size, 1)
    init, step = make_training(
        model,
        task,
        feed,
        optimizer(epochs, steps),
        epochs=epochs,
        batch_size=batch_size,
        keep=last(),
    )

    def epoch(
        state: RetrainState, mix: Mix, data: PyTree, rows: PyTree
    ) -> tuple[RetrainState, Array]:
        def one(number: Array, carry: tuple[RetrainState, Array]) -> tuple[RetrainState, Array]:
            state, total = carry
            own = jax.tree.map(lambda array: array[number], rows)
            state, metrics = step(state, data, own, mix)
            return state, total + metrics["loss"]

        state, total = jax.lax.fori_loop(0, steps, one, (state, jnp.zeros(())))
        return state, total / steps

    @functools.cache
    def prepared() -> tuple[Callable[..., RetrainState], Callable[..., tuple], PyTree]:
        """The two programs, and the data on the device: when they are first asked for."""
        key, data, rows = jax.random.key(seed), jax.device_put(feed.data), _rows(feed, 0, steps)
        mix = {kind: jnp.zeros(own.shape) for kind, own in space.choices.items()}
        first = compile_step(init, key, mix)
        state = jax.eval_shape(init, key, mix)
        return first, compile_step(epoch, state, mix, data, rows), data

    def train(genotype: Genotype, *, seed: int = seed) -> Iterator[float]:
        mix = jax.tree.map(jnp.float32, one_hot_mix(space, genotype))
        first, go_on, data = prepared()
        state, (own,) = first(jax.random.key(seed), mix), task.feeds(seed, batch_size, 1)
        for number in range(epochs):
            state, loss = go_on(state, mix, data, _rows(own, number * steps, steps))
            # Nothing is worse than a training that is no longer finite.
            yield -float(np.nan_to_num(loss, nan=_WORST, posinf=_WORST))

    return train


def _rows(feed, first: int, steps: int) -> PyTree:
    """Where the batches of so many steps are in the data, from this step on."""
    numbers = range(first, first + steps)
    of_epoch = {number: feed.rows(number) for number in {step // feed.steps for step in numbers}}
    own = [
        jax.tree.map(lambda array, at=step % feed.steps: array[at], of_epoch[step // feed.steps])
        for step in numbers
    ]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *own)
