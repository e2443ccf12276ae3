"""The laws of an op, a relaxation, a search space and a search that goes on. Run a check on your
own; our tests run it on all of ours."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import ABSENT, PyTree
from dnas.bilevel import BilevelOptimizer
from dnas.cells.contract import assert_same_structure, check_op, law
from dnas.checks import at_least, checked
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.methods import Method, Published, SearchResult
from dnas.model import Model, Tokens
from dnas.relax.relaxation import Relaxation, read_mix
from dnas.run import run_search
from dnas.running.loop import QUIET, Hooks, Progress, Sums
from dnas.running.states import arrays_in, filled, parsed, to_pieces
from dnas.selection import Selection, default_selection
from dnas.space import SearchSpace, check_genotype, one_hot_mix, picked_of
from dnas.tasks import Task

__all__ = [
    "check_bilevel",
    "check_op",
    "check_relaxation",
    "check_resume",
    "check_selection",
    "check_space",
]

_BATCH, _CHANNELS, _CLASSES, _SEEDS = 2, 4, 5, 2
_SIDE = 32  # of the images that networks are given

# What networks read, by the name that `SearchSpace.inputs` has for it.
_INPUTS: dict[str, Callable[[], PyTree]] = {
    "images": lambda: jnp.zeros((_BATCH, _SIDE, _SIDE, 3)),
    "tokens": lambda: Tokens(jnp.zeros((_BATCH, 3), jnp.int32)),
}


@checked
def check_relaxation(relaxation: Relaxation, choices: Choices | CellSpec) -> None:
    """Checks a relaxation on one kind of decisions, for instance those of a cell.

    arch is a mapping of float32 arrays that has [E, O] under "ops"; a mix is float32 [E, O]; both
    are finite, and no weight of a mix is negative. The same key gives the same mix, eagerly and
    under jit with a traced step; vmap over keys equals one by one; the gradient of arch is finite,
    and no array of it zero everywhere. `read`, where there is one, returns a mix without a key, the
    same each time and under jit. An option whose logit is `dnas.base.ABSENT` has no weight, in
    sample and read, while another option of its row is present; mixes and gradients are finite with
    such logits, also where a whole row has no others.

    Raises:
      AssertionError: names the first law that fails.

    Example:
      >>> import dnas
      >>> check_relaxation(dnas.softmax(), dnas.SPACES["darts"].cells["normal"])
    """
    if isinstance(choices, CellSpec):
        choices = choices.choices
    shape = choices.shape
    step = jnp.zeros((), jnp.int32)
    keys = jax.random.split(jax.random.key(0), _SEEDS)
    with law("init returns arch, a mapping with finite float32 [E, O] under ops"):
        arch = relaxation.init(keys[0], choices)
        chex.assert_shape(arch["ops"], shape)
        chex.assert_type(jax.tree.leaves(arch), jnp.float32)
        chex.assert_tree_all_finite(arch)
    with law("sample returns a mix, finite float32 [E, O]"):
        mixes = [relaxation.sample(key, arch, choices, step) for key in keys]
        _check_mixes(mixes, shape)
    with law("no weight of a mix is negative"):
        _check_not_negative(mixes)
    with law("the same key gives the same mix"):
        chex.assert_trees_all_equal(relaxation.sample(keys[0], arch, choices, step), mixes[0])
    with law("a relaxation works under jit and gives the same mix"):
        jitted = jax.jit(lambda key, arch, step: relaxation.sample(key, arch, choices, step))
        chex.assert_trees_all_close(jitted(keys[0], arch, step), mixes[0], atol=1e-5)
    with law("vmap of a relaxation over keys equals one by one"):
        archs = jax.vmap(lambda key: relaxation.init(key, choices))(keys)
        chex.assert_tree_shape_prefix(archs, (_SEEDS,))
        chex.assert_shape(archs["ops"], (_SEEDS, *shape))
        mapped = jax.vmap(lambda key: relaxation.sample(key, arch, choices, step))(keys)
        chex.assert_trees_all_close(mapped, jnp.stack(mixes), atol=1e-5)

    direction = jax.random.normal(jax.random.key(1), shape)

    def product(arch):
        return jnp.vdot(relaxation.sample(keys[0], arch, choices, step), direction)

    with law("the gradient of arch is finite and not zero everywhere"):
        gradient = jax.grad(product)(arch)
        chex.assert_tree_all_finite(gradient)
        if not all(part.any() for part in jax.tree.leaves(gradient)):
            raise ValueError("it is zero: the architecture would never be learnt")
    _check_read(relaxation, arch, choices, shape)
    _check_absent(relaxation, arch, choices, product)


def _check_mixes(mixes, shape):
    chex.assert_shape(mixes, shape)
    chex.assert_type(mixes, jnp.float32)
    chex.assert_tree_all_finite(mixes)


def _check_not_negative(mixes):
    if min(mix.min() for mix in mixes) < 0:
        raise ValueError(f"the smallest is {min(float(mix.min()) for mix in mixes)}")


def _check_read(relaxation, arch, choices, shape):
    if relaxation.read is None:
        with law("a relaxation without read draws nothing at random"):
            one, other = (
                relaxation.sample(jax.random.key(seed), arch, choices, 0) for seed in range(2)
            )
            chex.assert_trees_all_equal(one, other)
        return
    with law("read returns a mix, finite float32 [E, O], none of it negative"):
        mix = relaxation.read(arch, choices)
        _check_mixes([mix], shape)
        _check_not_negative([mix])
    with law("read gives the same mix each time, and under jit"):
        chex.assert_trees_all_equal(relaxation.read(arch, choices), mix)
        chex.assert_trees_all_close(
            jax.jit(lambda arch: relaxation.read(arch, choices))(arch), mix, atol=1e-5
        )


def _check_absent(relaxation, arch, choices, product):
    """On the first edge nothing is present, on the others all ops but one, another one on each
    edge."""
    edges, ops = choices.shape
    absent = jnp.arange(ops) == (jnp.arange(edges) % ops)[:, None]
    if ops == 1:
        absent = jnp.zeros_like(absent)
    dropped = {**arch, "ops": jnp.where(absent.at[0].set(True), ABSENT, arch["ops"])}
    with law("a mix is finite and not negative though ops, or all ops of an edge, are absent"):
        keys = jax.random.split(jax.random.key(2), 4 * _SEEDS)
        mixes = [relaxation.sample(key, dropped, choices, 0) for key in keys] + [
            read_mix(relaxation, dropped, choices)
        ]
        _check_mixes(mixes, (edges, ops))
        _check_not_negative(mixes)
    with law("an op that is absent has no weight while another op of its edge is present"):
        if weight := max(float(jnp.where(absent, mix, 0.0)[1:].max(initial=0.0)) for mix in mixes):
            raise ValueError(f"one has a weight of {weight}")
    with law("the gradient of arch is finite though ops, or all ops of an edge, are absent"):
        chex.assert_tree_all_finite(jax.grad(product)(dropped))


@checked
def check_space(
    space: SearchSpace, *, num_cells: int | None = None, inputs: PyTree | None = None
) -> None:
    """Checks a search space: its cells, its layers, genotypes, and the shapes of its networks, none
    of which is run.

    Args:
      num_cells: length of the networks; that of the space's supernet unless given.
      inputs: a batch of two that its networks read, arrays or shapes; images [2, 32, 32, 3] or
        tokens [2, 3] unless given.

    Raises:
      AssertionError: names the first law that fails.
      ValueError: for a space of other inputs, if none are given.

    Example:
      >>> from dnas.spaces import darts_space
      >>> check_space(
      ...     darts_space(name="tiny", ops=("none", "skip_connect"), num_nodes=2), num_cells=3
      ... )
    """
    if inputs is None:
        if space.inputs not in _INPUTS:
            raise ValueError(
                f"networks of the space {space.name!r} read {space.inputs}, of which no example is"
                f" known, as there is of {', '.join(_INPUTS)}; give a batch of two as inputs="
            )
        inputs = jax.eval_shape(_INPUTS[space.inputs])
    for kind, spec in space.cells.items():
        _check_cell(kind, spec)
    _check_conditions(space)
    num_cells = space.num_cells if num_cells is None else num_cells
    _check_layers(space, num_cells)
    genotype = _check_genotypes(space)
    sizes = dict(channels=_CHANNELS, num_cells=num_cells, num_classes=_CLASSES)
    mix: PyTree = {
        kind: jax.ShapeDtypeStruct(own.shape, jnp.float32) for kind, own in space.choices.items()
    }
    _check_model("supernet", lambda: space.supernet(**sizes), mix, inputs)
    _check_model("network", lambda: space.network(genotype, **sizes), {}, inputs)


def _check_conditions(space):
    choices = space.choices
    for kind, own in choices.items():
        with law(f"the rows of {kind!r} stand under rows and options of the space"):
            for kind, row, columns in itertools.chain.from_iterable(own.under):
                mask = choices[kind].allowed[row]
                if not all(mask[column] for column in columns):
                    raise ValueError(f"row {row} of {kind!r} never has one of {columns}")


def _check_cell(kind, spec):
    with law(f"an edge enters every node of cell {kind!r}"):
        if empty := [node for node in spec.nodes if not spec.incoming(node)]:
            raise ValueError(f"none enters {empty}")
    with law(f"cell {kind!r} has an op that can be chosen"):
        if not spec.choices.computes.any(axis=-1).all():
            raise ValueError(f"its ops are {spec.edge_ops or spec.ops}")


def _check_layers(space, num_cells):
    with law(
        "layers(channels=, num_cells=, image_size=) returns layers whose kinds are cells of the"
        " space"
    ):
        size = {"image_size": _SIDE} if space.inputs == "images" else {}
        layers = space.layers(channels=_CHANNELS, num_cells=num_cells, **size)
        if unknown := {layer.kind for layer in layers} - set(space.cells):
            raise ValueError(f"{sorted(unknown)} are not among {sorted(space.cells)}")
    with law(
        "each layer reads what the one before leaves, size / stride rounded up; less where a fixed"
        " block is between"
    ):
        for before, layer in itertools.pairwise(layers):
            left = tuple(-(-side // before.stride) for side in before.size)
            if any(own > side for own, side in zip(layer.size, left, strict=True)):
                raise ValueError(f"{layer} follows {before}, which leaves {left}")


def _check_genotypes(space) -> Genotype:
    with law("the selection of the space makes a genotype of the space from a mix"):
        mix = {
            kind: jax.random.uniform(jax.random.key(number), choices.shape)
            for number, (kind, choices) in enumerate(space.choices.items())
        }
        genotype = default_selection(space, mix)
        check_genotype(space, genotype)
    with law("selection reads a genotype back from its one-hot mix"):
        again = default_selection(space, one_hot_mix(space, genotype))
        if _unordered(space, again) != _unordered(space, genotype):
            raise ValueError(f"{again} is not {genotype}")
    with law("a genotype is equal after a round trip through JSON"):
        if Genotype.from_json(genotype.to_json()) != genotype:
            raise ValueError(genotype.to_json())
    # Not every genotype can be written in the notation of its space.
    with contextlib.suppress(ValueError):
        text = genotype.to_text()
        with law(
            "a genotype is equal after a round trip through text, the name of its space aside"
        ):
            if dataclasses.replace(Genotype.from_text(text), space=space.name) != genotype:
                raise ValueError(text)
    return genotype


def _unordered(space, genotype) -> dict[str, set[tuple[int, int]]]:
    """What a genotype is but for the order in which it lists edges."""
    return {kind: set(own) for kind, own in picked_of(space, genotype).items()}


def _check_model(name: str, make: Callable[[], Model], mix: PyTree, inputs: PyTree) -> None:
    """`mix`: shapes {kind: [E, O]}, {} for the network of a genotype."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), _SEEDS))
    mixes = {
        kind: jax.ShapeDtypeStruct((_SEEDS, *rows.shape), rows.dtype) for kind, rows in mix.items()
    }
    with law(
        f"{name}.init(key, inputs) returns variables with float32 weights under params and works"
        " under vmap"
    ):
        model = make()
        variables = jax.eval_shape(jax.vmap(model.init, (0, None)), keys, inputs)
        weights = jax.tree.leaves(variables["params"])
        if not weights:
            raise ValueError("there are no weights")
        chex.assert_type(weights, jnp.float32)
        chex.assert_tree_shape_prefix(variables, (_SEEDS,))
    for train in (True, False):

        def apply(variables, mix, inputs, key, train=train):
            return model.apply(variables, mix, inputs, key=key, train=train)

        over_seeds = jax.vmap(apply, (0, 0, None, 0))
        shape = jax.tree.leaves(inputs)[0].shape
        shape = shape if isinstance(inputs, Tokens) else shape[:1]
        with law(
            f"{name}.apply with train={train} returns float32 logits, one for each class, and"
            " variables as they came, also under vmap"
        ):
            outputs, updated = jax.eval_shape(over_seeds, variables, mixes, inputs, keys)
            chex.assert_shape(outputs.logits, (_SEEDS, *shape, _CLASSES))
            chex.assert_type(outputs.logits, jnp.float32)
            assert_same_structure(dict(updated), dict(variables))
        if not isinstance(inputs, Tokens):
            continue
        with law(
            f"{name}.apply with train={train} returns the state after each token, float32 [B, T,"
            " H], and goes on from the last"
        ):
            chex.assert_shape(outputs.hidden, (_SEEDS, *shape, None))
            chex.assert_type(outputs.hidden, jnp.float32)
            last = jax.ShapeDtypeStruct((shape[0], outputs.hidden.shape[-1]), jnp.float32)
            more = jax.eval_shape(over_seeds, variables, mixes, inputs._replace(hidden=last), keys)[
                0
            ]
            assert_same_structure(more, outputs)


