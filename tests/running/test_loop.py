"""How many steps a call makes has no influence on anything but the time it takes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.running.loop import Progress, StepMemory, Sums, print_epochs, run_steps

STEPS_PER_EPOCH, BATCH = 7, 3
DATA = jnp.sin(jnp.arange(50.0))


def epoch_indices(epoch):
    return np.random.default_rng(epoch).integers(0, 50, (STEPS_PER_EPOCH, BATCH)).astype(np.int32)


def step(state, data, indices):
    """Something chaotic, in which no rounding goes unnoticed."""
    key, part = jax.random.split(state["key"])
    x = 3.9 * state["x"] * (1 - state["x"])
    x = jnp.clip(x + 1e-3 * data[indices].mean() + 1e-3 * jax.random.normal(part), 0.01, 0.99)
    return {"key": key, "x": x, "step": state["step"] + 1}, {"loss": jnp.square(x), "x": x}


def initial():
    return {"key": jax.random.key(0), "x": jnp.float32(0.3), "step": jnp.zeros((), jnp.int32)}


def run(
    state=None,
    *,
    step=step,
    total_steps=30,
    report=lambda progress: None,
    at_epoch_end=lambda state: {},
    **more,
):
    state = initial() if state is None else state
    return run_steps(
        step,
        state,
        DATA,
        epoch_indices,
        first_step=int(state["step"]),
        total_steps=total_steps,
        steps_per_epoch=STEPS_PER_EPOCH,
        at_epoch_end=lambda state: (state, at_epoch_end(state), False),
        report=report,
        **{"announce": lambda memory: None, **more},
    )


def test_memory_is_announced_once_before_the_first_report():
    heard = []
    run(announce=heard.append, report=heard.append)
    memory, *reports = heard
    assert isinstance(memory, StepMemory)
    assert not any(isinstance(report, StepMemory) for report in reports)
    assert memory.total == memory.arguments + memory.temporaries
    assert memory.arguments >= sum(array.nbytes for array in jax.tree.leaves((initial(), DATA)))
    assert "a step needs about" in str(memory)


def plain_loop(total_steps=30):
    """The same run without the loop under test, and the metrics of each step."""
    state, metrics, jitted = initial(), [], jax.jit(step)
    for number in range(total_steps):
        rows = epoch_indices(number // STEPS_PER_EPOCH)[number % STEPS_PER_EPOCH]
        state, values = jitted(state, DATA, jnp.asarray(rows))
        metrics.append(jax.tree.map(float, values))
    return state, metrics


def assert_same(one, other):
    assert float(one["x"]) == float(other["x"]) and int(one["step"]) == int(other["step"])
    np.testing.assert_array_equal(
        jax.random.key_data(one["key"]), jax.random.key_data(other["key"])
    )


def pace(monkeypatch, seconds=1.0, most=64):
    monkeypatch.setattr("dnas.running.loop._SECONDS", seconds)
    monkeypatch.setattr("dnas.running.loop._MAX_STEPS", most)


PACES = {
    "one by one": (0.0, 64),
    "as many as there are": (1e9, 64),
    "at most two": (1e9, 2),
    "at most one": (1e9, 1),
}


@pytest.mark.parametrize("name", PACES)
def test_result_does_not_depend_on_the_steps_of_a_call(name, monkeypatch):
    pace(monkeypatch, *PACES[name])
    counts = []
    state, rows = run(report=lambda progress: counts.append(len(progress.metrics["loss"])))
    assert sum(counts) == 30 and max(counts) == {"as many as there are": 7, "at most two": 2}.get(
        name, 1
    )
    expected, metrics = plain_loop()
    np.testing.assert_allclose(state["x"], expected["x"], rtol=1e-3)
    pace(monkeypatch)
    usual, usual_rows = run()
    assert_same(state, usual)
    assert rows == usual_rows
    assert len(metrics) == 30


def test_rows_are_the_means_of_the_steps_of_their_epoch():
    _, rows = run()
    _, metrics = plain_loop()
    assert [row["step"] for row in rows] == [7, 14, 21, 28, 30]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["steps"] for row in rows] == [7, 7, 7, 7, 2]
    for row in rows:
        of_epoch = metrics[row["step"] - row["steps"] : row["step"]]
        for name in ("loss", "x"):
            np.testing.assert_allclose(
                row[name], np.mean([values[name] for values in of_epoch]), rtol=1e-3
            )


@pytest.mark.parametrize("stop", [1, 3, 6, 7, 8, 13, 14, 29])
def test_resuming_at_any_step_gives_the_same_bits(stop):
    whole, rows = run()
    part, _ = run(total_steps=stop)
    assert int(part["step"]) == stop
    resumed, later_rows = run(part)
    assert_same(resumed, whole)
    expected = [row for row in rows if row["step"] > stop]
    assert [row["step"] for row in later_rows] == [row["step"] for row in expected]
    within = stop % STEPS_PER_EPOCH != 0  # then the first row is a mean over the rest of its epoch
    assert later_rows[within:] == expected[within:]


def test_row_after_a_resume_within_an_epoch_says_how_many_steps_it_is_the_mean_of():
    part, _ = run(total_steps=10)
    _, rows = run(part)
    assert (rows[0]["step"], rows[0]["steps"]) == (14, 4)


@pytest.mark.parametrize("stop", [1, 3, 6, 7, 8, 29])
def test_with_the_sums_of_the_last_report_rows_are_those_of_the_whole_run(stop, monkeypatch):
    pace(monkeypatch, 0.0)
    sums = {}
    _, rows = run(report=lambda progress: sums.update({progress.step: progress.sums}))
    part, _ = run(total_steps=stop)
    kept = json.loads(json.dumps([sums[stop].steps, dict(sums[stop].totals)]))
    _, later_rows = run(part, sums=Sums(*kept))
    assert later_rows == [row for row in rows if row["step"] > stop]


@pytest.mark.parametrize("name", PACES)
def test_step_is_traced_for_one_program_only(name, monkeypatch):
    pace(monkeypatch, *PACES[name])
    traces, after_each_call = [], []

    def counted(*args):
        traces.append(1)
        return step(*args)

    run(step=counted, report=lambda progress: after_each_call.append(len(traces)))
    assert len(after_each_call) >= 5 and len(set(after_each_call)) == 1


def test_nothing_is_left_to_do():
    state, rows = run(total_steps=7)
    again, more = run(state, total_steps=7, report=lambda progress: pytest.fail("nothing ran"))
    assert_same(state, again)
    assert len(rows) == 1 and more == []


def test_reports_follow_each_other_and_carry_the_state(monkeypatch):
    pace(monkeypatch, 1e9, 3)
    reports = []
    last, rows = run(report=reports.append, at_epoch_end=lambda state: {"seen": int(state["step"])})
    done = 0
    for progress in reports:
        done += len(progress.metrics["loss"])
        assert progress.step == done == int(progress.state["step"])
        assert progress.epoch == done // STEPS_PER_EPOCH
        assert progress.total_steps == 30 and progress.steps_per_epoch == STEPS_PER_EPOCH
        assert progress.seconds > 0
        assert (progress.row is not None) == (done % STEPS_PER_EPOCH == 0 or done == 30)
    assert [progress.row for progress in reports if progress.row] == rows
    assert [row["seen"] for row in rows] == [row["step"] for row in rows]
    assert_same(last, reports[-1].state)
    per_step = np.concatenate([progress.metrics["loss"] for progress in reports])
    np.testing.assert_allclose(per_step, [values["loss"] for values in plain_loop()[1]], rtol=1e-3)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("when", [1, 9, 30])
def test_loss_that_is_not_finite_ends_the_run_at_its_step(bad, when):
    def diverging(state, data, indices):
        state, metrics = step(state, data, indices)
        return state, metrics | {"loss": jnp.where(state["step"] == when, bad, metrics["loss"])}

    reports = []
    with pytest.raises(
        FloatingPointError, match=rf"loss became -?(nan|inf) at step {when}:.*learning rate"
    ):
        run(step=diverging, report=reports.append)
    assert all(
        progress.step < when and np.isfinite(progress.metrics["loss"]).all() for progress in reports
    )


def test_indices_and_metrics_may_be_trees_and_whole_numbers():
    def tree_step(state, data, indices):
        rows, (more,) = indices
        return {**state, "step": state["step"] + 1}, {"count": rows.sum() + more}

    state, rows = run_steps(
        tree_step,
        initial(),
        DATA,
        lambda epoch: (np.full((4, 2), epoch), (np.arange(4),)),
        first_step=0,
        total_steps=8,
        steps_per_epoch=4,
        at_epoch_end=lambda state: (state, {}, False),
        report=lambda progress: None,
        announce=lambda memory: None,
    )
    assert [row["count"] for row in rows] == [1.5, 3.5]
    assert int(state["step"]) == 8


def test_print_epochs_prints_a_line_an_epoch(capsys):
    run(report=print_epochs)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"epoch {number}/5" for number in range(1, 6)
    ]
    assert all("loss " in line for line in lines)


def test_print_epochs_is_silent_within_an_epoch(capsys):
    print_epochs(Progress(1, 10, 5, 0.1, {}, None, None))
    assert capsys.readouterr().out == ""


def test_what_happens_between_epochs_may_change_the_state_and_end_the_run():
    def at_epoch_end(state):
        done = int(state["step"])
        return {**state, "step": state["step"] + 100}, {"done": done}, done >= 100

    reports = []
    last, rows = run_steps(
        step,
        initial(),
        DATA,
        epoch_indices,
        first_step=0,
        total_steps=30,
        steps_per_epoch=STEPS_PER_EPOCH,
        at_epoch_end=at_epoch_end,
        report=reports.append,
        announce=lambda memory: None,
    )
    assert len(rows) == 2 and rows[1]["done"] == 2 * STEPS_PER_EPOCH + 100
    assert int(last["step"]) == 2 * STEPS_PER_EPOCH + 200
    assert [progress.stopped for progress in reports][-1] and not any(
        progress.stopped for progress in reports[:-1]
    )


def weighed(step_at_fault, value=np.nan):
    """A run whose weights are not finite after a step, while its metrics are."""

    def after(state, data, indices):
        weights = state["weights"]["main"]
        state, metrics = step(state, data, indices)
        bad = jnp.where(state["step"] == step_at_fault, value, 1.0)
        return state | {"weights": {"main": bad * weights}}, metrics

    return after


@pytest.mark.parametrize("last", [1, 9, 30])
@pytest.mark.parametrize("most", [1, 64])
def test_weights_that_the_last_step_makes_infinite_end_the_run(last, most, monkeypatch):
    pace(monkeypatch, 1e9, most)
    reports, asked = [], []

    def explain(state, rows):
        asked.append((int(state["step"]), np.isfinite(state["weights"]["main"]).all(), rows))
        return "the sun has set"

    with pytest.raises(
        FloatingPointError, match=f"weights/main became nan at step {last}: the sun has set"
    ):
        run(
            initial() | {"weights": {"main": jnp.ones(3)}},
            step=weighed(last),
            total_steps=last,
            report=reports.append,
            learnt=lambda state: {"weights": state["weights"]},
            explain=explain,
        )
    assert all(progress.step < last for progress in reports)
    ((done, finite, rows),) = asked
    assert (done, finite) == (last - 1, True)
    epoch, place = divmod(last - 1, STEPS_PER_EPOCH)
    np.testing.assert_array_equal(rows, epoch_indices(epoch)[place])


def test_memory_that_a_device_does_not_have_is_said_with_what_lowers_the_need(monkeypatch):
    def report(progress):
        pytest.fail("a step has run")

    monkeypatch.setattr("dnas.running.memory.device_memory", lambda: 1000)
    with pytest.raises(MemoryError, match="has 0 MB; .*needs.*Lower the batch size.*remat=True"):
        run(report=report)


def test_memory_that_is_exhausted_is_said_with_what_a_step_needs(monkeypatch):
    from dnas.running import loop

    def compiled(*args, **options):
        program = compile_step(*args, **options)

        class Greedy:
            def __call__(self, *args):
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

            memory_analysis = program.memory_analysis

        return Greedy()

    compile_step = loop.compile_step
    monkeypatch.setattr(loop, "compile_step", compiled)
    with pytest.raises(MemoryError, match="out of memory on .*a step needs about.*batch size"):
        run()


class Read:
    """Indices that are there when they are asked for."""

    def __init__(self, epoch):
        self._indices = epoch_indices(epoch)

    def __getitem__(self, steps):
        return {"rows": self._indices[steps]}


def test_a_call_is_given_no_more_than_there_is_room_for(monkeypatch):
    pace(monkeypatch, 1e9)
    counts = []
    usual, usual_rows = run()
    state, rows = run_steps(
        lambda state, data, indices: step(state, data, indices["rows"]),
        initial(),
        DATA,
        Read,
        first_step=0,
        total_steps=30,
        steps_per_epoch=STEPS_PER_EPOCH,
        at_epoch_end=lambda state: (state, {}, False),
        report=lambda progress: counts.append(len(progress.metrics["loss"])),
        announce=lambda memory: None,
        most_steps=3,
    )
    assert max(counts) == 3 and sum(counts) == 30
    assert_same(state, usual)
    assert rows == usual_rows
