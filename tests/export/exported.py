"""Networks that tests export, as if they had been trained."""

import jax
import numpy as np

import dnas
from dnas.hw_loss.measure_table import random_variables

SIZES = {"channels": 4, "num_cells": 3, "num_classes": 5}


def trained(space, genotype, image_shape, **sizes):
    """A network whose running averages and scales are not those of the start, and neither grow nor
    fade from layer to layer."""
    network = space.network(genotype, **sizes)
    return network, random_variables(network.init, np.zeros((1, *image_shape), np.float32))


def logits_by_jax(network, variables, images):
    return np.asarray(
        jax.jit(lambda images: network.apply(variables, {}, images)[0].logits)(images)
    )


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def covering():
    """Between its edges it has every op of DARTS's space, with stride and without."""
    edges = [
        (0, 2, "max_pool_3x3"),
        (1, 2, "avg_pool_3x3"),
        (0, 3, "skip_connect"),
        (1, 3, "sep_conv_3x3"),
        (0, 4, "sep_conv_5x5"),
        (1, 4, "dil_conv_3x3"),
        (0, 5, "dil_conv_5x5"),
        (2, 5, "max_pool_3x3"),
    ]
    return dnas.Genotype("darts", {"normal": edges, "reduce": edges})


def samples():
    """Every published genotype of networks on images, random ones of NAS-Bench-201, and cells of it
    that leave ops out."""
    found = {
        name: genotype
        for name, genotype in dnas.PUBLISHED.items()
        if dnas.SPACES[genotype.space].inputs == "images"
    }
    nasbench201 = dnas.SPACES["nasbench201"]
    found |= {
        f"nasbench201 {seed}": dnas.random_genotype(jax.random.key(seed), nasbench201)
        for seed in range(4)
    }
    texts = {
        "all skip": (
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
        ),
        "zeros inside": "|none~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|",
    }
    return found | {name: dnas.Genotype.from_text(text) for name, text in texts.items()}


def sizes_of(space):
    """Small sizes of the networks of a space, and their images."""
    if space in ("fbnet", "proxylessnas"):
        num_cells = dnas.SPACES[space].num_cells
        return {"num_cells": num_cells, "channels": 8, "num_classes": 5}, (32, 32, 3)
    return SIZES, (16, 16, 3)
