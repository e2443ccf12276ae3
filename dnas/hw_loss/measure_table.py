"""Making a table on the device at hand: every part of a space, and whole networks, measured in a
runtime."""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Key, PyTree
from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.hw_loss.measure import Measured, Meter, clock, measure
from dnas.hw_loss.runtimes import Runtime
from dnas.hw_loss.table import Cost, CostTable, unit_factor
from dnas.parts import NetworkParts, Part
from dnas.space import SearchSpace

# Beside what everything is measured: a chain of four 3x3 convolutions with ReLUs. Its row says at
#   which speed a table was made.
REFERENCE = Part("reference", 32, 32, 16, 16)
_EMPTY = "empty"  # a call that computes nothing: what the runtime itself takes
_LOADS = 3  # of a whole network
_FEWER, _MORE = 1, 3  # branches of the two networks whose difference is what a branch costs


@checked
def measure_table(
    space: SearchSpace,
    runtime: Runtime,
    *,
    device: str,
    date: str,
    source: str,
    batch_size: int = 1,
    meter: Meter | None = None,
    repeats: int = 30,
    group: int = 24,
    known: CostTable | None = None,
    keep: Callable[[CostTable], None] = lambda table: None,
    report: Callable[[int, int], None] = lambda done, total: None,
    **sizes,
) -> CostTable:
    """Returns the table of everything that networks of the space can be made of, measured here.

    Parts are measured in groups, all beside the same small network, `REFERENCE`: rows are as if it
    had cost the same throughout, so that a machine whose speed changes favours nobody. It is a row
    itself. Each part is given as the runtime takes it in final networks, at its own size, with
    random weights.

    A candidate is measured inside of a network, as what it adds: alone it would pay for bringing
    its input into the layout in which the runtime computes, and back. Branches of a 1x1 convolution
    and the candidate are summed; its cost is what such a branch costs, from networks with three and
    with one, less the same without the candidate. So the sum that takes it in is part of it, as far
    as the runtime does not compute it with a convolution, and a ReLU at its start is not, if the
    runtime computes that with the convolution before it. What all networks have in common is
    measured alone, less a call that computes nothing. A part that computes nothing costs nothing:
    runtimes drop it; where the number of edges into a node varies, as in NAS-Bench-201, it costs
    the sum that takes it in.

    Args:
      device, date, source: for the header.
      batch_size: images at once; the costs are those of the whole batch.
      meter: `clock()` unless given.
      repeats: blocks of each part, see `measure`.
      group: parts that are compiled, and measured in turn, together.
      known: a table of an interrupted measurement; its rows are kept and not measured again.
      keep: called with all rows so far after each group, to write them to a file.
      report: called with the parts done and all.
      sizes: what `space.parts` takes, such as channels and num_cells; the published network unless
        given.

    Raises:
      ValueError: if the space does not say what its networks are made of, for sizes that do not fit
        it, and if `known` is of another device, runtime or batch.
    """
    meter = clock() if meter is None else meter
    layers = space.parts(**sizes)
    parts, added = layers.distinct(), _added(layers)
    header = {"device": device, "runtime": runtime.describe, "batch": batch_size}
    if known is not None and (own := {name: getattr(known, name) for name in header}) != header:
        raise ValueError(
            f"the table to go on with is of {own}, not of {header}; write to another file"
        )
    rows, table = {} if known is None else dict(known.rows), known
    factor = unit_factor(meter.metric, meter.unit)
    # Runtimes drop what computes nothing; alone, it would be a copy.
    still = {part for part in parts if _computes_nothing(space, part, batch_size)}
    rows |= {
        (meter.metric, part): Cost(0.0, 0.0, 1)
        for part in still - added
        if (meter.metric, part) not in rows
    }
    inside = layers.candidates() - still
    missing = [part for part in parts if (meter.metric, part) not in rows]
    for start in range(0, len(missing), group):
        members = {
            part: _calls_of(part, batch_size, part in inside)
            for part in missing[start : start + group]
        }
        calls: dict[Hashable, Callable[[], Any]] = {
            _EMPTY: _call_of(runtime, *_empty(batch_size)),
            REFERENCE: _call_of(runtime, *_reference(batch_size)),
        }
        for call in dict.fromkeys(
            itertools.chain(*(own for pair in members.values() for own in pair))
        ):
            if isinstance(call, _Call):
                function, x = call.build(space, call.part in added)
                calls[call] = _call_of(runtime, function, x)
        found = measure(calls, meter=meter, repeats=repeats, reference=REFERENCE)
        first = Cost(
            found[REFERENCE].median * factor,
            found[REFERENCE].spread * factor,
            found[REFERENCE].count,
        )
        scale = factor * rows.setdefault((meter.metric, REFERENCE), first).mean / first.mean
        for part, (plus, minus) in members.items():
            share = _MORE - _FEWER if part in inside else 1
            rows[meter.metric, part] = _cost(
                [found[own] for own in plus], [found[own] for own in minus], scale / share
            )
        table = CostTable(date=date, source=source, rows=rows, **header)
        keep(table)
        report(min(start + group, len(missing)), len(missing))
    if table is None:  # no part computes anything
        table = CostTable(date=date, source=source, rows=rows, **header)
    return table


