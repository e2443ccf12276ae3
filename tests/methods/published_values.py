"""What tests of methods share beside `small_searches`: DARTS on texts, a small space of each family
and a search in it, and optimisers seen from outside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from small_searches import DARTS

import dnas
from dnas.cells.mbconv import BLOCKS
from dnas.spaces.layerwise import Chain, Stage, layerwise_space

# DARTS on Penn Treebank, rnn/train_search.py.
DARTS_ON_TEXTS = DARTS | dict(
    batch_size=256,
    learning_rate=20.0,
    min_learning_rate=20.0,
    momentum=0.0,
    weight_decay=5e-7,
    clip=0.25,
    clip_virtual=True,
    arch_learning_rate=3e-3,
    arch_b1=0.9,
)


def settings_of(method, space, names):
    """Those of the names among the published settings of a method in a space."""
    settings = method.settings_in(dnas.SPACES[space])
    return {name: settings[name] for name in names}


# A small space of each family.
TINY = {
    "darts": dnas.darts_space(
        name="tiny", ops=("none", "max_pool_3x3", "nor_conv_1x1"), num_nodes=1
    ),
    "nasbench201": dnas.nasbench201_space(
        name="tiny_201", ops=("none", "skip_connect", "nor_conv_1x1"), num_nodes=1
    ),
    "chain": layerwise_space(
        "tiny_chain",
        Chain(stem=8, stages=(Stage(8, 2, 1),), head=8),
        {name: BLOCKS[name] for name in ("k3_e1", "k3_e3", "skip_connect")},
    ),
    "recurrent": dnas.recurrent_space(name="tiny_cell", num_nodes=2),
}
_SIZES = {
    "darts": dict(channels=4, num_cells=1),
    "nasbench201": dict(channels=4, num_cells=3),
    "chain": dict(channels=8, num_cells=2),
    "recurrent": dict(channels=4, num_cells=1),
}
STEPS = 2  # of an epoch of a small search on two levels
_IMAGES = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)


def task_of(family):
    if family == "recurrent":
        words = "a small text of few words , read again and again . " * 20
        return dnas.tasks.text(dnas.read_text(words), window=3)
    return dnas.tasks.images(_IMAGES, np.arange(16) % 3)


# So that little is enough: arch moves in some of the few steps, and channels can be divided.
CHANGES = {
    "pc_darts": {"warmup": 0.0},
    "drnas": {"warmup": 0.0},
    "drnas_progressive": {"warmup": 0.0, "partial_channels": (4, 2), "keep": (2,)},
    "proxyless": {"warmup": 0.0, "arch_every": 2},
    "fbnet": {"warmup": 0.0, "arch_every": 2, "samples": 2},
}


@functools.cache
def small_search(name, family):
    """(arch at the start, result) of a search of a few steps in the small space of the family."""
    space, task, first = TINY[family], task_of(family), []
    settings = {**_SIZES[family], "epochs": 2, "batch_size": 4, **CHANGES.get(name, {})}
    method = dnas.METHODS[name].for_task(space, task, **settings)
    # A copy: the state itself is given away to the first step.
    hooks = dnas.QUIET._replace(
        resume=lambda state: first.append(jax.tree.map(np.array, state.arch)) or state
    )
    result = dnas.run_search(space, task, method, hooks=hooks)
    return first[0], result


def steps_of(optimizer, arch, steps, state=None):
    """(learning rates of the weights, when arch moved, state after it).

    Rates are seen where an optimiser has neither momentum nor decay nor a bound on gradients: as
    the steps of a weight whose gradient is one.
    """
    weights = jnp.zeros(1)

    def loss(weights, arch):
        return weights.sum() + sum(rows["ops"][0, 0] for rows in arch.values()), {}

    @jax.jit
    def update(state):
        moves, arch_moves, state, _ = optimizer.update(loss, loss, state, weights, arch)
        return (
            moves[0],
            jnp.array([rows.any() for rows in jax.tree.leaves(arch_moves)]).any(),
            state,
        )

    state = optimizer.init(weights, arch) if state is None else state
    rates, moved = [], []
    for _ in range(steps):
        move, arch_has_moved, state = update(state)
        rates.append(-float(move))
        moved.append(bool(arch_has_moved))
    return np.array(rates), moved, state


BARE = dict(momentum=0.0, nesterov=False, weight_decay=0.0, clip=None)  # for `steps_of`
