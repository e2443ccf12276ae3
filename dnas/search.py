"""The search as pure functions: joint optimisation of the weights of a model and of its arch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.arch_losses import WeightedLoss
from dnas.base import (
    ABSENT,
    AnyArray,
    AnyBatch,
    Arch,
    ArchLoss,
    Array,
    Candidates,
    Key,
    Metrics,
    Mix,
    Perturbation,
    PyTree,
)
from dnas.bilevel import BilevelOptimizer
from dnas.checks import checked
from dnas.hw_loss import Constraint
from dnas.model import Model, Outputs
from dnas.relax import Relaxation, softmax
from dnas.relax.relaxation import read_mix, value_at
from dnas.space import SearchSpace
from dnas.tasks.task import cross_entropy

# Parts of a key that no split makes: those are its first few folds.
_PERTURBATION, _MODEL = 2**31, 2**31 + 1


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
    # what a batch goes on from, such as the state of a text that is read, for weights and for arch
    carried: tuple[PyTree, PyTree] = ((), ())


class Search(NamedTuple):
    """A search as pure functions.

    `init(key)` returns a `SearchState`; `step(state, train, valid)` takes a batch for the weights
    and one for arch and returns (state, metrics); `mix(state)` returns the mix {kind: [E, O]} that
    a selection reads, in which nothing is drawn at random; `terms(state, train, valid)` returns
    what that step minimises, {name: (value, gradient for arch)}, each term by itself; of the two
    losses the value only, and ().
    """

    init: Callable[[Key], SearchState]
    step: Callable[[SearchState, AnyBatch, AnyBatch], tuple[SearchState, Metrics]]
    mix: Callable[[SearchState], Mix]
    terms: Callable[[SearchState, AnyBatch, AnyBatch], dict[str, tuple[Array, PyTree]]]


@checked
def make_search(
    space: SearchSpace,
    model: Model,
    optimizer: BilevelOptimizer,
    *,
    example: PyTree,
    loss: Callable[[Outputs, Any], tuple[Array, Metrics]] = cross_entropy,
    relaxation: Relaxation | None = None,
    arch_losses: Sequence[WeightedLoss] = (),
    arch_factors: Sequence[ArchLoss] = (),
    constraint: Constraint | None = None,
    perturbation: Perturbation | None = None,
    candidates: Candidates | None = None,
) -> Search:
    """Returns the search over a model that takes a mix of the space.

    The inner objective is the loss on the training batch; the outer one that on the validation
    batch times every arch factor, plus every arch loss. Each loss is evaluated at its own sample of
    the relaxation; arch factors, arch losses and the constraint at the mix that a genotype is read
    from.

    Args:
      model: has weights only; `space.supernet(...)`, or what is made of it.
      example: inputs of one example, such as images [1, H, W, C].
      loss: (outputs, batch) -> (loss, metrics), as `Task.loss`. Of what a model draws at random, a
        batch has the key, or the step.
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
      ValueError: for candidates that do not fit the space; from init for a model that keeps more
        than weights.
    """
    relaxation = softmax() if relaxation is None else relaxation
    candidates = checked_candidates(space, candidates)
    arch_losses = [term if isinstance(term, tuple) else (1.0, term) for term in arch_losses]

    def init(key: Key) -> SearchState:
        weights_key, arch_key, key = jax.random.split(key, 3)
        variables = model.init(weights_key, example)
        if set(variables) != {"params"}:
            raise ValueError(
                f"the model keeps {sorted(variables)}, but a search has weights only, under"
                " 'params'; build it with norms that keep no averages, as `search_norms` are"
            )
        parts = jax.random.split(arch_key, len(space.choices))
        arch = {
            kind: relaxation.init(part, choices)
            for (kind, choices), part in zip(space.choices.items(), parts, strict=True)
        }
        return SearchState(
            step=jnp.zeros((), jnp.int32),
            key=key,
            weights=variables["params"],
            arch=arch,
            optimizer=optimizer.init(variables["params"], arch),
            candidates=jax.tree.map(jnp.asarray, candidates),
            multipliers=() if constraint is None else constraint.multiplier.init(),
        )

    def sample(key: Key, arch: Arch, candidates: Candidates, step: Array) -> Mix:
        parts = jax.random.split(key, len(space.choices))
        return {
            kind: keep_candidates(
                relaxation.sample(part, arch[kind], choices, step), candidates[kind]
            )
            for (kind, choices), part in zip(space.choices.items(), parts, strict=True)
        }

    def inner_objective(key: Key, batch: AnyBatch, state: SearchState):
        drawn = _model_key(key, batch)

        def evaluate(weights: PyTree, arch: Arch) -> tuple[Array, Metrics]:
            mix = sample(key, in_play(arch, state.candidates), state.candidates, state.step)
            if perturbation is not None:
                # The perturbation is a constant of this step.
                fixed = {"params": jax.lax.stop_gradient(weights)}

                def loss_of(mix: Mix) -> Array:
                    outputs, _ = model.apply(fixed, mix, batch.inputs, key=drawn, train=True)
                    return loss(outputs, batch)[1]["loss"]

                own_key = jax.random.fold_in(key, _PERTURBATION)
                mix = perturbation(own_key, state.step, loss_of, mix)
            outputs, _ = model.apply({"params": weights}, mix, batch.inputs, key=drawn, train=True)
            return loss(outputs, batch)

        return evaluate

    def outer_objective(key: Key, batch: AnyBatch, state: SearchState):
        drawn = _model_key(key, batch)

        def evaluate(weights: PyTree, arch: Arch) -> tuple[Array, Metrics]:
            arch = in_play(arch, state.candidates)
            mix = sample(key, arch, state.candidates, state.step)
            outputs, _ = model.apply({"params": weights}, mix, batch.inputs, key=drawn, train=True)
            total, metrics = loss(outputs, batch)
            factors, added = arch_terms(state, arch, mix)
            for factor in factors.values():
                total *= factor
            for term in added.values():
                total += term
            return total, metrics

        return evaluate

    def arch_terms(
        state: SearchState, arch: Arch, mix: Mix
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What multiplies the loss of the outer objective, and what is added to it, by name."""
        # Costs are those of what will be derived, and not of what this step has drawn.
        if relaxation.read is not None:
            mix = read_from(space, relaxation, arch, state.candidates)
        factors = {
            _name("arch_factors", number, factor): factor(arch, mix)
            for number, factor in enumerate(arch_factors)
        }
        added = {
            _name("arch_losses", number, term): value_at(state.step, weight) * term(arch, mix)
            for number, (weight, term) in enumerate(arch_losses)
        }
        if constraint is not None:
            added["constraint"] = constraint.penalty(state.multipliers, mix)
        return factors, added

    def terms(
        state: SearchState, train: AnyBatch, valid: AnyBatch
    ) -> dict[str, tuple[Array, PyTree]]:
        _, inner_key, outer_key = jax.random.split(state.key, 3)

        def of_arch(arch: Arch) -> dict[str, Array]:
            arch = in_play(arch, state.candidates)
            mix = sample(outer_key, arch, state.candidates, state.step)
            factors, added = arch_terms(state, arch, mix)
            return factors | added

        def gradient_of(name: str) -> PyTree:
            return pull_back(
                {own: jnp.full_like(value, own == name) for own, value in values.items()}
            )[0]

        values, pull_back = jax.vjp(of_arch, state.arch)
        inner = inner_objective(inner_key, train, state)(state.weights, state.arch)[1]["loss"]
        outer = outer_objective(outer_key, valid, state)(state.weights, state.arch)[1]["loss"]
        losses = {"the loss of the weights": (inner, ()), "the loss of arch": (outer, ())}
        return losses | {name: (value, gradient_of(name)) for name, value in values.items()}

    def step(state: SearchState, train: AnyBatch, valid: AnyBatch) -> tuple[SearchState, Metrics]:
        key, inner_key, outer_key = jax.random.split(state.key, 3)
        inner = inner_objective(inner_key, train, state)
        outer = outer_objective(outer_key, valid, state)
        weight_updates, arch_updates, optimizer_state, metrics = optimizer.update(
            inner, outer, state.optimizer, state.weights, state.arch
        )
        weights = optax.apply_updates(state.weights, weight_updates)
        arch: PyTree = optax.apply_updates(state.arch, arch_updates)
        if constraint is not None:
            moved = jnp.array([rows.any() for rows in jax.tree.leaves(arch_updates)]).any()
            read = read_from(space, relaxation, arch, state.candidates)
            multipliers, costs = constraint.follow(state.multipliers, read, moved)
            state, metrics = state._replace(multipliers=multipliers), {**metrics, **costs}
        carried = metrics.pop("carried", ()), metrics.pop("valid_carried", ())
        state = state._replace(
            step=state.step + 1,
            key=key,
            weights=weights,
            arch=arch,
            optimizer=optimizer_state,
            carried=carried,
        )
        return state, metrics

    def mix(state: SearchState) -> Mix:
        return read_from(space, relaxation, state.arch, state.candidates)

    return Search(init, step, mix, terms)


