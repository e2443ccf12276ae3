"""A space that is made of a function: what holds for those of the library holds for it."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas import hw_loss
from dnas.cells import search_norms
from dnas.contracts import check_selection, check_space

SPEC = dnas.CellSpec(
    1, 2, ((0, 1), (0, 2), (1, 2)), ("none", "skip_connect", "sep_conv_3x3", "avg_pool_3x3"), (2,)
)


def layers(*, channels, num_cells, image_size, stem="cifar"):
    (height, width) = (image_size, image_size) if isinstance(image_size, int) else image_size
    if stem != "cifar":
        raise ValueError(f"stem {stem!r} does not exist; choose from: cifar")
    first = (dnas.LayerSpec("cell", channels, 1, (height, width)),) * (num_cells - 1)
    return (*first, dnas.LayerSpec("cell", channels, 2, (height, width)))


def macro(images, layers, num_classes, norms, cell):
    x = norms.stem()(nn.Conv(layers[0].channels, (3, 3), use_bias=False)(images))
    for layer in layers:
        x = cell(layer, x)
    return nn.Dense(num_classes)(x.mean((1, 2)))


SPACE = dnas.custom_space("mine", {"cell": SPEC}, layers, macro, edges_per_node=1)
SIZES = {"channels": 4, "num_cells": 2, "num_classes": 3}


def test_a_custom_space_keeps_the_contracts():
    check_space(SPACE, num_cells=2)
    check_selection(dnas.default_selection, SPACE)


@pytest.mark.parametrize("seed", range(2))
def test_its_supernet_at_a_one_hot_mix_is_its_network(seed):
    genotype = dnas.random_genotype(jax.random.key(seed), SPACE)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    supernet = SPACE.supernet(**SIZES)
    network = SPACE.network(genotype, **SIZES, norms=lambda train: search_norms())
    weights = jax.jit(weights_of(supernet))(jax.random.key(2), images)
    variables = jax.eval_shape(network.init, jax.random.key(3), images)
    variables = dnas.inherit_weights(SPACE, genotype, weights, variables)
    expected = jax.jit(logits_of(supernet))(weights, dnas.one_hot_mix(SPACE, genotype), images)
    logits = jax.jit(
        lambda variables: (
            network.apply(variables, {}, images, key=jax.random.key(0), train=True)[0].logits
        )
    )(variables)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


# Two inputs, two nodes side by side: what is around the cells reads one cell twice.
PAIR = dnas.CellSpec(
    2, 2, ((0, 2), (1, 2), (0, 3), (2, 3)), ("none", "skip_connect", "sep_conv_3x3"), (2, 3)
)


def paired_macro(images, layers, num_classes, norms, cell):
    x = nn.Conv(layers[0].channels, (3, 3))(images)
    for layer in layers:
        x = nn.Dense(layer.channels)(cell(layer, x, nn.relu(x)))
    return nn.Dense(num_classes)(x.mean((1, 2)))


@pytest.mark.parametrize(("spec", "own", "edges"), [(SPEC, macro, 1), (PAIR, paired_macro, None)])
def test_its_parts_count_what_its_networks_count(spec, own, edges):
    space = dnas.custom_space("mine", {"cell": spec}, layers, own, edges_per_node=edges)
    sizes = {**SIZES, "image_size": (12, 8), "image_channels": 2}
    table, parts = hw_loss.count_table(space, **sizes), space.parts(**sizes)
    for seed in range(4):
        genotype = dnas.random_genotype(jax.random.key(seed), space)
        counts = hw_loss.count_network(space, genotype, **sizes)
        for metric in ("macs", "params"):
            cost = hw_loss.genotype_cost(table, space, genotype, metric=metric, **sizes)
            assert cost == getattr(counts, metric)
            assert cost == hw_loss.expected_cost(table, parts, metric=metric)(
                dnas.one_hot_mix(space, genotype)
            )


def test_its_parts_are_measured_and_kept_in_a_table(tmp_path):
    sizes = {**SIZES, "image_size": 8}
    header = {"device": "here", "date": "today", "source": "test"}
    table = hw_loss.measure_table(SPACE, hw_loss.jax_runtime(), **header, repeats=2, **sizes)
    genotype = dnas.random_genotype(jax.random.key(0), SPACE)
    assert hw_loss.genotype_cost(table, SPACE, genotype, **sizes) > 0
    hw_loss.write_table(table, tmp_path / "table.csv")
    assert hw_loss.load_table(tmp_path / "table.csv").rows == table.rows


def test_unknown_ops_and_an_auxiliary_head_are_refused():
    spec = dnas.CellSpec(1, 1, ((0, 1),), ("mine_alone",), (1,))
    with pytest.raises(ValueError, match=r"\['mine_alone'\] of cell 'cell' are not in OPS"):
        dnas.custom_space("mine", {"cell": spec}, layers, macro)
    genotype = dnas.random_genotype(jax.random.key(0), SPACE)
    with pytest.raises(ValueError, match="no auxiliary head"):
        SPACE.network(genotype, **SIZES, auxiliary=True)
