"""Times the first step and the steps after it of one case, in a process of its own. `dnas bench`
starts it, often.

Prints one line of JSON: seconds and bytes, see `measure`.
"""

import dataclasses
import json
import os
import resource
import statistics
import sys
import time
from typing import Any, Literal

# When the process was started, imports included.
STARTED = float(os.environ.get("DNAS_BENCH_STARTED", time.time()))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import dnas  # noqa: E402
from dnas.app.bench.roofline import program_bytes  # noqa: E402
from dnas.app.words import read_words  # noqa: E402
from dnas.hw_loss import Constraint, count_supernet, count_table, expected_cost, lagrangian  # noqa: E402
from dnas.running.compiling import compile_step  # noqa: E402
from dnas.running.runtime import set_up_process  # noqa: E402
from dnas.spaces import DARTS_OPS, darts_space  # noqa: E402
from dnas.tasks.task import cross_entropy  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Case:
    """What to time."""

    case: Literal[
        "darts",
        "darts2",
        "darts2_fd",
        "darts_latency",
        "pcdarts",
        "sampled",
        "nasbench201",
        "nasbench201_sampled",
        "recurrent",
        "evaluation",
    ] = "darts"
    """A search step of DARTS: first order, second order exact or by finite differences, or with a
    bound on a latency, which is timed apart as well; of PC-DARTS; of one sampled op an edge (GDAS);
    of the first and the last of these in NAS-Bench-201's space; of DARTS's recurrent space, on 35
    words of each text of a batch; or a training step of the final network."""
    batch_size: int = 16
    """Images or texts a batch; a search step takes two batches."""
    channels: int | None = None
    """Of the first cells; 16, recurrent 300, evaluation 36."""
    cells: int | None = None
    """8, nasbench201 15, recurrent 1, evaluation 20."""
    ops: int = 8
    """Candidates an edge: the last so many of DARTS's eight."""
    nodes: int = 4
    """Intermediate nodes of a cell: 2 have 5 edges, 3 have 9, 4 have 14."""
    image_size: int = 32
    """Pixels."""
    partial_channels: int = 4
    """K of pcdarts."""
    schedule: str | None = None
    """How the edges of a cell run, edges or waves; the default depends on the device."""
    remat: bool | None = None
    """Compute again for the gradient instead of keeping; unless told otherwise search has it, but
    for sampled paths of NAS-Bench-201 on a CPU, and evaluation has not."""
    scan: bool = False
    """Run alike cells of the final network in one loop."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    steps: int = 5
    """Steps to time after the first."""
    apart: bool = False
    """Time the arch gradient and the weight gradient apart as well; each is compiled on its own."""
    turns: bool = False
    """After the first step print "ready"; then run one step for each line of the standard input,
    and print its seconds."""


def genotype_network(case: Case) -> dnas.Model:
    """Returns the final network of DARTS_V2 at the size of the case."""
    return dnas.SPACES["darts"].network(
        dnas.PUBLISHED["DARTS_V2"],
        channels=case.channels or 36,
        num_cells=case.cells or 20,
        auxiliary=True,
        remat=bool(case.remat),
        scan=case.scan,
        dtype=_dtype(case),
    )


def _dtype(case: Case):
    return None if case.dtype == "float32" else jnp.dtype(case.dtype)


_WINDOW, _VOCABULARY = 35, 10_000  # of the recurrent case, as DARTS has them


def _supernet(case: Case):
    if case.case == "recurrent":
        space = dnas.SPACES["recurrent"]
        return space, space.supernet(
            channels=case.channels or space.channels,
            num_cells=case.cells or space.num_cells,
            num_classes=_VOCABULARY,
            **({} if case.remat is None else {"remat": case.remat}),
            dtype=_dtype(case),
        )
    if _is_nasbench201(case):
        space = dnas.SPACES["nasbench201"]
    else:
        space = darts_space(name="bench", ops=DARTS_OPS[8 - case.ops :], num_nodes=case.nodes)
    supernet = space.supernet(
        channels=case.channels or space.channels,
        num_cells=case.cells or space.num_cells,
        partial_channels=case.partial_channels if case.case == "pcdarts" else 1,
        sampled=_is_sampled(case),
        schedule=case.schedule,
        **({} if case.remat is None else {"remat": case.remat}),
        dtype=_dtype(case),
    )
    return space, supernet


def _is_nasbench201(case: Case) -> bool:
    return case.case.startswith("nasbench201")


def _is_sampled(case: Case) -> bool:
    return case.case.endswith("sampled")


def _relaxation(case: Case) -> dnas.Relaxation:
    made = {
        "pcdarts": dnas.edge_weights,
        "sampled": dnas.gumbel_hard,
        "nasbench201_sampled": dnas.gumbel_hard,
    }
    return made.get(case.case, dnas.softmax)()


def _arch_gradient(case: Case) -> dnas.bilevel.ArchGradient:
    made = {"darts2": dnas.unrolled, "darts2_fd": dnas.finite_differences}
    return made.get(case.case, dnas.first_order)()


def _constraint(case: Case, space: dnas.SearchSpace) -> Constraint | None:
    return _bound(space) if case.case == "darts_latency" else None


def _bound(space: dnas.SearchSpace) -> Constraint:
    """A bound on the multiply-adds of the published network, which cost a search what a latency
    does."""
    cost = expected_cost(count_table(space), space.parts(), metric="macs", live="path")
    return Constraint((cost,), lagrangian(5e8))


def _term_seconds(case: Case, state: dnas.SearchState, repeats: int = 200) -> float:
    """What the bound adds to a step: the gradient of its penalty, and what its multiplier
    follows."""
    space, _ = _supernet(case)
    constraint = _bound(space)

    @jax.jit
    def term(arch, multipliers):
        def penalty(arch):
            return constraint.penalty(
                multipliers, {kind: jax.nn.softmax(rows["ops"]) for kind, rows in arch.items()}
            )

        gradient = jax.grad(penalty)(arch)
        return gradient, constraint.follow(
            multipliers, {kind: jax.nn.softmax(rows["ops"]) for kind, rows in arch.items()}
        )

    jax.block_until_ready(term(state.arch, state.multipliers))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(term(state.arch, state.multipliers))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _batches(case: Case, count: int):
    if case.case == "recurrent":
        streams = np.random.default_rng(0).integers(
            0, _VOCABULARY, (count, case.batch_size, _WINDOW + 1)
        )
        return [
            jax.device_put(
                dnas.Batch(dnas.Tokens(words[:, :-1]), words[:, 1:], jax.random.key(number))
            )
            for number, words in enumerate(streams.astype(np.int32))
        ]
    random = np.random.default_rng(0)
    labels: Any = np.arange(case.batch_size, dtype=np.int32) % 10  # device_put makes an Array of it
    shape = (case.batch_size, case.image_size, case.image_size, 3)
    return [
        jax.device_put(dnas.Batch(random.standard_normal(shape, np.float32), labels))
        for _ in range(count)
    ]


def search_step(case: Case):
    """Returns (state, step, compiled, gradient): step maps a state to (state, metrics); gradient(0
    or 1, state) compiles the gradient of the weights or of arch alone and returns a function of
    nothing."""
    space, supernet = _supernet(case)
    relaxation, (train, valid) = _relaxation(case), _batches(case, 2)
    make_optimizer = dnas.recurrent_optimizer if case.case == "recurrent" else dnas.darts_optimizer
    search = dnas.make_search(
        space,
        supernet,
        make_optimizer(50, 390, arch_gradient=_arch_gradient(case)),
        example=jax.tree.map(
            lambda array: np.zeros((1, *array.shape[1:]), array.dtype), train.inputs
        ),
        relaxation=relaxation,
        constraint=_constraint(case, space),
    )
    state = compile_step(search.init, jax.random.key(0))(jax.random.key(0))

    def loss(weights, arch, batch, key):
        rows = {
            kind: relaxation.sample(key, arch[kind], choices, jnp.int32(0))
            for kind, choices in space.choices.items()
        }
        outputs, _ = supernet.apply(
            {"params": weights}, rows, batch.inputs, key=batch.key, train=True
        )
        return cross_entropy(outputs, batch)[0]

    def gradient(argument, state):
        take = compile_step(jax.grad(loss, argument), state.weights, state.arch, train, state.key)
        return lambda: take(state.weights, state.arch, train, state.key)

    compiled = compile_step(search.step, state, train, valid, donate=True)
    return state, lambda state: compiled(state, train, valid), compiled, gradient


def evaluation_step(case: Case):
    """The same for a training step of the final network, with drop path and the auxiliary head."""
    network = genotype_network(case)
    (batch,) = _batches(case, 1)
    optimizer = dnas.final_sgd(600, 520)

    def init(key):
        variables = network.init(key, batch.inputs[:1])
        return key, variables, optimizer.init(variables["params"])

    def step(state, batch):
        key, variables, optimizer_state = state
        key, path_key = jax.random.split(key)

        def objective(params):
            outputs, changed = network.apply(
                {**variables, "params": params},
                {},
                batch.inputs,
                key=path_key,
                train=True,
                drop_path=jnp.float32(0.2),
            )
            assert outputs.auxiliary is not None  # the network has that head
            loss = cross_entropy(outputs, batch)[0]
            auxiliary = cross_entropy(dnas.Outputs(outputs.auxiliary), batch)[0]
            return loss + 0.4 * auxiliary, changed

        gradient, changed = jax.grad(objective, has_aux=True)(variables["params"])
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, variables["params"])
        return (
            key,
            {**changed, "params": optax.apply_updates(variables["params"], updates)},
            optimizer_state,
        ), {}

    state = jax.jit(init)(jax.random.key(0))
    compiled = compile_step(step, state, batch, donate=True)
    return state, lambda state: compiled(state, batch), compiled, None


def measure(case: Case) -> dict[str, Any]:
    """Returns a row: seconds to the end of the first step and of a later one, and the peak of the
    process's memory."""
    make = evaluation_step if case.case == "evaluation" else search_step
    state, step, compiled, gradient = make(case)
    state, _ = jax.block_until_ready(step(state))
    row: dict[str, Any] = {"first_step_s": time.time() - STARTED}
    seconds = []
    for _ in _turns() if case.turns else range(case.steps):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(state))
        seconds.append(time.perf_counter() - start)
        if case.turns:
            print(seconds[-1], flush=True)
    row |= {"median_s": statistics.median(seconds), "min_s": min(seconds)}
    row["peak_mb"] = _peak_mb()
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None and text is not None  # backends have both that XLA compiles for
    row["temporaries_mb"] = memory.temp_size_in_bytes / 1e6
    row["program_bytes"], row["flop"] = program_bytes(text), _flop(case)
    weights = state.weights if hasattr(state, "weights") else state[1]["params"]
    row["weights"] = sum(array.size for array in jax.tree.leaves(weights))
    if case.case == "darts_latency":
        row["term_s"] = _term_seconds(case, state)
    if case.apart and gradient is not None:
        for name, argument in (("arch_gradient_s", 1), ("weight_gradient_s", 0)):
            take = gradient(argument, state)
            jax.block_until_ready(take())
            times = []
            for _ in range(case.steps):
                start = time.perf_counter()
                jax.block_until_ready(take())
                times.append(time.perf_counter() - start)
            row[name] = statistics.median(times)
    return row


