"""The benchmark: what it refuses, what it makes of a peer's output, how it counts bytes, and a run
at the smallest size."""

import json
import shlex
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from dnas.app.bench import command as bench
from dnas.app.bench.roofline import program_bytes


def text_of(function, *args):
    return jax.jit(function).lower(*args).compile().as_text()


def test_bytes_of_a_loop_are_those_of_its_body_times_its_length():
    x = jnp.ones((64, 64))

    def loop(length):
        return program_bytes(
            text_of(
                lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x @ x), None), x, None, length)[0], x
            )
        )

    assert loop(9) - loop(5) == 4 * (loop(6) - loop(5)) > 0


def test_bytes_of_a_slice_are_not_those_of_the_array():
    x = jnp.ones((1000, 10))
    assert (
        program_bytes(text_of(lambda x, n: jax.lax.dynamic_slice(x, (n, 0), (1, 10)) * 2, x, 3))
        < 400
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--grow=batch_size,widths"],
            "widths cannot grow; choose from: batch_size, cells, channels, ops, nodes, or all",
        ),
        (["--case=evaluation", "--grow=all"], "--grow is for search steps"),
        (["--ops=9"], "ops is 1 to 8"),
        (["--nodes=7"], "nodes 2 to 4"),
        (["--rounds=0"], "rounds and steps are 1 or more"),
        (["--in-turn=3"], "beside those of a --peer"),
        (["--at-once=darts,gdas"], "gdas cannot be timed; choose from: darts, "),
        (["--at-once=darts"], "--at-once takes turns with a --peer"),
        (
            ["--at-once=darts", "--in-turn=2", "--peer=other", "--roofline=True"],
            "neither --grow nor --roofline",
        ),
        (["--at-once=,", "--in-turn=2", "--peer=other"], "one case or more"),
        (["--at-once=darts,darts", "--in-turn=2", "--peer=other {case}"], "each once"),
        (
            ["--at-once=darts,pcdarts", "--in-turn=2", "--peer=other"],
            "write {case} where its name belongs",
        ),
        (["--json=/nowhere/at/all.json"], "/nowhere/at is not a folder"),
    ],
)
def test_mistakes_are_refused_before_anything_is_timed(args, message, monkeypatch):
    monkeypatch.setattr(bench, "run_case", lambda *args: pytest.fail("something was timed"))
    with pytest.raises(SystemExit, match=message):
        bench.main(args)


PATIENT = """
import sys
print("loading")
print("ready", flush=True)
for line in sys.stdin:
    print(0.25, flush=True)
print('{"peak_mb": 10}')
"""


