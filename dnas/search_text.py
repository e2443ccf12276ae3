"""The search of a cell on a text: `run_search` for spaces whose networks read tokens. DARTS,
section 3.1.2 and appendix A.1.2.

https://arxiv.org/abs/1806.09055. As there, the weights learn from the part for training and arch
from that for validation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Arch, Array, Candidates, Key, Perturbation, PyTree
from dnas.bilevel import BilevelOptimizer, alternating, arch_adam, first_order, sgd
from dnas.bilevel.optimizer import ArchGradient
from dnas.model import Tokens
from dnas.relax import Relaxation
from dnas.running.loop import Progress, StepMemory, print_epochs, print_memory, run_steps
from dnas.search import SearchResult, SearchState, WeightedLoss, make_search_by
from dnas.selection import Selection, default_selection
from dnas.space import SearchSpace, check_inputs
from dnas.tasks.language import window_loss
from dnas.tasks.text import Places, Text, epoch_windows, repeated_windows, streams, window_at


class TextSearchState(NamedTuple):
    """Everything that changes during a search on a text."""

    search: SearchState
    hidden: Array  # [B, H], where the streams that train the weights have been read to
    valid_hidden: Array  # [B, H], those that train arch

    @property
    def step(self) -> Array:
        return self.search.step

    @property
    def arch(self) -> Arch:
        return self.search.arch


def recurrent_optimizer(
    epochs: int,
    steps_per_epoch: int,
    *,
    arch_gradient: ArchGradient | None = None,
    learning_rate: float = 20.0,
) -> BilevelOptimizer:
    """Returns the optimiser of DARTS's recurrent search: plain SGD on gradients of norm 0.25 at
    most, Adam for arch.

    Its virtual step, for a second-order arch gradient, is clipped as the real one is, unlike that
    of the convolutional search. Adam's first decay rate is 0.9 here, where that search has 0.5.
    """
    del epochs, steps_per_epoch
    weights = sgd(learning_rate, momentum=0.0, weight_decay=5e-7, clip=0.25)
    gradient = first_order() if arch_gradient is None else arch_gradient
    return alternating(gradient, weights, arch_adam(3e-3, b1=0.9, weight_decay=1e-3))


def search_text(
    space: SearchSpace,
    text: Text,
    *,
    channels: int | None = None,
    epochs: int = 50,
    batch_size: int = 256,
    window: int = 35,
    max_steps: int | None = None,
    supernet_options: Mapping[str, Any] | None = None,
    relaxation: Relaxation | None = None,
    optimizer: Callable[[int, int], BilevelOptimizer] = recurrent_optimizer,
    arch_losses: Sequence[WeightedLoss] = (),
    perturbation: Perturbation | None = None,
    single_level: bool = False,
    candidates: Candidates | None = None,
    slowness: float = 1e-3,
    select: Selection = default_selection,
    seed: int = 0,
    resume: Callable[[TextSearchState], TextSearchState] = lambda state: state,
    report: Callable[[Progress], None] = print_epochs,
    announce: Callable[[StepMemory], None] = print_memory,
) -> SearchResult:
    """Searches a cell for the text and returns its genotype, with all that led to it. The same seed
    gives the same result.

    Gradients go back through one window (truncated backpropagation); its last hidden state is where
    the next one starts. Every window has the same length, where the released code halves one in
    twenty.

    Args:
      channels: size of words and hidden states, the published one unless given.
      batch_size: pieces that each part of the text is cut into and read side by side; window:
        tokens of each a step.
      max_steps: ends the search early.
      supernet_options: what else `space.supernet` takes, for instance {"dropout":
        dnas.spaces.NO_DROPOUT}.
      slowness: weight of the squared change of the hidden state in the loss of the weights: 1e-3 in
        the released code; the paper refers to others for it.
      single_level: train arch on the windows of the weights.
      relaxation, optimizer, arch_losses, perturbation, candidates, select, seed, resume, report,
        announce: as in `run_search`.

    Raises:
      ValueError: before any work, for a text or sizes that do not fit.

    Example:
      >>> import dnas
      >>> text = dnas.read_text("to be or not to be , that is the question . " * 20)
      >>> result = search_text(
      ...     dnas.SPACES["recurrent"],
      ...     text,
      ...     channels=2,
      ...     epochs=1,
      ...     batch_size=4,
      ...     window=3,
      ...     max_steps=1,
      ...     report=lambda progress: None,
      ...     announce=lambda memory: None,
      ... )
      >>> len(result.genotype.cells["recurrent"])
      8
    """
    check_inputs(space, "tokens")
    if epochs < 1 or batch_size < 1 or window < 1 or seed < 0:
        raise ValueError(
            f"epochs, batch_size and window are at least 1 and seed at least 0, got {epochs},"
            f" {batch_size}, {window} and {seed}"
        )
    parts = (text.train,) if single_level else (text.train, text.valid)
    data = tuple(streams(part, batch_size, window) for part in parts)
    lengths = [part.shape[1] - 1 for part in data]
    steps_per_epoch = lengths[0] // window
    total_steps = (
        epochs * steps_per_epoch if max_steps is None else min(max_steps, epochs * steps_per_epoch)
    )
    size = space.channels if channels is None else channels
    supernet = space.supernet(
        channels=size,
        num_classes=len(text.vocabulary),
        **({} if supernet_options is None else supernet_options),
    )

    def batch_loss(weights, mix, batch):
        inputs = Tokens(batch.tokens, batch.hidden)
        outputs, _ = supernet.apply({"params": weights}, mix, inputs, key=batch.key, train=True)
        return window_loss(outputs.logits, outputs.hidden, batch)

    search = make_search_by(
        space,
        lambda key: supernet.init(key, Tokens(jnp.zeros((1, 1), jnp.int32)))["params"],
        batch_loss,
        optimizer(epochs, steps_per_epoch),
        relaxation=relaxation,
        arch_losses=arch_losses,
        perturbation=perturbation,
        candidates=candidates,
    )

    def init(key: Key) -> TextSearchState:
        return TextSearchState(
            search.init(key), jnp.zeros((batch_size, size)), jnp.zeros((batch_size, size))
        )

    def step(state: TextSearchState, data: tuple[Array, ...], places: tuple[Places, ...]):
        key, train_key, valid_key = jax.random.split(state.search.key, 3)
        train = window_at(train_key, data[0], *places[0], state.hidden, window, slowness)
        valid = (
            train
            if single_level
            else window_at(valid_key, data[1], *places[1], state.valid_hidden, window, 0.0)
        )
        after, found = search.step(state.search._replace(key=key), train, valid)
        hidden, valid_hidden = found.pop("hidden"), found.pop("valid_hidden")
        return TextSearchState(after, hidden, valid_hidden), found

    def epoch_places(epoch: int) -> tuple[Places, ...]:
        train = epoch_windows(seed, epoch, lengths[0], window)
        return (
            train,
            *(repeated_windows(epoch, length, window, steps_per_epoch) for length in lengths[1:]),
        )

    mix_of = jax.jit(search.mix)

    def read(state: TextSearchState) -> dict[str, Any]:
        mix = _as_numpy(mix_of(state.search))
        return {"mix": mix, "genotype": select(space, mix)}

    state = jax.jit(init)(jax.random.key(seed))
    read(state)  # a selection that does not fit the space fails here and not after an epoch
    state = resume(state)
    state, history = run_steps(
        step,
        state,
        jax.device_put(data),
        epoch_places,
        first_step=int(state.step),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        at_epoch_end=lambda state: (state, read(state), False),
        report=report,
        announce=announce,
    )
    found = read(state)
    return SearchResult(found["genotype"], found["mix"], state, history)


def _as_numpy(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