def _turns():
    """Yields when it is this program's turn, see `dnas.app.bench.command`."""
    print("ready", flush=True)
    yield from sys.stdin


def _flop(case: Case) -> int:
    """Twice the multiply-adds of a step. Passes, each about as many: a search step has two forward,
    two for the inputs' gradients and one for the weights', and with remat two forward again; a
    training step has one of each."""
    if case.case == "evaluation":
        sizes: dict[str, Any] = {
            "channels": case.channels or 36,
            "num_cells": case.cells or 20,
            "image_size": case.image_size,
        }
        macs = dnas.count_network(
            dnas.SPACES["darts"], dnas.PUBLISHED["DARTS_V2"], **sizes, auxiliary=True
        ).macs
        return 2 * case.batch_size * macs * (4 if case.remat else 3)
    space, _ = _supernet(case)
    sizes = {"channels": case.channels, "num_cells": case.cells, "image_size": case.image_size}
    if _is_sampled(case) or case.case in ("darts2", "darts2_fd", "recurrent"):
        macs = 0  # of a path that is drawn anew at each step; or not counted
    elif case.case == "pcdarts":
        macs = count_supernet(space, **sizes, partial_channels=case.partial_channels).macs
    else:
        macs = count_supernet(space, **sizes).macs
    return 2 * case.batch_size * macs * (5 if case.remat is False else 7)


def _peak_mb() -> float:
    stats = jax.devices()[0].memory_stats()
    if stats:  # of an accelerator
        return stats["peak_bytes_in_use"] / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # kilobytes on Linux


if __name__ == "__main__":
    set_up_process()
    given = read_words(Case, sys.argv[1:])
    print(
        json.dumps(
            {
                **dataclasses.asdict(given),
                **measure(given),
                "jax": jax.__version__,
                "backend": jax.default_backend(),
            }
        )
    )
