"""The search: joint optimisation of the weights of a supernet and of its arch, down to a
genotype."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import (
    ABSENT,
    Arch,
    ArchLoss,
    Array,
    Batch,
    Candidates,
    Key,
    Metrics,
    Mix,
    Perturbation,
    PyTree,
)
from dnas.bilevel import BilevelOptimizer, darts_optimizer
from dnas.genotype import Genotype
from dnas.hessian import dominant_eigenvalue, hessian_vector_product
from dnas.hw_loss import Constraint
from dnas.model import Model
from dnas.relax import Relaxation, softmax
from dnas.relax.relaxation import read_mix, value_at
from dnas.rules import Observed, Rule, Verdict
from dnas.running.compiling import compile_step
from dnas.running.loop import (
    Progress,
    StepMemory,
    check_steps,
    print_epochs,
    print_memory,
    run_steps,
)
from dnas.selection import Selection, default_selection
from dnas.space import SearchSpace, check_inputs
from dnas.tasks.data import (
    Augmentation,
    Data,
    augmented_batch,
    check_augmentation,
    check_data,
    epoch_batches,
    independent_batches,
    plain_augmentation,
    plain_batch,
    split_half,
)
from dnas.tasks.objective import classification_loss
from dnas.tasks.scoring import make_accuracy

# Parts of a key that no split makes: those are its first few folds.
_PERTURBATION = 2**31

# A term of the outer objective, or a pair of its weight (a number, or a schedule of the step) and
# the term.
WeightedLoss = ArchLoss | tuple[optax.ScalarOrSchedule, ArchLoss]


class SearchState(NamedTuple):
    """Everything that changes during a search."""

    step: Array  # [] int32, steps done
    key: Key  # []
    weights: PyTree
    arch: Arch  # {kind: [E, O]}
    optimizer: PyTree
    candidates: Candidates  # {kind: bool [E, O]}, the ops in play; what is not has a mix of zero
    between: PyTree = ()  # of what runs between epochs, numpy arrays
    multipliers: PyTree = ()  # of a constraint on costs, [M]


class Search(NamedTuple):
    """A search as pure functions.

    `init(key)` returns a `SearchState`; `step(state, train, valid)` takes a batch for the weights
    and one for arch and returns (state, metrics); `mix(state)` returns the mix {kind: [E, O]} that
    a selection reads, in which nothing is drawn at random; `metrics(weights, mix, batch)` returns
    the loss and accuracy of the supernet under a mix.
    """

    init: Callable[[Key], SearchState]
    step: Callable[[SearchState, Batch, Batch], tuple[SearchState, Metrics]]
    mix: Callable[[SearchState], Mix]
    metrics: Callable[[PyTree, Mix, Batch], Metrics]


class SearchResult(NamedTuple):
    genotype: Genotype
    mix: Mix  # {kind: [E, O]}, what the genotype was read from
    state: SearchState
    history: list[dict[str, Any]]  # a row an epoch that this call has run


def make_search(
    space: SearchSpace,
    supernet: Model,
    optimizer: BilevelOptimizer,
    *,
    image_shape: tuple[int, int, int],
    relaxation: Relaxation | None = None,
    arch_losses: Sequence[WeightedLoss] = (),
    arch_factors: Sequence[ArchLoss] = (),
    constraint: Constraint | None = None,
    perturbation: Perturbation | None = None,
    candidates: Candidates | None = None,
) -> Search:
    """Returns the search over a supernet.

    The inner objective is the cross entropy on the training batch; the outer one that on the
    validation batch times every arch factor, plus every arch loss. Each is evaluated at its own
    sample of the relaxation.

    Args:
      image_shape: (H, W, C) of the images.
      relaxation: `softmax()` unless given.
      arch_losses: terms (arch, mix) -> scalar that add up; or pairs of a weight, a number or an
        optax schedule, and a term.
      arch_factors: functions of the same kind that multiply the cross entropy, as FBNet's cost
        does.
      constraint: targets for costs whose weight is learned: after every step that moves arch its
        multipliers follow the cost of the genotype that would be read off.
      perturbation: what the inner objective does to its mix, such as `random_perturbation()`; None
        for nothing.
      candidates: {kind: bool [E, O]}, the ops in play at the start; all of them unless given.

    Raises:
      ValueError: for candidates that do not fit the space.
    """

    def loss(weights: PyTree, mix: Mix, batch: Batch) -> tuple[Array, Metrics]:
        outputs, _ = supernet.apply({"params": weights}, mix, batch.images, train=True)
        return classification_loss(outputs.logits, batch.labels)

    return make_search_by(
        space,
        lambda key: supernet.init(key, jnp.zeros((1, *image_shape)))["params"],
        loss,
        optimizer,
        relaxation=relaxation,
        arch_losses=arch_losses,
        arch_factors=arch_factors,
        constraint=constraint,
        perturbation=perturbation,
        candidates=candidates,
    )


def make_search_by(
    space: SearchSpace,
    init_weights: Callable[[Key], PyTree],
    batch_loss: Callable[[PyTree, Mix, Any], tuple[Array, Metrics]],
    optimizer: BilevelOptimizer,
    *,
    relaxation: Relaxation | None = None,
    arch_losses: Sequence[WeightedLoss] = (),
    arch_factors: Sequence[ArchLoss] = (),
    constraint: Constraint | None = None,
    perturbation: Perturbation | None = None,
    candidates: Candidates | None = None,
) -> Search:
    """Returns the search over whatever maps (weights, mix, batch) to (loss, metrics): `make_search`
    without the images.

    Args:
      init_weights: key -> weights.
      batch_loss: its batches are what `Search.step` is given; its metrics have the loss, without
        arch losses, as "loss".
    """
    relaxation = softmax() if relaxation is None else relaxation
    candidates = _checked_candidates(space, candidates)
    arch_losses = [term if isinstance(term, tuple) else (1.0, term) for term in arch_losses]

    def init(key: Key) -> SearchState:
        weights_key, arch_key, key = jax.random.split(key, 3)
        weights = init_weights(weights_key)
        parts = jax.random.split(arch_key, len(space.choices))
        arch = {
            kind: relaxation.init(part, choices)
            for (kind, choices), part in zip(space.choices.items(), parts, strict=True)
        }
        in_play = jax.tree.map(jnp.asarray, candidates)
        state = SearchState(
            jnp.zeros((), jnp.int32), key, weights, arch, optimizer.init(weights, arch), in_play
        )
        return (
            state
            if constraint is None
            else state._replace(multipliers=constraint.multiplier.init())
        )

    def sample(key: Key, arch: Arch, candidates: Candidates, step: Array) -> Mix:
        parts = jax.random.split(key, len(space.choices))
        return {
            kind: keep_candidates(
                relaxation.sample(part, arch[kind], choices, step), candidates[kind]
            )
            for (kind, choices), part in zip(space.choices.items(), parts, strict=True)
        }

    def metrics(weights: PyTree, mix: Mix, batch: Batch) -> Metrics:
        return batch_loss(weights, mix, batch)[1]

    def inner_objective(key: Key, batch: Batch, state: SearchState):
        def evaluate(weights: PyTree, arch: Arch) -> tuple[Array, Metrics]:
            mix = sample(key, in_play(arch, state.candidates), state.candidates, state.step)
            if perturbation is not None:
                fixed = jax.lax.stop_gradient(
                    weights
                )  # the perturbation is a constant of this step
                own_key = jax.random.fold_in(key, _PERTURBATION)
                mix = perturbation(
                    own_key, state.step, lambda mix: metrics(fixed, mix, batch)["loss"], mix
                )
            return batch_loss(weights, mix, batch)

        return evaluate

    def outer_objective(key: Key, batch: Batch, state: SearchState):
        def evaluate(weights: PyTree, arch: Arch) -> tuple[Array, Metrics]:
            arch = in_play(arch, state.candidates)
            mix = sample(key, arch, state.candidates, state.step)
            loss, found = batch_loss(weights, mix, batch)
            of_batch = jax.tree.map(lambda rows: rows.mean(-1) if rows.ndim == 3 else rows, mix)
            for factor in arch_factors:
                loss *= factor(arch, of_batch)
            for weight, term in arch_losses:
                loss += value_at(state.step, weight) * term(arch, of_batch)
            if constraint is not None:
                loss += constraint.penalty(state.multipliers, of_batch)
            return loss, found

        return evaluate

    def step(state: SearchState, train: Batch, valid: Batch) -> tuple[SearchState, Metrics]:
        key, inner_key, outer_key = jax.random.split(state.key, 3)
        inner, outer = (
            inner_objective(inner_key, train, state),
            outer_objective(outer_key, valid, state),
        )
        weight_updates, arch_updates, optimizer_state, found = optimizer.update(
            inner, outer, state.optimizer, state.weights, state.arch
        )
        weights = optax.apply_updates(state.weights, weight_updates)
        arch = optax.apply_updates(state.arch, arch_updates)
        if constraint is not None:
            moved = jnp.array([rows.any() for rows in jax.tree.leaves(arch_updates)]).any()
            read = _read(space, relaxation, arch, state.candidates)
            multipliers, costs = constraint.follow(state.multipliers, read, moved)
            state, found = state._replace(multipliers=multipliers), {**found, **costs}
        return (
            state._replace(
                step=state.step + 1, key=key, weights=weights, arch=arch, optimizer=optimizer_state
            ),
            found,
        )

    def mix(state: SearchState) -> Mix:
        return _read(space, relaxation, state.arch, state.candidates)

    return Search(init, step, mix, metrics)


def in_play(arch: Arch, candidates: Candidates) -> Arch:
    """Returns arch with the logits of ops that are no candidates set to `ABSENT`, out of reach of
    gradients."""

    return {
        kind: {**rows, "ops": jnp.where(candidates[kind], rows["ops"], ABSENT)}
        for kind, rows in arch.items()
    }


def keep_candidates(mix: Array, candidates: Array) -> Array:
    """Returns the mix [E, O] or [E, O, B] with zeros for what is no candidate."""
    return mix * candidates.reshape(candidates.shape + (1,) * (mix.ndim - 2))


def _read(space: SearchSpace, relaxation: Relaxation, arch: Arch, candidates: Candidates) -> Mix:
    """The mix {kind: [E, O]} that a selection reads."""
    arch = in_play(arch, candidates)
    return {
        kind: keep_candidates(read_mix(relaxation, arch[kind], choices), candidates[kind])
        for kind, choices in space.choices.items()
    }


def _checked_candidates(space: SearchSpace, candidates: Candidates | None) -> dict[str, np.ndarray]:
    full = {kind: own.allowed for kind, own in space.choices.items()}
    if candidates is None:
        return full
    given = {kind: np.asarray(rows) for kind, rows in candidates.items()}
    shapes, needed = ({kind: rows.shape for kind, rows in tree.items()} for tree in (given, full))
    if shapes != needed:
        raise ValueError(
            f"candidates have the shapes {shapes}; the space {space.name!r} needs {needed}: an edge"
            " a row, an op a column"
        )
    return {kind: rows.astype(bool) & full[kind] for kind, rows in given.items()}


def run_search(
    space: SearchSpace,
    data: tuple[Any, Any],
    *,
    num_classes: int | None = None,
    channels: int | None = None,
    num_cells: int | None = None,
    epochs: int = 50,
    batch_size: int = 64,
    max_steps: int | None = None,
    supernet_options: Mapping[str, Any] | None = None,
    relaxation: Relaxation | None = None,
    optimizer: Callable[[int, int], BilevelOptimizer] = darts_optimizer,
    arch_losses: Sequence[WeightedLoss] = (),
    arch_factors: Sequence[ArchLoss] = (),
    constraint: Constraint | None = None,
    perturbation: Perturbation | None = None,
    single_level: bool = False,
    candidates: Candidates | None = None,
    rule: Rule | None = None,
    select: Selection = default_selection,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    resume: Callable[[SearchState], SearchState] = lambda state: state,
    report: Callable[[Progress], None] = print_epochs,
    announce: Callable[[StepMemory], None] = print_memory,
) -> SearchResult:
    """Searches an architecture for the images and returns its genotype, with all that led to it.

    A random half of the images trains the weights, the other half arch. The same seed gives the
    same result.

    Args:
      data: (images uint8 [N, H, W, C], labels [N] from 0).
      num_classes: the largest label plus one unless given.
      channels, num_cells, epochs, batch_size: of the supernet and its training, the published ones
        unless given.
      max_steps: ends the search early.
      supernet_options: what else `space.supernet` takes, for instance {"partial_channels": 4} or
        {"dtype": "bfloat16"}.
      relaxation: `softmax()` unless given; optimizer: (epochs, steps_per_epoch) ->
        `BilevelOptimizer`; arch_losses, arch_factors, constraint, perturbation, candidates: as in
        `make_search`; select: how the genotype is read.
      single_level: train arch on the batches of the weights, which are then drawn from all images,
        as SNAS does.
      rule: runs after every whole epoch; may stop the search, name the mix that the genotype is
        read from, and drop candidates.
      augmentation: unless given, images are normalised by their own mean and deviation and nothing
        else.
      resume: is given the initial state and returns the state to go on from, for instance a
        checkpoint's.
      report: called with a `Progress` after every compiled call; rows at the end of an epoch hold
        mix and genotype.
      announce: called with an estimate of the memory that a step needs, before the first one.

    Raises:
      ValueError: before any work, for images, labels or sizes that do not fit.

    Example:
      >>> import dnas, numpy as np
      >>> images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
      >>> result = run_search(
      ...     dnas.SPACES["darts"],
      ...     (images, np.arange(32) % 2),
      ...     channels=2,
      ...     num_cells=1,
      ...     epochs=1,
      ...     batch_size=8,
      ...     max_steps=1,
      ...     report=lambda progress: None,
      ...     announce=lambda memory: None,
      ... )
      >>> len(result.genotype.cells["reduce"])
      8
    """
    relaxation = softmax() if relaxation is None else relaxation
    channels = space.channels if channels is None else channels
    num_cells = space.num_cells if num_cells is None else num_cells
    check_inputs(space, "images")
    data = check_data(*data, num_classes)
    num_classes = int(data.labels.max()) + 1 if num_classes is None else num_classes
    augmentation = plain_augmentation(data.images) if augmentation is None else augmentation
    check_augmentation(augmentation, data.images)
    space.layers(channels=channels, num_cells=num_cells, image_size=data.images.shape[1:3])
    if seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed}")
    halves = (data,) if single_level else split_half(data, seed)
    steps_per_epoch = check_steps(len(halves[0].labels), batch_size, epochs)
    total_steps = (
        epochs * steps_per_epoch if max_steps is None else min(max_steps, epochs * steps_per_epoch)
    )

    options = {} if supernet_options is None else supernet_options
    supernet = space.supernet(
        channels=channels, num_cells=num_cells, num_classes=num_classes, **options
    )
    search = make_search(
        space,
        supernet,
        optimizer(epochs, steps_per_epoch),
        image_shape=data.images.shape[1:],
        relaxation=relaxation,
        arch_losses=arch_losses,
        arch_factors=arch_factors,
        constraint=constraint,
        perturbation=perturbation,
        candidates=candidates,
    )

    def step(state: SearchState, halves: tuple[Data, ...], indices: tuple[Array, ...]):
        key, *batch_keys = jax.random.split(state.key, 3)
        batches = [
            augmented_batch(part, half, rows, augmentation)
            for part, half, rows in zip(batch_keys, halves, indices, strict=False)
        ]
        return search.step(state._replace(key=key), batches[0], batches[-1])

    def epoch_indices(epoch: int) -> tuple[np.ndarray, ...]:
        of_weights = epoch_batches(seed, epoch, len(halves[0].labels), batch_size)
        if single_level:
            return (of_weights,)
        return of_weights, independent_batches(
            seed, epoch, len(halves[1].labels), batch_size, steps_per_epoch
        )

    mix_of = jax.jit(search.mix)
    observe = _observer(space, supernet, relaxation, halves[-1], augmentation, batch_size)

    def at_epoch_end(state: SearchState) -> tuple[SearchState, dict[str, Any], bool]:
        mix = _as_numpy(mix_of(state))
        if rule is None or int(state.step) % steps_per_epoch:
            return state, {"mix": mix, "genotype": select(space, mix)}, False
        epoch = int(state.step) // steps_per_epoch
        state, verdict = _follow(rule, state, observe(state, mix, epoch))
        genotype = select(space, verdict.mix or mix)
        return state, {"mix": mix, "genotype": genotype, **verdict.metrics}, verdict.stop

    state = compile_step(search.init, jax.random.key(seed))(jax.random.key(seed))
    select(
        space, _as_numpy(mix_of(state))
    )  # a selection that does not fit the space fails here and not after an epoch
    if rule is not None:
        nothing = {
            kind: np.zeros(rows.shape, np.float32) for kind, rows in state.candidates.items()
        }
        between = {"rule": rule.init(space, epochs), "stopped": False, "mix": nothing}
        state = state._replace(between=jax.tree.map(jnp.asarray, between))
    state, history = resume(state), []
    if not _stopped(state):
        state, history = run_steps(
            step,
            state,
            jax.device_put(halves),
            epoch_indices,
            first_step=int(state.step),
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            at_epoch_end=at_epoch_end,
            report=report,
            announce=announce,
        )
    mix = _as_numpy(state.between["mix"] if _stopped(state) else mix_of(state))
    return SearchResult(select(space, mix), mix, state, history)


def _stopped(state: SearchState) -> bool:
    return bool(state.between and state.between["stopped"])


def _follow(rule: Rule, state: SearchState, observed: Observed) -> tuple[SearchState, Verdict]:
    """Asks the rule, and keeps what it decides in the state, so that a checkpoint holds it."""
    rule_state, verdict = rule.update(_as_numpy(state.between["rule"]), observed)
    between = {
        "rule": rule_state,
        "stopped": np.asarray(verdict.stop),
        "mix": observed.mix if verdict.mix is None else verdict.mix,
    }
    # Shapes and types stay as they are: the step is compiled for them.
    between = jax.tree.map(
        lambda new, old: jnp.asarray(new, old.dtype).reshape(old.shape), between, state.between
    )
    if verdict.candidates is not None:
        state = state._replace(
            candidates=jax.tree.map(
                jnp.asarray, _checked_candidates(observed.space, verdict.candidates)
            )
        )
    return state._replace(between=between), verdict


def _observer(space, supernet, relaxation, data, augmentation, batch_size):
    """Returns (state, mix, epoch) -> Observed. What it offers to compute is compiled when it is
    first asked for."""

    def logits(weights_and_mix, images):
        weights, mix = weights_and_mix
        return supernet.apply({"params": weights}, mix, images)[0].logits

    accuracy = functools.cache(lambda: make_accuracy(logits, data, augmentation))
    batch = functools.cache(lambda: plain_batch(data, np.arange(batch_size), augmentation))

    @jax.jit
    def largest_eigenvalue(weights, arch, candidates, batch):
        def loss(arch):
            mix = _read(space, relaxation, arch, candidates)
            outputs, _ = supernet.apply({"params": weights}, mix, batch.images)
            return classification_loss(outputs.logits, batch.labels)[0]

        return dominant_eigenvalue(hessian_vector_product(loss, arch), arch, jax.random.key(0))

    def observe(state, mix, epoch):
        return Observed(
            space,
            epoch,
            mix,
            _as_numpy(state.candidates),
            lambda mix: accuracy()((state.weights, jax.tree.map(jnp.float32, mix))),
            lambda: float(largest_eigenvalue(state.weights, state.arch, state.candidates, batch())),
        )

    return observe


def _as_numpy(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