@checked
def check_selection(selection: Selection, space: SearchSpace) -> None:
    """Checks a selection on a space.

    Every mix of weights has a genotype of the space, also where weights tie, where `none` is the
    strongest everywhere, and where there is no weight at all; the same mix gives the same genotype,
    as numpy or device arrays, and is left as it was; a genotype that it chose is read back from its
    one-hot mix; what it chose it still chooses when it weighs more; a mix with a NaN, of another
    shape, or without a cell is refused with a ValueError.

    Raises:
      AssertionError: names the first law that fails.

    Example:
      >>> import dnas
      >>> check_selection(dnas.top_edges(), dnas.SPACES["darts"])
    """
    shapes = {kind: choices.shape for kind, choices in space.choices.items()}
    random = np.random.default_rng(0)
    mixes = [
        {
            kind: random.dirichlet(np.full(o, 0.3), e).astype(np.float32)
            for kind, (e, o) in shapes.items()
        }
        for _ in "abc"
    ]
    copies = [{kind: rows.copy() for kind, rows in mix.items()} for mix in mixes]
    with law("a selection makes a genotype of the space from any mix"):
        genotypes = [selection(space, mix) for mix in mixes]
        mostly_none = {
            kind: np.where(choices.is_nothing, 0.9, 0.1 * mixes[0][kind])
            for kind, choices in space.choices.items()
        }
        even = [
            {kind: np.full(shape, value) for kind, shape in shapes.items()}
            for value in (0.0, 0.5, 1.0)
        ]
        for genotype in [*genotypes, *(selection(space, mix) for mix in (mostly_none, *even))]:
            check_genotype(space, genotype)
    with law("the same mix gives the same genotype, on the device too, and is left as it was"):
        for mix, copy, genotype in zip(mixes, copies, genotypes, strict=True):
            on_device = {kind: jnp.asarray(rows) for kind, rows in copy.items()}
            for given in (mix, on_device):
                if selection(space, given) != genotype:
                    raise ValueError(f"{selection(space, given)} is not {genotype}")
            chex.assert_trees_all_equal(mix, copy)
    with law("a selection reads a genotype that it chose back from its one-hot mix"):
        for genotype in genotypes:
            again = selection(space, one_hot_mix(space, genotype))
            if _unordered(space, again) != _unordered(space, genotype):
                raise ValueError(f"{again} is not {genotype}")
    with law("a chosen op stays chosen when it weighs more"):
        picked = picked_of(space, genotypes[0])
        for kind, row, column in ((name, *own) for name in picked for own in picked[name]):
            rows = mixes[0][kind].copy()
            rows[row, column] += 1
            again = selection(space, {**mixes[0], kind: rows})
            if (row, column) not in picked_of(space, again)[kind]:
                choices = space.choices[kind]
                raise ValueError(
                    f"{choices.options[column]} on {choices.rows[row]} of cell {kind!r} is dropped"
                )
    kind = next(iter(space.choices))
    spoiled = {
        "a NaN": {
            **mixes[0],
            kind: np.where(mixes[0][kind] == mixes[0][kind].max(), np.nan, mixes[0][kind]),
        },
        "another shape": {**mixes[0], kind: mixes[0][kind][1:]},
        "no rows for a cell": {other: rows for other, rows in mixes[0].items() if other != kind},
    }
    for what, mix in spoiled.items():
        with law(f"a mix with {what} is refused with a ValueError"):
            _assert_refuses(selection, space, mix)


