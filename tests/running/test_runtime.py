"""What a command does to its process, and nothing in the library by itself."""

import ctypes
import gc
import os
import pathlib
import re
import subprocess
import sys
import threading

import jax
import pytest

from dnas.running import runtime

# A search and a training in a process that writes down what is done to it as a whole.
_PROGRAM = """
import gc, os, sys, threading
import jax, numpy as np
import dnas
from dnas.running import runtime

seen = set()

def noting(name, function):
    def noted(*args, **kwargs):
        seen.add(name)
        return function(*args, **kwargs)
    return noted

def audit(event, args):
    if event == "os.putenv":
        seen.add("environment")
    if event == "ctypes.dlsym":
        seen.add(args[1])

threading.Thread.start = noting("thread", threading.Thread.start)
gc.disable, gc.freeze = noting("gc.disable", gc.disable), noting("gc.freeze", gc.freeze)
sys.addaudithook(audit)
config, environment = dict(jax.config.values), dict(os.environ)
if sys.argv[1] == "command":
    runtime.set_up_process()

images, labels = np.zeros((8, 8, 8, 1), np.uint8), np.arange(8) % 2
space = dnas.darts_space(ops=("none", "skip_connect"), num_nodes=1)
sizes = dict(channels=2, num_cells=1)
quiet = dict(epochs=1, batch_size=2, hooks=dnas.QUIET)
result = dnas.run_search(space, (images, labels), **sizes, **quiet)
network = space.network(result.genotype, num_classes=2, **sizes)
dnas.retrain(network, (images, labels), (images, labels), **quiet)

if dict(jax.config.values) != config:
    seen.add("config")
if dict(os.environ) != environment:
    seen.add("environment")
if not gc.isenabled():
    seen.add("gc stays off")
for name in sorted(seen):
    print(name)
"""


def done_to_the_process(who, cache):
    settings = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("DNAS_TEST_CACHE", str(cache)),
    }
    command = [sys.executable, "-c", _PROGRAM, who]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=settings)
    return set(done.stdout.splitlines())


def test_a_search_in_a_users_process_does_nothing_to_the_process(tmp_path):
    assert done_to_the_process("library", tmp_path) == set()


def test_a_search_in_a_process_that_a_command_set_up_does_all_of_it(tmp_path):
    expected = {"config", "environment", "gc.disable", "gc.freeze", "thread"}
    if hasattr(ctypes.CDLL(None), "mallopt"):
        expected |= {"mallopt", "malloc_trim"}
    else:
        expected -= {"thread"}
    assert done_to_the_process("command", tmp_path) == expected


@pytest.mark.parametrize("context", [runtime.compiling, runtime.tracing])
def test_contexts_end_as_they_began_where_what_is_compiled_fails(context, monkeypatch):
    monkeypatch.setattr(runtime._manners, "compile_sparingly", True)
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), context():
        raise ZeroDivisionError
    assert gc.isenabled() and threading.active_count() == threads


def test_garbage_stays_uncollected_where_it_was_before(monkeypatch):
    monkeypatch.setattr(runtime._manners, "compile_sparingly", True)
    gc.disable()
    try:
        with runtime.tracing():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_memory_is_given_back_by_the_main_thread_only(monkeypatch):
    monkeypatch.setattr(runtime._manners, "compile_sparingly", True)
    counts = []

    def beside():
        before = threading.active_count()
        with runtime.compiling():
            counts.append(threading.active_count() - before)

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert counts == [0]


