"""From flax modules to the pure functions of a `Model`: a supernet or a final network."""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp

from dnas.base import Array, Key, Mix, PyTree
from dnas.cells.init import check_dtype, in_dtype, init_variables
from dnas.cells.mixed_cell import SCHEDULES, default_schedule
from dnas.model import Model, Outputs
from dnas.space import CellSpec


def make_supernet(
    module: Callable[[Mix], nn.Module],
    cells: Mapping[str, CellSpec],
    *,
    args: Callable[[Mix], tuple[Array, ...]] = lambda mix: (),
    dtype=None,
) -> Model:
    """Returns the supernet that applies `module(mix)` to images; it has weights only, and draws
    nothing.

    Args:
      args: mix -> what else the module is called with.
      dtype: what it computes in, None for that of its weights.

    Raises:
      ValueError: for a dtype that does not exist.
    """
    check_dtype(dtype)

    def init(key: Key, images: Array) -> PyTree:
        mix = {
            kind: jnp.zeros((len(spec.edges), len(spec.ops)), images.dtype)
            for kind, spec in cells.items()
        }
        return {"params": init_variables(module(mix), key, images, *args(mix))["params"]}

    def apply(
        variables: PyTree,
        mix: Mix,
        images: Array,
        *,
        key: Key | None = None,
        train: bool = False,
        drop_path: Array | float = 0.0,
    ) -> tuple[Outputs, PyTree]:
        del key, train, drop_path
        weights, images = in_dtype(dtype, (variables["params"], images))
        found = module(mix).apply({"params": weights}, images, *args(mix))
        return _outputs(found), variables

    return Model(init, apply)


def make_network(
    module: Callable[[bool, Array | None, bool], nn.Module],
    *,
    args: Callable[[Array | None], tuple[Array, ...]] = lambda drop_path: (),
    auxiliary: bool = False,
    dtype=None,
) -> Model:
    """Returns the network that applies `module(train, drop_path, auxiliary)` to images.

    Args:
      module: drop_path is a rate, or None for none; the module returns logits, or (logits,
        auxiliary logits or None).
      args: drop_path -> what else the module is called with.
      auxiliary: whether training returns the logits of the auxiliary head too.
      dtype: as for `make_supernet`.

    Raises:
      ValueError: for a dtype that does not exist.
    """
    check_dtype(dtype)

    def init(key: Key, images: Array) -> PyTree:
        return init_variables(module(True, None, auxiliary), key, images, *args(None))

    def apply(
        variables: PyTree,
        mix: Mix,
        images: Array,
        *,
        key: Key | None = None,
        train: bool = False,
        drop_path: Array | float = 0.0,
    ) -> tuple[Outputs, PyTree]:
        del mix
        weights, images = in_dtype(dtype, (variables["params"], images))
        collections = {**variables, "params": weights}
        if not train:
            return _outputs(module(False, None, False).apply(collections, images, *args(None))), (
                variables
            )
        drops = not isinstance(drop_path, (int, float)) or drop_path > 0
        rate = jnp.asarray(drop_path) if drops else None
        found, averages = module(True, rate, auxiliary).apply(
            collections,
            images,
            *args(rate),
            rngs={"drop_path": key} if drops else {},
            mutable=["batch_stats"],
        )
        return _outputs(found), {**variables, **averages}

    return Model(init, apply)


def _outputs(found: Array | tuple[Array, Array | None]) -> Outputs:
    return Outputs(*found) if isinstance(found, tuple) else Outputs(found)


def checked_schedule(
    schedule: str | None, *, channels: int, partial_channels: int, sampled: bool
) -> str:
    """Returns how the edges of mixed cells run: the schedule, or the device's own where it is None.

    Raises:
      ValueError: for options that do not exist or do not fit each other.
    """
    if partial_channels < 1 or channels % partial_channels:
        raise ValueError(
            f"{channels} channels cannot be split in {partial_channels} parts; choose channels that"
            " are a multiple of partial_channels"
        )
    if schedule not in (None, *SCHEDULES):
        raise ValueError(
            f"schedule {schedule!r} does not exist; choose from: {', '.join(SCHEDULES)}, or None"
            " for the default"
        )
    if sampled and schedule == "waves":
        raise ValueError(
            "a sampled path runs one op an edge, but the schedule 'waves' runs all of them at once;"
            " use schedule='edges'"
        )
    return schedule or ("edges" if sampled else default_schedule())
