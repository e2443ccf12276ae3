"""Each row of the table "adding something" from outside the package: what is put in one place works
in all others by itself.

How names on the command line find what was added is tested in tests/app/test_named.py.
"""

import dataclasses
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supernets import logits_of, supernet_of, weights_of

import dnas
from dnas import export, hw_loss
from dnas.cells import search_norms
from dnas.contracts import (
    check_bilevel,
    check_op,
    check_relaxation,
    check_selection,
    check_space,
)
from dnas.kernels.kernel import Convolution, opaque
from dnas.parts import NetworkParts, Part, term_of
from dnas.tasks import Feed, Task

SIZES = dict(channels=4, num_cells=1, num_classes=3)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
LABELS = np.arange(24) % 3


# An op, and the kernel that one runs on.


class GeluConv(nn.Module):
    """GELU, a 3x3 convolution, a norm."""

    channels: int
    stride: int
    norms: dnas.cells.Norms

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(self.channels, (3, 3), self.stride, use_bias=False)
        return self.norms.conv()(conv(nn.gelu(x)))


class ReluConv(nn.Module):
    """The same with a ReLU, and with the norm left to the sum."""

    channels: int
    stride: int
    norms: dnas.cells.Norms

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(self.channels, (3, 3), self.stride, use_bias=False)
        return self.norms.last()(conv(nn.relu(x)))


