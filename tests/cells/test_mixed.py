"""What runs on an edge: laws of the weighted sum, of waves of edges, and of drop path."""

import itertools
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.cells import OPS, final_norms, search_norms
from dnas.cells.chosen import ChosenOps, drop_samples
from dnas.cells.edge_ops import EdgeOps, stacked_edges
from dnas.cells.init import init_variables
from dnas.cells.mixed_cell import MixedCell, run_chain
from dnas.cells.mixed_op import MixedOp, shuffle
from dnas.cells.norms import BatchNorm
from dnas.graph import CellSpec
from dnas.kernels.sums import weighted_sum
from dnas.spaces import DARTS_OPS

try:
    from jax import enable_x64
except ImportError:  # jax before 0.8
    from jax.experimental import enable_x64

CHANNELS, BATCH, SIZE = 4, 2, 6
NAMES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def images(seed=1, *lead):
    return jax.random.normal(jax.random.key(seed), (*lead, BATCH, SIZE, SIZE, CHANNELS))


def filled(module, *args, seed=0):
    """Variables with every array drawn: the marks of `init` are filled by hand for modules of
    several arguments."""
    return drawn(module.init(jax.random.key(seed), *args), seed)


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


SPEC = CellSpec(2, 3, ((0, 2), (1, 2), (1, 3), (2, 3), (0, 4), (2, 4), (3, 4)), NAMES, (4, 2, 3))


def cell(stride, **more):
    return MixedCell(SPEC, CHANNELS, stride, search_norms(), **more)


def inputs(seed=1):
    return tuple(images(seed, 2))


MIX = jax.random.uniform(jax.random.key(2), (len(SPEC.edges), len(NAMES)))


def by_hand(weights, inputs, mix, stride):
    """The cell as the paper writes it: a mixed op on every edge, with automatic gradients of the
    sum."""
    states = dict(enumerate(inputs))
    for node in SPEC.nodes:
        total = 0.0
        for group, edges in stacked_edges(SPEC, stride).items():
            for place, (source, target) in enumerate(edges):
                if target == node:
                    own = jax.tree.map(
                        lambda array, place=place: array[place], weights[f"edges_stride_{group}"]
                    )
                    row = mix[SPEC.edges.index((source, target))]
                    for number, name in enumerate(NAMES):
                        op = OPS[name](channels=CHANNELS, stride=group, norms=search_norms())
                        total += row[number] * op.apply(
                            {"params": own.get(name, {})}, states[source]
                        )
        states[node] = total
    return jnp.concatenate([states[node] for node in SPEC.concat], axis=-1)


def value_and_gradients(function, *args):
    direction = jax.random.normal(jax.random.key(7), jax.eval_shape(function, *args).shape)

    def value(*args):
        y = function(*args)
        return jnp.vdot(y, direction), y

    return jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))(*args)


