"""GAEA."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from published_values import BARE, DARTS, DARTS_ON_TEXTS, TINY, settings_of, small_search, steps_of

import dnas
from dnas.methods import gaea

OWN = dict(
    partial_channels=1,
    learn_edges=False,
    arch_learning_rate=0.1,
    edge_learning_rate=0.1,
    arch_weight_decay=0.0,
)
TABLE = {
    # methods.md 4.9, audit.md; configs/cnn of liamcli/gaea_release: mode/search_pcdarts.yaml,
    # search_method/eedarts/method_eedarts_space_pcdarts.yaml
    "darts": DARTS
    | OWN
    | dict(
        partial_channels=4,
        learn_edges=True,
        batch_size=256,
        learning_rate=0.1,
        min_learning_rate=0.0,
    ),
    # mode/search_nasbench201.yaml, and 25 epochs of scheduler_epochs = 50
    "nasbench201": DARTS | OWN | dict(epochs=25, annealing=2.0, channels=24),
    "fbnet": DARTS | OWN,
    "recurrent": DARTS_ON_TEXTS | OWN,
}


@pytest.mark.parametrize("space", TABLE)
def test_settings_are_the_published_ones(space):
    assert settings_of(gaea, space, TABLE[space]) == TABLE[space]
    assert gaea.retraining == {"darts": {"drop_path": 0.3}}


def test_weights_of_edges_stay_on_the_simplex_of_each_node_and_move():
    _, result = small_search("gaea", "darts")
    for kind, own in TINY["darts"].choices.items():
        arch = result.state.arch[kind]
        np.testing.assert_allclose(arch["ops"].sum(1), 1, rtol=1e-5)
        for group in own.groups:
            weights = np.asarray(arch["edges"])[list(group)]
            np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
            assert (weights > 0).all()
        np.testing.assert_allclose(
            result.mix[kind], arch["ops"] * arch["edges"][:, None], rtol=1e-5
        )
    assert (result.state.arch["reduce"]["edges"] != 0.5).any()  # the only cell is of this kind


def test_a_step_is_that_of_the_released_code():
    """a exp(-rate g), ops divided by the sum of their row, edges by that of their node."""
    space, rate = TINY["darts"], 0.2
    method = gaea(
        space, steps_per_epoch=2, arch_learning_rate=0.1, edge_learning_rate=rate, warmup=0.0
    )
    keys = jax.random.split(jax.random.key(0), 3)
    arch = {kind: method.relaxation.init(keys[0], own) for kind, own in space.choices.items()}
    slopes = jax.tree.map(lambda part: jax.random.normal(keys[1], part.shape), arch)

    def outer(weights, arch):
        products = jax.tree.map(lambda part, slope: (part * slope).sum(), arch, slopes)
        return sum(jax.tree.leaves(products)), {}

    def inner(weights, arch):
        return weights.sum(), {}

    optimizer, weights = method.optimizer(1, 2), jnp.zeros(1)
    updates = optimizer.update(inner, outer, optimizer.init(weights, arch), weights, arch)[1]
    new = optax.apply_updates(arch, updates)
    for kind, own in space.choices.items():
        products = {
            name: np.asarray(arch[kind][name]) * np.exp(-step * np.asarray(slopes[kind][name]))
            for name, step in (("ops", 0.1), ("edges", rate))
        }
        rows = products["ops"] / products["ops"].sum(1, keepdims=True)
        np.testing.assert_allclose(new[kind]["ops"], rows, rtol=1e-5)
        for group in map(list, own.groups):
            expected = products["edges"][group] / products["edges"][group].sum()
            np.testing.assert_allclose(new[kind]["edges"][np.array(group)], expected, rtol=1e-5)


def test_in_nasbench201_the_rate_ends_half_way_down_its_cosine():
    method = gaea(dnas.SPACES["nasbench201"], steps_per_epoch=2, **BARE)
    arch = {"cell": {"ops": jnp.full((6, 5), 0.2)}}
    rates, moved, _ = steps_of(method.optimizer(25, 2), arch, 25 * 2)
    whole = dnas.cosine_by_epoch(50, 2, learning_rate=0.025, min_learning_rate=0.001)
    np.testing.assert_allclose(rates, [whole(step) for step in range(50)], rtol=1e-5)
    assert all(moved)


def test_another_arch_optimiser_takes_the_place_of_the_ops_only():
    space = TINY["darts"]
    given = dnas.exponentiated_gradient(0.5)
    with pytest.raises(ValueError, match="learn_edges=False"):
        gaea(space, steps_per_epoch=2, arch_optimizer=given)
    method = gaea(space, steps_per_epoch=2, arch_optimizer=given, learn_edges=False)
    arch = method.relaxation.init(jax.random.key(0), space.choices["normal"])
    assert set(arch) == {"ops"}
