"""Python objects of any kind where a record is made: genotypes, cells, choices, tables and
benchmarks."""

from hypothesis import given
from inputs import OBJECTS, altered, arguments
from law import obeys
from test_fuzz_genotypes import PARTS
from test_fuzz_tables import CALIBRATION, CELLS, FROM, ROWS

import dnas
from dnas import hw_loss
from dnas.parts import Part
from dnas.tabular import Benchmark

GENOTYPES = tuple(map(dnas.Genotype.from_text, CELLS))
SPEC = {
    "num_inputs": 1,
    "num_nodes": 2,
    "edges": ((0, 1), (0, 2), (1, 2)),
    "ops": ("none", "skip_connect"),
    "concat": (2,),
    "edge_ops": None,
    "keep": 1,
    "nothing": ("none",),
}
CHOICES = {
    "options": ("k3", "k5"),
    "rows": ("block_0", "block_1"),
    "row_options": None,
    "nothing": (),
    "groups": ((0, 1),),
    "keep": 1,
    "values": (3, 5),
    "under": (),
}


@given(arguments(SPEC))
def test_the_graph_of_a_cell(changed):
    obeys(dnas.CellSpec, **changed)


@given(arguments(CHOICES))
def test_choices(changed):
    obeys(dnas.Choices, **changed)


@given(OBJECTS)
def test_what_is_no_text(value):
    obeys(dnas.Genotype.from_text, value)
    obeys(dnas.Genotype.from_json, value)


@given(altered(PARTS, OBJECTS))
def test_parts(parts):
    if set(parts) <= set(PARTS) and "space" in parts:
        obeys(dnas.Genotype, **parts)


@given(arguments({"space": dnas.SPACES["darts"], "genotype": dnas.PUBLISHED["DARTS_V2"]}))
def test_a_genotype_for_a_space(changed):
    obeys(dnas.check_genotype, **changed)


@given(arguments({**FROM, "batch": 1, "rows": ROWS, "calibrations": CALIBRATION}))
def test_parts_of_a_table(changed):
    obeys(hw_loss.CostTable, **changed)


@given(
    arguments({"op": "skip_connect", "channels_in": 8, "channels_out": 8, "height": 4, "width": 4}),
    arguments({"mean": 0.5, "spread": 0.1, "count": 3}),
)
def test_a_row_of_a_table(part, cost):
    rows = {}
    try:
        rows["latency", Part(**part)] = hw_loss.Cost(**cost)
    except TypeError:  # what has no hash is no key of a dict
        return
    obeys(hw_loss.CostTable, **FROM, batch=1, rows=rows)


@given(arguments({"genotypes": GENOTYPES, "metrics": {"accuracy": [1.0, 2.0]}, "costs": None}))
def test_parts_of_a_benchmark(changed):
    obeys(Benchmark, **changed)


@given(OBJECTS, OBJECTS)
def test_questions_to_a_benchmark(genotype, metric):
    table = Benchmark(GENOTYPES, {"accuracy": [1.0, 2.0]})
    obeys(table.query, genotype)
    obeys(table.rank, CELLS[0], metric)
    obeys(table.expected_best_of, metric, "accuracy")
    obeys(table.spearman, "accuracy", metric)
