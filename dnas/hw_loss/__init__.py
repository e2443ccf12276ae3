"""What a network costs: exact counts, tables of measured costs, expected costs, models fitted to
networks, and targets."""

from dnas.hw_loss.calibrate import calibrate
from dnas.hw_loss.counts import Counts, count_network, count_supernet, count_table
from dnas.hw_loss.deploy import Deployed, Proof, Round, deploy
from dnas.hw_loss.discrete import discrete_mix
from dnas.hw_loss.energy import energy_meter
from dnas.hw_loss.expected import ExpectedCost, expected_cost
from dnas.hw_loss.feasible import FeasibleRange, dearest_mix, feasible_range
from dnas.hw_loss.fit import CostModel, fit_cost
from dnas.hw_loss.frank_wolfe import feasible_start, frank_wolfe
from dnas.hw_loss.genotype_cost import genotype_cost
from dnas.hw_loss.importers import import_fbnet, import_hw_nas_bench, import_proxylessnas
from dnas.hw_loss.liveness import Liveness, expected_liveness
from dnas.hw_loss.measure import Measured, Meter, clock, measure
from dnas.hw_loss.measure_table import REFERENCE, measure_networks, measure_table
from dnas.hw_loss.program import Limits
from dnas.hw_loss.repair import approach, repair
from dnas.hw_loss.runtimes import Runtime, jax_runtime
from dnas.hw_loss.table import (
    METRICS,
    Calibration,
    Cost,
    CostTable,
    load_table,
    merge_tables,
    read_table,
    table_names,
    write_table,
)
from dnas.hw_loss.target import (
    FACTORS,
    MULTIPLIERS,
    PENALTIES,
    Constraint,
    Multiplier,
    Penalty,
    absolute,
    arch_loss,
    augmented_lagrangian,
    band,
    excess_power,
    hinge,
    lagrangian,
    lightnas,
    log_power,
    logarithm,
    mnasnet,
    relative,
)

__all__ = [
    "Calibration",
    "Constraint",
    "Cost",
    "CostModel",
    "CostTable",
    "Counts",
    "Deployed",
    "ExpectedCost",
    "FACTORS",
    "FeasibleRange",
    "Liveness",
    "METRICS",
    "MULTIPLIERS",
    "PENALTIES",
    "REFERENCE",
    "Measured",
    "Meter",
    "Multiplier",
    "Penalty",
    "Proof",
    "Round",
    "Runtime",
    "absolute",
    "Limits",
    "approach",
    "arch_loss",
    "augmented_lagrangian",
    "band",
    "calibrate",
    "clock",
    "count_network",
    "count_supernet",
    "count_table",
    "deploy",
    "discrete_mix",
    "energy_meter",
    "excess_power",
    "expected_cost",
    "expected_liveness",
    "dearest_mix",
    "feasible_range",
    "fit_cost",
    "feasible_start",
    "frank_wolfe",
    "genotype_cost",
    "hinge",
    "import_fbnet",
    "import_hw_nas_bench",
    "import_proxylessnas",
    "jax_runtime",
    "lagrangian",
    "lightnas",
    "load_table",
    "log_power",
    "logarithm",
    "measure",
    "measure_networks",
    "measure_table",
    "merge_tables",
    "mnasnet",
    "read_table",
    "relative",
    "repair",
    "table_names",
    "write_table",
]
