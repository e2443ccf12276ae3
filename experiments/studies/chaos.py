"""Whether a run can be trusted whatever happens to it: real commands are killed, starved of disk,
damaged, doubled and misled, and have to end as undisturbed ones do, or to say why not.

Command: python -m experiments.studies.chaos, or `make chaos`. It prints a table of attempts:

* survived: what was found in the end is that of an undisturbed run, bit by bit, or the command
  refused in words, and nothing was lost;
* silent: something else was found, or something was lost, without a word;
* raw: a traceback, a crash, or no way on.

The exit code is 1 if any attempt was silent. CI runs --short=1. The same seed does the same things,
but not at the same instant of a run.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dnas.app.ending import messages
from dnas.app.outcomes import different, results
from dnas.app.processes import Ended, Process
from dnas.app.verify_resume import end_at, running_at, undisturbed
from dnas.app.words import read_words
from experiments.studies.chaos_runs import (
    NAME,
    WORKS,
    Work,
    contents,
    measured,
    words_of,
    write_data,
)

SURVIVED, SILENT, RAW = "survived", "silent", "raw"


@dataclasses.dataclass(frozen=True)
class ChaosCommand:
    """Does harm to real runs, and says how they end.

    Example: python -m experiments.studies.chaos --only=kill,second --works=whole --times=3
    """

    seed: int = 0
    """Of everything random."""
    short: bool = False
    """A few attempts on one command."""
    only: str | None = None
    """Attacks by name, with commas between."""
    works: str | None = None
    """Commands by name, with commas between."""
    times: int | None = None
    """Attempts of each attack on each command."""
    jobs: int = 1
    """Attempts at once."""
    keep: pathlib.Path | None = None
    """Folder to which what was left of attempts that did not survive is moved."""


class Verdict(NamedTuple):
    """What became of an attempt, and why."""

    outcome: str
    note: str = ""


class Stage(NamedTuple):
    """What all attempts on a command share."""

    work: Work
    data: pathlib.Path
    expected: dict  # `results` of the undisturbed command
    begins: float  # seconds until its folder was there
    seconds: float  # until it ended
    root: pathlib.Path  # for what is made once
    lock: threading.Lock

    def start(self, folder: pathlib.Path, *words: str, name: str = NAME, **options) -> Process:
        """Starts the command in a folder of runs, or goes on with it."""
        own = words_of(self.work, folder, self.data, name=name)
        return Process([*own, *(words or self.work.resume)], self.data / "xla", **options)

    def killed(self, when: str = "halfway") -> pathlib.Path:
        """Returns the folder of runs of a command that was killed once, as `KILLED` says."""
        more, files, number = KILLED[when]
        folder = self.root / when
        with self.lock:
            if not folder.exists():
                process = Process(
                    [*words_of(self.work, folder, self.data), *more], self.data / "xla"
                )
                process.wait_until(lambda: len(list(folder.rglob(files))) >= number)
                process.end(signal.SIGKILL)
        return folder

    def judge(self, folder: pathlib.Path, ended: Ended, *, may_refuse: bool = False) -> Verdict:
        """Returns the verdict on a command that has ended."""
        words = ended.said.strip()[-600:]
        if ended.raw:
            return Verdict(RAW, words)
        if ended.code:
            return Verdict(SURVIVED if may_refuse else RAW, words)
        try:
            found = results(folder)
        except Exception as error:  # whatever it is: the command said that all is well
            return Verdict(SILENT, f"what was written cannot be read: {error!r:.300}")
        names = different(found, self.expected)
        if "metrics.jsonl" in ended.said:  # rows that were damaged are gone, and it says so
            names = [name for name in names if not name.endswith("metrics.jsonl")]
        if names:
            return Verdict(SILENT, f"not as undisturbed: {', '.join(names)}; {words}")
        return Verdict(SURVIVED)


def prepare(work: Work, root: pathlib.Path, data: pathlib.Path) -> Stage:
    """Returns the stage of a command, which is run undisturbed."""

    def start(folder: pathlib.Path) -> Process:
        return Process(words_of(work, folder, data), data / "xla")

    return Stage(work, data, *undisturbed(start, root, NAME), root, threading.Lock())


# {when: (more words, files, number)}: the moment at which there are so many of these files.
KILLED: dict[str, tuple[tuple[str, ...], str, int]] = {
    "halfway": ((), "checkpoints/*/*", 2),
    "halfway with another seed": (("--seed=1",), "checkpoints/*/*", 2),
    "after a search": ((), "phases/*.json", 1),
}


Attack = Callable[[Stage, pathlib.Path, random.Random], Verdict]


def interrupted(number: signal.Signals) -> Attack:
    """Returns the attack that sends a signal at a random moment, and has the command go on."""

    def attack(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
        moment = draw.uniform(0.8 * stage.begins, stage.seconds)
        _, ended = end_at(moment, stage.start, folder, number)
        if ended.raw:
            return Verdict(RAW, ended.said[-600:])
        kept = measured(folder)
        verdict = stage.judge(folder, stage.start(folder).end())
        lost = kept - measured(folder)
        return Verdict(SILENT, f"measured again: {lost}") if lost else verdict

    return attack


def while_written(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Kills the command just after something has changed among its checkpoints."""
    changes = draw.randint(1, 12)
    process = stage.start(folder)
    seen: list[set[pathlib.Path]] = [set()]

    def changed() -> bool:
        now = set(folder.rglob("checkpoints/*/*"))
        if now != seen[-1]:
            seen.append(now)
        return len(seen) > changes

    if process.wait_until(changed):
        time.sleep(draw.uniform(0.0, 0.03))
    process.end(signal.SIGKILL)
    return stage.judge(folder, stage.start(folder).end())


