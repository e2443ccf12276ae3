"""Targets inside a search: what a controller watches is the genotype, and it waits while arch
stands still."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supernets import supernet_of
from test_expected import SPACES, random_mix, random_table, sizes_of

import dnas
from dnas import bilevel
from dnas.hw_loss import Constraint, discrete_mix, expected_cost, lagrangian
from dnas.selection import default_selection
from dnas.space import one_hot_mix


@pytest.mark.parametrize("name", SPACES)
def test_the_discrete_mix_is_that_of_the_genotype(name):
    space = SPACES[name]
    layers = space.parts(**sizes_of(name))
    read = jax.jit(lambda mix: discrete_mix(layers, mix))
    for seed in range(5):
        mix = random_mix(space, seed)
        expected = one_hot_mix(space, default_selection(space, mix))
        for kind, rows in read(mix).items():
            np.testing.assert_array_equal(rows, expected[kind], err_msg=kind)


@pytest.mark.parametrize("name", SPACES)
def test_ties_and_dropped_edges_are_read_as_the_selection_reads_them(name):
    space = SPACES[name]
    layers = space.parts(**sizes_of(name))
    for rows_of in (
        lambda spec: spec.choices.allowed * 1.0,
        lambda spec: spec.choices.allowed * (np.arange(len(spec.edges)) % 2)[:, None],
    ):
        mix = {kind: rows_of(spec) for kind, spec in space.cells.items()}
        expected = one_hot_mix(space, default_selection(space, mix))
        for kind, rows in discrete_mix(layers, jax.tree.map(jnp.float32, mix)).items():
            np.testing.assert_array_equal(rows, expected[kind], err_msg=kind)


def test_no_gradient_passes_through_the_discrete_mix():
    layers = SPACES["cells"].parts()
    gradient = jax.grad(lambda mix: sum(rows.sum() for rows in discrete_mix(layers, mix).values()))(
        random_mix(SPACES["cells"])
    )
    assert not any(rows.any() for rows in jax.tree.leaves(gradient))


def linear_search(space, limits, *, rate=0.2, arch_rate=0.1, warmup=0, wanted=1.0):
    """A search whose cross entropy falls with the weight of dear ops: only the constraint speaks
    for cheap ones."""
    costs = [
        expected_cost(random_table(space.parts()), space.parts(), metric=metric)
        for metric, _ in limits
    ]
    constraint = Constraint(tuple(costs), lagrangian([bound for _, bound in limits], rate=rate))

    def apply(weights, mix, images):
        dear = sum((mix[kind] * jnp.float32(costs[0].if_run[kind])).sum() for kind in space.cells)
        score = wanted * dear + 0 * weights
        return jnp.stack([score, jnp.zeros(())]) * jnp.ones((len(images), 1))

    supernet = supernet_of(lambda key, images: jnp.zeros(()), apply)
    optimizer = bilevel.alternating(
        bilevel.first_order(),
        bilevel.sgd(lambda step: 0.1),
        optax.sgd(arch_rate),
        warmup_steps=warmup,
    )
    search = dnas.make_search(
        space, supernet, optimizer, example=jnp.zeros((1, 8, 8, 3)), constraint=constraint
    )
    return search, costs


def run(search, steps):
    batch = dnas.Batch(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32))
    step, state, found = jax.jit(search.step), search.init(jax.random.key(0)), []
    for _ in range(steps):
        state, metrics = step(state, batch, batch)
        found.append(metrics)
    return state, found


@pytest.mark.parametrize("metrics", [("latency",), ("latency", "energy")])
def test_genotypes_come_within_their_targets_though_accuracy_speaks_for_dear_ops(metrics):
    space = SPACES["chain"]
    free, costs = linear_search(space, [(metric, 1e6) for metric in metrics])
    unbounded, _ = run(free, 200)
    dear = one_hot_mix(
        space, default_selection(space, jax.tree.map(np.asarray, free.mix(unbounded)))
    )
    bounds = [(metric, 0.8 * cost(dear)) for metric, cost in zip(metrics, costs, strict=True)]
    search, costs = linear_search(space, bounds)
    _, found = run(search, 600)
    for metric, bound in bounds:
        late = np.array([float(metrics[metric]) for metrics in found[300:]])
        # A multiplier swings about its value: on average over the time the genotype is within,
        #   though not at each moment.
        assert late.mean() <= 1.02 * bound and late.min() <= bound


def test_a_step_reports_the_cost_of_the_genotype_it_would_read():
    space = SPACES["cells"]
    search, (cost,) = linear_search(space, [("latency", 3.0)])
    state, found = run(search, 5)
    genotype = default_selection(space, jax.tree.map(np.asarray, search.mix(state)))
    assert float(found[-1]["latency"]) == pytest.approx(
        cost(one_hot_mix(space, genotype)), rel=1e-6
    )
    assert float(found[-1]["latency_expected"]) == pytest.approx(
        float(cost(search.mix(state))), rel=1e-5
    )
    assert float(found[-1]["latency_weight"]) == float(state.multipliers[0])


def test_multipliers_wait_while_arch_stands_still():
    search, _ = linear_search(SPACES["chain"], [("latency", 1.0)], warmup=3)
    state, found = run(search, 4)
    assert [float(metrics["latency_weight"]) > 0 for metrics in found] == [
        False,
        False,
        False,
        True,
    ]
    assert float(state.multipliers[0]) > 0


def test_without_a_constraint_a_state_has_no_multipliers():
    space = SPACES["chain"]
    supernet = supernet_of(
        lambda key, images: jnp.zeros(()),
        lambda weights, mix, images: jnp.zeros((len(images), 2)) + weights,
    )
    optimizer, example = bilevel.darts_optimizer(1, 1), jnp.zeros((1, 8, 8, 3))
    search = dnas.make_search(space, supernet, optimizer, example=example)
    assert search.init(jax.random.key(0)).multipliers == ()