@pytest.mark.parametrize("given", [None, "/elsewhere"])
def test_compiled_programs_are_kept_where_the_user_says(given, tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    if given is not None:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", given)
    runtime.keep_programs()
    folder = told.get("jax_compilation_cache_dir")
    assert folder == (None if given else str(tmp_path / "dnas" / "xla"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
@pytest.mark.slow
def test_a_process_that_keeps_memory_is_given_no_new_pages_for_what_it_has_freed():
    code = """
import resource, sys, numpy
from dnas.running.runtime import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(50_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, how], check=True, capture_output=True, text=True
            ).stdout
        )
        for how in ("keep", "not")
    ]
    assert faults[0] < 100 and faults[0] < faults[1] / 10


def large_pages():
    """Which of always, madvise and never the system has chosen; None where it has no large
    pages."""
    path = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return re.search(r"\[(\w+)\]", path.read_text()).group(1) if path.exists() else None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
@pytest.mark.skipif(
    large_pages() != "madvise",
    reason="the system gives large pages to all who ask for memory, or to none",
)
def test_what_a_step_computes_on_the_way_lies_on_large_pages():
    code = """
import re, sys
from dnas.running.compiling import compile_step
from dnas.running.runtime import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
import jax, jax.numpy as jnp
x = jnp.ones((8400, 16))
step = compile_step(lambda x: jnp.tanh(x @ x.T) @ x, x)
jax.block_until_ready(step(x))
print(re.search(r"AnonHugePages: *([0-9]+) kB", open("/proc/self/smaps_rollup").read()).group(1))
"""
    sizes = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, how], check=True, capture_output=True, text=True
            ).stdout
        )
        for how in ("keep", "not")
    ]
    assert sizes[0] > 100_000 and sizes[1] < sizes[0] / 5, sizes


def run_with_flags(code, flags):
    settings = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=settings
    ).stdout


def test_loops_over_16_channels_are_vectorised(tmp_path):
    code = """
from dnas.running.runtime import vectorize_loops
vectorize_loops()
import jax, jax.numpy as jnp
jax.jit(lambda x: jnp.maximum(x, 0.0) * 1.25).lower(jnp.ones((16, 32, 32, 16))).compile()
"""
    # Of what older versions write anyway.
    asked_for = " --xla_dump_emitter_re=.*" if jax.__version_info__ >= (0, 11) else ""
    run_with_flags(code, f"--xla_dump_to={tmp_path}{asked_for}")
    (program,) = tmp_path.glob("*lambda*ir-with-opt.ll")
    products = re.findall(r"fmul (?:\w+ )*(float|<\d+ x float>) %", program.read_text())
    assert products and "float" not in products


def test_options_of_the_compiler_stay_as_they_are_where_others_may_want_them():
    code = """
import os
import jax
from dnas.running.runtime import vectorize_loops
known = "--xla_backend_extra_options=--c"
for platforms, flags in (("cpu", ""), ("cpu", "--a=b"), ("cuda,cpu", "--a=b"), ("cpu", known)):
    jax.config.update("jax_platforms", platforms)
    os.environ["XLA_FLAGS"] = flags
    vectorize_loops()
    vectorize_loops()
    print(os.environ["XLA_FLAGS"])
"""
    option = "--xla_backend_extra_options=--unroll-full-max-count=4"
    expected = [option, f"--a=b {option}", "--a=b", "--xla_backend_extra_options=--c"]
    assert run_with_flags(code, "").splitlines() == expected


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of compiled programs of a user who has said nothing of it; JAX's settings stay."""
    given = []
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax.config, "update", lambda name, value: given.append((name, value)))
    folder = tmp_path / "dnas" / "xla"
    folder.mkdir(parents=True)
    return folder, given


def test_of_compiled_programs_those_that_were_used_last_are_kept(cache):
    folder, given = cache
    for number in range(5):
        path = folder / f"program{number}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 + number % 3, 1000))  # 0 and 3 were read first, 2 last
    runtime.keep_programs(most=250)
    assert sorted(path.name for path in folder.iterdir()) == ["program2-cache", "program4-cache"]
    assert ("jax_compilation_cache_dir", str(folder)) in given
    runtime.keep_programs(most=250)
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_the_user_names_is_left_alone(cache, monkeypatch):
    folder, given = cache
    (folder / "program-cache").write_bytes(bytes(100))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    runtime.keep_programs(most=0)
    assert len(list(folder.iterdir())) == 1
    assert [name for name, _ in given] == ["jax_persistent_cache_min_compile_time_secs"]


def test_a_user_without_a_home_has_no_cache(cache, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    folder, given = cache
    monkeypatch.setattr(pathlib.Path, "home", nowhere)
    runtime.keep_programs()
    assert ("jax_compilation_cache_dir", str(folder)) in given  # no home is asked for
    given.clear()
    monkeypatch.delenv("XDG_CACHE_HOME")
    runtime.keep_programs()
    assert [name for name, _ in given] == ["jax_persistent_cache_min_compile_time_secs"]
