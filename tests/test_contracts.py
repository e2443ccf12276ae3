"""The contracts hold for all that dnas offers, and each fails on something that breaks its law."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear import IMAGES, LABELS, LINEAR
from supernets import logits_of, supernet_of, weights_of

import dnas
from dnas.cells import OPS
from dnas.contracts import (
    check_op,
    check_relaxation,
    check_resume,
    check_selection,
    check_space,
)
from dnas.model import Tokens
from dnas.relax import (
    RELAXATIONS,
    Relaxation,
    binary_gates,
    drop_ops,
    edge_weights,
    gumbel_hard,
    gumbel_softmax,
    max_w,
    simplex_edge_weights,
    with_prior,
)
from dnas.spaces import SPACES, darts_space, recurrent_space

SPEC = SPACES["darts"].cells["normal"]
TINY = darts_space(name="tiny", ops=("none", "skip_connect", "avg_pool_3x3"), num_nodes=2)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.contract
def test_op_keeps_its_contract(name):
    check_op(OPS[name])


@pytest.mark.parametrize("name", RELAXATIONS)
@pytest.mark.contract
def test_relaxation_keeps_its_contract(name):
    for spec in set(SPACES["darts"].cells.values()):  # one, shared by both kinds of cell
        check_relaxation(RELAXATIONS[name](), spec)


OTHER_CELLS = {
    spec: f"{name}, {kind}"
    for name, space in SPACES.items()
    for kind, spec in space.cells.items()
    if spec != SPEC
}


def fits(name, spec):
    """Weights of the edges into a node mean nothing where each has one edge, as in a layer-wise
    space."""
    return name != "edge_weights" or any(len(spec.incoming(node)) > 1 for node in spec.nodes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param(name, spec, id=f"{name}, {own}")
        for name, (spec, own) in itertools.product(RELAXATIONS, OTHER_CELLS.items())
        if fits(name, spec)
    ],
)
def test_relaxation_keeps_its_contract_on_the_cells_of_other_spaces(name, spec):
    check_relaxation(RELAXATIONS[name](), spec)


@pytest.mark.parametrize("name", SPACES)
def test_selections_that_fit_a_space_keep_their_contract_there(name):
    space = SPACES[name]
    check_selection(dnas.default_selection, space)
    check_selection(dnas.argmax_edges(), space)
    check_selection(dnas.top_edges(1), space)


PLAIN = [name for name in RELAXATIONS if name not in ("edge_weights", "max_w")]
MASK = jnp.asarray([dnas.base.ABSENT] + [0.0] * 7)
WRAPPERS = {
    "edge weights": edge_weights,
    "edge weights around max_w": lambda inner: edge_weights(max_w(inner)),
    "edge weights on the simplex": simplex_edge_weights,
    "mask around edge weights": lambda inner: with_prior(edge_weights(inner), MASK),
    "dropped skips and ops": lambda inner: drop_ops(
        drop_ops(inner, 0.2, ops=("skip_connect",)), lambda step: 0.5
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.contract
def test_wrapped_relaxation_keeps_its_contract(name, wrapper):
    check_relaxation(WRAPPERS[wrapper](RELAXATIONS[name]()), SPEC)


@pytest.mark.parametrize(
    "relaxation",
    [
        binary_gates(paths="two"),
        edge_weights(binary_gates(paths="two")),
        max_w(detach=True),
        gumbel_softmax(temperature=0.1),
        gumbel_hard(temperature=dnas.relax.linear_temperature(50, 10)),
        simplex_edge_weights(),
    ],
    ids=[
        "two paths",
        "two paths, edge weights",
        "max_w, detached",
        "gumbel, cold",
        "gumbel, on a schedule",
        "edge weights on the simplex",
    ],
)
@pytest.mark.contract
def test_relaxation_with_options_keeps_its_contract(relaxation):
    check_relaxation(relaxation, SPEC)


LONG = [name for name in SPACES if SPACES[name].num_cells > 20]  # tracing them takes seconds
LONG += ["darts_without_none", "sharp_darts", "s2", "s3", "s4"]  # each is like one of the others


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in SPACES],
)
@pytest.mark.contract
def test_space_keeps_its_contract(name):
    short = name not in LONG and SPACES[name].num_cells > 3
    check_space(SPACES[name], num_cells=3 if short else None)


@pytest.mark.contract
def test_a_variant_of_a_space_keeps_its_contract():
    check_space(TINY)


def op_of(function):
    """A factory of an op that applies `function(x, norms)` to the images, every other pixel of them
    at stride 2."""

    class Op(nn.Module):
        channels: int
        stride: int
        norms: dnas.cells.Norms

        @nn.compact
        def __call__(self, x):
            return function(self, x[:, :: self.stride, :: self.stride])

    return Op


def count_calls(self, x):
    calls = self.variable("counter", "calls", jnp.zeros, ())
    return x + calls.value


def adds_one_when_traced(self, x):
    if isinstance(x, jax.core.Tracer):
        return x + 1.0
    return x


@jax.custom_vjp
def with_a_nan_gradient(x):
    return x


with_a_nan_gradient.defvjp(lambda x: (x, x), lambda x, g: (g * jnp.nan,))


@jax.custom_vjp
def with_a_nan_gradient_at_zero(x):
    return x


with_a_nan_gradient_at_zero.defvjp(lambda x: (x, x), lambda x, g: (g * x / x,))

BROKEN_OPS = {
    "crashes": ("can be built", lambda self, x: 1 / 0),
    "keeps a counter": ("keeps nothing but weights", count_calls),
    "wrong channels": ("output of an op is", lambda self, x: x[..., :2]),
    "float16": ("keeps float32", lambda self, x: x.astype(jnp.float16)),
    "nan": ("an op is finite", lambda self, x: x / 0.0),
    "leaves jax": ("works under jit", lambda self, x: x * float(x.sum())),
    "differs under jit": ("computes the same under jit", adds_one_when_traced),
    "nan gradient": (
        "gradients of an op for images and weights are finite",
        lambda self, x: with_a_nan_gradient(x),
    ),
    "nan gradient at zero": (
        "gradients of an op for images and weights are finite",
        lambda self, x: with_a_nan_gradient_at_zero(x),
    ),
}


@pytest.mark.parametrize("name", BROKEN_OPS)
def test_check_op_names_the_law_that_an_op_breaks(name):
    message, function = BROKEN_OPS[name]
    with pytest.raises(AssertionError, match=f"law broken: .*{message}"):
        check_op(op_of(function))


def test_check_op_refuses_an_op_that_ignores_its_stride():
    with pytest.raises(
        AssertionError, match=r"output of an op is \[B, ceil.*with search_norms\(\) and stride 2"
    ):
        check_op(
            lambda channels, stride, norms, name=None: OPS["max_pool_3x3"](
                channels=channels, stride=1, norms=norms
            )
        )


@pytest.mark.parametrize(
    ("name", "claim", "message"),
    [
        ("max_pool_3x3", {"computes_nothing": True}, "computes something"),
        ("max_pool_3x3", {"is_identity": lambda stride: stride == 1}, "changes its input"),
        ("sep_conv_3x3", {"without_weights": True}, "have no weights"),
        ("skip_connect", {"begins_with_relu": lambda stride: True}, "depends on negative numbers"),
    ],
)
def test_check_op_refuses_a_record_that_says_what_is_not_so(name, claim, message):
    with pytest.raises(AssertionError, match=f"record of an op says what it does.*{message}"):
        check_op(dataclasses.replace(OPS[name], **claim))


def test_check_op_refuses_an_op_that_keeps_averages_in_search():
    def factory(channels, stride, norms, name=None):
        return OPS["dil_conv_3x3"](
            channels=channels, stride=stride, norms=dnas.cells.final_norms(True), name=name
        )

    with pytest.raises(AssertionError, match=r"keeps nothing but weights.*batch_stats"):
        check_op(factory)


def test_check_op_refuses_an_op_that_vmap_changes():
    @jax.custom_batching.custom_vmap
    def double(x):
        return 2 * x

    @double.def_vmap
    def _(axis_size, in_batched, x):
        return 3 * x, in_batched[0]

    class Op(nn.Module):
        @nn.compact
        def __call__(self, x):
            return double(x)

    # custom_vmap is not differentiable in reverse mode: the gradient goes around it.
    @jax.custom_vjp
    def doubled(x):
        return double(x)

    doubled.defvjp(lambda x: (double(x), None), lambda _, g: (2 * g,))
    with pytest.raises(
        AssertionError, match="vmap of an op over weights and images equals one by one"
    ):
        check_op(op_of(lambda self, x: doubled(x)))


def only_in_the_final_network(broken):
    def function(self, x):
        in_search = "BatchNorm" in type(self.norms.pool()).__name__
        return x if in_search else broken(self, x)

    return op_of(function)


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        ("can be built and run", lambda self, x: 1 / 0),
        ("no variables but params and batch_stats", count_calls),
        (r"output of an op is float32 \[B", lambda self, x: x[..., :2]),
        ("an op is finite", lambda self, x: x / 0.0),
    ],
)
def test_check_op_looks_at_the_final_network_too(message, broken):
    with pytest.raises(
        AssertionError, match=rf"law broken: .*{message}.*with final_norms\(train\)"
    ):
        check_op(only_in_the_final_network(broken))


def test_check_op_refuses_averages_that_change_their_shape():
    def broken(self, x):
        average = self.variable("batch_stats", "mean", jnp.zeros, (4,))
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            average.value = jnp.zeros((5,))
        return x

    with pytest.raises(AssertionError, match="training keeps the shapes of the running averages"):
        check_op(only_in_the_final_network(broken))


def softmax_but(**changes):
    return dnas.softmax()._replace(**changes)


def init_of(function):
    return softmax_but(init=lambda key, choices: {"ops": function(jax.random.normal(key, (14, 8)))})


def sample_of(function):
    return softmax_but(
        sample=lambda key, arch, choices, step: function(key, jax.nn.softmax(arch["ops"]), step)
    )


def forgetful() -> Relaxation:
    calls = []

    def sample(key, arch, choices, step):
        calls.append(1)
        return jax.nn.softmax(arch["ops"] + len(calls))[:, ::-1] * len(calls)

    return softmax_but(sample=sample)


def read_of(function):
    return softmax_but(read=lambda arch, choices: function(jax.nn.softmax(arch["ops"])))


def ops_of(function):
    """A relaxation that makes its mix of the logits and of which of them are present."""
    return softmax_but(
        sample=lambda key, arch, choices, step: function(
            arch["ops"], arch["ops"] > dnas.base.ABSENT / 2
        )
    )


BROKEN_RELAXATIONS = {
    "init of another shape": ("init returns arch", init_of(lambda arch: arch.T)),
    "init of nan": ("init returns arch", init_of(lambda arch: arch * jnp.nan)),
    "sample of another shape": ("sample returns a mix", sample_of(lambda key, mix, step: mix[0])),
    "sample of nan": ("sample returns a mix", sample_of(lambda key, mix, step: mix / 0)),
    "sample of float16": (
        "sample returns a mix",
        sample_of(lambda key, mix, step: mix.astype(jnp.float16)),
    ),
    "negative": ("no weight of a mix is negative", sample_of(lambda key, mix, step: mix - 0.5)),
    "remembers": ("same key gives the same mix", forgetful()),
    "leaves jax": ("works under jit", sample_of(lambda key, mix, step: mix * float(mix.sum()))),
    "reads the step": (
        "works under jit",
        sample_of(lambda key, mix, step: mix if step < 1 else mix / 2),
    ),
    "reads the key": (
        "works under jit",
        sample_of(lambda key, mix, step: mix * float(1 + jax.random.uniform(key))),
    ),
    "no gradient": (
        "not zero everywhere",
        sample_of(lambda key, mix, step: jax.lax.stop_gradient(mix)),
    ),
    "nan gradient": (
        "gradient of arch is finite",
        sample_of(lambda key, mix, step: with_a_nan_gradient(mix)),
    ),
    "an array without gradient": (
        "not zero everywhere",
        edge_weights()._replace(
            sample=lambda key, arch, choices, step: jax.nn.softmax(arch["ops"])
        ),
    ),
    "draws without read": ("without read draws nothing", gumbel_softmax()._replace(read=None)),
    "read of another shape": ("read returns a mix", read_of(lambda mix: mix[0])),
    "read of nan": ("read returns a mix", read_of(lambda mix: mix / 0)),
    "negative read": ("read returns a mix", read_of(lambda mix: mix - 0.5)),
    "read that remembers": (
        "read gives the same mix each time",
        read_of(lambda mix, calls=[]: (calls.append(1), mix * len(calls))[1]),
    ),
    "read leaves jax": (
        "read gives the same mix each time, and under jit",
        read_of(lambda mix: mix * float(mix.sum())),
    ),
    "nan without ops": (
        "finite and not negative though ops",
        ops_of(
            lambda logits, kept: (
                jnp.where(kept, jnp.exp(logits), 0.0)
                / jnp.where(kept, jnp.exp(logits), 0.0).sum(1)[:, None]
            )
        ),
    ),
    "weight of an absent op": (
        "absent has no weight",
        ops_of(lambda logits, kept: jax.nn.softmax(jnp.maximum(logits, -5.0))),
    ),
    "nan gradient without ops": (
        "gradient of arch is finite though ops",
        ops_of(
            lambda logits, kept: jnp.where(
                kept, jax.nn.softmax(logits) * (1 + 0 * jnp.sqrt(logits + 1.0)), 0.0
            )
        ),
    ),
}


@pytest.mark.parametrize("name", BROKEN_RELAXATIONS)
def test_check_relaxation_names_the_law_that_a_relaxation_breaks(name):
    message, relaxation = BROKEN_RELAXATIONS[name]
    with pytest.raises(AssertionError, match=f"law broken: .*{message}"):
        check_relaxation(relaxation, SPEC)


def test_check_relaxation_refuses_a_sample_that_vmap_changes():
    @jax.custom_batching.custom_vmap
    def one(key_data):
        return jnp.ones(())

    @one.def_vmap
    def _(axis_size, in_batched, key_data):
        return jnp.full((axis_size,), 2.0), True

    def sample(key, arch, choices, step):
        return jax.nn.softmax(arch["ops"]) * one(jax.random.key_data(key))

    with pytest.raises(AssertionError, match="vmap of a relaxation over keys equals one by one"):
        check_relaxation(softmax_but(sample=sample), SPEC)


def cells_but(**changes):
    return TINY._replace(
        cells={kind: dataclasses.replace(spec, **changes) for kind, spec in TINY.cells.items()}
    )


def layers_of(function):
    return TINY._replace(layers=lambda **sizes: function(TINY.layers(**sizes)))


def with_supernet(init=lambda weights: weights, apply=lambda logits: logits):
    def supernet(**sizes):
        true = TINY.supernet(**sizes)
        return supernet_of(
            lambda *args: init(weights_of(true)(*args)), lambda *args: apply(logits_of(true)(*args))
        )

    return TINY._replace(supernet=supernet)


def with_network(init=lambda variables: variables, apply=lambda result, train: result):
    def network(genotype, **sizes):
        true = TINY.network(genotype, **sizes)
        return dnas.Model(
            lambda *args: init(true.init(*args)),
            lambda *args, key, train: apply(true.apply(*args, key=key, train=train), train),
        )

    return TINY._replace(network=network)


SEQUENCES = recurrent_space(name="sequences", num_nodes=2)


def sequences_of(change):
    """A recurrent space whose networks give what `change` makes of their outputs."""

    def network(genotype, **sizes):
        network = SEQUENCES.network(genotype, **sizes)

        def apply(*args, **options):
            outputs, variables = network.apply(*args, **options)
            return change(outputs), variables

        return network._replace(apply=apply)

    return SEQUENCES._replace(network=network)


BROKEN_SPACES = {
    "sequences without states": (
        "network.apply with train=True returns the state after each token",
        sequences_of(lambda outputs: outputs._replace(hidden=outputs.hidden[:, -1])),
    ),
    "sequences of one logit a text": (
        "network.apply with train=True returns float32 logits",
        sequences_of(lambda outputs: outputs._replace(logits=outputs.logits[:, 0])),
    ),
    "node without edge": ("an edge enters every node", cells_but(edges=((0, 2),))),
    "only none": ("has an op that can be chosen", cells_but(ops=("none",))),
    "layers of another kind": (
        "whose kinds are cells of the space",
        layers_of(lambda layers: [layer._replace(kind="other") for layer in layers]),
    ),
    "layers that do not halve": (
        "each layer reads what the one before leaves",
        layers_of(lambda layers: [layer._replace(size=(32, 32)) for layer in layers]),
    ),
    "integer weights": (
        "supernet.init.* float32 weights",
        with_supernet(init=lambda weights: jax.tree.map(lambda array: array.astype(int), weights)),
    ),
    "probabilities of one class": (
        "supernet.apply with train=True returns float32 logits, one for each class",
        with_supernet(apply=lambda logits: logits[:, :1]),
    ),
    "supernet leaves jax": (
        "supernet.apply",
        with_supernet(apply=lambda logits: logits * float(logits.sum())),
    ),
    "network without params": (
        "network.init.* weights under params",
        with_network(init=lambda variables: variables["params"]),
    ),
    "network of one class": (
        r"network.apply with train=True returns float32 logits",
        with_network(
            apply=lambda result, train: (dnas.Outputs(result[0].logits[:, :1]), result[1])
        ),
    ),
    "network that loses variables": (
        "network.apply with train=True .* variables as they came",
        with_network(apply=lambda result, train: (result[0], {"params": result[1]["params"]})),
    ),
    "network that is wrong in evaluation": (
        "network.apply with train=False",
        with_network(
            apply=lambda result, train: (
                result if train else (dnas.Outputs(result[0].logits.T), result[1])
            )
        ),
    ),
}


@pytest.mark.parametrize("name", BROKEN_SPACES)
def test_check_space_names_the_law_that_a_space_breaks(name):
    message, space = BROKEN_SPACES[name]
    with pytest.raises(AssertionError, match=f"law broken: .*{message}"):
        check_space(space, num_cells=min(space.num_cells, 3))


def test_check_space_refuses_genotypes_that_do_not_survive_json(monkeypatch):
    monkeypatch.setattr(
        dnas.Genotype, "to_json", lambda self: dnas.PUBLISHED["DARTS_V1"].__class__.__name__
    )
    with pytest.raises(AssertionError, match="law broken: .*round trip through JSON"):
        check_space(TINY, num_cells=3)


def test_check_space_refuses_genotypes_that_do_not_survive_text(monkeypatch):
    text = dnas.PUBLISHED["DARTS_V1"].to_text()
    monkeypatch.setattr(dnas.Genotype, "to_text", lambda self: text)
    with pytest.raises(AssertionError, match="law broken: .*round trip through text"):
        check_space(TINY, num_cells=3)


def test_check_space_refuses_a_one_hot_mix_that_selection_does_not_read_back(monkeypatch):
    true = dnas.one_hot_mix
    monkeypatch.setattr(
        "dnas.contracts.one_hot_mix",
        lambda *args: {kind: 1 - rows for kind, rows in true(*args).items()},
    )
    with pytest.raises(AssertionError, match="law broken: .*selection reads a genotype back"):
        check_space(TINY, num_cells=3)


def test_check_space_refuses_a_selection_outside_the_space(monkeypatch):
    monkeypatch.setattr(
        "dnas.contracts.default_selection", lambda space, mix: dnas.PUBLISHED["DARTS_V1"]
    )
    with pytest.raises(
        AssertionError, match="law broken: the selection of the space makes a genotype"
    ):
        check_space(TINY, num_cells=3)


def test_a_space_of_other_inputs_is_checked_on_the_example_that_is_given():
    space = SPACES["recurrent"]._replace(inputs="bytes")
    with pytest.raises(ValueError, match="'recurrent' read bytes.*images, tokens; give a batch"):
        check_space(space)
    check_space(space, inputs=jax.eval_shape(lambda: Tokens(jnp.zeros((2, 5), jnp.int32))))


SMALL_SEARCH = {"channels": 2, "num_cells": 3, "batch_size": 4, "steps": 7}  # five an epoch
TASK = dnas.tasks.images(IMAGES, LABELS)


def test_a_search_may_be_interrupted():
    check_resume(LINEAR, TASK, **SMALL_SEARCH)
    check_resume(LINEAR, (IMAGES, LABELS), dnas.METHODS["darts1"], **SMALL_SEARCH)


def test_a_search_of_several_stages_may_be_interrupted_in_each():
    stage = dnas.methods.Stage(dnas.Method())
    staged = dnas.Method(stages=(stage, stage))
    check_resume(LINEAR, TASK, staged, **SMALL_SEARCH)


def drawing_rows(seed, batch_size, levels):
    """Rows that are another draw each time that they are asked for."""
    draw = np.random.default_rng(seed)

    def rows(epoch):
        del epoch
        return draw.integers(0, 20, (5, batch_size)).astype(np.int32)

    return tuple(feed._replace(rows=rows) for feed in TASK.feeds(seed, batch_size, levels))


def counting_loss():
    """A loss that is another each time that it is traced."""
    traced = itertools.count()

    def loss(outputs, batch):
        value, metrics = TASK.loss(outputs, batch)
        return value * (1 + next(traced)), metrics

    return loss


@pytest.mark.parametrize(
    "task",
    [TASK._replace(feeds=drawing_rows), TASK._replace(loss=counting_loss())],
    ids=["rows", "loss"],
)
def test_a_task_that_keeps_something_beside_the_state_is_found(task):
    with pytest.raises(AssertionError, match="law broken: a search that goes on .* differs in"):
        check_resume(LINEAR, task, **SMALL_SEARCH)


def test_one_step_leaves_nothing_to_go_on_with():
    with pytest.raises(ValueError, match="steps"):
        check_resume(LINEAR, TASK, **SMALL_SEARCH | {"steps": 1})
