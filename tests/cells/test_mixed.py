"""What runs on an edge: laws of the weighted sum, of waves of edges, and of drop path."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.cells import DARTS_OPS, OPS, final_norms, search_norms
from dnas.cells.cell import Wave
from dnas.cells.init import init_variables
from dnas.cells.mixed import ChosenOps, MixedOp, MixedWave, drop_samples, edge_weights

CHANNELS, BATCH, SIZE = 4, 2, 6
NAMES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def images(seed=1, *lead):
    return jax.random.normal(jax.random.key(seed), (*lead, BATCH, SIZE, SIZE, CHANNELS))


def filled(module, *args, seed=0):
    """Variables with every array drawn: the marks of `init` are filled by hand for modules of several arguments."""
    variables = jax.tree.map(jnp.asarray, module.init(jax.random.key(seed), *args))
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
    return tree.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=False)])


@pytest.fixture(scope="module", params=[1, 2])
def edge(request):
    """(mixed op, its variables, images, outputs of the candidates one by one)."""
    mixed = MixedOp(NAMES, CHANNELS, request.param, search_norms())
    variables = filled(mixed, images(), jnp.ones(len(NAMES)))
    candidates = []
    for name in NAMES:
        op = OPS[name](channels=CHANNELS, stride=request.param, norms=search_norms())
        own = variables["params"].get(name)
        candidates.append(op.apply({"params": own} if own is not None else {}, images()))
    return mixed, variables, images(), jnp.stack(candidates)


def test_equal_logits_give_the_mean_of_the_candidates(edge):
    mixed, variables, x, candidates = edge
    y = mixed.apply(variables, x, jax.nn.softmax(jnp.full(len(NAMES), 0.7)))
    np.testing.assert_allclose(y, candidates.mean(0), atol=1e-5)


def test_one_hot_mix_picks_its_candidate(edge):
    mixed, variables, x, candidates = edge
    for number, row in enumerate(jnp.eye(len(NAMES))):
        np.testing.assert_allclose(mixed.apply(variables, x, row), candidates[number], atol=1e-6)


def test_mixed_op_is_linear_in_the_mix(edge):
    mixed, variables, x, candidates = edge
    mix = jnp.array([0.3, -1.0, 2.0, 0.5])
    np.testing.assert_allclose(mixed.apply(variables, x, mix), jnp.einsum("o,obhwc->bhwc", mix, candidates), atol=1e-5)


def test_a_constant_added_to_the_logits_changes_nothing(edge):
    mixed, variables, x, _ = edge
    logits = jnp.array([0.1, -0.4, 0.3, 1.0])
    y, shifted = (mixed.apply(variables, x, jax.nn.softmax(logits + c)) for c in (0.0, 5.0))
    np.testing.assert_allclose(y, shifted, atol=1e-5)


def test_arch_gradient_is_p_times_the_advantage_of_the_op_and_sums_to_zero(edge):
    mixed, variables, x, candidates = edge
    logits = jnp.array([0.1, -0.4, 0.3, 1.0])
    upstream = jax.random.normal(jax.random.key(3), candidates.shape[1:])
    gradient = jax.grad(lambda a: jnp.vdot(mixed.apply(variables, x, jax.nn.softmax(a)), upstream))(logits)
    p, gain = jax.nn.softmax(logits), jnp.einsum("bhwc,obhwc->o", upstream, candidates)
    np.testing.assert_allclose(gradient, p * (gain - (p * gain).sum()), atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(gradient.sum(), 0.0, atol=1e-3)


def test_identity_and_zero_at_equal_logits_give_half_and_a_quarter():
    mixed = MixedOp(("skip_connect", "none"), CHANNELS, 1, search_norms())
    x = images()

    def output(logits):
        return mixed.apply({}, x, jax.nn.softmax(logits))

    jacobian = jax.jacfwd(output)(jnp.zeros(2))
    np.testing.assert_allclose(output(jnp.zeros(2)), x / 2, atol=1e-6)
    np.testing.assert_allclose(jacobian[..., 0], x / 4, atol=1e-6)
    np.testing.assert_allclose(jacobian[..., 1], -x / 4, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_mixed_wave_equals_a_mixed_op_on_every_edge_with_its_own_weights(stride):
    wave = Wave((0, 1), (2, 3, 4))
    xs, mix = images(1, 2), jax.random.uniform(jax.random.key(2), (2, 3, len(NAMES)))
    module = MixedWave(NAMES, CHANNELS, stride, search_norms())
    weights = filled(module, xs, mix)["params"]
    ys = module.apply({"params": weights}, xs, mix)
    assert ys.shape[:2] == (2, 3)
    one = MixedOp(NAMES, CHANNELS, stride, search_norms())
    for i, source in enumerate(wave.sources):
        for j, target in enumerate(wave.targets):
            own = edge_weights(weights, wave, source, target)
            np.testing.assert_allclose(ys[i, j], one.apply({"params": own}, xs[i], mix[i, j]), atol=1e-4)


def test_edges_of_a_wave_start_with_different_weights():
    class OneWave(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return MixedWave(NAMES, CHANNELS, 1, search_norms())(xs, jnp.ones((2, 3, len(NAMES))))

    for kernel in jax.tree.leaves(init_variables(OneWave(), jax.random.key(0), images(1, 2))):
        rows = kernel.reshape(6, -1)
        assert len({row.tobytes() for row in np.asarray(rows)}) == 6


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
    np.testing.assert_allclose(mapped, jnp.stack([drop_samples(key, images(), 0.5) for key in keys]), rtol=1e-6)


def test_chosen_ops_never_drop_an_identity():
    chosen = ChosenOps(("skip_connect",), CHANNELS, 1, final_norms(True))
    for rate in (0.0, 0.99, jnp.float32(0.99)):
        y = chosen.apply({}, images(), rate, rngs={"drop_path": jax.random.key(0)})
        np.testing.assert_array_equal(y, images())


@pytest.mark.parametrize(
    ("name", "stride"),
    [(name, 1) for name in DARTS_OPS if name not in ("none", "skip_connect")] + [("skip_connect", 2)],
)
def test_chosen_ops_drop_all_other_ops(name, stride):
    chosen = ChosenOps((name,), CHANNELS, stride, search_norms())
    variables = filled(chosen, images(), 0.0)
    whole = chosen.apply(variables, images(), 0.0)
    seen = set()
    for seed in range(12):
        y = chosen.apply(variables, images(), 0.5, rngs={"drop_path": jax.random.key(seed)})
        for sample, full in zip(y, whole, strict=True):
            kept = bool(abs(sample).max() > 0)
            np.testing.assert_allclose(sample, 2 * full * kept, atol=1e-5)
            seen.add(kept)
    assert seen == {True, False}


def test_chosen_ops_draw_no_key_at_rate_zero():
    chosen = ChosenOps(("max_pool_3x3",), CHANNELS, 1, search_norms())
    chosen.apply({}, images(), 0.0)  # flax raises where a key is drawn that was not given


def test_chosen_ops_sum_over_several_ops():
    chosen = ChosenOps(("max_pool_3x3", "skip_connect"), CHANNELS, 1, final_norms(True))
    alone = [ChosenOps((name,), CHANNELS, 1, final_norms(True)).apply({}, images(), 0.0) for name in chosen.ops]
    np.testing.assert_allclose(chosen.apply({}, images(), 0.0), sum(alone), atol=1e-6)