def _assert_refuses(selection, space, mix):
    try:
        genotype = selection(space, mix)
    except ValueError:
        return
    raise RuntimeError(f"it was accepted and gave {genotype}")


@checked
def check_bilevel(optimizer: BilevelOptimizer, *, steps: int = 4) -> None:
    """Checks an optimiser of both levels on a smooth problem, whose weights and arch are trees.

    `init` returns a state and works under vmap; every `update` returns updates with the structures,
    shapes and dtypes of weights and arch, a state of the same structure, shapes and dtypes, and
    finite scalars as metrics: those of inner under their names, those of outer under "valid_" and
    the name, in every step; jit changes nothing, and vmap over seeds equals one after another; both
    weights and arch have moved in the end.

    Args:
      steps: so many are taken: more than a warm-up has, and enough for arch to move at least once.

    Raises:
      AssertionError: names the first law that fails.

    Example:
      >>> import dnas
      >>> check_bilevel(dnas.darts_optimizer(2, 2))
    """
    weights, arch = _bilevel_start(jax.random.split(jax.random.key(0), _SEEDS))
    inner, outer = _bilevel_objective(0.3), _bilevel_objective(-0.7)

    def step(carry):
        state, weights, arch = carry
        weight_updates, arch_updates, state, metrics = optimizer.update(inner, outer, *carry)
        with law("the updates of weights and arch have their structures, shapes and dtypes"):
            assert_same_structure((weight_updates, arch_updates), (weights, arch))
        with law("update returns a state of the structure, shapes and dtypes that it was given"):
            assert_same_structure(state, carry[0])
        with law(
            "metrics are scalars: those of inner, and those of outer under valid_ and the name"
        ):
            expected = {"loss", "strength", "valid_loss", "valid_strength"}
            if set(metrics) != expected:
                raise ValueError(
                    f"they are {sorted(metrics)} where inner and outer have loss and strength"
                )
            chex.assert_shape(list(metrics.values()), ())
        return (
            state,
            optax.apply_updates(weights, weight_updates),
            optax.apply_updates(arch, arch_updates),
        ), metrics

    def run(step, carry):
        metrics = []
        for _ in range(steps):
            carry, found = step(carry)
            metrics.append(found)
        return carry, metrics

    pairs = [
        jax.tree.map(lambda leaf, seed=seed: leaf[seed], (weights, arch)) for seed in range(_SEEDS)
    ]
    with law("init(weights, arch) returns a state"):
        carries = [(optimizer.init(*pair), *pair) for pair in pairs]
    eager, jitted = step(carries[0]), jax.jit(step)
    with law("update computes the same under jit"):
        chex.assert_trees_all_close(jitted(carries[0]), eager, atol=1e-5)
    alone = [run(jitted, carry) for carry in carries]
    with law("everything that update returns is finite"):
        chex.assert_tree_all_finite(alone)
    for before, after, name in zip(pairs[0], alone[0][0][1:], ("weights", "arch"), strict=True):
        with law(f"{name} move within the steps of the check"):
            if all(
                (x == y).all()
                for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
            ):
                raise ValueError(
                    f"they are the same after {steps} steps; if that is a warm-up, give more steps"
                )
    with law("vmap of init and update over seeds equals one seed after another"):
        together = run(
            jax.jit(jax.vmap(step)), (jax.vmap(optimizer.init)(weights, arch), weights, arch)
        )
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
        chex.assert_trees_all_close(together, stacked, rtol=1e-4, atol=1e-5)


