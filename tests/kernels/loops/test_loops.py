"""Loops over edges: whichever runs, the same values and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal
from jax import lax

from dnas.kernels.convolutions import pointwise_product
from dnas.kernels.loops import EdgeArrays, Shared, edge_loop
from dnas.kernels.pooling import max_pool

pytestmark = pytest.mark.usefixtures("float64")


def scan_edges(run, links, weights, mix, states, nodes, *, skip=None, **options):
    return edge_loop(run, links, **options)(EdgeArrays(weights, mix, states, nodes, skip))


def run_edge(weights, row, x):
    return row[0] * jnp.tanh(pointwise_product(x, weights["kernel"])) + row[1] * x


# All nodes to all later ones; and a graph with holes, whose edges are not one after the other by
# source.
GRAPHS = {
    "dense": [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)],
    "sparse": [(1, 2), (0, 2), (0, 4), (2, 3), (3, 5), (0, 5), (2, 5)],
}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("graph", GRAPHS)
def test_waves_compute_what_edges_do_one_by_one(graph, remat, skip):
    links = GRAPHS[graph]
    # All edges of a node at once: waves skip no others.
    skipped = np.asarray([source == 0 for source, _ in links]) if skip else None
    args = (
        {"kernel": normal(1, len(links), 2, 2)},
        normal(2, len(links), 2),
        normal(3, 6, 2, 3, 3, 2),
    )

    def value(weights, mix, nodes, waves):
        nodes = scan_edges(
            run_edge, links, weights, mix, None, nodes, skip=skipped, remat=remat, waves=waves
        )
        return jnp.sin(nodes).sum()

    results = [
        jax.jit(jax.value_and_grad(value, (0, 1, 2)), static_argnums=3)(*args, waves)
        for waves in (False, True)
    ]
    chex.assert_trees_all_close(*results, rtol=1e-9, atol=1e-9)


def prepare(x):
    return jnp.tanh(x), {"pooled": max_pool(x, 1), "rest": x**2}


def run_prepared(weights, row, prepared):
    read, passed = prepared
    return row[0] * jnp.tanh(pointwise_product(read, weights["kernel"])) + passing(row, passed)


def passing(row, passed):
    return row[0] * passed["rest"] + row[1] * passed["pooled"]


def alone(weights, row, x):
    return run_prepared(weights, row, prepare(x))


SHARED = Shared(prepare, run_prepared, passing, alone)


@pytest.mark.parametrize("skip", [None, "nodes", "edges"])
@pytest.mark.parametrize("graph", [*GRAPHS, "double"])
def test_what_edges_share_changes_nothing_second_derivatives_included(graph, skip):
    links = {**GRAPHS, "double": [(0, 2), (0, 2), (0, 3), (1, 3), (2, 3)]}[graph]
    skipped = {
        None: None,
        "nodes": [link[0] == 0 for link in links],
        "edges": np.arange(len(links)) % 3 == 1,
    }[skip]
    skipped = None if skip is None else np.asarray(skipped)
    args = (
        {"kernel": normal(1, len(links), 2, 2)},
        normal(2, len(links), 2),
        normal(3, 6, 2, 3, 3, 2),
    )
    directions = jax.tree.map(np.cos, args)

    def results(run):
        def value(*args):
            return jnp.sin(scan_edges(run, links, *args[:2], None, args[2], skip=skipped)).sum()

        gradient = jax.grad(value, (0, 1, 2))
        again = jax.grad(
            lambda args: sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(gradient(*args)))
        )
        return value(*args), gradient(*args), jax.jvp(gradient, args, directions)[1], again(args)

    plain = jax.jit(lambda: results(alone))()
    chex.assert_trees_all_close(jax.jit(lambda: results(SHARED))(), plain, rtol=1e-9, atol=1e-9)


def test_edges_are_traced_once_for_all_gradients_of_equal_shapes():
    args, traced = ({"kernel": normal(1, 3, 2, 2)}, normal(2, 3, 2), normal(3, 3, 2, 3, 3, 2)), []

    def counted(weights, row, prepared):
        traced.append(row)
        return run_prepared(weights, row, prepared)

    run = SHARED._replace(run=counted)

    def value(weights, mix, nodes):
        return jnp.sin(scan_edges(run, [(0, 1), (0, 2), (1, 2)], weights, mix, None, nodes)).sum()

    def gradients(weights, mix, nodes):  # as in a search: that of the mix, then that of the weights
        return jax.grad(value, 1)(weights, mix, nodes), jax.grad(value, 0)(weights, mix, nodes)

    jax.jit(jax.grad(value, 1)).lower(*args)
    once = len(traced)
    jax.jit(gradients).lower(*args)
    assert len(traced) == once > 0


@pytest.mark.parametrize("own", [False, True])
def test_what_edges_share_of_states_of_another_size_changes_nothing(own):
    links = [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    mix = normal(2, 5, 2, 2) if own else normal(2, 5, 2)  # [E, O, B] where every sample has its own
    args = {"kernel": normal(1, 5, 2, 2)}, mix, normal(3, 2, 2, 4, 4, 2), normal(4, 3, 2, 2, 2, 2)

    def scaled(row):
        return row if row.ndim == 1 else row[..., None, None, None]

    def halving(weights, row, x):
        return alone(weights, scaled(row), x[:, ::2, ::2])

    run = Shared(
        lambda x: prepare(x[:, ::2, ::2]),
        lambda weights, row, prepared: run_prepared(weights, scaled(row), prepared),
        lambda row, passed: passing(scaled(row), passed),
        halving,
    )

    def results(run):
        def value(args):
            weights, mix, states, nodes = args
            return jnp.sin(scan_edges(run, links, weights, mix, states, nodes)).sum()

        return jax.jit(jax.value_and_grad(value))(args)

    found, plain = results(run), results(halving)
    chex.assert_trees_all_close(found, plain, rtol=1e-9, atol=1e-9)


def test_waves_that_read_states_of_another_size_compute_what_edges_do():
    links = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)]
    args = (
        {"kernel": normal(1, 5, 2, 2)},
        normal(2, 5, 2),
        normal(3, 2, 2, 4, 4, 2),
        normal(4, 3, 2, 2, 2, 2),
    )

    def halving(weights, row, x):
        return run_edge(weights, row, lax.slice(x, (0, 0, 0, 0), x.shape, (1, 2, 2, 1)))

    def value(weights, mix, states, nodes, waves):
        return jnp.sin(scan_edges(halving, links, weights, mix, states, nodes, waves=waves)).sum()

    results = [
        jax.jit(jax.value_and_grad(value, (0, 1, 2, 3)), static_argnums=4)(*args, waves)
        for waves in (False, True)
    ]
    chex.assert_trees_all_close(*results, rtol=1e-9, atol=1e-9)