@pytest.mark.parametrize(
    ("stride", "how"),
    [
        pytest.param(1, ("edges", True), marks=pytest.mark.slow),
        (2, ("edges", True)),
        (2, ("edges", False)),
        (2, ("waves", True)),
        (2, ("unrolled", True)),
        pytest.param(1, ("edges", False), marks=pytest.mark.slow),
        pytest.param(1, ("waves", True), marks=pytest.mark.slow),
        pytest.param(1, ("waves", False), marks=pytest.mark.slow),
        pytest.param(2, ("waves", False), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_cell_equals_a_mixed_op_on_every_edge_gradients_included(stride, how):
    module = cell(stride, schedule=how[0], remat=how[1])
    weights = filled(module, inputs(), MIX)["params"]
    ours = value_and_gradients(
        lambda w, xs, m: module.apply({"params": w}, xs, m), weights, inputs(), MIX
    )
    theirs = value_and_gradients(lambda w, xs, m: by_hand(w, xs, m, stride), weights, inputs(), MIX)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_float64_gradients_of_a_cell_equal_those_by_hand_to_1e_8_and_so_do_second_ones():
    with enable_x64(True):
        module = cell(2)
        wide = jax.tree.map(
            lambda array: jnp.asarray(array, jnp.float64),
            (filled(module, inputs(), MIX)["params"], inputs(), MIX),
        )

        def second(function):
            def first(weights, xs, mix):
                return jax.grad(lambda w: jnp.sin(function(w, xs, mix)).sum())(weights)

            def along(weights, xs, mix):
                return sum(
                    jnp.vdot(g, jnp.cos(3.0 * w))
                    for g, w in zip(
                        *map(jax.tree.leaves, (first(weights, xs, mix), weights)), strict=True
                    )
                )

            return jax.jit(lambda *args: (first(*args), jax.grad(along, 2)(*args)))(*wide)

        ours = second(lambda w, xs, m: module.apply({"params": w}, xs, m))
        theirs = second(lambda w, xs, m: by_hand(w, xs, m, 2))
        assert jax.tree.leaves(ours)[0].dtype == jnp.float64
        chex.assert_trees_all_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_edges_of_a_cell_start_with_different_weights():
    class Fixed(MixedCell):
        @nn.compact
        def __call__(self, xs):
            return super().__call__((xs, xs), MIX)

    for kernel in jax.tree.leaves(
        init_variables(Fixed(SPEC, CHANNELS, 1, search_norms()), jax.random.key(0), images())
    ):
        rows = kernel.reshape(len(SPEC.edges), -1)
        assert len({row.tobytes() for row in np.asarray(rows)}) == len(SPEC.edges)


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
    poisoned = jax.tree.map(
        lambda array: array * jnp.nan, weights
    )  # those of sep_conv_3x3, the only ones
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


def test_weighted_sum_equals_einsum_with_its_gradients():
    arrays, weights = images(5, 3), jnp.array([0.5, -1.0, 2.0])
    direction = images(6)

    def ours(weights, arrays):
        return jnp.vdot(jnp.tanh(weighted_sum(weights, list(arrays))), direction)

    def theirs(weights, arrays):
        return jnp.vdot(jnp.tanh(jnp.einsum("n,nbhwc->bhwc", weights, arrays)), direction)

    found, expected = (jax.value_and_grad(f, (0, 1))(weights, arrays) for f in (ours, theirs))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_drop_samples_zeroes_whole_samples_and_scales_the_rest():
    x = 1.0 + jax.random.uniform(jax.random.key(1), (64, 3, 2, 4))
    y = np.asarray(drop_samples(jax.random.key(0), x, 0.25))
    dropped = (y == 0).all((1, 2, 3))
    assert 0 < dropped.sum() < 64
    np.testing.assert_allclose(y[~dropped], np.asarray(x)[~dropped] / 0.75, rtol=1e-6)


def test_drop_samples_preserves_the_mean():
    x = jnp.ones((20_000, 1, 1, 1))
    y = drop_samples(jax.random.key(0), x, 0.3)
    assert float((y == 0).mean()) == pytest.approx(0.3, abs=0.015)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.02)


def test_drop_samples_at_rate_zero_is_the_identity():
    np.testing.assert_array_equal(drop_samples(jax.random.key(0), images(), 0.0), images())


def test_drop_samples_works_under_jit_and_vmap_with_a_traced_rate():
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.jit(jax.vmap(drop_samples, (0, None, None)))(keys, images(), 0.5)
    np.testing.assert_allclose(
        mapped, jnp.stack([drop_samples(key, images(), 0.5) for key in keys]), rtol=1e-6
    )


def test_chosen_ops_never_drop_an_identity():
    chosen = ChosenOps(("skip_connect",), CHANNELS, 1, final_norms(True))
    for rate in (None, 0.99, jnp.float32(0.99)):
        y = chosen.apply({}, images(), rate, rngs={"drop_path": jax.random.key(0)})
        np.testing.assert_array_equal(y, images())


@pytest.mark.parametrize(
    ("name", "stride"),
    [(name, 1) for name in DARTS_OPS if name not in ("none", "skip_connect")]
    + [("skip_connect", 2)],
)
def test_chosen_ops_drop_all_other_ops(name, stride):
    chosen = ChosenOps((name,), CHANNELS, stride, search_norms())
    variables = filled(chosen, images())
    whole = chosen.apply(variables, images())
    seen = set()
    for seed in range(12):
        y = chosen.apply(variables, images(), 0.5, rngs={"drop_path": jax.random.key(seed)})
        for sample, full in zip(y, whole, strict=True):
            kept = bool(abs(sample).max() > 0)
            np.testing.assert_allclose(sample, 2 * full * kept, atol=1e-5)
            seen.add(kept)
    assert seen == {True, False}


def test_chosen_ops_draw_no_key_without_a_rate():
    chosen = ChosenOps(("max_pool_3x3",), CHANNELS, 1, search_norms())
    chosen.apply({}, images())  # flax raises where a key is drawn that was not given


def test_chosen_ops_sum_over_several_ops():
    chosen = ChosenOps(("max_pool_3x3", "skip_connect"), CHANNELS, 1, final_norms(True))
    alone = [
        ChosenOps((name,), CHANNELS, 1, final_norms(True)).apply({}, images())
        for name in chosen.ops
    ]
    np.testing.assert_allclose(chosen.apply({}, images()), sum(alone), atol=1e-6)


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


@pytest.mark.parametrize("schedule", ["edges", "waves"])
def test_cell_with_a_mix_of_each_sample_equals_one_mix_where_all_are_equal(schedule):
    spec = CellSpec(
        2, 2, ((0, 2), (1, 2), (0, 3), (2, 3)), ("none", "skip_connect", "max_pool_3x3"), (2, 3)
    )
    cell = MixedCell(spec, CHANNELS, 1, search_norms(), schedule=schedule)
    mix, inputs = jax.random.uniform(jax.random.key(2), (4, 3)), [images(1), images(2)]
    expected = cell.apply({}, inputs, mix)
    np.testing.assert_allclose(
        cell.apply({}, inputs, jnp.tile(mix[..., None], BATCH)), expected, atol=1e-5
    )


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


def one_hot(numbers):
    return jnp.eye(len(NAMES))[jnp.asarray(numbers)]


SAMPLED = list(
    itertools.product([(0, 1, 2, 3, 3, 1, 2), (3, 3, 1, 0, 3, 3, 3)], [1, 2], [True, False], [1, 2])
)


@pytest.mark.parametrize(
    ("numbers", "stride", "remat", "parts"),
    # Each setting of two of them is in every run.
    [
        own if (own[1] + own[2] + own[3]) % 2 else pytest.param(*own, marks=pytest.mark.slow)
        for own in SAMPLED
    ],
    ids=str,
)
def test_sampled_cell_equals_the_weighted_one_at_one_hot_gradients_included(
    numbers, stride, remat, parts
):
    row = one_hot(numbers)
    sampled, weighted = (
        cell(stride, sampled=s, remat=remat, schedule="edges", partial_channels=parts)
        for s in (True, False)
    )
    weights = filled(weighted, inputs(), row)["params"]
    ours, theirs = (
        value_and_gradients(
            lambda w, xs, m, own=own: own.apply({"params": w}, xs, m), weights, inputs(), row
        )
        for own in (sampled, weighted)
    )
    (value, y), (of_weights, of_xs, of_mix) = ours
    (expected, expected_y), (their_weights, their_xs, their_mix) = theirs
    chex.assert_trees_all_close(
        (value, y, of_xs), (expected, expected_y, their_xs), rtol=1e-4, atol=1e-3
    )
    chex.assert_trees_all_close(of_weights, their_weights, rtol=1e-4, atol=1e-3)
    if parts == 1:  # otherwise what passes by has a gradient of all entries, drawn or not
        their_mix = their_mix * row
        np.testing.assert_allclose(of_mix, their_mix, rtol=1e-4, atol=1e-3)


def test_sampled_cell_runs_the_drawn_ops_only():
    row = one_hot([1] * len(SPEC.edges))
    sampled = cell(1, sampled=True, schedule="edges")
    weights = jax.tree.map(lambda array: array * jnp.nan, filled(cell(1), inputs(), row)["params"])
    y, gradient = jax.jit(
        jax.value_and_grad(lambda xs: sampled.apply({"params": weights}, xs, row).sum())
    )(inputs())
    chex.assert_tree_all_finite((y, gradient))


def test_sampled_cell_refuses_a_mix_of_each_sample():
    sampled = cell(1, sampled=True, schedule="edges")
    weights = filled(cell(1), inputs(), MIX)["params"]
    with pytest.raises(ValueError, match="one for the whole batch.*sampled=False"):
        sampled.apply({"params": weights}, inputs(), jnp.ones((*MIX.shape, BATCH)))


@pytest.mark.parametrize(
    ("sampled", "remat"),
    [
        (False, True),
        pytest.param(False, False, marks=pytest.mark.slow),
        (True, True),
        (True, False),
    ],
)
def test_a_chain_of_cells_in_one_loop_equals_the_cells_one_by_one_gradients_included(
    sampled, remat
):
    spec = CellSpec(1, 2, ((0, 1), (0, 2), (1, 2)), NAMES, (2,))
    module = MixedCell(spec, CHANNELS, 1, search_norms(), sampled=sampled, remat=remat, parent=None)
    mix = one_hot([3, 1, 3]) if sampled else MIX[:3]
    weights = [filled(module, (images(),), mix, seed=seed)["params"] for seed in range(3)]

    def one_by_one(weights, x, mix):
        for own in weights:
            x = module.apply({"params": own}, (x,), mix)
        return x

    ours = value_and_gradients(lambda w, x, m: run_chain(module, w, x, m), weights, images(), mix)
    chex.assert_trees_all_close(
        ours, value_and_gradients(one_by_one, weights, images(), mix), rtol=1e-4, atol=1e-3
    )


def test_second_gradients_of_a_sampled_cell_equal_those_of_the_weighted_one():
    row = one_hot([0, 1, 2, 3, 3, 1, 2])
    weights = filled(cell(1), inputs(), row)["params"]

    def second(module):
        def gradient(weights):
            return jax.grad(lambda w: jnp.sin(module.apply({"params": w}, inputs(), row)).sum())(
                weights
            )

        return jax.jit(lambda w: jax.jvp(gradient, (w,), (jax.tree.map(jnp.cos, w),)))(weights)

    ours, theirs = (second(cell(1, sampled=sampled, schedule="edges")) for sampled in (True, False))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-3, atol=1e-2)


def test_pooling_is_what_edges_share_unless_its_norm_has_parameters():
    plain, full = search_norms(), search_norms()._replace(pool=partial(BatchNorm, running=False))
    runs = [EdgeOps((SPEC,), norms, 1, False).runner(CHANNELS, 1) for norms in (plain, full)]
    shared = [list(run.prepare(images())[1].outputs) for run in runs]
    assert shared == [["max_pool_3x3"], []]