def by_patches(x, kernel, *, stride):
    # [B, H, W, C * 9].
    patches = jax.lax.conv_general_dilated_patches(
        x, (3, 3), (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return patches @ jnp.moveaxis(kernel, 2, 0).reshape(-1, kernel.shape[-1])


def macs_of_conv(shapes, output, *, stride):
    del stride
    return math.prod(output) * math.prod(shapes[1][:3])


# A kernel made for XLA, of which neither counts nor exports see the inside.
conv_by_patches = opaque(
    by_patches, macs=macs_of_conv, standard=lambda arguments, *, stride: Convolution(stride, 1)
)


class KernelConv(nn.Module):
    """The same by a kernel of the user's own."""

    channels: int
    stride: int
    norms: dnas.cells.Norms

    @nn.compact
    def __call__(self, x):
        shape = (3, 3, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return self.norms.last()(conv_by_patches(nn.relu(x), kernel, stride=self.stride))


class Nothing(nn.Module):
    """No connection, by another name than none."""

    channels: int
    stride: int
    norms: dnas.cells.Norms

    def __call__(self, x):
        return jnp.zeros_like(x[:, :: self.stride, :: self.stride])


USER_OPS = {
    "a module": GeluConv,
    "a record": dnas.Op(ReluConv, begins_with_relu=lambda stride: True),
    "a kernel": KernelConv,
}


@pytest.fixture(params=USER_OPS)
def space(request, monkeypatch):
    """DARTS's cells with an op of a user among their candidates."""
    monkeypatch.setitem(dnas.OPS, "mine", USER_OPS[request.param])
    return dnas.darts_space(name="with_mine", ops=("none", "skip_connect", "mine"), num_nodes=2)


def genotype_of(space, op):
    edges = [(0, 2), (1, 2), (0, 3), (2, 3)]
    cells = {kind: [(*edge, op) for edge in edges] for kind in ("normal", "reduce")}
    return dnas.Genotype(space.name, cells)


def test_an_op_of_a_user_keeps_the_contracts_of_ops_and_its_space_those_of_spaces(space):
    check_op(dnas.OPS["mine"])
    check_space(space, num_cells=1)


def test_an_op_that_is_written_again_is_the_one_that_runs(monkeypatch):
    # As a cell of a notebook that is run twice, with another op of the same weights.
    x = jnp.linspace(-1, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    seen = []
    for op in (GeluConv, ReluConv, GeluConv):
        monkeypatch.setitem(dnas.OPS, "mine", op)
        space = dnas.darts_space(name="with_mine", ops=("none", "mine"), num_nodes=1)
        supernet = space.supernet(channels=4, num_cells=1, num_classes=3)
        mix = {kind: jnp.ones(own.shape) / 2 for kind, own in space.choices.items()}
        variables = supernet.init(jax.random.key(0), x)
        seen.append(supernet.apply(variables, mix, x, train=True)[0].logits)
    np.testing.assert_array_equal(seen[0], seen[2])
    assert jnp.abs(seen[0] - seen[1]).max() > 1e-3


def test_an_op_of_a_user_is_counted(space):
    sizes = dict(**SIZES, image_size=8)
    with_mine = dnas.count_network(space, genotype_of(space, "mine"), **sizes)
    with_skip = dnas.count_network(space, genotype_of(space, "skip_connect"), **sizes)
    # The only cell reduces: four edges give 4x4 images of 8 channels, three of which are halved. A
    # 3x3 convolution on each, or where a skip connection halves a 1x1 convolution; with norms.
    assert with_mine.params - with_skip.params == 4 * (9 * 8 * 8 + 2 * 8) - 3 * (8 * 8 + 2 * 8)
    assert with_mine.macs - with_skip.macs == 4 * 4 * (4 * 9 * 8 * 8 - 3 * 8 * 8)


def test_tables_and_expected_costs_know_an_op_of_a_user(space):
    sizes = dict(**SIZES, image_size=8)
    table = hw_loss.count_table(space, **sizes)
    for op in ("mine", "skip_connect"):
        genotype = genotype_of(space, op)
        counts = dnas.count_network(space, genotype, **sizes)
        for metric in ("params", "macs"):
            cost = hw_loss.expected_cost(table, space.parts(**sizes), metric=metric)
            assert float(cost(dnas.one_hot_mix(space, genotype))) == getattr(counts, metric)
            known = hw_loss.genotype_cost(table, space, genotype, metric=metric, **sizes)
            assert known == getattr(counts, metric)


def test_an_op_of_a_user_is_measured(space):
    table = hw_loss.measure_table(
        space,
        hw_loss.jax_runtime(),
        device="here",
        date="2026-01-01",
        source="a test",
        repeats=1,
        meter=hw_loss.clock(seconds=1e-7),
        image_size=8,
        **SIZES,
    )
    parts = {part for metric, part in table.rows if metric == "latency"}
    assert {part for part in space.parts(**SIZES, image_size=8).distinct()} <= parts
    assert any(getattr(part, "op", None) == "mine" for part in parts)


def test_an_op_of_a_user_is_exported(space):
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="the extra dnas[export] is not installed"
    )
    network = space.network(genotype_of(space, "mine"), **SIZES)
    images = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), images)
    model = export.to_onnx(network, variables, (8, 8, 3))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    expected = jax.jit(lambda x: network.apply(variables, {}, x)[0].logits)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_supernet_of_ops_of_a_user_at_a_one_hot_mix_is_the_network(space):
    genotype = genotype_of(space, "mine")
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    supernet = space.supernet(**SIZES)
    network = space.network(genotype, **SIZES, norms=lambda train: search_norms())
    weights = jax.jit(weights_of(supernet))(jax.random.key(2), images)
    variables = jax.eval_shape(network.init, jax.random.key(3), images)
    variables = dnas.inherit_weights(space, genotype, weights, variables)
    expected = jax.jit(logits_of(supernet))(weights, dnas.one_hot_mix(space, genotype), images)
    found = jax.jit(lambda variables: network.apply(variables, {}, images, train=True)[0].logits)(
        variables
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_op_of_a_user_that_computes_nothing_costs_nothing(monkeypatch):
    monkeypatch.setitem(dnas.OPS, "nothing", dnas.Op(Nothing, computes_nothing=True))
    space = dnas.darts_space(name="mine", ops=("nothing", "skip_connect"), num_nodes=2)
    table = hw_loss.count_table(space, **SIZES, image_size=8)
    assert "nothing" not in {part.op for _, part in table.rows}
    assert not space.choices["normal"].computes[:, 0].any()
    mix = {kind: np.eye(2)[[0] * len(own.rows)] for kind, own in space.choices.items()}
    cost = hw_loss.expected_cost(table, space.parts(**SIZES, image_size=8), metric="macs")
    assert cost(mix) == cost.fixed


# A relaxation.


def shares() -> dnas.Relaxation:
    """A relaxation without options: what sigmoids of the logits have of their sum."""

    def init(key, choices):
        return {"ops": 1e-3 * jax.random.normal(key, choices.shape)}

    def sample(key, arch, choices, step):
        del key, choices, step
        weights = jax.nn.sigmoid(arch["ops"])
        return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-6)

    return dnas.Relaxation(init, sample)


LINES = dnas.darts_space(name="lines", ops=("none", "skip_connect", "avg_pool_3x3"), num_nodes=1)


def search(**parts):
    settings = dict(channels=2, num_cells=1, epochs=2, batch_size=6, hooks=dnas.QUIET)
    return dnas.run_search(LINES, (IMAGES, LABELS), dnas.Method(**parts), **settings)


def test_a_relaxation_of_a_user_without_options_searches():
    check_relaxation(shares(), LINES.choices["normal"])
    result = search(relaxation=shares())
    for rows in result.mix.values():
        np.testing.assert_allclose(rows.sum(-1), 1, rtol=1e-5)
    dnas.check_genotype(LINES, result.genotype)


# A selection.


def first_edges(space: dnas.SearchSpace, mix) -> dnas.Genotype:
    """The first two edges of each node, with the best op that connects."""
    best = dnas.top_edges()(space, mix)
    return dnas.Genotype(
        space.name,
        {kind: [(0, 2, edges[0][2]), (1, 2, edges[1][2])] for kind, edges in best.cells.items()},
    )


def test_a_selection_of_a_user_reads_the_genotype_of_a_search():
    check_selection(first_edges, LINES)
    genotype = search(select=first_edges).genotype
    assert [edge[:2] for edge in genotype.cells["normal"]] == [(0, 2), (1, 2)]


# A rule.


def stop_after(epochs: int) -> dnas.Rule:
    def update(state, observed):
        return state, dnas.Verdict(stop=observed.epoch >= epochs, metrics={"seen": observed.epoch})

    return dnas.Rule(lambda space, total: np.asarray(total), update)


def test_a_rule_of_a_user_runs_between_epochs():
    result = search(rule=stop_after(1))
    assert [row["seen"] for row in result.history] == [1]


# An arch optimiser, and an optimiser of both levels.


def test_an_arch_optimiser_of_a_user_moves_arch():
    def optimizer(epochs, steps_per_epoch):
        gradient = dnas.first_order()
        return dnas.alternating(gradient, dnas.sgd(0.1), optax.sign_sgd(0.25))

    check_bilevel(optimizer(1, 4))
    result = search(relaxation=dnas.softmax(init_scale=0.0), optimizer=optimizer)
    # signs move each logit by a quarter a step, or not at all where the gradient is zero
    logits = np.concatenate(jax.tree.leaves(result.state.arch))
    np.testing.assert_allclose(np.round(logits / 0.25), logits / 0.25, atol=1e-5)
    assert np.abs(logits).max() > 0


# A penalty, and any other term of the loss of arch.


def squared(target: float) -> hw_loss.Penalty:
    return lambda cost: (cost / target) ** 2


def test_a_penalty_and_an_arch_loss_of_a_user_push_the_search():
    sizes = dict(channels=2, num_cells=1, num_classes=3, image_size=8)
    table = hw_loss.count_table(LINES, **sizes)
    cost = hw_loss.expected_cost(table, LINES.parts(**sizes), metric="params")

    def told(arch, mix):
        return sum(rows[:, 1].sum() for rows in mix.values())  # the weight of skips

    still = search().mix
    for term in (hw_loss.arch_loss(cost, squared(100.0)), told):
        pushed = search(
            arch_losses=[(1e6, term)], optimizer=lambda *length: _quick(dnas.arch_adam(0.1))
        )
        assert float(term({}, pushed.mix)) < float(term({}, still))


def _quick(arch):
    return dnas.alternating(dnas.first_order(), dnas.sgd(0.1), arch)


# A dimension: the width of a hidden layer, whose weights are read through a mask.

WIDTH = dnas.Choices(("w2", "w4", "w8"), ("hidden",), values=(2, 4, 8))
PREFIXES = np.arange(8) < np.array(WIDTH.values)[:, None]


def two_layers(weights, images, mask):
    first, last = weights
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ first)
    return (hidden * mask) @ last


