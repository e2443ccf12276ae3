"""The search: joint optimisation of the weights of a supernet and of its arch, down to a genotype."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Arch, ArchLoss, Array, Batch, Key, Metrics, Mix, PyTree
from dnas.bilevel import BilevelOptimizer, darts_optimizer
from dnas.data import (
    Augmentation,
    Data,
    augmented_batch,
    check_augmentation,
    check_data,
    epoch_batches,
    independent_batches,
    plain_augmentation,
    split_half,
)
from dnas.genotype import Genotype
from dnas.loop import Progress, StepMemory, check_steps, print_epochs, print_memory, run_steps
from dnas.objective import classification_loss
from dnas.relax import Relaxation, softmax
from dnas.selection import Selection, top_edges
from dnas.space import SearchSpace, Supernet

_SELECTION = 2**31


class SearchState(NamedTuple):
    """Everything that changes during a search."""

    step: Array  # [] int32, steps done
    key: Key  # []
    weights: PyTree
    arch: Arch  # {kind: [E, O]}
    optimizer: PyTree


class Search(NamedTuple):
    """A search as pure functions.

    `init(key)` returns a `SearchState`; `step(state, train, valid)` takes a batch for the weights and one for arch and
    returns (state, metrics); `mix(state)` returns the mix {kind: [E, O]} that a selection reads.
    """

    init: Callable[[Key], SearchState]
    step: Callable[[SearchState, Batch, Batch], tuple[SearchState, Metrics]]
    mix: Callable[[SearchState], Mix]


class SearchResult(NamedTuple):
    genotype: Genotype
    mix: Mix  # {kind: [E, O]}
    state: SearchState
    history: list[dict[str, Any]]  # a row an epoch that this call has run


def make_search(
    space: SearchSpace,
    supernet: Supernet,
    optimizer: BilevelOptimizer,
    *,
    image_shape: tuple[int, int, int],
    relaxation: Relaxation | None = None,
    arch_losses: Sequence[ArchLoss] = (),
) -> Search:
    """Returns the search over a supernet.

    The inner objective is the cross entropy on the training batch; the outer one that on the validation batch plus every
    arch loss. Each is evaluated at its own sample of the relaxation.

    Args:
      image_shape: (H, W, C) of the images.
      relaxation: `softmax()` unless given.
      arch_losses: terms (arch, mix) -> scalar that add up.
    """
    relaxation = softmax() if relaxation is None else relaxation

    def init(key: Key) -> SearchState:
        weights_key, arch_key, key = jax.random.split(key, 3)
        weights = supernet.init(weights_key, jnp.zeros((1, *image_shape)))
        parts = jax.random.split(arch_key, len(space.cells))
        arch = {kind: relaxation.init(part, spec) for (kind, spec), part in zip(space.cells.items(), parts, strict=True)}
        return SearchState(jnp.zeros((), jnp.int32), key, weights, arch, optimizer.init(weights, arch))

    def sample(key: Key, arch: Arch, step: Array) -> Mix:
        parts = jax.random.split(key, len(space.cells))
        return {
            kind: relaxation.sample(part, arch[kind], spec, step)
            for (kind, spec), part in zip(space.cells.items(), parts, strict=True)
        }

    def objective(key: Key, batch: Batch, step: Array, losses: Sequence[ArchLoss]):
        def evaluate(weights: PyTree, arch: Arch) -> tuple[Array, Metrics]:
            mix = sample(key, arch, step)
            logits = supernet.apply(weights, mix, batch.images)
            loss, metrics = classification_loss(logits, batch.labels)
            return loss + sum(term(arch, mix) for term in losses), metrics

        return evaluate

    def step(state: SearchState, train: Batch, valid: Batch) -> tuple[SearchState, Metrics]:
        key, inner_key, outer_key = jax.random.split(state.key, 3)
        inner = objective(inner_key, train, state.step, ())
        outer = objective(outer_key, valid, state.step, arch_losses)
        weight_updates, arch_updates, optimizer_state, metrics = optimizer.update(
            inner, outer, state.optimizer, state.weights, state.arch
        )
        weights = optax.apply_updates(state.weights, weight_updates)
        arch = optax.apply_updates(state.arch, arch_updates)
        return SearchState(state.step + 1, key, weights, arch, optimizer_state), metrics

    def mix(state: SearchState) -> Mix:
        # A key that no step uses: the steps split the key, and the parts of a split are its first few folds.
        return sample(jax.random.fold_in(state.key, _SELECTION), state.arch, state.step)

    return Search(init, step, mix)


def run_search(
    space: SearchSpace,
    data: tuple[Any, Any],
    *,
    num_classes: int | None = None,
    channels: int = 16,
    num_cells: int = 8,
    epochs: int = 50,
    batch_size: int = 64,
    max_steps: int | None = None,
    supernet_options: Mapping[str, Any] | None = None,
    relaxation: Relaxation | None = None,
    optimizer: Callable[[int, int], BilevelOptimizer] = darts_optimizer,
    arch_losses: Sequence[ArchLoss] = (),
    select: Selection | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    resume: Callable[[SearchState], SearchState] = lambda state: state,
    report: Callable[[Progress], None] = print_epochs,
    announce: Callable[[StepMemory], None] = print_memory,
) -> SearchResult:
    """Searches an architecture for the images and returns its genotype, with all that led to it.

    A random half of the images trains the weights, the other half arch. The same seed gives the same result.

    Args:
      data: (images uint8 [N, H, W, C], labels [N] from 0).
      num_classes: the largest label plus one unless given.
      channels, num_cells, epochs, batch_size: of the supernet and its training, the published ones by default.
      max_steps: ends the search early.
      supernet_options: what else `space.supernet` takes, for instance {"partial_channels": 4} or {"dtype": "bfloat16"}.
      relaxation: `softmax()` unless given; optimizer: (epochs, steps_per_epoch) -> `BilevelOptimizer`; arch_losses: as in
        `make_search`; select: `top_edges()` unless given.
      augmentation: unless given, images are normalised by their own mean and deviation and nothing else.
      resume: is given the initial state and returns the state to go on from, for instance a checkpoint's.
      report: called with a `Progress` after every compiled call; rows at the end of an epoch hold mix and genotype.
      announce: called with an estimate of the memory that a step needs, before the first one.

    Raises:
      ValueError: before any work, for images, labels or sizes that do not fit.

    Example:
      >>> import dnas, numpy as np
      >>> images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
      >>> result = run_search(dnas.SPACES["darts"], (images, np.arange(32) % 2), channels=2, num_cells=1, epochs=1,
      ...                     batch_size=8, max_steps=1, report=lambda progress: None, announce=lambda memory: None)
      >>> len(result.genotype.cells["reduce"])
      8
    """
    select = top_edges() if select is None else select
    data = check_data(*data, num_classes)
    num_classes = int(data.labels.max()) + 1 if num_classes is None else num_classes
    augmentation = plain_augmentation(data.images) if augmentation is None else augmentation
    check_augmentation(augmentation, data.images)
    space.layers(channels=channels, num_cells=num_cells, image_size=data.images.shape[1:3])
    if seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed}")
    train, valid = split_half(data, seed)
    steps_per_epoch = check_steps(len(train.labels), batch_size, epochs)
    total_steps = epochs * steps_per_epoch if max_steps is None else min(max_steps, epochs * steps_per_epoch)

    options = {} if supernet_options is None else supernet_options
    supernet = space.supernet(channels=channels, num_cells=num_cells, num_classes=num_classes, **options)
    search = make_search(
        space,
        supernet,
        optimizer(epochs, steps_per_epoch),
        image_shape=data.images.shape[1:],
        relaxation=relaxation,
        arch_losses=arch_losses,
    )

    def step(state: SearchState, data: tuple[Data, Data], indices: tuple[Array, Array]):
        key, train_key, valid_key = jax.random.split(state.key, 3)
        batches = (
            augmented_batch(part, half, rows, augmentation)
            for part, half, rows in zip((train_key, valid_key), data, indices, strict=True)
        )
        return search.step(state._replace(key=key), *batches)

    def epoch_indices(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return (
            epoch_batches(seed, epoch, len(train.labels), batch_size),
            independent_batches(seed, epoch, len(valid.labels), batch_size, steps_per_epoch),
        )

    def at_epoch_end(state: SearchState) -> dict[str, Any]:
        mix = {kind: np.asarray(rows) for kind, rows in search.mix(state).items()}
        return {"mix": mix, "genotype": select(space, mix)}

    state = resume(jax.jit(search.init)(jax.random.key(seed)))
    at_epoch_end(state)  # a selection that does not fit the space fails here and not after an epoch
    state, history = run_steps(
        step,
        state,
        jax.device_put((train, valid)),
        epoch_indices,
        first_step=int(state.step),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        at_epoch_end=at_epoch_end,
        report=report,
        announce=announce,
    )
    last = at_epoch_end(state)
    return SearchResult(last["genotype"], last["mix"], state, history)
