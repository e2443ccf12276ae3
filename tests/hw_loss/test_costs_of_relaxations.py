"""A search is pushed by the cost of what will be derived, whatever its relaxation draws and
whatever the rows of its mix sum to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import supernet_of
from test_expected import random_table, sizes_of

import dnas
from dnas import relax
from dnas.bilevel import BilevelOptimizer
from dnas.hw_loss import Constraint, Multiplier, arch_loss, expected_cost
from dnas.relax import RELAXATIONS, softmax
from dnas.selection import sample_genotype
from dnas.space import one_hot_mix

NAMES = ("darts", "nasbench201", "fbnet", "proxylessnas", "recurrent")
WRAPPED = {
    "drop_ops": lambda: relax.drop_ops(softmax(), 0.5),
    "drop_edges": lambda: relax.drop_edges(softmax(), 0.5, batch_size=2),
    "per_sample": lambda: relax.per_sample(relax.gumbel_softmax(), batch_size=2),
    "max_w of edge_weights": lambda: relax.max_w(relax.edge_weights(relax.sigmoid())),
}
BATCH = dnas.Batch(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32))


def cost_of(name):
    layers = dnas.SPACES[name].parts(**sizes_of(name))
    return expected_cost(random_table(layers), layers, metric="latency")


def outer_only():
    """Moves nothing, and reports the outer objective."""

    def update(inner, outer, state, weights, arch):
        total, _ = outer(weights, arch)
        return *jax.tree.map(jnp.zeros_like, (weights, arch)), state, {"total": total}

    return BilevelOptimizer(lambda weights, arch: (), update)


def search_of(space, relaxation, **more):
    supernet = supernet_of(
        lambda key, images: jnp.zeros(()),
        lambda weights, mix, images: jnp.zeros((len(images), 2)) + weights,
    )
    example = jnp.zeros((1, 8, 8, 3))
    return dnas.make_search(
        space, supernet, outer_only(), example=example, relaxation=relaxation, **more
    )


def mean_cost(space, cost, mix, draws=150):
    """Of genotypes drawn as the mix is read."""
    mix = jax.tree.map(np.asarray, mix)
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = [sample_genotype(key, space, mix) for key in keys]
    return np.mean([cost.discrete(one_hot_mix(space, genotype)) for genotype in drawn])


def elsewhere(arch, choices, seed=1):
    """arch away from where a search starts: logits that are also on the simplex."""
    logits = 3 * jax.random.normal(jax.random.key(seed), choices.shape)
    return {**arch, "ops": jax.nn.softmax(jnp.where(choices.allowed, logits, -jnp.inf))}


@pytest.mark.parametrize("space", NAMES)
@pytest.mark.parametrize("relaxation", [*RELAXATIONS, *WRAPPED])
def test_the_cost_at_the_start_of_a_search_is_that_of_genotypes_that_are_drawn(relaxation, space):
    space, cost = dnas.SPACES[space], cost_of(space)
    made = (RELAXATIONS | WRAPPED)[relaxation]()
    search = search_of(space, made, arch_losses=[arch_loss(cost)])
    state = search.init(jax.random.key(0))
    # Beside the cost there is the cross entropy of two classes.
    seen = float(jax.jit(search.step)(state, BATCH, BATCH)[1]["total"]) - np.log(2)
    assert seen == pytest.approx(mean_cost(space, cost, search.mix(state)), rel=0.05)


@pytest.mark.parametrize("relaxation", ["max_w", "sigmoid", "edge_weights", "gumbel_hard"])
def test_a_constraint_sees_that_cost_wherever_arch_is(relaxation):
    space, cost = dnas.SPACES["nasbench201"], cost_of("nasbench201")
    multiplier = Multiplier(
        lambda: jnp.zeros(1), lambda multipliers, *costs: multipliers, lambda _, costs: costs.sum()
    )
    made = RELAXATIONS[relaxation]()
    search = search_of(space, made, constraint=Constraint((cost,), multiplier))
    state = search.init(jax.random.key(0))
    arch = {kind: elsewhere(own, space.choices[kind]) for kind, own in state.arch.items()}
    state = state._replace(arch=arch)
    _, metrics = jax.jit(search.step)(state, BATCH, BATCH)
    seen = float(metrics["total"]) - np.log(2)
    assert seen == pytest.approx(float(metrics["latency_expected"]), rel=1e-5)
    assert seen == pytest.approx(mean_cost(space, cost, search.mix(state), 400), rel=0.05)


def test_dear_ops_are_pushed_down_also_where_the_strongest_has_weight_one():
    """max_w has the gradient of a maximum, which would push its strongest op the other way."""
    space, cost = dnas.SPACES["fbnet"], cost_of("fbnet")
    (kind,) = space.choices
    choices = space.choices[kind]
    search = search_of(space, relax.max_w(), arch_losses=[arch_loss(cost)])
    arch = {kind: elsewhere(search.init(jax.random.key(0)).arch[kind], choices)}

    def seen(arch):
        state = search.init(jax.random.key(0))._replace(arch=arch)
        return search.step(state, BATCH, BATCH)[1]["total"]

    def wanted(arch):
        return cost({kind: jax.nn.softmax(jnp.where(choices.allowed, arch[kind]["ops"], -1e9))})

    found, expected = (jax.jit(jax.grad(own))(arch)[kind]["ops"] for own in (seen, wanted))
    np.testing.assert_allclose(found, expected, atol=1e-5)