def full_disk(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Gives the command less space than it needs, and later enough."""
    whole = sum(map(len, contents(stage.killed()).values()))
    with small_disk(folder, draw.randrange(8192, 2 * whole)) as (enlarge, before):
        ended = stage.start(folder, before=before).end()
        if ended.raw:
            return Verdict(RAW, ended.said[-600:])
        enlarge()
        return stage.judge(folder, stage.start(folder).end())


@contextlib.contextmanager
def small_disk(
    folder: pathlib.Path, size: int
) -> Iterator[tuple[Callable[[], object], tuple[str, ...]]]:
    """Within it the folder holds so many bytes, until the first of the two that it gives is called.

    Where nothing may be mounted, the second is what starts a command that writes no larger file.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        limited = f'ulimit -f {size // 1024}; exec "$@"'
        yield lambda: None, ("bash", "-c", limited, "bash")
        return
    larger = ["mount", "-o", "remount,size=1g", str(folder)]
    try:
        yield lambda: subprocess.run(larger, check=True), ()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def damaged(*names: str, when: str = "halfway") -> Attack:
    """Returns the attack that flips a bit of a file, or cuts, empties or removes it, and has the
    command go on.

    Args:
      names: of folders and files of a run, of which some are damaged.
      when: the run was killed.
    """

    def attack(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
        shutil.copytree(stage.killed(when), folder)
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and set(names) & set(path.relative_to(folder).parts)
        ]
        for path in draw.sample(files, min(draw.choice((1, 1, 2)), len(files))):
            content = bytearray(path.read_bytes())
            how = draw.choice(("flip", "flip", "cut", "empty", "remove"))
            if how == "flip" and content:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            elif how == "cut":
                del content[draw.randrange(len(content) + 1) :]
            else:
                content.clear()
            path.write_bytes(content)
            if how == "remove":
                path.unlink()
        return _goes_on(stage, folder)

    return attack


def _goes_on(stage: Stage, folder: pathlib.Path, **options) -> Verdict:
    """The verdict on a command that goes on, or refuses and leaves everything as it was."""
    before = contents(folder)
    ended = stage.start(folder, **options).end()
    verdict = stage.judge(folder, ended, may_refuse=True)
    after = set(contents(folder).values())
    lost = [
        name
        for name, content in before.items()
        if content not in after and not name.endswith(".lock")  # says who has the folder
    ]
    if ended.code and lost and verdict.outcome == SURVIVED:
        return Verdict(SILENT, f"lost {', '.join(lost)}: {verdict.note}")
    return verdict


def edited(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Changes a number in config.json between a kill and the continuation."""
    shutil.copytree(stage.killed(), folder)
    path = draw.choice(sorted(folder.rglob("config.json")))
    text = path.read_text()
    numbers = list(re.finditer(r"(?<=: )\d[\d.]*", text))
    number = draw.choice(numbers)
    other = draw.choice([own for own in ("1", "2", "0.5", "7") if own != number[0]])
    path.write_text(f"{text[: number.start()]}{other}{text[number.end() :]}")
    return _goes_on(stage, folder)


def of_a_stranger(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Brings checkpoints of a run with another seed into the folder."""
    shutil.copytree(stage.killed(), folder)
    phase = draw.choice(sorted(folder.rglob("checkpoints/*")))
    shutil.rmtree(phase)
    stranger = stage.killed("halfway with another seed")
    shutil.copytree(stranger / phase.relative_to(folder), phase)
    return _goes_on(stage, folder)


_MODES = (
    {"JAX_ENABLE_X64": "1"},
    {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"},
    {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    {"JAX_NUMPY_DTYPE_PROMOTION": "strict"},
    {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"},
)


def otherwise(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Goes on in another mode of JAX."""
    shutil.copytree(stage.killed(), folder)
    return _goes_on(stage, folder, environment=draw.choice(_MODES))


def second(*words: str) -> Attack:
    """Returns the attack that starts a second process on a live run."""

    def attack(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
        first = stage.start(folder)
        first.wait(draw.uniform(0.8 * stage.begins, 0.7 * stage.seconds))
        other = stage.start(folder, *words).end()
        ended = first.end()
        if other.raw:
            return Verdict(RAW, f"the second: {other.said[-600:]}")
        if ended.code and not ended.raw and not other.code:
            # The second was there before the first had a folder, and has done the work.
            return stage.judge(folder, other)
        return stage.judge(folder, ended)

    return attack


def evaluated(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Scores the networks of a live run."""
    first = stage.start(folder)
    first.wait(draw.uniform(stage.begins, 0.8 * stage.seconds))
    other = Process(["evaluate", f"--run={folder / NAME}"], stage.data / "xla").end()
    ended = first.end()
    if other.raw:
        return Verdict(RAW, f"evaluate: {other.said[-600:]}")
    return stage.judge(folder, ended)


def vanished(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Deletes or renames the folder of a live run, and starts it again."""
    _, process = running_at(draw.uniform(stage.begins, 0.8 * stage.seconds), stage.start, folder)
    if draw.random() < 0.5:
        shutil.rmtree(folder / NAME, ignore_errors=True)
    elif (folder / NAME).exists():
        (folder / NAME).rename(folder.with_name(folder.name + "-elsewhere"))
    ended = process.end()
    if ended.raw:
        return Verdict(RAW, ended.said[-600:])
    if ended.code == 0:
        return stage.judge(folder, ended)
    return stage.judge(folder, stage.start(folder).end(), may_refuse=True)


_NAMES = (
    *("[exp]", "a\\b", "two words", "a*b", "a?", "{x}", "%s", "$HOME", "$(x)", "`x`", "日本", "é"),
    *(
        "-dash",
        "--resume",
        ".hidden",
        "~",
        "#1",
        "a;b",
        "a'b",
        'a"b',
        "a\nb",
        "x" * 200,
        "a:b",
        " ",
    ),
)


def odd_name(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Kills a run in a folder of an odd name, has it go on, and scores its networks."""
    odd = draw.choice(_NAMES)
    if draw.random() < 0.5:
        place, name = folder, odd
    else:
        place, name = folder / odd, NAME
    process = stage.start(place, name=name)
    process.wait(draw.uniform(stage.begins, stage.seconds))
    first = process.end(signal.SIGKILL)
    if first.raw:
        return Verdict(RAW, f"{odd!r}: {first.said[-600:]}")
    ended = stage.start(place, name=name).end()
    if ended.raw or ended.code:
        return stage.judge(folder, ended, may_refuse=True)
    scored = Process(["evaluate", f"--run={place / name}"], stage.data / "xla").end()
    if scored.code:
        return Verdict(SILENT, f"{odd!r} cannot be scored: {scored.said[-600:]}")
    plain = folder.with_name(folder.name + "-plain")
    (place / name).rename(_made(plain) / NAME)
    return stage.judge(plain, ended)


def _made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    return folder


def foreign(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Tells the command to overwrite what is no run of dnas."""
    target = folder / NAME
    if draw.random() < 0.5:  # a link to it
        target = folder / "elsewhere"
        folder.mkdir()
        (folder / NAME).symlink_to(target)
    target.mkdir(parents=True)
    (target / "config.json").write_text(draw.choice(('{"model_type": "bert"}', "{}", "[]", "")))
    (target / "weights.bin").write_bytes(b"years of work")
    before = contents(target)
    ended = stage.start(folder, "--overwrite=1").end()
    if contents(target) != before:
        return Verdict(SILENT, "what is no run was overwritten")
    return stage.judge(folder, ended, may_refuse=True)


def deaf(stage: Stage, folder: pathlib.Path, draw: random.Random) -> Verdict:
    """Closes what the command prints to."""
    del draw
    read, write = os.pipe()
    os.close(read)
    process = stage.start(folder, stdout=write)
    os.close(write)
    ended = process.end()
    if ended.raw:
        return Verdict(RAW, ended.said[-600:])
    return stage.judge(folder, stage.start(folder).end())


class Plan(NamedTuple):
    """An attack, which commands it is for, and how often it is tried on each."""

    attack: Attack
    works: tuple[str, ...]
    times: int
    short: int = 0  # how often in the short form, on the first of the commands


ATTACKS = {
    "kill": Plan(interrupted(signal.SIGKILL), tuple(WORKS), 20, 2),
    "kill while a checkpoint is written": Plan(while_written, ("search", "whole", "text"), 20, 1),
    "SIGTERM": Plan(interrupted(signal.SIGTERM), ("search", "text", "study"), 5, 1),
    "SIGINT": Plan(interrupted(signal.SIGINT), ("whole", "pareto", "table"), 5),
    "SIGHUP": Plan(interrupted(signal.SIGHUP), ("search", "retrain"), 5),
    "full disk": Plan(full_disk, ("search", "whole"), 10, 1),
    "damaged checkpoints": Plan(damaged("checkpoints"), ("search", "text"), 30, 2),
    "damaged config.json": Plan(damaged("config.json"), ("search", "study"), 10, 1),
    "damaged metrics.jsonl": Plan(damaged("metrics.jsonl"), ("search", "text"), 10),
    "damaged results": Plan(
        damaged("phases", "genotype.json", when="after a search"), ("whole", "text"), 10
    ),
    "edited config.json": Plan(edited, ("search", "retrain"), 10, 1),
    "checkpoints of another run": Plan(of_a_stranger, ("search", "text"), 3),
    "another mode of JAX": Plan(otherwise, ("search",), 10),
    "second process: --resume": Plan(second("--resume=1"), ("search", "whole"), 5, 1),
    "second process: --overwrite": Plan(second("--overwrite=1"), ("search", "whole"), 5),
    "second process: the same words": Plan(second(), ("study", "pareto", "table"), 3),
    "evaluate beside it": Plan(evaluated, ("retrain", "text"), 5),
    "folder gone": Plan(vanished, ("search", "study"), 5, 1),
    "odd names": Plan(odd_name, ("retrain",), 24),
    "overwrite what is no run": Plan(foreign, ("search",), 10, 1),
    "nobody listens": Plan(deaf, ("search", "text"), 2),
}


class Attempt(NamedTuple):
    """One attack on one command."""

    attack: str
    work: str
    number: int


def plan_of(command: ChaosCommand) -> list[Attempt]:
    """Returns the attempts that the command line asks for."""
    attacks = list(ATTACKS) if command.only is None else command.only.split(",")
    works = list(WORKS) if command.works is None else command.works.split(",")
    for name in attacks:
        if name not in ATTACKS:
            raise ValueError(f"attack {name!r} is not known; choose from: {', '.join(ATTACKS)}")
    for name in works:
        if name not in WORKS:
            raise ValueError(f"command {name!r} is not known; choose from: {', '.join(WORKS)}")
    planned = []
    for name in attacks:
        plan = ATTACKS[name]
        own = plan.works[:1] if command.short else plan.works
        times = plan.short if command.short else plan.times
        times = times if command.times is None else command.times
        planned += [
            Attempt(name, work, number) for work in own if work in works for number in range(times)
        ]
    return planned


def run(command: ChaosCommand, root: pathlib.Path) -> list[tuple[Attempt, Verdict]]:
    """Returns all attempts with what became of them, and prints each as it ends."""
    planned = plan_of(command)
    data = root / "data"
    write_data(data)
    stages = {
        name: prepare(WORKS[name], root / f"{name}-undisturbed", data)
        for name in dict.fromkeys(attempt.work for attempt in planned)
    }

    def tried(attempt: Attempt) -> tuple[Attempt, Verdict]:
        folder = root / re.sub(r"\W+", "-", "-".join(map(str, attempt)))
        draw = random.Random(f"{command.seed} {attempt}")
        verdict = ATTACKS[attempt.attack].attack(stages[attempt.work], folder, draw)
        print(f"{verdict.outcome}: {attempt}: {verdict.note}", flush=True)
        if verdict.outcome != SURVIVED and command.keep is not None and folder.exists():
            shutil.copytree(folder, command.keep / folder.name, symlinks=True)
        shutil.rmtree(folder, ignore_errors=True)
        return attempt, verdict

    with concurrent.futures.ThreadPoolExecutor(command.jobs) as pool:
        return list(pool.map(tried, planned))


def table(found: list[tuple[Attempt, Verdict]]) -> str:
    """Returns a line for each attack on each command, and the sum."""
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for attempt, verdict in found:
        own = counts.setdefault((attempt.attack, attempt.work), collections.Counter())
        own[verdict.outcome] += 1
    counts["all", ""] = sum(counts.values(), collections.Counter())
    lines = [
        "| attack | command | attempts | survived | silent | raw |",
        "|---|---|---|---|---|---|",
    ]
    for (attack, work), own in counts.items():
        cells = (attack, work, own.total(), own[SURVIVED], own[SILENT], own[RAW])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(args: list[str]) -> None:
    """Prints the table; exits with 1 if anything was silent."""
    with messages(), tempfile.TemporaryDirectory(prefix="chaos") as folder:
        found = run(read_words(ChaosCommand, args), pathlib.Path(folder))
    print(table(found))
    if any(verdict.outcome == SILENT for _, verdict in found):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