def layer_weights(key, inputs, hidden, outputs):
    keys, shapes = jax.random.split(key), ((inputs, hidden), (hidden, outputs))
    return [0.1 * jax.random.normal(*own) for own in zip(keys, shapes, strict=True)]


def elastic_supernet(*, num_classes=3, **sizes):
    def init(key, images):
        return layer_weights(key, images[0].size, 8, num_classes)

    def logits(weights, mix, images):
        return two_layers(weights, images, mix["width"][0] @ jnp.float32(PREFIXES))

    return supernet_of(init, logits)


def elastic_network(genotype, *, num_classes=3, **sizes):
    width = WIDTH.values[WIDTH.options.index(genotype.picks["width"][0])]

    def init(key, images):
        return layer_weights(key, images[0].size, width, num_classes)

    return supernet_of(init, lambda weights, mix, images: two_layers(weights, images, 1.0))


def elastic_parts():
    widths = {"width": WIDTH}
    hidden = term_of(widths, (("width", 0),), lambda o: Part("hidden", 192, WIDTH.values[o], 1, 1))
    return NetworkParts({}, (), (), dimensions=widths, terms=(hidden,))


ELASTIC = dnas.SearchSpace(
    "elastic",
    {},
    lambda **sizes: (),
    elastic_supernet,
    elastic_network,
    dimensions={"width": WIDTH},
)