@checked
def measure_networks(
    space: SearchSpace,
    genotypes: Sequence[Genotype],
    runtime: Runtime,
    *,
    batch_size: int = 1,
    meter: Meter | None = None,
    repeats: int = 30,
    image_size: int | tuple[int, int] = 32,
    image_channels: int = 3,
    reference: float | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    **sizes,
) -> list[Measured]:
    """Returns what the whole network of each genotype costs, in the unit of the meter; measured in
    turn.

    Each is loaded three times, and the median counts: where in memory a network comes to lie
    changes the cost of some by up to 6 %, as was seen in ONNX Runtime.

    Args:
      reference: what `REFERENCE` costs in a table that the result is to be compared with, in the
        unit of the meter. Results are then as at the speed that the device had when the table was
        made, and their `speed` says what it is now, as a share of that.
      report: called with the networks compiled and all.
      sizes: what `space.network` takes, such as channels and num_cells; the weights are random.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    x = _random((batch_size, height, width, image_channels))
    calls: dict[Hashable, Callable[[], Any]] = {
        REFERENCE: _call_of(runtime, *_reference(batch_size))
    }
    for number, genotype in enumerate(genotypes):
        network = space.network(genotype, **sizes)
        variables = random_variables(network.init, x)
        first = runtime.load(_logits(network, variables), x)
        others = [runtime.repeat(first) for _ in range(_LOADS - 1)]
        programs = [first, *(program for program in others if program is not first)]
        for place, program in enumerate(programs):
            calls[number, place] = functools.partial(runtime.run, program)
        report(number + 1, len(genotypes))
    found = measure(calls, meter=meter, repeats=repeats, reference=REFERENCE)
    speed = 1.0 if reference is None else reference / found[REFERENCE].median
    costs = []
    for number in range(len(genotypes)):
        loads = sorted(found[number, place] for place in range(_LOADS) if (number, place) in found)
        own = loads[len(loads) // 2]
        costs.append(
            Measured(
                own.median * speed, own.spread * speed, sum(load.count for load in loads), speed
            )
        )
    return costs


def random_variables(init: Callable[[Key, Array], PyTree], x: np.ndarray, seed: int = 0) -> PyTree:
    """Returns variables of the shapes that `init` gives, of the size that they have in trained
    networks.

    Kernels keep the variance of what they are applied to (He et al., eq. 10,
    https://arxiv.org/abs/1502.01852), scales and variances are near one, biases and means near
    zero: what grows or fades layer by layer ends in numbers too small or too large for a
    processor's fast path. None is zero, which runtimes may skip.
    """
    shapes = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(x.shape, x.dtype))
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            values = random.normal(0.0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape)
        else:
            values = random.uniform(-0.1, 0.1, leaf.shape) + (path[-1].key in ("scale", "var"))
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _logits(network, variables: PyTree) -> Callable[[Array], Array]:
    return lambda images: network.apply(variables, {}, images)[0].logits


def _added(layers: NetworkParts) -> set[Part]:
    """The candidates that are added to others at a node of any number of edges."""
    kinds = {
        kind
        for kind, spec in layers.cells.items()
        if spec.keep is None and any(len(group) > 1 for group in spec.choices.groups)
    }
    return layers._replace(
        layers=tuple(layer for layer in layers.layers if layer.kind in kinds)
    ).candidates()


def _computes_nothing(space: SearchSpace, part: Part, batch_size: int) -> bool:
    network, x = (
        space.part_network(part),
        jax.ShapeDtypeStruct(_shape(part, batch_size), np.float32),
    )
    variables = jax.eval_shape(network.init, jax.random.key(0), x)
    return not jax.make_jaxpr(network.apply)(variables, x).eqns


def _shape(part: Part, batch_size: int) -> tuple[int, int, int, int]:
    return batch_size, part.height, part.width, part.channels_in


class _Call(NamedTuple):
    """A part alone, or a sum of branches, each a 1x1 convolution of its own with the part behind
    it, if there is one."""

    part: Part | None
    shape: tuple[int, int, int, int]
    branches: int = 0  # none: alone

    def build(self, space: SearchSpace, added: bool) -> tuple[Callable[[Array], Array], np.ndarray]:
        """Returns what is run, and on which input; `added`: with the sum that takes in a part that
        is alone."""
        x, channels = _random(self.shape), self.shape[-1]
        members: list[Callable[[Array], Array]] = []
        if self.part is not None:
            network = space.part_network(self.part)
            for seed in range(max(self.branches, 1)):
                variables = random_variables(network.init, x, seed)
                members.append(functools.partial(network.apply, variables))

        def alone(x: Array) -> Array:
            y = members[0](x)
            return y + x if added else y

        # No two branches are alike, or a runtime would compute one of them.
        first, *own = np.random.default_rng(0).normal(
            0.0, channels**-0.5, (1 + self.branches, channels, channels)
        )

        def branches(x: Array) -> Array:
            inner = [x @ first.astype(x.dtype) @ kernel.astype(x.dtype) for kernel in own]
            if members:
                inner = [member(y) for member, y in zip(members, inner, strict=True)]
            return functools.reduce(operator.add, inner)

        return (branches if self.branches else alone), x


def _calls_of(
    part: Part, batch_size: int, inside: bool
) -> tuple[list[_Call | str], list[_Call | str]]:
    """What is measured for a part: those that count, and those that are subtracted."""
    shape = _shape(part, batch_size)
    if not inside:
        return [_Call(part, shape)], [_EMPTY]
    more, fewer, bare, barer = (
        _Call(own, shape, number) for own in (part, None) for number in (_MORE, _FEWER)
    )
    return [more, barer], [fewer, bare]


def _call_of(runtime: Runtime, function: Callable[[Array], Array], x: np.ndarray) -> Callable:
    """Compiles a function for a runtime; returns the call that runs it on x."""
    return functools.partial(runtime.run, runtime.load(function, x))


def _reference(batch_size: int) -> tuple[Callable[[Array], Array], np.ndarray]:
    """`REFERENCE` as a function, and its input."""
    kernel = np.random.default_rng(2).uniform(
        -0.1, 0.1, (3, 3, REFERENCE.channels_in, REFERENCE.channels_out)
    )

    def reference(x: Array) -> Array:
        for _ in range(4):
            x = jax.nn.relu(_conv(x, kernel.astype(np.float32)))
        return x

    return reference, _random(_shape(REFERENCE, batch_size))


def _conv(x: Array, kernel: np.ndarray) -> Array:
    return jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _empty(batch_size: int) -> tuple[Callable[[Array], Array], np.ndarray]:
    """A function that computes next to nothing, and its input: what a call itself takes."""
    return lambda x: x + 1, np.zeros((batch_size, 1, 1, 1), np.float32)


def _random(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def _cost(plus: Sequence[Measured], minus: Sequence[Measured], factor: float) -> Cost:
    """The sum of some measurements less that of others, in the unit of the table."""
    all_ = [*plus, *minus]
    median = sum(own.median for own in plus) - sum(own.median for own in minus)
    spread = math.sqrt(sum(own.spread**2 for own in all_))
    return Cost(max(median, 0.0) * factor, spread * factor, min(own.count for own in all_))
