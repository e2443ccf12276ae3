"""DrNAS, in one stage and progressive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_values import BARE, DARTS, DARTS_ON_TEXTS, STEPS, TINY, settings_of, steps_of

import dnas
from dnas.methods import drnas, drnas_progressive, stages_of

# methods.md 4.3, audit.md; DARTS-space/train_search.py and train.py of xiangning-chen/DrNAS
IN_DARTS = DARTS | dict(
    learning_rate=0.1, min_learning_rate=0.0, arch_learning_rate=6e-4, regularizer="l2"
)
TABLE = {
    "darts_without_none": IN_DARTS | dict(partial_channels=4, warmup=10 / 50),
    # 201-space/train_search.py
    "nasbench201": DARTS | dict(epochs=100, partial_channels=1, regularizer="l2"),
    "fbnet": DARTS | dict(partial_channels=1, regularizer="l2"),
    "recurrent": DARTS_ON_TEXTS | dict(partial_channels=1, regularizer="l2"),
}
PROGRESSIVE = {
    "darts_without_none": IN_DARTS
    | dict(
        channels=36,
        num_cells=20,
        epochs=25,
        warmup=10 / 25,
        partial_channels=(6, 4),
        keep=(4,),
    ),
    # 201-space/train_search_progressive.py
    "nasbench201": DARTS
    | dict(epochs=50, warmup=10 / 50, partial_channels=(4, 2), keep=(3,), regularizer="l2"),
}


@pytest.mark.parametrize("space", TABLE)
def test_settings_are_the_published_ones(space):
    assert settings_of(drnas, space, TABLE[space]) == TABLE[space]


@pytest.mark.parametrize("space", PROGRESSIVE)
def test_settings_of_the_stages_are_the_published_ones(space):
    assert settings_of(drnas_progressive, space, PROGRESSIVE[space]) == PROGRESSIVE[space]
    for method in (drnas, drnas_progressive):
        assert method.retraining == {"darts": {"drop_path": 0.3, "batch_size": 64}}


def arch_step(method, logits):
    """How arch moves where nothing but its regulariser has a gradient."""
    arch = {"cell": {"ops": jnp.asarray(logits)}}
    optimizer, weights = method.optimizer(1, 2), jnp.zeros(1)

    def outer(weights, arch):
        total = 0.0 * arch["cell"]["ops"].sum()
        for weight, term in method.arch_losses:
            total += weight * term(arch, {})
        return total, {}

    def inner(weights, arch):
        return 0.0 * weights.sum(), {}

    state = optimizer.init(weights, arch)
    return np.asarray(optimizer.update(inner, outer, state, weights, arch)[1]["cell"]["ops"])


@pytest.mark.parametrize("name", ["l2", "kl"])
def test_both_regularisers_draw_logits_to_zero_with_the_weight_of_the_decay(name):
    changes = {"regularizer": name, "warmup": 0.0}
    method = drnas(TINY["darts"], steps_per_epoch=2, **changes)
    moved = arch_step(method, [[0.5, -0.5, 0.0]])[0]
    assert moved[0] < 0 < moved[1]
    without = drnas(TINY["darts"], steps_per_epoch=2, arch_weight_decay=0.0, **changes)
    assert not arch_step(without, [[0.5, -0.5, 0.0]]).any()


def test_the_divergence_is_a_loss_and_comes_without_a_decay():
    """One logit has no divergence, yet it would decay."""
    for name, losses, moves in (("l2", 0, True), ("kl", 1, False)):
        method = drnas(TINY["darts"], steps_per_epoch=2, regularizer=name, warmup=0.0)
        assert [weight for weight, _ in method.arch_losses] == losses * [1e-3]
        assert arch_step(method, [[1.0]]).any() == moves


def test_one_cosine_goes_over_all_stages_and_arch_rests_at_the_start_of_each():
    """Rates seen as the steps of weights whose gradient is one: those of a single search."""
    space, epochs = TINY["darts"], 5
    method = drnas_progressive(space, steps_per_epoch=STEPS, epochs=epochs, warmup=2 / 5, **BARE)
    arch = {"cell": {"ops": jnp.zeros((2, 3))}}
    rates, moved, state = [], [], None
    for stage in stages_of(method):
        optimizer = stage.method.optimizer(epochs, STEPS)
        if state is not None:  # what `begin` does, on weights that stay as wide as they are
            state = state._replace(step=optimizer.init(jnp.zeros(1), arch).step)
        own_rates, own_moved, state = steps_of(optimizer, arch, epochs * STEPS, state)
        rates.extend(own_rates)
        moved += own_moved
    whole = dnas.cosine_by_epoch(2 * epochs, STEPS, learning_rate=0.1, min_learning_rate=0.0)
    np.testing.assert_allclose(rates, [whole(step) for step in range(len(rates))], rtol=1e-5)
    assert moved == 2 * ([False] * (2 * STEPS) + [True] * (3 * STEPS))


def first_state(method, key):
    """What a stage begins with, its optimisers filled with numbers as though they had been used."""
    space = TINY["darts"]
    supernet = space.supernet(channels=4, num_cells=1, num_classes=3, **method.options)
    search = dnas.make_search(
        space, supernet, method.optimizer(2, STEPS), example=jnp.zeros((1, 8, 8, 1))
    )
    state = search.init(key)

    def used(leaf):
        return leaf + jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)

    return state._replace(optimizer=jax.tree.map(used, state.optimizer))


def test_a_stage_begins_with_all_that_the_one_before_has_learnt():
    """Weights and momentum widened, logits and Adam's averages as they are, steps counted anew."""
    method = drnas_progressive(
        TINY["darts"], steps_per_epoch=STEPS, epochs=2, partial_channels=(4, 2), keep=(2,)
    )
    [stage] = method.stages
    before = first_state(method, jax.random.key(0))
    before = before._replace(optimizer=before.optimizer._replace(step=jnp.array(2 * STEPS)))
    fresh = first_state(stage.method, jax.random.key(1))
    state = stage.begin(fresh, dnas.SearchResult(None, {}, before, []))

    def same(one, other):
        jax.tree.map(np.testing.assert_array_equal, one, other)

    same(state.arch, before.arch)
    same(state.optimizer.arch, before.optimizer.arch)
    same(state.weights, dnas.widen_weights(before.weights, fresh.weights))
    repeated = dnas.cells.repeat_channels(before.optimizer.weights, fresh.optimizer.weights)
    same(state.optimizer.weights, repeated)
    assert state.optimizer.step == fresh.optimizer.step == 0
    shapes, wider = (
        [leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (before.weights, state.weights)
    )
    assert shapes != wider == [leaf.shape for leaf in jax.tree.leaves(fresh.weights)]


def test_every_edge_keeps_its_strongest_ops_in_the_second_stage():
    method = drnas_progressive(TINY["darts"], steps_per_epoch=2, keep=(1,))
    mix = {kind: np.array([[0.2, 0.7, 0.1], [0.3, 0.3, 0.4]]) for kind in TINY["darts"].cells}
    all_ops = {kind: np.ones((2, 3), bool) for kind in mix}
    state = dnas.SearchState(*[None] * 5, candidates=all_ops)
    kept = method.stages[0].candidates(dnas.SearchResult(None, mix, state, []))
    assert kept["normal"].tolist() == [[False, True, False], [False, False, True]]


def test_stages_that_do_not_fit_and_other_regularisers_are_refused():
    space = TINY["darts"]
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(3, 2\)"):
        drnas_progressive(space, steps_per_epoch=2, partial_channels=(4, 2), keep=(3, 2))
    with pytest.raises(ValueError, match="regularizer is 'l2' or 'kl', not 'l1'"):
        drnas(space, steps_per_epoch=2, regularizer="l1")
