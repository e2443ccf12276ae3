"""Calibration: what was planted in measured networks is found, and the calibrated cost is a cost
like any other."""

import dataclasses

import jax
import numpy as np
import pytest
from test_expected import SPACES, random_table

import dnas
from dnas.hw_loss import (
    Calibration,
    calibrate,
    expected_cost,
    feasible_range,
    genotype_cost,
    read_table,
    write_table,
)
from dnas.space import one_hot_mix

SPACE = SPACES["cells"]
LAYERS = SPACE.parts()
TABLE = random_table(LAYERS)


def networks(count=40):
    found = [dnas.random_genotype(jax.random.key(seed), SPACE) for seed in range(4 * count)]
    return [
        genotype
        for genotype in found
        if genotype_cost(TABLE, SPACE, genotype, metric="latency") > 0
    ][:count]


def costs(table, genotypes):
    return np.array(
        [genotype_cost(table, SPACE, genotype, metric="latency") for genotype in genotypes]
    )


def planted(offset, factors):
    return dataclasses.replace(TABLE, calibrations={"latency": Calibration(offset, factors, 20)})


def test_an_offset_and_a_factor_are_found():
    genotypes = networks()
    made = calibrate(TABLE, SPACE, genotypes, 0.7 + 1.3 * costs(TABLE, genotypes), metric="latency")
    own = made.calibrations["latency"]
    assert own.offset == pytest.approx(0.7, abs=1e-3) and own.networks == len(genotypes)
    np.testing.assert_allclose([own.factor(op) for op in ("conv", "skip", "stem")], 1.3, rtol=2e-3)


def test_factors_of_ops_are_found_and_predict_other_networks():
    truth = planted(0.5, {"conv": 0.6, "skip": 2.0, "": 1.1})
    genotypes = networks(60)
    measured = costs(truth, genotypes)
    made = calibrate(TABLE, SPACE, genotypes[:30], measured[:30], metric="latency")
    np.testing.assert_allclose(costs(made, genotypes[30:]), measured[30:], rtol=5e-3)
    plain = np.abs(costs(TABLE, genotypes[30:]) / measured[30:] - 1).mean()
    assert plain > 0.1


def test_noise_does_not_spoil_a_calibration_by_many_ops():
    genotypes, random = networks(60), np.random.default_rng(0)
    measured = 1.2 * costs(TABLE, genotypes)
    noisy = measured * (1 + 0.05 * random.normal(size=len(measured)))
    made = calibrate(TABLE, SPACE, genotypes[:20], noisy[:20], metric="latency")
    assert np.abs(costs(made, genotypes[20:]) / measured[20:] - 1).mean() < 0.05


def test_the_calibrated_cost_of_a_one_hot_mix_is_that_of_the_genotype():
    table = planted(0.25, {"conv": 0.6, "": 1.1})
    cost = expected_cost(table, LAYERS, metric="latency")
    for genotype in networks(10):
        assert float(cost(one_hot_mix(SPACE, genotype))) == genotype_cost(
            table, SPACE, genotype, metric="latency"
        )
    ends, plain = (
        feasible_range(cost),
        feasible_range(expected_cost(TABLE, LAYERS, metric="latency")),
    )
    assert ends.least != plain.least


def test_parts_of_a_cost_by_op_add_up_to_it():
    cost = expected_cost(TABLE, LAYERS, metric="latency")
    for genotype in networks(5):
        mix = one_hot_mix(SPACE, genotype)
        assert sum(cost.by_op(mix).values()) == pytest.approx(float(cost(mix)))


def test_a_calibrated_table_is_written_and_read():
    table = planted(-0.25, {"conv": 1e-7, "skip": 2.0, "": 1.1})
    text = write_table(table)
    assert read_table(text) == table
    assert (
        "# calibration: latency = -0.25 + 1e-07 conv + 2.0 skip + 1.1 others, from 20 networks"
        in text
    )
    with pytest.raises(ValueError, match="a calibration is written as"):
        read_table(text.replace("+ 2.0 skip", "* 2.0 skip"))
    with pytest.raises(ValueError, match="of a metric of the table"):
        read_table(text.replace("calibration: latency", "calibration: macs"))


def test_what_cannot_be_calibrated_is_refused():
    genotypes = networks(12)
    measured = costs(TABLE, genotypes)
    for given, numbers, options, message in (
        (genotypes[:5], measured[:5], {"metric": "latency"}, "at least 10 networks"),
        (genotypes, measured[:-1], {"metric": "latency"}, "got 12 and 11 costs"),
        (genotypes, 0 * measured, {"metric": "latency"}, "positive"),
        (genotypes, measured, {"metric": "peak_memory"}, "no sum"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrate(TABLE, SPACE, given, numbers, **options)
