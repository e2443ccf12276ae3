"""`dnas table` measures what it says, goes on where it was stopped, and refuses what does not
fit."""

import dataclasses

import jax
import numpy as np
import pytest

import dnas
from dnas import export
from dnas.app import devices
from dnas.app import table as tables
from dnas.hw_loss import (
    REFERENCE,
    CostTable,
    Meter,
    Runtime,
    clock,
    count_table,
    expected_cost,
    measure_networks,
    measure_table,
    read_table,
)
from dnas.hw_loss.counts import _count_macs

SIZES = {"channels": 2, "num_cells": 1, "num_classes": 3, "image_size": 8, "image_channels": 1}
HEADER = {"device": "made up", "date": "2026-11-21", "source": "a test"}
DARTS = dnas.SPACES["darts"]


class Counting(list):
    """A runtime that computes nothing and notes for what it was prepared."""

    def runtime(self):
        def load(function, x):
            self.append(np.shape(x))

        return Runtime("nothing", load, run=lambda program: None)


def calls_of(parts, candidates):
    """Programs for one group of parts: of a candidate two, as many of each shape without it;
    reference and an empty call."""
    inside = [part for part in parts if part in candidates]
    return (
        len(parts)
        + len(inside)
        + 2 * len({(part.height, part.width, part.channels_in) for part in inside})
        + 2
    )


def moving(table):
    """The parts that were measured, in their order."""
    return [
        part
        for _, part in table.rows
        if part != REFERENCE and not (part.op == "skip_connect" and part.stride == 1)
    ]


def test_a_table_has_a_row_for_every_part_and_fits_the_space():
    table = measure_table(
        DARTS, Counting().runtime(), repeats=1, meter=clock(seconds=1e-7), **HEADER, **SIZES
    )
    layers = DARTS.parts(**SIZES)
    assert {part for _, part in table.rows} == {*layers.distinct(), REFERENCE}
    genotype = dnas.PUBLISHED["DARTS_V2"]
    assert float(expected_cost(table, layers)(dnas.one_hot_mix(DARTS, genotype))) >= 0


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_a_part_costs_what_it_adds_to_a_network(name):
    """On a machine that takes 1 us a multiply-add and 100 more for a call and each number that goes
    in or comes out."""
    space, total = dnas.SPACES[name], [0.0]

    def load(function, x):
        y = jax.eval_shape(function, x)
        cost = _count_macs(function, x) * 1e-3 + 0.1 * (
            1 + np.prod(x.shape[1:]) + np.prod(y.shape[1:])
        )

        return cost

    def run(cost):
        total[0] += cost

    sizes = {**SIZES, "num_cells": 3}
    meter = Meter("latency", "ms", lambda: total[0], 1e-7)
    table = measure_table(
        space, Runtime("made up", load, run), repeats=1, meter=meter, **HEADER, **sizes
    )
    counted, candidates = count_table(space, **sizes), space.parts(**sizes).candidates()
    found = {part: cost.mean for (_, part), cost in table.rows.items() if part in candidates}
    still = {
        part
        for part in found
        if part.op == "skip_connect" and (part.channels_in, part.stride) == (part.channels_out, 1)
    }
    assert len(found) - len(still) > 8
    for part in found.keys() - still:
        assert found[part] == pytest.approx(
            counted.rows["macs", part].mean * 1e-3, rel=1e-6, abs=1e-6
        ), part


def test_an_interrupted_measurement_goes_on():
    kept, counting = [], Counting()
    options = dict(repeats=1, meter=clock(seconds=1e-7), group=4, **HEADER, **SIZES)

    def stop(table):
        kept.append(table)
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_table(DARTS, counting.runtime(), keep=stop, **options)
    known, first, candidates = kept[-1], len(counting), DARTS.parts(**SIZES).candidates()
    assert first == sum(calls_of(moving(known)[start : start + 4], candidates) for start in (0, 4))
    table = measure_table(DARTS, counting.runtime(), known=known, **options)
    assert {row: table.rows[row] for row in known.rows} == known.rows
    rest = moving(table)[8:]
    assert len(rest) > 4
    groups = [rest[start : start + 4] for start in range(0, len(rest), 4)]
    assert len(counting) - first == sum(calls_of(group, candidates) for group in groups)


