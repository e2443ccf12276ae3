"""From settings to targets: what a network may cost, how the search is pushed there, and what it
costs when measured."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import dnas
from dnas import export, hw_loss
from dnas.app import devices, named
from dnas.app.config import MethodConfig
from dnas.base import Mix
from dnas.hw_loss import Constraint, CostTable, ExpectedCost
from dnas.hw_loss.feasible import check_bound
from dnas.hw_loss.table import unit_factor
from dnas.selection import default_selection

# Steps times rate of a multiplier: a violation of all of the target, all through the search, gives
#   the penalty this weight.
_RATE_STEPS = 20.0
_LARGEST_DIFFERENCE = (
    1e-4  # of an exported network from the trained one, as a share of the largest logit
)
_NEAR = 0.02  # of a target that is to be reached from both sides
_ATTEMPTS = 4  # to find a genotype that has not been measured yet, for each round
_REPEATS = 200  # blocks of runs when a network is measured
# Weights of penalties in their papers; that of others is 1.
_WEIGHTS = {"relative": 0.1, "absolute": 0.1, "band": 2.0}


class Limit(NamedTuple):
    """What the network may cost by one metric, in the unit of the cost; predicted from a table,
    which may be None: counts."""

    cost: ExpectedCost
    bound: float
    table: CostTable | None


def limits_of(
    config: MethodConfig, space: dnas.SearchSpace, sizes: Mapping[str, Any]
) -> tuple[Limit, ...]:
    """Returns a limit for each target of the settings.

    Args:
      sizes: what `space.parts` takes, of the network that is retrained.

    Raises:
      ValueError: for targets that cannot be read or that no network of the space meets, naming the
        feasible range, and for tables that do not fit.
    """
    if config.target is None:
        if config.table is not None:
            raise ValueError(
                "a table says what networks cost; give a target as well, such as --target=2.5ms"
            )
        return ()
    layers = space.parts(**sizes)
    table = None if config.table is None else hw_loss.load_table(config.table)
    counted = None
    limits = []
    for metric, bound in targets_of(config.target):
        if table is not None and metric in table.metrics:
            own = table
        elif metric in ("macs", "params", "bytes"):
            own = counted = hw_loss.count_table(space, **sizes) if counted is None else counted
        else:
            there = (
                f"the table {config.table} has {', '.join(table.metrics)}"
                if table
                else "no table is given"
            )
            raise ValueError(
                f"a target of {metric} needs a table with it, but {there}; measure one by dnas"
                f" table --space={space.name}, and give --table=file"
            )
        cost = hw_loss.expected_cost(own, layers, metric=metric, interpolate=config.interpolate)
        check_bound(cost, bound)
        limits.append(Limit(cost, bound, None if own is counted else own))
    return tuple(limits)


def targets_of(text: str) -> list[tuple[str, float]]:
    """Returns (metric, number in its base unit) of each target in a text.

    Raises:
      ValueError: for what is not a number and a unit, a unit that more than one metric has, and
        metrics given twice.

    Example:
      >>> targets_of("2.5ms,600kparams"), targets_of("peak_memory=1MiB")
      ([('latency', 2.5), ('params', 600000.0)], [('peak_memory', 1048576.0)])
    """
    found: list[tuple[str, float]] = []
    for part in text.split(","):
        match = re.fullmatch(
            r"\s*(?:(\w+)\s*=)?\s*(\d*\.?\d+(?:e[+-]?\d+)?)\s*([a-zA-Z]+)\s*", part
        )
        if match is None:
            raise ValueError(
                "a target is a number and a unit, such as 2.5ms, 80mJ or latency=0.0025s; not"
                f" {part.strip()!r}"
            )
        metric, number, unit = match.groups()
        fitting = [own for own in hw_loss.METRICS if unit in hw_loss.METRICS[own]]
        if metric is None and len(fitting) != 1:
            known = ", ".join(unit for units in hw_loss.METRICS.values() for unit in units)
            raise ValueError(
                f"the unit {unit!r} is that of {' and of '.join(fitting)}; write"
                f" {fitting[0]}={part.strip()}"
                if fitting
                else (
                    f"the unit {unit!r} of the target {part.strip()!r} is not known; choose from:"
                    f" {known}"
                )
            )
        metric = fitting[0] if metric is None else metric
        bound = float(number) * unit_factor(metric, unit)
        if metric in dict(found):
            raise ValueError(f"two targets of {metric} are given; give one")
        if not bound > 0:
            raise ValueError(f"a target is more than zero, not {part.strip()!r}")
        found.append((metric, bound))
    return found


def search_terms(config: MethodConfig, limits: Sequence[Limit], steps: int) -> dict[str, Any]:
    """Returns what `dnas.run_search` takes for the limits: a constraint, or terms of the arch loss.

    Args:
      steps: of the search.

    Raises:
      ValueError: for a rate that is not positive, and for a log_power of costs whose logarithm is
        not positive.
    """
    known = hw_loss.MULTIPLIERS | hw_loss.FACTORS | hw_loss.PENALTIES
    named.keywords_of(known, "penalty", config.penalty)
    if not limits or keeps_bound(config):
        return {}
    name, weight = named.name_of(config.penalty), config.penalty_weight
    if name in hw_loss.MULTIPLIERS:
        rate = _RATE_STEPS / max(steps, 1) if weight is None else weight
        offered = {
            "target": [limit.bound for limit in limits],
            "equality": config.equality,
            **dict.fromkeys(("rate", "rho", "learning_rate"), rate),
        }
        multiplier = named.make(hw_loss.MULTIPLIERS, "penalty", config.penalty, None, offered)
        return {"constraint": Constraint(tuple(limit.cost for limit in limits), multiplier)}
    if name in hw_loss.FACTORS:
        return {
            "arch_factors": [
                hw_loss.arch_loss(limit.cost, _factor(config, limit)) for limit in limits
            ]
        }
    own = _WEIGHTS.get(name, 1.0) if weight is None else weight
    losses = []
    for limit in limits:
        penalty = named.make(
            hw_loss.PENALTIES, "penalty", config.penalty, None, {"target": limit.bound}
        )
        losses.append((own, hw_loss.arch_loss(limit.cost, penalty)))
    return {"arch_losses": losses}


def keeps_bound(config: MethodConfig) -> bool:
    """Whether the arch optimiser itself keeps a bound, so that no penalty is needed."""
    if config.arch_optimizer is None:
        return False
    keywords = named.keywords_of(dnas.ARCH_OPTIMIZERS, "arch_optimizer", config.arch_optimizer)
    return "bound" in keywords


def _factor(config: MethodConfig, limit: Limit) -> hw_loss.Penalty:
    offered: dict[str, Any] = {"target": limit.bound}
    if config.penalty_weight is not None:
        offered |= dict.fromkeys(("power", "beta"), config.penalty_weight)
    if named.name_of(config.penalty) == "log_power":
        offered |= {"alpha": 1.0, "least": hw_loss.feasible_range(limit.cost).least}
    return named.make(hw_loss.FACTORS, "penalty", config.penalty, None, offered)


def bring_within(
    config: MethodConfig,
    space: dnas.SearchSpace,
    genotype: dnas.Genotype,
    mix: Mix,
    limits: Sequence[Limit],
) -> dnas.Genotype:
    """Returns the genotype itself if it meets all limits, or what `repair` or `approach` makes of
    it; prints why if nothing."""
    if not limits:
        return genotype
    exchange = hw_loss.approach if config.equality else hw_loss.repair
    try:
        return exchange(space, genotype, mix, [(limit.cost, limit.bound) for limit in limits])
    except (
        ValueError
    ) as error:  # each limit can be met, but not all at once: what has been found is not lost
        tqdm.write(f"the genotype exceeds its targets: {error}")
        return genotype


def costs_of(
    space: dnas.SearchSpace, genotype: dnas.Genotype, limits: Sequence[Limit]
) -> list[dict[str, Any]]:
    """Returns what is predicted for a genotype: a row for each target, in the unit of its
    metric."""
    mix = dnas.one_hot_mix(space, genotype)
    return [
        {
            "metric": limit.cost.metric,
            "unit": limit.cost.unit,
            "target": limit.bound,
            "predicted": float(limit.cost(mix)),
            "interpolated_parts": len(limit.cost.interpolated),
        }
        for limit in limits
    ]


def derive(
    config: MethodConfig,
    space: dnas.SearchSpace,
    genotype: dnas.Genotype,
    mix: Mix,
    limits: Sequence[Limit],
    sizes: Mapping[str, Any],
) -> tuple[dnas.Genotype, list[dict[str, Any]]]:
    """Returns the genotype that meets the limits when it is measured, and the rows of
    `measured_costs` for it.

    A prediction is off by some per cent. What counts is the network that runs: where it can be
    measured here and misses its target, the bound of the prediction is moved by as much and the
    genotype derived again from the same mix. After `config.rounds` of that, the one that came
    nearest is returned; each row has all rounds in "rounds".

    Args:
      mix: that the genotype was read from; sizes: as for `limits_of`.
    """
    genotype = _connected(space, genotype, mix)
    bounds = [limit.bound for limit in limits]
    found: list[tuple[float, dnas.Genotype, list[dict[str, Any]]]] = []
    rows: list[dict[str, Any]] = []
    for _ in range(_ATTEMPTS * config.rounds):
        moved = [limit._replace(bound=bound) for limit, bound in zip(limits, bounds, strict=True)]
        own = bring_within(config, space, genotype, mix, moved)
        # Another few per cent in the same direction.
        if any(own == before for _, before, _ in found):
            bounds = [
                _nudged(bound, row, limit)
                for bound, row, limit in zip(bounds, rows, limits, strict=True)
            ]
            continue
        rows = measured_costs(space, own, limits, sizes)
        misses = [_miss(config, row) for row in rows]
        found.append((max(misses, default=0.0), own, rows))
        if found[-1][0] <= (_NEAR if config.equality else 0.0) or len(found) == config.rounds:
            break
        bounds = [
            _moved_bound(config, limit, bound, row)
            for limit, bound, row in zip(limits, bounds, rows, strict=True)
        ]
    _, best, rows = min(found, key=lambda entry: entry[0])
    for number, row in enumerate(rows):
        row["rounds"] = [
            {name: own[number].get(name) for name in ("predicted", "measured")}
            for _, _, own in found
        ]
    return best, rows


def _connected(space: dnas.SearchSpace, genotype: dnas.Genotype, mix: Mix) -> dnas.Genotype:
    """The genotype itself; where a cell of it has no path from its inputs to its output, that of
    the mix without `none`.

    Nothing costs less than a network that computes nothing, and a search that is pushed hard enough
    ends there.
    """
    for kind, spec in space.cells.items():
        if not spec.live_edges_of(genotype.cells[kind]):
            tqdm.write(
                f"the searched {kind} has no path from its inputs to its output; it is read again"
                " without `none`"
            )
            computing = {
                kind: np.asarray(mix[kind]) * own.computes for kind, own in space.choices.items()
            }
            return default_selection(space, computing)
    return genotype


def _moved_bound(config: MethodConfig, limit: Limit, bound: float, row: Mapping[str, Any]) -> float:
    """The bound of a prediction under which a network that misses its target by as much as this one
    would meet it."""
    if "measured" not in row or not _miss(config, row):
        return bound
    wanted = row["predicted"] * row["target"] / row["measured"]
    return max(wanted, hw_loss.feasible_range(limit.cost).least)


def _nudged(bound: float, row: Mapping[str, Any], limit: Limit) -> float:
    too_dear = row.get("measured", row["predicted"]) > row["target"]
    return max(bound * (0.98 if too_dear else 1.02), hw_loss.feasible_range(limit.cost).least)


def _miss(config: MethodConfig, row: Mapping[str, Any]) -> float:
    """By which share a network misses its target; one below a bound does not."""
    away = row.get("measured", row["predicted"]) / row["target"] - 1
    return abs(away) if config.equality else max(away, 0.0)


def measured_costs(
    space: dnas.SearchSpace,
    genotype: dnas.Genotype,
    limits: Sequence[Limit],
    sizes: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Returns the rows of `costs_of` with what was measured on this machine, in the runtime of the
    table, or why nothing was.

    The whole network is run, with random weights, on which its cost does not depend.

    Args:
      sizes: as for `limits_of`.
    """
    rows = costs_of(space, genotype, limits)
    for row, limit in zip(rows, limits, strict=True):
        if limit.table is None:
            row["note"] = "counted, exact"
        elif row["metric"] not in ("latency", "energy"):
            row["note"] = f"not measured: {row['metric']} has no meter"
        elif limit.table.device != (here := devices.device_name(limit.table.runtime)):
            row["note"] = f"not measured: the table is of {limit.table.device}, this is {here}"
        else:
            row |= _measure(space, genotype, limit.table, row["metric"], sizes)
    return rows