def programs(monkeypatch, tmp_path, ours, theirs):
    for name, text in (("ours", ours), ("theirs", theirs)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(
        bench, "_program", lambda *args: ([sys.executable, str(tmp_path / "ours.py")], None)
    )
    command = bench.BenchCommand(peer=f"{sys.executable} {tmp_path / 'theirs.py'}", in_turn=3)
    return bench._step_by_step(bench.Case(), command, "")


def test_steps_of_two_programs_in_turn_are_compared_pair_by_pair(monkeypatch, tmp_path):
    slower = PATIENT.replace("0.25", "0.75").replace("10", "40")
    found = programs(monkeypatch, tmp_path, PATIENT, slower)
    assert (
        found["ratios"] == [3.0] * 3
        and found["times_as_fast"] == 3.0
        and found["memory_ratio"] == 0.25
    )
    assert found["theirs"]["seconds"] == [0.75] * 3


def test_a_program_that_ends_before_its_turn_is_quoted(monkeypatch, tmp_path):
    with pytest.raises(
        ValueError, match=r"(?s)theirs.py --turns` ended before its turn; it said:.*no torch here"
    ):
        programs(monkeypatch, tmp_path, PATIENT, "raise SystemExit('no torch here')")


# Says that it runs, and waits until all do: programs that are started one after the other would
#   wait for ever.
TOGETHER = """
import pathlib, time
folder = pathlib.Path(__file__).parent
(folder / "{name}.started").touch()
while len(list(folder.glob("*.started"))) < 5:
    time.sleep(0.01)
"""
LASTING = (
    TOGETHER + "\nwhile True: (folder / 'beats').write_text(str(time.time())); time.sleep(0.01)"
)
BRIEF = TOGETHER + "print('ready', flush=True); raise SystemExit('out of memory')"


def test_cases_start_at_once_and_what_is_not_ready_or_ends_is_stopped_and_left_out(
    monkeypatch, tmp_path, capsys
):
    ours = {
        "darts": PATIENT,
        "darts2": PATIENT,
        "pcdarts": LASTING,
        "sampled": BRIEF,
        "evaluation": TOGETHER + PATIENT,
    }
    for name, text in ours.items():
        text = (TOGETHER + text if text == PATIENT else text).replace("{name}", name)
        (tmp_path / f"{name}.py").write_text(
            text.replace('"peak', f'"case": "{name}", "first_step_s": 1.5, "peak')
        )
    refuse = "import sys\nassert sys.argv[1] != 'darts2', 'no such method'\n"
    (tmp_path / "peer.py").write_text(refuse + PATIENT.replace("10", "40"))

    def program(case, cache):
        run = shlex.join([sys.executable, str(tmp_path / f"{case.case}.py")])
        return ["sh", "-c", f"{run}; exit $?"], {}  # a wrapper, whose child has to be stopped too

    monkeypatch.setattr(bench, "_program", program)
    peer = f"{sys.executable} {tmp_path / 'peer.py'} {{case}}"
    file = tmp_path / "rows.json"
    bench.main(
        [
            f"--at-once={','.join(ours)}",
            "--in-turn=2",
            "--patience=6",
            f"--peer={peer}",
            f"--json={file}",
        ]
    )
    rows, said = json.loads(file.read_text()), capsys.readouterr().out
    assert [rows[name]["ours"]["case"] for name in ("darts", "evaluation")] == [
        "darts",
        "evaluation",
    ]
    assert (
        rows["darts"]["memory_ratio"] == 0.25 and rows["darts"]["theirs"]["seconds"] == [0.25] * 2
    )
    assert not {"darts2", "pcdarts", "sampled"} & set(rows)
    assert (
        "darts2 is left out" in said
        and "no such method" in said
        and "pcdarts is left out: not ready after 6 s" in said
    )
    assert "sampled is left out" in said and "out of memory" in said
    beat = (tmp_path / "beats").read_text()
    time.sleep(0.2)
    assert (tmp_path / "beats").read_text() == beat


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("print('hello')", "did not end with a line of JSON; it said:\nhello"),
        (
            "raise SystemExit('no torch here')",
            r"exit 1\) did not end with a line of JSON; it said:\nno torch here",
        ),
        ("print(3)", "did not end with a line of JSON"),
    ],
)
def test_a_peer_that_does_not_answer_in_json_is_quoted(program, message):
    with pytest.raises(ValueError, match=message):
        bench._last_json([sys.executable, "-c", program])


def test_ratios_are_of_medians_and_of_the_largest_memory(monkeypatch, capsys):
    rows = iter([{"median_s": 1.0, "peak_mb": 100}, {"median_s": 2.0, "peak_mb": 120}])
    peers = iter([{"median_s": 6.0, "peak_mb": 400}, {"median_s": 3.0, "peak_mb": 200}])
    monkeypatch.setattr(bench, "run_case", lambda case, cache: next(rows))
    monkeypatch.setattr(bench, "_last_json", lambda command: next(peers))
    found = bench._in_turn(bench.Case(), bench.BenchCommand(peer="other program", rounds=2), "")
    assert found["times_as_fast"] == 4.5 / 1.5
    assert found["memory_ratio"] == 120 / 400
    assert "3.00 times as fast" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("case", ["darts", "pcdarts", "sampled", "evaluation"])
def test_every_case_is_timed_cold_and_warm_and_written(case, tmp_path, capsys):
    file = tmp_path / "rows.json"
    size = [
        "--channels=4",
        "--cells=3",
        "--nodes=2",
        "--batch-size=2",
        "--steps=1",
        "--partial-channels=2",
    ]
    if case == "evaluation":
        size += ["--image-size=32"]
    else:
        size += ["--image-size=8"]
    if case == "darts":
        size += ["--grow=ops"]
    bench.main([f"--case={case}", *size, f"--json={file}"])
    rows = json.loads(file.read_text())
    assert rows["warm"]["first_step_s"] < rows["cold"]["first_step_s"]
    for name in ("cold", "warm"):
        assert (
            rows[name]["median_s"] > 0 and rows[name]["peak_mb"] > 0 and rows[name]["weights"] > 0
        )
    assert "first step s" in capsys.readouterr().out
