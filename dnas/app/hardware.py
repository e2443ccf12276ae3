"""From settings to targets: what a network may cost, how the search is pushed there, and what it
costs when measured."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

import dnas
from dnas import hw_loss
from dnas.app import devices, named
from dnas.app.config import MethodConfig
from dnas.base import Mix
from dnas.files import shown
from dnas.hw_loss import Constraint, CostTable, ExpectedCost
from dnas.hw_loss.feasible import check_bound
from dnas.hw_loss.table import unit_factor

# Steps times rate of a multiplier: a violation of all of the target, all through the search, gives
#   the penalty this weight.
_RATE_STEPS = 20.0
_REPEATS = 200  # blocks of runs when a network is measured
_LEAST, _MOST = 1e-30, 1e30  # of a target, which float32 has to hold
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
        metric, named_so, written = part.rpartition("=")
        metric = metric.strip() if named_so else None
        match = re.fullmatch(
            r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?\s*([a-zA-Z]+)", written.strip()
        )
        if match is None:
            raise ValueError(
                "a target is a number and a unit, such as 2.5ms, 80mJ or latency=0.0025s; not"
                f" {shown(part.strip())}"
            )
        number, power, unit = match.groups()
        fitting = [own for own in hw_loss.METRICS if unit in hw_loss.METRICS[own]]
        if metric is None and len(fitting) != 1:
            known = ", ".join(unit for units in hw_loss.METRICS.values() for unit in units)
            raise ValueError(
                f"the unit {unit!r} is that of {' and of '.join(fitting)}; write"
                f" {fitting[0]}={part.strip()}"
                if fitting
                else (
                    f"the unit {shown(unit)} of the target {shown(part.strip())} is not known;"
                    f" choose from: {known}"
                )
            )
        metric = fitting[0] if metric is None else metric
        bound = float(number + (power or "")) * unit_factor(metric, unit)
        if metric in dict(found):
            raise ValueError(f"two targets of {metric} are given; give one")
        if not _LEAST <= bound <= _MOST:
            raise ValueError(
                f"a target is more than zero, from {_LEAST:g} to {_MOST:g} of the unit of its"
                f" metric, not {shown(part.strip())}"
            )
        found.append((metric, bound))
    return found


def bounds(limits: Sequence[Limit]) -> hw_loss.Limits:
    """Returns (cost, bound) of each limit, as `repair` takes them."""
    return [(limit.cost, limit.bound) for limit in limits]


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
        return exchange(space, genotype, mix, bounds(limits))
    except (
        ValueError
    ) as error:  # each limit can be met, but not all at once: what has been found is not lost
        tqdm.write(f"the genotype exceeds its targets: {error}")
        return genotype


def derive(
    config: MethodConfig,
    space: dnas.SearchSpace,
    genotype: dnas.Genotype,
    mix: Mix,
    limits: Sequence[Limit],
    sizes: Mapping[str, Any],
) -> tuple[dnas.Genotype, list[dict[str, Any]]]:
    """Returns the genotype that meets the limits when it is measured, by `hw_loss.deploy`, and what
    it costs: a row for each target, in the unit of its metric.

    A row says what was asked for, predicted and measured on this machine in the runtime of the
    table, or why nothing was; under "rounds" it has all genotypes that were derived on the way.
    The whole network is run, with random weights, on which its cost does not depend.

    Args:
      mix: that the genotype was read from; sizes: as for `limits_of`.
    """
    meters = [_meter_of(space, limit, sizes) for limit in limits]
    deployed = hw_loss.deploy(
        space,
        genotype,
        mix,
        bounds(limits),
        measures=[meter.measure for meter in meters],
        equality=config.equality,
        rounds=config.rounds,
    )
    for note in deployed.notes:
        tqdm.write(note)
    rows = []
    for number, (limit, meter) in enumerate(zip(limits, meters, strict=True)):
        row = {
            "metric": limit.cost.metric,
            "unit": limit.cost.unit,
            "target": limit.bound,
            "predicted": deployed.proofs[number].predicted,
            "interpolated_parts": len(limit.cost.interpolated),
            "note": meter.note,
            "rounds": [own.proofs[number]._asdict() for own in deployed.rounds],
        }
        rows.append(row | meter.found.get(deployed.genotype, {}))
    return deployed.genotype, rows


class _Meter(NamedTuple):
    """What measures the networks of genotypes by one metric, or a note why nothing does; and what
    it has found of each, as a row has it."""

    note: str
    measure: Callable[[dnas.Genotype], float] | None = None
    found: Mapping[dnas.Genotype, dict[str, Any]] = {}


def _meter_of(space: dnas.SearchSpace, limit: Limit, sizes: Mapping[str, Any]) -> _Meter:
    metric, table = limit.cost.metric, limit.table
    if table is None:
        return _Meter("counted, exact")
    if metric not in ("latency", "energy"):
        return _Meter(f"not measured: {metric} has no meter")
    if table.device != (here := devices.device_name(table.runtime)):
        return _Meter(f"not measured: the table is of {table.device}, this is {here}")
    try:
        runtime = devices.runtime_named(table.runtime)
        meter = devices.meter_of(metric, table.runtime)
    except (ValueError, ModuleNotFoundError) as error:
        return _Meter(f"not measured: {error}")
    factor = unit_factor(metric, meter.unit)
    before = table.rows.get((metric, hw_loss.REFERENCE))
    note, found = f"measured here in {runtime.describe}", {}

    def measure(genotype: dnas.Genotype) -> float:
        (own,) = hw_loss.measure_networks(
            space,
            [genotype],
            runtime,
            batch_size=table.batch,
            meter=meter,
            repeats=_REPEATS,
            reference=before and before.mean / factor,
            **sizes,
        )
        found[genotype] = row = {
            "measured": own.median * factor,
            "spread": own.spread * factor,
            "count": own.count,
            "speed": own.speed,
        }
        if before is not None:
            row["note"] = (
                f"{note}, at the speed at which the table was made (now {own.speed:.0%} of it)"
            )
        return row["measured"]

    return _Meter(note, measure, found)


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