def _name(what: str, number: int, term: Callable) -> str:
    """Of a term in messages: its place, and what its author calls it."""
    return f"{what}[{number}] ({getattr(term, '__qualname__', type(term).__name__)})"


def _model_key(key: Key, batch: AnyBatch) -> Key:
    return jax.random.fold_in(key, _MODEL) if batch.key is None else batch.key


def in_play(arch: Arch, candidates: Candidates) -> Arch:
    """Returns arch with the logits of ops that are no candidates set to `ABSENT`, out of reach of
    gradients."""

    return {
        kind: {**rows, "ops": jnp.where(candidates[kind], rows["ops"], ABSENT)}
        for kind, rows in arch.items()
    }


def keep_candidates(mix: Array, candidates: AnyArray) -> Array:
    """Returns the mix [E, O] or [E, O, B] with zeros for what is no candidate."""
    kept = candidates.reshape(candidates.shape + (1,) * (mix.ndim - 2))
    return mix * kept.astype(mix.dtype)


def read_from(
    space: SearchSpace, relaxation: Relaxation, arch: Arch, candidates: Candidates
) -> Mix:
    """Returns the mix {kind: [E, O]} that a selection reads."""
    arch = in_play(arch, candidates)
    return {
        kind: keep_candidates(read_mix(relaxation, arch[kind], choices), candidates[kind])
        for kind, choices in space.choices.items()
    }


def checked_candidates(space: SearchSpace, candidates: Candidates | None) -> dict[str, np.ndarray]:
    """Returns candidates {kind: bool [E, O]}, none where an edge may not have the op; all if None.

    Raises:
      ValueError: if they do not fit the space.
    """
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
