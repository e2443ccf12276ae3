"""Searches of seconds, and the published settings that all others are told apart from."""

import numpy as np

import dnas
from dnas.methods import METHODS

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), np.uint8)
LABELS = np.arange(32) % 2

# quark0/darts, cnn/train_search.py
DARTS = {
    "epochs": 50,
    "batch_size": 64,
    "channels": None,
    "num_cells": None,
    "learning_rate": 0.025,
    "min_learning_rate": 0.001,
    "rate_schedule": "cosine",
    "rate_warmup": 0.0,
    "annealing": 1.0,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 3e-4,
    "clip": 5.0,
    "clip_virtual": False,
    "single_level": False,
    "arch_learning_rate": 3e-4,
    "arch_b1": 0.5,
    "arch_weight_decay": 1e-3,
    "arch_clip": None,
    "warmup": 0.0,
    "arch_every": 1,
    "order": "arch_first",
}
# D-X-Y/AutoDL-Projects, configs/nas-benchmark/algos/DARTS.config and exps/NAS-Bench-201-algos
NASBENCH201 = DARTS | {"order": "weights_first", "nesterov": True, "weight_decay": 5e-4}

SMALL = dnas.darts_space(name="small", ops=("none", "skip_connect", "sep_conv_3x3"), num_nodes=2)
SMALL_201 = dnas.nasbench201_space(
    name="small_201", ops=("none", "skip_connect", "nor_conv_1x1"), num_nodes=2
)


def settings_of(name, space):
    """The resolved settings but for the seed and what is no number, word or tuple of them."""
    settings = METHODS[name].settings_in(dnas.SPACES[space])
    plain = (int, float, bool, str, tuple, type(None))
    return {key: value for key, value in settings.items() if key != "seed" and type(value) in plain}


def published(base, **own):
    """Settings in which `own` differ from those of a paper before it."""
    return base | {"arch_optimizer": None} | own


def small_search(name, space=SMALL, hooks=dnas.QUIET, **changes):
    """A search of a method of eight images a batch, two steps an epoch."""
    task = dnas.tasks.images(IMAGES, LABELS)
    num_cells = 1 if space.family == "darts" else 3
    settings = {"channels": 2, "num_cells": num_cells, "epochs": 2, "batch_size": 8} | changes
    method = METHODS[name].for_task(space, task, **settings)
    result = dnas.run_search(space, task, method, hooks=hooks)
    dnas.check_genotype(space, result.genotype)
    assert all(np.isfinite(row["loss"]) for row in result.history)
    return result
