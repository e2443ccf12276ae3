"""A skip connection beside the op of every edge, as a property of a space: it is in supernets and
in final networks, and is not searched. https://arxiv.org/abs/2507.16533, section 4."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from dnas.base import AnyArray, Array, Key, Mix, PyTree
from dnas.graph import CellSpec
from dnas.model import Model, Outputs
from dnas.parts import LayerParts, NetworkParts

SKIP = "skip_connect"
AUXILIARY = "auxiliary_skip"  # what it is called among the weights of a final network


def may_skip(spec: CellSpec) -> bool:
    """Returns whether every edge of a cell may have a skip connection."""
    return SKIP in spec.ops and bool(spec.choices.allowed[:, spec.ops.index(SKIP)].all())


def with_skips(supernet: Model, cells: Mapping[str, CellSpec]) -> Model:
    """Returns a supernet whose edges compute skip(x) + sum_o mix[o] * o(x), where the sum has any
    term: that is the supernet itself at a mix whose skip connection weighs one more.

    An edge without weights, as a genotype leaves it out, computes nothing.
    """

    def apply(
        variables: PyTree,
        mix: Mix,
        inputs: PyTree,
        *,
        key: Key | None = None,
        train: bool = False,
        drop_path: Array | float = 0.0,
    ) -> tuple[Outputs, PyTree]:
        raised = {kind: _raised(rows, cells[kind].ops) for kind, rows in mix.items()}
        return supernet.apply(variables, raised, inputs, key=key, train=train, drop_path=drop_path)

    return Model(supernet.init, apply)


def _raised(rows: AnyArray, ops: tuple[str, ...]) -> Array:
    """rows: [E, O] or, a mix for each image, [E, O, B]."""
    is_skip = np.asarray([op == SKIP for op in ops]).reshape(1, -1, *[1] * (rows.ndim - 2))
    is_there = (jnp.asarray(rows) != 0).any(axis=1, keepdims=True)
    return jnp.where(is_there & is_skip, rows + 1, rows)


def parts_with_skips(parts: NetworkParts) -> NetworkParts:
    """Returns parts in which a skip connection runs wherever an op does, whichever that is."""
    beside = []
    for layer in parts.layers:
        column = parts.cells[layer.kind].ops.index(SKIP)
        skips = [[part and row[column] for part in row] for row in layer.parts]
        beside.append(LayerParts(layer.kind, tuple(map(tuple, skips))))
    return parts._replace(layers=(*parts.layers, *beside))
