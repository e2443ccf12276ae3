"""How the parts of a table become a network: what a runtime fuses, copies and adds is learned from
measured networks."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.hw_loss.expected import expected_cost
from dnas.hw_loss.table import Calibration, CostTable
from dnas.space import SearchSpace, one_hot_mix

_PENALTIES = (0.0, *10.0 ** np.arange(-4, 3), np.inf)
_FEWEST = 10


@checked
def calibrate(
    table: CostTable,
    space: SearchSpace,
    genotypes: Sequence[Genotype],
    measured: Sequence[float],
    *,
    metric: str | None = None,
    interpolate: bool = False,
    **sizes,
) -> CostTable:
    """Returns the table with the calibration under which its sums of parts are nearest to networks
    that were measured.

    cost = offset + factor * fixed parts + sum over ops of factor_op * parts of that op + relu *
    numbers of the ReLUs that are computed by themselves (`ExpectedCost.relus`), where that predicts
    better. What is minimised is the sum of squared errors relative to the cost, with a ridge on how
    far the factor of an op is from that of the others, chosen by leaving one network out: with few
    or noisy measurements all ops have one factor. Gradients, feasible ranges and bounds of
    `expected_cost` are those of the calibrated cost from then on.

    Args:
      genotypes, measured: whole networks and what they cost, in the unit of the table and for its
        batch, on its device.
      metric: of the table; it may be left out if there is one.
      sizes: what `space.parts` takes, those of the measured networks.

    Raises:
      ValueError: for fewer than 10 networks, costs that are not positive, and parts that the table
        lacks.
    """
    metric = table.metric(metric)
    costs = np.asarray(measured, float)
    if len(costs) != len(genotypes) or len(costs) < _FEWEST:
        raise ValueError(
            f"a calibration needs at least {_FEWEST} networks with a cost each, got"
            f" {len(genotypes)} and {len(costs)} costs"
        )
    if not (np.isfinite(costs).all() and costs.min() > 0):
        raise ValueError(f"costs of networks are positive numbers, got {costs.min()}")
    if metric == "peak_memory":
        raise ValueError(
            "peak memory is the largest over the parts of a network and no sum that could be"
            " calibrated"
        )
    bare = dataclasses.replace(table, calibrations={})
    expected = expected_cost(bare, space.parts(**sizes), metric=metric, interpolate=interpolate)
    sums = [expected.by_op(one_hot_mix(space, genotype)) for genotype in genotypes]
    ops = sorted({op for own in sums for op, cost in own.items() if cost and op})
    columns = np.array([[own.get(op, 0.0) for op in ops] for own in sums])  # [N, ops]
    totals = np.array([sum(own.values()) for own in sums])
    relus = (
        np.array([float(expected.relus(one_hot_mix(space, genotype))) for genotype in genotypes])
        * table.batch
        / 1000
    )
    fits = (
        _fit(totals, columns, extra, costs, penalty)
        for penalty in _PENALTIES
        for extra in (None, relus)
    )
    weights = min(fits, key=lambda pair: pair[0])[1]
    factors = {op: float(weights[1] + own) for op, own in zip(ops, weights[3:], strict=True)} | {
        "": float(weights[1])
    }
    own = Calibration(float(weights[0]), factors, len(costs), float(weights[2]))
    return dataclasses.replace(table, calibrations={**table.calibrations, metric: own})


def _fit(
    totals: np.ndarray,
    columns: np.ndarray,
    relus: np.ndarray | None,
    costs: np.ndarray,
    penalty: float,
) -> tuple[float, np.ndarray]:
    """(mean error where each network is left out, weights of one, totals, relus and columns);
    without relus their weight is 0.

    The penalty is on the columns, for infinity they are left out. A fit in which ReLUs cost less
    than nothing has no use.
    """
    first = [np.ones(len(costs)), totals, *([] if relus is None else [relus])]
    last = columns if np.isfinite(penalty) else columns[:, :0]
    inputs = np.c_[*first, last] / costs[:, None]
    # Columns of ops in units of their own spread, so that the ridge means the same for each.
    scale = np.r_[np.abs(inputs[:, : len(first)]).max(axis=0), inputs[:, len(first) :].std(axis=0)]
    scale = np.maximum(scale, 1e-12)
    used = inputs / scale
    ridge = np.diag(
        np.r_[np.zeros(len(first)), np.full(last.shape[1], penalty if last.size else 0.0)]
    ) * len(used)
    inverse = np.linalg.pinv(used.T @ used + ridge, hermitian=True)
    weights = inverse @ used.sum(axis=0)
    leverage = np.einsum("ni,ij,nj->n", used, inverse, used)
    errors = np.abs(used @ weights - 1) / np.maximum(1 - leverage, 1e-9)
    weights = weights / scale
    if relus is None:
        weights = np.insert(weights, 2, 0.0)
    full = np.r_[weights, np.zeros(3 + columns.shape[1] - len(weights))]
    return (float(errors.mean()) if full[2] >= 0 else np.inf), full