def _measure(
    space, genotype, table: CostTable, metric: str, sizes: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        runtime = devices.runtime_named(table.runtime)
        meter = devices.meter_of(metric, table.runtime)
    except (ValueError, ModuleNotFoundError) as error:
        return {"note": f"not measured: {error}"}
    factor = unit_factor(metric, meter.unit)
    before = table.rows.get((metric, hw_loss.REFERENCE))
    (found,) = hw_loss.measure_networks(
        space,
        [genotype],
        runtime,
        batch_size=table.batch,
        meter=meter,
        repeats=_REPEATS,
        reference=before and before.mean / factor,
        **sizes,
    )
    note = f"measured here in {runtime.name}"
    if before is not None:
        note += f", at the speed at which the table was made (now {found.speed:.0%} of it)"
    return {
        "measured": found.median * factor,
        "spread": found.spread * factor,
        "count": found.count,
        "speed": found.speed,
        "note": note,
    }


def in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each target: what was asked for, predicted and measured."""
    lines = []
    for row in rows:
        unit, target = row["unit"], row["target"]
        line = (
            f"{row['metric']}: target {target:.5g} {unit}, predicted {row['predicted']:.5g} {unit}"
        )
        if row["interpolated_parts"]:
            line += f" ({row['interpolated_parts']} parts interpolated)"
        if "measured" in row:
            share = row["measured"] / target - 1
            line += (
                f", measured {row['measured']:.5g} +- {row['spread']:.2g} {unit} ({share:+.1%} of"
                " the target)"
            )
        if len(row.get("rounds", ())) > 1:
            line += f", derived and measured {len(row['rounds'])} times"
        lines.append(f"{line}; {row['note']}" if row.get("note") else line)
    return lines


def check_export() -> None:
    """Raises ValueError, before any work, unless the packages that write and run ONNX are there."""
    for package in ("jax2onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"--onnx needs the package {package}, which is not there: pip install"
                " 'dnas[export]'"
            )


def write_onnx(path, network: dnas.Model, variables, image_shape: tuple[int, int, int]) -> float:
    """Writes a trained network as ONNX, and returns the largest difference of its logits from JAX's
    on random images.

    The difference is a share of the largest logit.

    Raises:
      ValueError: if it is more than 1e-4: then the file is not written.
    """
    images = np.random.default_rng(0).normal(size=(1, *image_shape)).astype(np.float32)
    expected = jax.jit(lambda images: network.apply(variables, {}, images)[0].logits)(images)
    return _write_checked(
        path, export.to_onnx(network, variables, image_shape), {"images": images}, expected
    )


def write_language_model(path, network: dnas.Model, variables) -> float:
    """Writes a trained language model as ONNX that reads one token at a time, as `write_onnx` does
    a network on images."""
    random = np.random.default_rng(0)
    apply = jax.jit(
        lambda tokens, hidden: network.apply(variables, {}, dnas.Tokens(tokens, hidden))
    )
    start, _ = jax.eval_shape(apply, np.zeros((1, 1), np.int32), None)
    inputs = {
        "tokens": random.integers(0, start.logits.shape[-1], (1, 1)).astype(np.int32),
        "hidden": random.uniform(-1, 1, (1, start.hidden.shape[-1])).astype(np.float32),
    }
    expected = apply(**inputs)[0].logits
    return _write_checked(
        path, export.language_model_to_onnx(network, variables, 1), inputs, expected
    )


def _write_checked(path, model, inputs, expected) -> float:
    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found, expected = session.run(["logits"], inputs)[0], np.asarray(expected)
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise ValueError(
            f"the exported network differs from the trained one by {difference:.1e} of its largest"
            " logit"
        )
    onnx.save(model, path)
    return difference