def elastic_search(**parts):
    sizes = dict(channels=2, num_cells=1, epochs=3, batch_size=6, hooks=dnas.QUIET)
    return dnas.run_search(ELASTIC, (IMAGES, LABELS), dnas.Method(**parts), **sizes)


def test_a_space_of_a_dimension_keeps_the_contract_of_spaces():
    check_space(ELASTIC)
    nowhere = dataclasses.replace(WIDTH, under=((dnas.Condition("width", 1, (0,)),),))
    with pytest.raises(AssertionError, match="'width' stand under rows and options of the space"):
        check_space(ELASTIC._replace(dimensions={"width": nowhere}))


def test_a_dimension_of_a_user_at_a_one_hot_mix_is_the_sliced_network():
    weights = weights_of(elastic_supernet())(jax.random.key(0), IMAGES[:1])
    images = jnp.float32(IMAGES) / 255
    for option, width in zip(WIDTH.options, WIDTH.values, strict=True):
        mix = dnas.one_hot_mix(ELASTIC, dnas.Genotype("elastic", picks={"width": [option]}))
        sliced = weights[0][:, :width], weights[1][:width]
        expected = two_layers(sliced, images, 1.0)
        found = logits_of(elastic_supernet())(weights, mix, images)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel_hard", "edge_weights"])
def test_a_dimension_of_a_user_is_searched_and_written(relaxation):
    result = elastic_search(relaxation=dnas.RELAXATIONS[relaxation]())
    assert set(result.mix) == {"width"} and result.genotype.picks["width"][0] in WIDTH.options
    assert dnas.Genotype.from_text(result.genotype.to_text()) == result.genotype
    check_selection(dnas.top_edges(), ELASTIC)


