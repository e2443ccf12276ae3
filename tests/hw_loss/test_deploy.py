"""Deploying: a network that misses its limit when measured is derived again until it does not."""

import functools

import numpy as np
import pytest

import dnas
from dnas import hw_loss
from dnas.hw_loss import deploy, expected_cost, feasible_range

SPACE = dnas.SPACES["nasbench201"]
SPEC = SPACE.cells["cell"]
SIZES = {"channels": 4, "num_cells": 3, "num_classes": 10, "image_size": 8}
DEAR = dnas.Genotype("nasbench201", {"cell": [(*edge, "nor_conv_3x3") for edge in SPEC.edges]})
MIX = {"cell": np.random.default_rng(0).dirichlet(np.ones(5), 6)}


@functools.cache
def cost_of(metric="macs"):
    counts = hw_loss.count_table(SPACE, **SIZES)
    return expected_cost(counts, SPACE.parts(**SIZES), metric=metric)


def limit_at(share, metric="macs"):
    ends = feasible_range(cost_of(metric))
    return ends.least + share * (ends.largest - ends.least)


def predicted(genotype):
    return float(cost_of()(dnas.one_hot_mix(SPACE, genotype)))


class Device:
    """A device on which every network costs `factor` times what is predicted, and what the device
    itself takes; it notes what it was asked for."""

    def __init__(self, factor, itself=0.0):
        self.factor, self.itself, self.asked = factor, itself, []

    def cost(self, genotype):
        return self.factor * predicted(genotype) + self.itself

    def __call__(self, genotype):
        self.asked.append(genotype)
        return self.cost(genotype)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_on_a_device_that_is_a_fifth_off_the_network_ends_within_its_bound(factor, share):
    device, limit = Device(factor), limit_at(share)
    found = deploy(SPACE, DEAR, MIX, [(cost_of(), limit)], measures=[device], rounds=8)
    assert found.met and device.cost(found.genotype) <= limit
    # A bound that is met is left alone.
    assert len(found.rounds) == 1 + (found.rounds[0].miss > 0)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize(("factor", "itself"), [(0.8, 0.0), (1.2, 0.2)])
def test_an_equality_is_reached_from_both_sides_as_near_as_one_op_costs(factor, itself, share):
    device, limit = Device(factor, itself * limit_at(0)), limit_at(share)
    found = deploy(
        SPACE, DEAR, MIX, [(cost_of(), limit)], measures=[device], equality=True, rounds=8
    )
    misses = [own.miss for own in found.rounds]
    assert abs(device.cost(found.genotype) / limit - 1) == pytest.approx(min(misses))
    assert min(misses) < 0.1 and min(misses) < misses[0]
    assert found.met == (min(misses) <= 0.02)


def test_it_is_said_what_was_derived_under_which_bound_and_what_it_cost():
    device, limit = Device(1.2), limit_at(0.5)
    found = deploy(SPACE, DEAR, MIX, [(cost_of(), limit)], measures=[device], rounds=8)
    assert [own.genotype for own in found.rounds] == device.asked
    (first,), (second,) = (own.proofs for own in found.rounds)
    assert first.bound == limit and second.bound == first.predicted * limit / first.measured
    for own in found.rounds:
        (proof,) = own.proofs
        assert proof.predicted == predicted(own.genotype) <= proof.bound
        assert proof.measured == 1.2 * proof.predicted
    assert found.proofs == found.rounds[-1].proofs


def test_what_no_network_meets_when_measured_ends_with_the_nearest_and_says_so():
    """The device itself takes more than the limit."""
    device, limit = Device(1.0, itself=limit_at(0.4)), limit_at(0.3)
    found = deploy(SPACE, DEAR, MIX, [(cost_of(), limit)], measures=[device])
    assert not found.met
    assert device.cost(found.genotype) == min(device.cost(own) for own in device.asked)
    assert predicted(found.genotype) == limit_at(0)


@pytest.mark.parametrize("equality", [False, True])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_no_more_is_measured_than_asked_for_and_nothing_twice(rounds, equality):
    # Jumps that no bound of a smooth prediction can follow.
    calls = []

    def jumping(genotype):
        calls.append(genotype)
        return 1e9 if len(calls) % 2 else 1.0

    found = deploy(
        SPACE,
        DEAR,
        MIX,
        [(cost_of(), limit_at(0.5))],
        measures=[jumping],
        equality=equality,
        rounds=rounds,
    )
    assert len(calls) == len(found.rounds) <= rounds
    assert len(set(calls)) == len(calls)
    assert found.genotype in calls


@pytest.mark.parametrize("equality", [False, True])
def test_without_measures_it_is_repair_or_approach(equality):
    limit = limit_at(0.4)
    found = deploy(SPACE, DEAR, MIX, [(cost_of(), limit)], equality=equality)
    exchange = hw_loss.approach if equality else hw_loss.repair
    assert found.genotype == exchange(SPACE, DEAR, MIX, [(cost_of(), limit)])
    (round_,) = found.rounds
    assert round_.proofs[0].measured is None and found.met


def test_a_limit_that_is_exact_is_kept_while_another_one_moves():
    params = cost_of("params")
    limits = [(cost_of(), limit_at(0.6)), (params, limit_at(0.5, "params"))]
    found = deploy(SPACE, DEAR, MIX, limits, measures=[Device(1.3), None], rounds=8)
    assert found.met
    for own in found.rounds:
        _, exact = own.proofs
        assert exact.bound == limits[1][1] and exact.measured is None and exact.miss == 0


def test_limits_that_cannot_be_met_together_end_with_what_there_is():
    params = cost_of("params")
    # Few multiply-adds and, as a target from both sides, many parameters.
    limits = [(cost_of(), 1.01 * limit_at(0)), (params, limit_at(1, "params"))]
    found = deploy(SPACE, DEAR, MIX, limits, equality=True)
    assert not found.met and len(found.rounds) == 1
    assert found.rounds[0].miss > 0.02


def test_a_search_that_ends_without_a_path_is_read_again_with_one():
    """Nothing costs less than a network that computes nothing."""
    rows = np.full((len(SPEC.edges), len(SPEC.ops)), 0.1)
    rows[:, SPEC.ops.index("none")] = 0.6
    nothing = dnas.Genotype("nasbench201", {"cell": [(*edge, "none") for edge in SPEC.edges]})
    limit = limit_at(0.3)
    found = deploy(SPACE, nothing, {"cell": rows}, [(cost_of(), limit)])
    assert SPEC.live_edges_of(found.genotype.cells["cell"]) and found.met
    assert "no path" in found.notes[0]


def test_what_cannot_be_deployed_is_refused():
    with pytest.raises(ValueError, match="it ranges from"):
        deploy(SPACE, DEAR, MIX, [(cost_of(), limit_at(0) / 2)])
    with pytest.raises(ValueError, match="got 2 for 1 limits"):
        deploy(SPACE, DEAR, MIX, [(cost_of(), limit_at(0.5))], measures=[None, None])
    with pytest.raises(ValueError, match="derived at least once, got rounds = 0"):
        deploy(SPACE, DEAR, MIX, [(cost_of(), limit_at(0.5))], rounds=0)
    with pytest.raises(ValueError, match="space"):
        deploy(SPACE, dnas.PUBLISHED["DARTS_V2"], MIX, [(cost_of(), limit_at(0.5))])
