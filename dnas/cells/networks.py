"""From flax modules to the pure functions of a supernet and of a final network."""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax.numpy as jnp

from dnas.base import Array, Key, Mix, PyTree
from dnas.cells.init import check_dtype, in_dtype, init_variables
from dnas.cells.mixed_cell import SCHEDULES, default_schedule
from dnas.space import CellSpec, Network, Supernet


def make_supernet(
    module: Callable[[Mix], nn.Module],
    cells: Mapping[str, CellSpec],
    *,
    args: Callable[[Mix], tuple[Array, ...]] = lambda mix: (),
    dtype=None,
) -> Supernet:
    """Returns the supernet that applies `module(mix)` to images; it has no state.

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
        return init_variables(module(mix), key, images, *args(mix))["params"]

    def apply(weights: PyTree, mix: Mix, images: Array) -> Array:
        weights, images = in_dtype(dtype, (weights, images))
        logits = module(mix).apply({"params": weights}, images, *args(mix))
        return logits[0] if isinstance(logits, tuple) else logits

    return Supernet(init, apply)


def make_network(
    module: Callable[[bool, Array | None, bool], nn.Module],
    *,
    args: Callable[[Array | None], tuple[Array, ...]] = lambda drop_path: (),
    auxiliary: bool = False,
    dtype=None,
) -> Network:
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
        variables: PyTree, images: Array, train: bool, key: Key, drop_path: Array | float = 0.0
    ) -> tuple[Array, PyTree]:
        # "auxiliary" holds the logits of the step before, where these variables came back from one.
        collections = {name: tree for name, tree in variables.items() if name != "auxiliary"}
        collections["params"], images = in_dtype(dtype, (collections["params"], images))
        if not train:
            return (
                _both(module(False, None, False).apply(collections, images, *args(None)))[0],
                variables,
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
        logits, auxiliary_logits = _both(found)
        variables = {**variables, **averages}
        if auxiliary:
            variables["auxiliary"] = auxiliary_logits
        return logits, variables

    return Network(init, apply)


def _both(found: Array | tuple[Array, Array | None]) -> tuple[Array, Array | None]:
    return found if isinstance(found, tuple) else (found, None)


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