RULES = {
    "best_sample": dnas.rules.best_sample(num_samples=3),
    "eigenvalue": dnas.rules.eigenvalue(every=1, window=1, back=1, from_epoch=1),
    "greedy": dnas.rules.greedy(warm_up=0),
    "perturbation": dnas.rules.perturbation(interval=1),
    "ranking": dnas.rules.ranking(patience=2),
    "skip_count": dnas.rules.skip_count(kind="width", op="w8"),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_run_on_a_dimension_of_a_user(name):
    assert set(RULES) == set(dnas.RULES)
    result = elastic_search(rule=RULES[name])
    dnas.check_genotype(ELASTIC, result.genotype)
    if name in ("greedy", "perturbation", "best_sample"):  # which decide
        assert sorted(result.mix["width"][0].tolist()) == [0.0, 0.0, 1.0]


def test_a_dimension_of_a_user_has_costs_and_targets():
    layers = elastic_parts()
    rows = {("latency", part): hw_loss.Cost(float(part.channels_out)) for part in layers.distinct()}
    table = hw_loss.CostTable("here", "numpy", 1, "2026-01-01", "a test", rows)
    cost = hw_loss.expected_cost(table, layers)
    assert hw_loss.feasible_range(cost) == (2.0, 8.0, True)
    bound = 3.0

    def bounded(epochs, steps_per_epoch):
        arch = hw_loss.frank_wolfe(jax.random.key(0), cost, bound)
        return dnas.alternating(dnas.first_order(), optax.sgd(0.1), arch)

    result = elastic_search(relaxation=dnas.simplex(), optimizer=bounded)
    genotype = hw_loss.repair(ELASTIC, result.genotype, result.mix, [(cost, bound)])
    assert cost(dnas.one_hot_mix(ELASTIC, genotype)) <= bound


# A runtime.


def numpy_runtime() -> hw_loss.Runtime:
    """Runs a function op by op."""

    def load(function, x):
        return function, x

    def run(program):
        function, x = program
        return np.asarray(function(x))

    return hw_loss.Runtime("numpy 1", load, run)


def test_a_runtime_of_a_user_measures_a_table():
    table = hw_loss.measure_table(
        LINES,
        numpy_runtime(),
        device="here",
        date="2026-01-01",
        source="a test",
        repeats=1,
        meter=hw_loss.clock(seconds=1e-7),
        image_size=4,
        **SIZES,
    )
    assert table.runtime == "numpy 1"
    assert {part for metric, part in table.rows} >= set(
        LINES.parts(**SIZES, image_size=4).distinct()
    )


def test_a_runtime_of_a_user_proves_targets():
    runtime = numpy_runtime()
    sizes = dict(**SIZES, image_size=4)
    counts = hw_loss.count_table(LINES, **sizes)
    cost = hw_loss.expected_cost(counts, LINES.parts(**sizes), metric="macs")
    genotype = dnas.random_genotype(jax.random.key(0), LINES)
    mix = dnas.one_hot_mix(LINES, genotype)

    def measure(genotype):
        (found,) = hw_loss.measure_networks(
            LINES, [genotype], runtime, repeats=1, meter=hw_loss.clock(seconds=1e-7), **sizes
        )
        return found.median

    bound = hw_loss.feasible_range(cost).largest + 1e9  # in ms, which no network takes
    deployed = hw_loss.deploy(LINES, genotype, mix, [(cost, bound)], measures=[measure])
    assert deployed.met and deployed.proofs[0].measured > 0


# A task.


class Weighed(NamedTuple):
    """A batch whose examples count more or less."""

    inputs: jax.Array
    targets: jax.Array
    weights: jax.Array  # [B]
    key: jax.Array | None = None


def weighed_images(images, targets, weights) -> Task:
    """Numbers that are predicted from images by least squares, examples weighed; half for arch."""
    data = Weighed(jnp.float32(images) / 255, jnp.float32(targets), jnp.float32(weights))

    def batch(data, rows, key, carried):
        return Weighed(data.inputs[rows], data.targets[rows], data.weights[rows])

    def feeds(seed, batch_size, levels):
        half = len(targets) // levels
        steps = half // batch_size
        rows = np.random.default_rng(seed).permutation(half)[: steps * batch_size]
        rows = rows.reshape(steps, batch_size)
        places = [slice(half * level, half * (level + 1)) for level in range(levels)]
        parts = [Weighed(*(own[place] for own in data[:3])) for place in places]
        return tuple(Feed(part, steps, lambda epoch: rows, batch) for part in parts)

    def loss(outputs, batch):
        errors = jnp.square(outputs.logits[:, 0] - batch.targets) * batch.weights
        near = jnp.abs(outputs.logits[:, 0] - batch.targets) < 0.5
        return errors.mean(), {"loss": errors.mean(), "accuracy": near.mean()}

    def accuracy(model, data):
        def score(variables, mix):
            outputs, _ = model.apply(variables, mix, data.inputs)
            return float(loss(outputs, data)[1]["accuracy"])

        return score

    return Task(
        inputs="images",
        example=jnp.zeros((1, *images.shape[1:])),
        num_classes=1,
        feeds=feeds,
        loss=loss,
        accuracy=accuracy,
        sizes={"image_size": images.shape[1:3]},
        test=lambda model: lambda variables: accuracy(model, data)(variables, {}),
    )


def test_a_task_of_a_user_is_searched_and_trained():
    task = weighed_images(IMAGES, LABELS / 2, 1.0 + LABELS)
    sizes = dict(channels=2, num_cells=1)
    result = dnas.run_search(LINES, task, **sizes, epochs=2, batch_size=6, hooks=dnas.QUIET)
    assert len(result.history) == 2 and np.isfinite(result.history[-1]["valid_loss"])
    network = LINES.network(result.genotype, **sizes, num_classes=1)
    trained = dnas.retrain(network, task, epochs=3, batch_size=12, hooks=dnas.QUIET)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    assert 0 <= trained.history[-1]["test_accuracy"] <= 1


# A method: all that a paper is, as one value.


def test_a_method_of_a_user_is_searched():
    method = dnas.Method(
        relaxation=shares(),
        optimizer=lambda epochs, steps: _quick(dnas.arch_adam(0.1)),
        arch_losses=[lambda arch, mix: sum(rows[:, 1].sum() for rows in mix.values())],
        rule=stop_after(2),
        select=first_edges,
    )
    sizes = dict(channels=2, num_cells=1, epochs=3, batch_size=6, hooks=dnas.QUIET)
    result = dnas.run_search(LINES, (IMAGES, LABELS), method, **sizes)
    assert [row["seen"] for row in result.history] == [1, 2]
    assert [edge[:2] for edge in result.genotype.cells["reduce"]] == [(0, 2), (1, 2)]


# A space. That of the README, in a few lines more, is tested in tests/spaces/test_custom.py.


def layers_of(*, channels, num_cells, image_size, stem="cifar"):
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    return (dnas.LayerSpec("cell", channels, 1, size),) * num_cells


def around(images, layers, num_classes, norms, cell):
    x = nn.Conv(layers[0].channels, (3, 3))(images)
    for layer in layers:
        x = cell(layer, x)
    return nn.Dense(num_classes)(x.mean((1, 2)))


def test_a_space_of_a_user_is_counted_read_and_searched():
    cell = dnas.CellSpec(1, 1, ((0, 1),), ("skip_connect", "nor_conv_3x3"), (1,))
    space = dnas.custom_space("chain", {"cell": cell}, layers_of, around, edges_per_node=1)
    check_space(space, num_cells=2)
    result = dnas.run_search(
        space, (IMAGES, LABELS), channels=2, num_cells=2, epochs=1, batch_size=6, hooks=dnas.QUIET
    )
    genotype = result.genotype
    assert dnas.Genotype.from_json(genotype.to_json()) == genotype
    sizes = dict(channels=2, num_cells=2, num_classes=3, image_size=8)
    table = hw_loss.count_table(space, **sizes)
    counts = dnas.count_network(space, genotype, **sizes)
    assert hw_loss.genotype_cost(table, space, genotype, metric="macs", **sizes) == counts.macs