def test_what_computes_nothing_costs_nothing_and_is_not_measured():
    counting = Counting()
    table = measure_table(
        DARTS, counting.runtime(), repeats=1, meter=clock(seconds=1e-7), **HEADER, **SIZES
    )
    still = {
        part: cost
        for (_, part), cost in table.rows.items()
        if part.op == "skip_connect" and part.stride == 1
    }
    assert still and all(cost.mean == 0 for cost in still.values())
    parts, candidates = moving(table), DARTS.parts(**SIZES).candidates()
    assert len(parts) == len(table.rows) - 1 - len(still) and {
        cost.count for cost in still.values()
    } == {1}
    groups = [parts[start : start + 24] for start in range(0, len(parts), 24)]
    assert len(counting) == sum(calls_of(group, candidates) for group in groups)


def test_a_table_of_another_device_is_not_gone_on_with():
    table = measure_table(
        DARTS, Counting().runtime(), repeats=1, meter=clock(seconds=1e-7), **HEADER, **SIZES
    )
    with pytest.raises(ValueError, match="write to another file"):
        measure_table(
            DARTS, Counting().runtime(), known=table, **{**HEADER, "device": "another"}, **SIZES
        )


def test_a_runtime_of_a_user_is_found_by_its_name_and_by_what_a_table_says_of_it(monkeypatch):
    def of_a_user(threads):
        return Counting().runtime()._replace(describe=f"mine 1.0 cpu {threads} threads")

    monkeypatch.setitem(export.RUNTIMES, "mine", of_a_user)
    described = devices.runtime_named("mine", threads=3).describe
    assert described == "mine 1.0 cpu 3 threads"
    assert devices.runtime_named(described).describe == described


def test_a_runtime_that_is_not_known_is_refused():
    known = ", ".join(export.RUNTIMES)
    with pytest.raises(ValueError, match=f"runtime 'nothing' is not known; choose from: {known}"):
        devices.runtime_named("nothing 1.0")


def test_the_command_writes_a_table_that_can_be_read(tmp_path):
    command = tables.TableCommand(
        runtime="jax",
        out=tmp_path / "here.csv",
        channels=2,
        cells=1,
        classes=3,
        image_size=4,
        image_channels=1,
        repeats=1,
    )
    command = dataclasses.replace(command, space="nothing")
    with pytest.raises(ValueError, match="space 'nothing' is not known; choose from"):
        tables.make_table(command, "a test")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", export.RUNTIMES)
def test_measured_tables_order_networks_by_size(runtime, tmp_path):
    if runtime == "onnxruntime":
        pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    if runtime == "litert":
        pytest.importorskip("litert_converter", reason="LiteRT's converter is not installed")
    command = tables.TableCommand(
        runtime=runtime, out=tmp_path / "here.csv", channels=32, cells=1, repeats=20
    )
    table = tables.make_table(command, "a test")
    assert read_table((tmp_path / "here.csv").read_text()) == table
    assert isinstance(table, CostTable)
    sizes = tables.sizes_of(command)
    cost = expected_cost(table, DARTS.parts(**sizes))
    # Pooling and convolutions: a skip that strides may cost more than a convolution, as in ONNX
    #   Runtime, and the table says so.
    small, large = (
        dnas.Genotype(
            "darts",
            {
                kind: [(s, t, op) for t in range(2, 6) for s in (0, 1)]
                for kind in ("normal", "reduce")
            },
        )
        for op in ("max_pool_3x3", "sep_conv_5x5")
    )
    predicted = [float(cost(dnas.one_hot_mix(DARTS, genotype))) for genotype in (small, large)]
    measured = measure_networks(
        DARTS, [small, large], devices.runtime_named(command.runtime), repeats=5, **sizes
    )
    assert predicted[0] < predicted[1]
    assert measured[0].median < measured[1].median
