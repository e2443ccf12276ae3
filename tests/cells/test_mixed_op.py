"""Laws of the weighted sum of an edge's candidates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal

from dnas.cells import OPS, search_norms
from dnas.cells.mixed_op import MixedOp, shuffle

CHANNELS, BATCH, SIZE = 4, 2, 6
NAMES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def images(seed=1, *lead):
    return normal(seed, *lead, BATCH, SIZE, SIZE, CHANNELS)


def drawn(variables, seed=0):
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, variables))
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
    return tree.unflatten(
        [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=False)]
    )


def op_weights(op, x=None):
    """Weights of a mixed op, every array drawn."""
    return drawn(op.init(jax.random.key(0), images() if x is None else x))


@pytest.fixture(scope="module", params=[1, 2])
def edge(request):
    """(mixed op, its variables, images, outputs of the candidates one by one)."""
    mixed = MixedOp(NAMES, CHANNELS, request.param, search_norms())
    variables = op_weights(mixed)
    candidates = []
    for name in NAMES:
        op = OPS[name](channels=CHANNELS, stride=request.param, norms=search_norms())
        own = variables.get(name)
        candidates.append(op.apply({"params": own} if own is not None else {}, images()))
    return mixed, variables, images(), jnp.stack(candidates)


def test_equal_logits_give_the_mean_of_the_candidates(edge):
    mixed, variables, x, candidates = edge
    y = mixed(variables, jax.nn.softmax(jnp.full(len(NAMES), 0.7)), x)
    np.testing.assert_allclose(y, candidates.mean(0), atol=1e-5)


def test_one_hot_mix_picks_its_candidate(edge):
    mixed, variables, x, candidates = edge
    for number, row in enumerate(jnp.eye(len(NAMES))):
        np.testing.assert_allclose(mixed(variables, row, x), candidates[number], atol=1e-6)


def test_mixed_op_is_linear_in_the_mix(edge):
    mixed, variables, x, candidates = edge
    mix = jnp.array([0.3, -1.0, 2.0, 0.5])
    np.testing.assert_allclose(
        mixed(variables, mix, x), jnp.einsum("o,obhwc->bhwc", mix, candidates), atol=1e-5
    )


def test_a_constant_added_to_the_logits_changes_nothing(edge):
    mixed, variables, x, _ = edge
    logits = jnp.array([0.1, -0.4, 0.3, 1.0])
    y, shifted = (mixed(variables, jax.nn.softmax(logits + c), x) for c in (0.0, 5.0))
    np.testing.assert_allclose(y, shifted, atol=1e-5)


def test_arch_gradient_is_p_times_the_advantage_of_the_op_and_sums_to_zero(edge):
    mixed, variables, x, candidates = edge
    logits = jnp.array([0.1, -0.4, 0.3, 1.0])
    upstream = jax.random.normal(jax.random.key(3), candidates.shape[1:])
    gradient = jax.grad(lambda a: jnp.vdot(mixed(variables, jax.nn.softmax(a), x), upstream))(
        logits
    )
    p, gain = jax.nn.softmax(logits), jnp.einsum("bhwc,obhwc->o", upstream, candidates)
    np.testing.assert_allclose(gradient, p * (gain - (p * gain).sum()), atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(gradient.sum(), 0.0, atol=1e-3)


def test_identity_and_zero_at_equal_logits_give_half_and_a_quarter():
    mixed = MixedOp(("skip_connect", "none"), CHANNELS, 1, search_norms())
    x = images()

    def output(logits):
        return mixed({}, jax.nn.softmax(logits), x)

    jacobian = jax.jacrev(output)(jnp.zeros(2))
    np.testing.assert_allclose(output(jnp.zeros(2)), x / 2, atol=1e-6)
    np.testing.assert_allclose(jacobian[..., 0], x / 4, atol=1e-6)
    np.testing.assert_allclose(jacobian[..., 1], -x / 4, atol=1e-6)


def value_and_gradients(function, *args):
    direction = jax.random.normal(jax.random.key(7), jax.eval_shape(function, *args).shape)

    def value(*args):
        y = function(*args)
        return jnp.vdot(y, direction), y

    return jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))(*args)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("number", range(len(NAMES)))
def test_sampled_op_equals_the_weighted_sum_at_one_hot_and_its_gradients_reach_that_op_alone(
    stride, number
):
    row = jnp.eye(len(NAMES))[number]
    sampled, mixed = (
        MixedOp(NAMES, CHANNELS, stride, search_norms(), sampled=s) for s in (True, False)
    )
    weights = op_weights(mixed)
    ours, theirs = (
        value_and_gradients(lambda w, x, m, op=op: op(w, m, x), weights, images(), row)
        for op in (sampled, mixed)
    )
    (value, y), (of_weights, of_x, of_mix) = ours
    (expected, expected_y), (their_weights, their_x, their_mix) = theirs
    chex.assert_trees_all_close(
        (value, y, of_weights, of_x), (expected, expected_y, their_weights, their_x), atol=1e-4
    )
    np.testing.assert_allclose(of_mix, their_mix * row, atol=1e-3)


def test_sampled_op_runs_one_op():
    sampled = MixedOp(NAMES, CHANNELS, 1, search_norms(), sampled=True)
    weights = op_weights(MixedOp(NAMES, CHANNELS, 1, search_norms()))
    # Those of sep_conv_3x3, the only ones.
    poisoned = jax.tree.map(lambda array: array * jnp.nan, weights)
    pool = jnp.eye(4)[1]
    y = jax.jit(lambda w, m: sampled(w, m, images()))(poisoned, pool)
    assert jnp.isfinite(y).all()
    text = str(jax.make_jaxpr(lambda w, m: sampled(w, m, images()))(weights, pool))
    assert "cond[" in text


def test_partial_channels_send_a_part_through_the_candidates_and_the_rest_past_them():
    parts, width = 2, 8
    x = jax.random.normal(jax.random.key(3), (BATCH, SIZE, SIZE, width))
    mix = jnp.array([0.1, 0.2, 0.3, 0.4])
    for stride in (1, 2):
        whole = MixedOp(NAMES, width, stride, search_norms(), partial_channels=parts)
        inner = MixedOp(NAMES, width // parts, stride, search_norms())
        variables = op_weights(inner, x[..., :4])
        rest = x[..., 4:]
        if stride == 2:
            rest = rest.reshape(BATCH, 3, 2, 3, 2, 4).max((2, 4))
        expected = np.concatenate([inner(variables, mix, x[..., :4]), rest], -1)
        # Shuffled in K groups, the channels of the two parts alternate.
        expected = expected[..., [0, 4, 1, 5, 2, 6, 3, 7]]
        np.testing.assert_allclose(whole(variables, mix, x), expected, atol=1e-5)
        assert jax.tree.map(jnp.shape, op_weights(whole, x)) == jax.tree.map(jnp.shape, variables)


def test_one_part_of_the_channels_is_the_plain_mixed_op():
    mix = jnp.array([0.1, 0.2, 0.3, 0.4])
    plain, parted = (
        MixedOp(NAMES, CHANNELS, 1, search_norms()),
        MixedOp(NAMES, CHANNELS, 1, search_norms(), 1),
    )
    variables = op_weights(plain)
    np.testing.assert_array_equal(plain(variables, mix, images()), parted(variables, mix, images()))


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6])
def test_shuffle_is_a_permutation_that_the_other_number_of_groups_undoes(groups):
    x = jnp.arange(12.0)[None, None, None]
    y = shuffle(x, groups)
    assert sorted(y.ravel().tolist()) == list(range(12))
    np.testing.assert_array_equal(shuffle(y, 12 // groups), x)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_mix_of_each_sample_is_the_mixed_op_on_each_sample(parts):
    """With a candidate without a norm: a norm looks at the whole batch."""
    mixed = MixedOp(("none", "skip_connect"), CHANNELS, 1, search_norms(), partial_channels=parts)
    mix, x = jax.random.uniform(jax.random.key(2), (2, BATCH)), images()
    together = mixed({}, mix, x)
    alone = [mixed({}, mix[:, number], x[number : number + 1]) for number in range(BATCH)]
    np.testing.assert_allclose(together, jnp.concatenate(alone), atol=1e-6)


def test_equal_mixes_of_all_samples_are_one_mix_gradients_included(edge):
    mixed, variables, x, _ = edge
    mix = jax.random.uniform(jax.random.key(2), (len(NAMES),))

    def loss(mix, x):
        return (mixed(variables, mix, x) ** 2).sum()

    of_mix, of_x = jax.grad(loss, (0, 1))(mix, x)
    of_mixes, again = jax.grad(loss, (0, 1))(jnp.tile(mix[:, None], BATCH), x)
    np.testing.assert_allclose(of_mixes.sum(1), of_mix, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(again, of_x, atol=1e-4)


def test_what_passes_by_a_partial_op_has_the_weight_of_its_edge():
    """An edge of weight zero adds nothing, one of half adds half."""
    mixed = MixedOp(NAMES, CHANNELS, 1, search_norms(), partial_channels=2)
    variables = op_weights(mixed)
    mix = jax.nn.softmax(jnp.arange(4.0))
    whole = mixed(variables, mix, images())
    np.testing.assert_allclose(mixed(variables, 0.5 * mix, images()), 0.5 * whole, atol=1e-5)
    assert not mixed(variables, 0 * mix, images()).any()


def test_a_sampled_path_of_each_sample_is_refused():
    mixed = MixedOp(NAMES, CHANNELS, 1, search_norms(), sampled=True)
    variables = op_weights(mixed)
    with pytest.raises(ValueError, match="one for the whole batch.*sampled=False"):
        mixed(variables, jnp.ones((len(NAMES), BATCH)), images())
