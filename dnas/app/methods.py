"""The published methods, each as the settings in which it differs from first-order DARTS; `make
search METHOD=name` runs one.

Settings are those for CIFAR-10 in the paper or its released code. A data set's own settings (sizes,
epochs, rates: `PRESETS`) go before them, and what the command line says before both. Numbers that a
method counts in epochs are given as a part of all epochs, so that they mean the same in a shorter
search.
"""

from typing import Any, NamedTuple


class Method(NamedTuple):
    paper: str
    url: str
    file: str  # where its idea is
    settings: dict[str, Any] = {}
    # What it needs at the small sizes that a data set's own settings may have.
    small: dict[str, Any] = {}


_DRNAS = {
    "relax": "dirichlet",
    "space": "darts_without_none",
    "learning_rate": 0.1,
    "min_learning_rate": 0.0,
    "arch_learning_rate": 6e-4,
}

METHODS = {
    "darts1": Method(
        "DARTS, first order", "https://arxiv.org/abs/1806.09055", "dnas/bilevel/alternating.py"
    ),
    "darts2": Method(
        "DARTS, second order",
        "https://arxiv.org/abs/1806.09055",
        "dnas/bilevel/unrolled.py",
        {"optimizer": "unrolled"},
    ),
    "pc_darts": Method(
        "PC-DARTS",
        "https://arxiv.org/abs/1907.05737",
        "dnas/relax/edge_weights.py",
        {
            "partial_channels": 4,
            "edge_weights": True,
            "batch_size": 256,
            "learning_rate": 0.1,
            "min_learning_rate": 0.0,
            "arch_learning_rate": 6e-4,
            "warmup": 15 / 50,
            "drop_path": 0.3,
        },
    ),
    "gdas": Method(
        "GDAS",
        "https://arxiv.org/abs/1910.04465",
        "dnas/relax/gumbel.py",
        {
            "relax": "gumbel_hard",
            "temperature": 10.0,
            "temperature_end": 0.1,
            "sampled": True,
            "order": "weights_first",
            "epochs": 250,
            "weight_decay": 5e-4,
        },
    ),
    "snas": Method(
        "SNAS",
        "https://arxiv.org/abs/1812.09926",
        "dnas/relax/gumbel.py",
        {
            "relax": "gumbel_softmax",
            "temperature": 1.0,
            "temperature_end": 0.03,
            "optimizer": "single_level",
            "epochs": 150,
            "search_drop_path": 0.3,
        },
    ),
    "drnas": Method(
        "DrNAS",
        "https://arxiv.org/abs/2006.10355",
        "dnas/relax/dirichlet.py",
        {
            **_DRNAS,
            "partial_channels": 4,
            "warmup": 10 / 50,
            "dirichlet_kl": 1e-3,
            "arch_weight_decay": 0.0,
        },
    ),
    "drnas_progressive": Method(
        "DrNAS, progressive",
        "https://arxiv.org/abs/2006.10355",
        "dnas/app/stages.py",
        {
            **_DRNAS,
            "dirichlet_kl": 1e-3,
            "arch_weight_decay": 0.0,
            "channels": 36,
            "cells": 20,
            "partial_channels": 6,
            "epochs": 25,
            "warmup": 10 / 25,
            "stages": "drnas_progressive",
        },
        {"channels": 24, "epochs": 10},
    ),
    "fair_darts": Method(
        "FairDARTS",
        "https://arxiv.org/abs/1911.12126",
        "dnas/relax/sigmoid.py",
        {
            "relax": "sigmoid",
            "space": "darts_without_none",
            "zero_one": 10.0,
            "select": "threshold",
            "batch_size": 128,
            "learning_rate": 0.005,
            "arch_learning_rate": 3e-3,
            "arch_b1": 0.9,
        },
    ),
    "smooth_darts_rs": Method(
        "SmoothDARTS, random smoothing",
        "https://arxiv.org/abs/2002.05283",
        "dnas/relax/perturbation.py",
        {"perturb": "random"},
    ),
    "smooth_darts_adv": Method(
        "SmoothDARTS, adversarial",
        "https://arxiv.org/abs/2002.05283",
        "dnas/relax/perturbation.py",
        {"perturb": "adversarial"},
    ),
    "beta_darts": Method(
        "beta-DARTS",
        "https://arxiv.org/abs/2203.01665",
        "dnas/arch_losses.py",
        {"beta_decay": 50.0, "epochs": 100},
    ),
    "gaea": Method(
        "GAEA, on PC-DARTS's partial channels",
        "https://arxiv.org/abs/2004.07802",
        "dnas/relax/simplex.py",
        {
            "relax": "simplex",
            "arch_optimizer": "exponentiated_gradient",
            "arch_learning_rate": 0.1,
            "partial_channels": 4,
            "batch_size": 256,
            "learning_rate": 0.1,
            "min_learning_rate": 0.0,
        },
    ),
    "p_darts": Method(
        "P-DARTS",
        "https://arxiv.org/abs/1904.12760",
        "dnas/app/stages.py",
        {
            "stages": "p_darts",
            "select": "skip_budget",
            "epochs": 25,
            "warmup": 10 / 25,
            "cells": 5,
            "batch_size": 96,
            "min_learning_rate": 0.0,
            "arch_learning_rate": 6e-4,
        },
        {"cells": 3, "epochs": 10},
    ),
    "sgas": Method(
        "SGAS",
        "https://arxiv.org/abs/1912.00195",
        "dnas/rules/greedy.py",
        {"rule": "greedy", "warmup": 9 / 50},
    ),
    "robust_darts": Method(
        "RobustDARTS, early stopping",
        "https://arxiv.org/abs/1909.09656",
        "dnas/rules/eigenvalue.py",
        {"rule": "eigenvalue"},
    ),
    "rarts": Method(
        "RARTS", "https://arxiv.org/abs/2008.03901", "dnas/bilevel/rarts.py", {"optimizer": "rarts"}
    ),
    "sharp_darts": Method(
        "sharpDARTS",
        "https://arxiv.org/abs/1903.09900",
        "dnas/relax/max_w.py",
        {
            "relax": "max_w",
            "space": "sharp_darts",
            "rate_schedule": "cosine_power",
            "min_learning_rate": 1e-4,
            "epochs": 120,
        },
    ),
    "proxyless": Method(
        "ProxylessNAS, its binary gates on DARTS's cells",
        "https://arxiv.org/abs/1812.00332",
        "dnas/relax/proxyless.py",
        {
            "relax": "binary_gates",
            "order": "weights_first",
            "warmup": 1 / 4,
            "arch_every": 5,
            "arch_learning_rate": 1e-3,
            "arch_b1": 0.0,
            "arch_weight_decay": 0.0,
            "weight_decay": 4e-5,
        },
    ),
    "fbnet": Method(
        "FBNet, without its latency loss",
        "https://arxiv.org/abs/1812.03443",
        "dnas/spaces/fbnet.py",
        {
            "relax": "gumbel_softmax",
            "space": "fbnet",
            "temperature": 5.0,
            "temperature_end": 0.0911,
            "temperature_schedule": "exponential",
            "order": "weights_first",
            "warmup": 10 / 90,
            # In an epoch four fifths of the images train the weights, the rest arch.
            "arch_every": 4,
            "arch_learning_rate": 0.01,
            "arch_b1": 0.9,
            "arch_weight_decay": 5e-4,
            "learning_rate": 0.1,
            "min_learning_rate": 0.0,
            "weight_decay": 1e-4,
            "batch_size": 192,
            "epochs": 90,
        },
    ),
    "darts_pt": Method(
        "DARTS-PT",
        "https://arxiv.org/abs/2108.04392",
        "dnas/rules/perturbation.py",
        {"stages": "darts_pt", "space": "darts_without_none"},
        {"interval": 1},
    ),
    "random": Method(
        "random cells, none searched",
        "https://arxiv.org/abs/1902.07638",
        "dnas/selection/random.py",
        {"stages": "random"},
    ),
    "random_ws": Method(
        "random search with weight sharing",
        "https://arxiv.org/abs/1902.07638",
        "dnas/rules/best_sample.py",
        {
            "relax": "gumbel_hard",
            "sampled": True,
            "warmup": 1.0,
            "arch_init_scale": 0.0,
            "rule": "best_sample",
        },
    ),
}
