"""Exact parameter and multiply-add counts, read off the traced network: a new op or space is
counted as it stands."""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from dnas.checks import at_least, checked
from dnas.genotype import Genotype
from dnas.hw_loss.table import Cost, CostTable
from dnas.kernels.kernel import KERNELS
from dnas.space import SearchSpace, check_genotype, check_inputs


class Counts(NamedTuple):
    """Exact integers: trainable parameters, and multiply-adds for one image."""

    params: int
    macs: int


@checked
def count_network(
    space: SearchSpace,
    genotype: Genotype,
    *,
    channels: int | None = None,
    num_cells: int | None = None,
    num_classes: int = 10,
    image_size: int | tuple[int, int] = 32,
    image_channels: int = 3,
    stem: str = "cifar",
    auxiliary: bool = False,
) -> Counts:
    """Returns the exact counts of the network of a genotype.

    The convention: params are all trainable arrays, that is convolutions (no bias), scale and shift
    of norms, weight and bias of classifiers. macs are the multiply-adds of convolutions and of
    classifier weights for one image; norms, ReLUs, pooling, sums and biases are not counted. With
    `auxiliary` both include the auxiliary head, which is used in training only; published figures
    leave it out. Other counts of the same cells circulate that include norms, ReLUs or pooling.

    Args:
      channels, num_cells: those of the published network unless given.
      stem: "cifar" or "imagenet"; image_size: pixels, one number or (height, width).

    Raises:
      ValueError: if the genotype does not fit the space, or the sizes do not fit the network.

    Example:
      >>> import dnas
      >>> count_network(dnas.SPACES["darts"], dnas.PUBLISHED["DARTS_V2"])
      Counts(params=3349342, macs=528359040)
    """
    check_inputs(space, "images")
    check_genotype(space, genotype)
    at_least(1, num_classes=num_classes, image_channels=image_channels)
    sizes = {
        "channels": space.final_channels if channels is None else channels,
        "num_cells": space.final_cells if num_cells is None else num_cells,
    }
    space.layers(**sizes, image_size=image_size, stem=stem)
    network = space.network(
        genotype, **sizes, num_classes=num_classes, stem=stem, auxiliary=auxiliary
    )
    image = _image(image_size, image_channels)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(network.init, key, image)

    def outputs(variables, image, key):
        return network.apply(variables, {}, image, key=key, train=auxiliary)[0]

    return Counts(_count_params(variables["params"]), _count_macs(outputs, variables, image, key))


@checked
def count_supernet(
    space: SearchSpace,
    *,
    channels: int | None = None,
    num_cells: int | None = None,
    num_classes: int = 10,
    image_size: int | tuple[int, int] = 32,
    image_channels: int = 3,
    **more,
) -> Counts:
    """Returns the exact counts of the supernet, arch not included, in the convention of
    `count_network`.

    Args:
      channels, num_cells: those of a published search unless given.
      more: what else `space.supernet` takes, such as `partial_channels`.

    Example:
      >>> import dnas
      >>> count_supernet(dnas.SPACES["darts"])
      Counts(params=1930618, macs=300255744)
    """
    check_inputs(space, "images")
    at_least(1, num_classes=num_classes, image_channels=image_channels)
    sizes = {
        "channels": space.channels if channels is None else channels,
        "num_cells": space.num_cells if num_cells is None else num_cells,
    }
    space.layers(**sizes, image_size=image_size)
    # Cell by cell: in the loops over a stage some convolutions compute zeros that nothing uses, and
    #   some edges are skipped.
    supernet = space.supernet(**sizes, num_classes=num_classes, **space.unrolled, **more)
    image = _image(image_size, image_channels)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(supernet.init, key, image)
    mix = {
        kind: jax.ShapeDtypeStruct(own.shape, jnp.float32) for kind, own in space.choices.items()
    }
    macs = _count_macs(supernet.apply, variables, mix, image)
    return Counts(_count_params(variables["params"]), macs)


@checked
def count_table(space: SearchSpace, **sizes) -> CostTable:
    """Returns the exact table of macs, params and bytes of every part that networks of the space
    can have.

    macs and params in the convention of `count_network`, so that `genotype_cost` of this table is
    what it counts. bytes are those that a part moves for one image if nothing stays in a cache: its
    input, its output and its weights, running averages included, 4 bytes a number; an identity
    moves none.

    Args:
      sizes: what `space.parts` takes, such as channels and num_cells; the published network unless
        given.

    Raises:
      ValueError: if the space does not say what its networks are made of, or for sizes that do not
        fit it.

    Example:
      >>> import dnas
      >>> table = count_table(dnas.SPACES["darts"], channels=4, num_cells=1)
      >>> part = dnas.SPACES["darts"].parts(channels=4, num_cells=1).fixed[0]
      >>> print(part, int(table.rows["macs", part].mean), int(table.rows["params", part].mean))
      conv_3x3 3->12 32x32 stride 1 331776 348
    """
    rows = {}
    for part in space.parts(**sizes).distinct():
        network, x = (
            space.part_network(part),
            jax.ShapeDtypeStruct((1, part.height, part.width, part.channels_in), jnp.float32),
        )
        variables = jax.eval_shape(network.init, jax.eval_shape(lambda: jax.random.key(0)), x)
        traced = jax.make_jaxpr(network.apply)(variables, x)
        moved = (
            prod(x.shape)
            + sum(prod(array.shape) for array in traced.out_avals)
            + _count_params(variables)
        )
        counts = {
            "macs": _macs_of(traced.jaxpr),
            "params": _count_params(variables.get("params", {})),
            "bytes": 4 * moved if traced.eqns else 0,
        }
        rows |= {(metric, part): Cost(float(count), 0.0, 1) for metric, count in counts.items()}
    return CostTable("any", "exact counts", 1, "any", "dnas.hw_loss.count_table", rows)


def _image(size: int | tuple[int, int], channels: int) -> jax.ShapeDtypeStruct:
    height, width = (size, size) if isinstance(size, int) else size
    return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)


def _count_params(tree) -> int:
    return sum(prod(array.shape) for array in jax.tree.leaves(tree))


def _count_macs(function: Callable, *args) -> int:
    return _macs_of(jax.make_jaxpr(function)(*args).jaxpr)


def _macs_of(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        primitive = equation.primitive
        if primitive in KERNELS:
            total += KERNELS[primitive].macs_of(equation)
        elif primitive is primitives.dot_general_p:
            total += _dot(equation)
        elif primitive is primitives.conv_general_dilated_p:
            total += _conv(equation)
        elif primitive in (primitives.cond_p, primitives.while_p):
            raise ValueError(
                f"the multiply-adds of `lax.{primitive.name}` depend on its data; count what one"
                " path runs"
            )
        else:
            inner = sum(_macs_of(sub) for sub in _inner_jaxprs(equation))
            total += inner * equation.params.get("length", 1)  # of a scan
    return total


def _inner_jaxprs(equation):
    # A custom gradient carries its function as call_jaxpr, and beside it the rules of its
    # gradients, which do not run.
    names = ("call_jaxpr",) if "call_jaxpr" in equation.params else equation.params
    for name in names:
        value = equation.params[name]
        for item in value if isinstance(value, (list, tuple)) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _dot(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return prod(equation.outvars[0].aval.shape) * prod(shape[axis] for axis in contracted)


def _conv(equation) -> int:
    kernel = equation.invars[1].aval.shape
    out_channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return prod(equation.outvars[0].aval.shape) * prod(kernel) // out_channels