@jax.vmap
def _bilevel_start(key):
    """Weights and arch of a seed, both of several arrays, arch with a kind that has more than
    logits of ops."""
    keys = jax.random.split(key, 5)
    shapes = [(3,), (2, 2), (2, 3), (1, 3), (1,)]
    kernel, bias, normal, ops, edges = (
        jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)
    )
    return {"layer": {"kernel": kernel, "bias": bias}}, {
        "normal": normal,
        "reduce": {"ops": ops, "edges": edges},
    }


def _bilevel_objective(target):
    """A bowl over the weights, its lowest point and its steepness given by arch, which has a valley
    of its own."""

    def objective(weights, arch):
        w, a = (
            jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
            for tree in (weights, arch)
        )
        strength = jax.nn.sigmoid(a).sum()
        loss = (1 + 0.1 * strength) * ((w - jnp.tanh(strength) + target) ** 2).sum() + 0.1 * (
            (a - target) ** 2
        ).sum()
        return loss, {"loss": loss, "strength": strength}

    return objective


@checked
def check_resume(
    space: SearchSpace,
    task: Task | tuple[Any, Any],
    method: Method | Published | None = None,
    *,
    steps: int = 3,
    seed: int = 0,
    **sizes: Any,
) -> None:
    """Checks that a search in a space, on a task, may be interrupted: before its last
    steps the state is written as a checkpoint is, and a second search, which goes on from what is
    read, ends with every bit of the first.

    What breaks it is something that changes in a run and is not in the state: numbers that are
    drawn while batches are made, or counted in an object. `dnas verify-resume` checks commands.

    Args:
      task, method, sizes: as `run_search` takes them; sizes are model, channels, num_cells, epochs
        and batch_size.
      steps: of the search, or of each of its stages. More than an epoch has also show what is
        kept from one epoch to the next.

    Raises:
      AssertionError: names the first law that fails.
      ValueError: for what no search can be made of, and one of fewer than 2 steps.

    Example:
      >>> import dnas, numpy as np
      >>> pictures = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
      >>> small = dnas.darts_space(name="small", ops=("none", "skip_connect"), num_nodes=1)
      >>> data = pictures, np.arange(32) % 2
      >>> check_resume(small, data, channels=2, num_cells=1, batch_size=8)
    """
    at_least(2, steps=steps)
    written: dict[int, bytes] = {}  # of each stage
    sums: dict[int, Sums] = {}

    def writing(stage: int) -> Hooks:
        def report(progress: Progress) -> None:
            if progress.step < progress.total_steps:
                written[stage] = b"".join(to_pieces(progress.state))
                sums[stage] = progress.sums

        return QUIET._replace(report=report)

    def reading(stage: int) -> Hooks:
        def resume(state: PyTree) -> PyTree:
            if stage not in written:
                raise ValueError("a search of one step has nothing to go on with; give more steps")
            with law("the state of a search is read from a checkpoint as it was written"):
                return filled(state, parsed(written[stage])[1])

        return QUIET._replace(resume=resume, sums=lambda: sums[stage])

    def run(hooks: Callable[[int], Hooks]) -> SearchResult:
        return run_search(space, task, method, max_steps=steps, seed=seed, hooks=hooks, **sizes)

    undisturbed = run(writing)
    resumed = run(reading)
    with law("a search that goes on from a checkpoint ends with the bits of an undisturbed one"):
        _assert_same_bits(resumed.state, undisturbed.state)
        _assert_same_bits(dict(resumed.mix), dict(undisturbed.mix))
        if resumed.genotype != undisturbed.genotype:
            raise ValueError(f"{resumed.genotype} is not {undisturbed.genotype}")


def _assert_same_bits(found: PyTree, expected: PyTree) -> None:
    left, right = arrays_in(found), arrays_in(expected)
    for name in right:
        one, other = left[name], right[name]
        if one.tobytes() != other.tobytes():
            different = np.count_nonzero(one != other)
            raise ValueError(f"{name} differs in {different} of {other.size} numbers")
