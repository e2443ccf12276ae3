"""Measuring: what a call costs comes out, whatever happens around it."""

import numpy as np
import pytest

from dnas.hw_loss.energy import energy_meter
from dnas.hw_loss.measure import Meter, measure, summarise


class Machine:
    """A counter that calls advance by their cost, times a drift that grows with what has been
    run."""

    def __init__(self, drift=0.0, hiccups=()):
        self.now, self.runs, self.drift, self.hiccups, self.order = 0.0, 0, drift, set(hiccups), []

    def call(self, name, cost):
        def run():
            self.runs += 1
            self.order.append(name)
            self.now += cost * (1 + self.drift * self.runs) + (
                100 * cost if self.runs in self.hiccups else 0.0
            )

        return run

    def meter(self):
        return Meter("latency", "ms", lambda: self.now, 1e-9)


def test_a_call_costs_what_it_advances_the_counter_by():
    machine = Machine()
    found = measure(
        {name: machine.call(name, name) for name in (1.0, 2.5)}, meter=machine.meter(), repeats=4
    )
    assert {name: (own.median, own.spread, own.count) for name, own in found.items()} == {
        1.0: (1.0, 0.0, 4),
        2.5: (2.5, 0.0, 4),
    }


def test_a_machine_that_grows_slower_favours_nobody():
    machine = Machine(drift=0.01)
    found = measure(
        {name: machine.call(name, 1.0) for name in range(20)}, meter=machine.meter(), repeats=200
    )
    medians = [own.median for own in found.values()]
    assert max(medians) / min(medians) < 1.05  # one after the other they would differ fivefold
    assert max(medians) > 5


def test_calls_run_in_another_order_each_time():
    machine = Machine()
    measure(
        {name: machine.call(name, 1.0) for name in range(8)},
        meter=machine.meter(),
        repeats=10,
        warm_up=1,
    )
    # Each block comes after a run that does not count.
    rounds = np.reshape(machine.order[-160:], (10, 8, 2))
    assert (rounds[..., 0] == rounds[..., 1]).all()
    rounds = rounds[..., 0]
    assert all(sorted(row) == list(range(8)) for row in rounds.tolist())
    assert len({tuple(row) for row in rounds.tolist()}) > 8


def test_beside_a_reference_a_machine_whose_speed_changes_measures_as_a_steady_one():
    """Speed changes by a factor of up to three, slowly beside a block and fast beside the whole
    measurement."""

    def found(reference):
        machine = Machine()
        speeds = (
            2 + np.sin(np.arange(20_000) / 60) + np.random.default_rng(0).uniform(0, 0.02, 20_000)
        )

        def call(name, cost):
            plain = machine.call(name, cost)

            def run():
                before = machine.now
                plain()
                machine.now = before + cost * speeds[machine.runs]

            return run

        calls = {name: call(name, 1.0 + name) for name in range(4)} | {
            "reference": call("reference", 0.5)
        }
        return measure(calls, meter=machine.meter(), repeats=100, reference=reference)

    beside = found("reference")
    ratios = np.array([beside[name].median / beside["reference"].median for name in range(4)])
    np.testing.assert_allclose(ratios, 2 * (1.0 + np.arange(4)), rtol=0.01)
    assert max(own.spread / own.median for name, own in beside.items() if name != "reference") < 0.1
    alone = found(None)
    assert min(own.spread / own.median for own in alone.values()) > 0.2


def test_a_reference_that_is_no_call_is_refused():
    with pytest.raises(ValueError, match="the reference 'other' is not among the calls: one"):
        measure({"one": lambda: None}, reference="other")


def test_interrupted_blocks_are_refused():
    machine = Machine(hiccups=range(40, 200, 17))
    found = measure({"one": machine.call("one", 1.0)}, meter=machine.meter(), repeats=100)["one"]
    assert found.median == 1.0
    assert found.spread == 0.0
    assert found.count < 100


def test_normal_samples_are_kept():
    samples = np.random.default_rng(0).normal(10.0, 1.0, 500).tolist()
    found = summarise(samples)
    assert found.count >= 499
    assert found.spread == pytest.approx(1.0, rel=0.1)
    assert summarise([*samples, 1e3, 1e4]) == found


def test_a_short_call_is_run_many_times_a_block():
    runs = []
    seconds = 2e-3
    found = measure({"short": lambda: runs.append(1)}, meter=None, repeats=2)["short"]
    assert len(runs) * found.median / 1e3 > seconds / 4


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="nothing to measure"):
        measure({})
    with pytest.raises(ValueError, match="repeats and warm_up are at least 1, got 0 and 3"):
        measure({"one": lambda: None}, repeats=0)
    with pytest.raises(ValueError, match="'tpu' has no energy counter that is known"):
        energy_meter("tpu")


def write_counter(folder, joules, limit=1_000_000_000):
    (folder / "intel-rapl:0").mkdir(exist_ok=True)
    (folder / "intel-rapl:0" / "energy_uj").write_text(str(int(joules * 1e6) % limit))
    (folder / "intel-rapl:0" / "max_energy_range_uj").write_text(str(limit))


def test_the_energy_of_a_cpu_is_that_of_its_counters_also_where_they_start_again(tmp_path):
    write_counter(tmp_path, 999.0)
    meter = energy_meter(folder=tmp_path)
    start = meter.read()
    write_counter(tmp_path, 999.5)
    assert meter.read() - start == pytest.approx(500.0)
    write_counter(tmp_path, 1001.0)
    assert meter.read() - start == pytest.approx(2000.0)
    assert (meter.metric, meter.unit) == ("energy", "mJ")


def test_a_device_without_a_counter_of_energy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no RAPL counter"):
        energy_meter(folder=tmp_path)
