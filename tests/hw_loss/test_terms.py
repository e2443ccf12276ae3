"""Costs of several rows at once, on 400 elastic networks, few enough to go through them all.

Images of 8x8x1; a 3x3 stem to 8 channels; two stages, of 8 channels and of 16 at half the size,
with one or two blocks each; a block expands 2 or 4 times, has a depthwise kernel of 3 or 5, and
projects; the mean over positions, and 160 weights to 10 classes. Weights of convolutions are all
that counts.
"""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dnas
from dnas.choices import Choices, Condition
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.hw_loss import (
    Cost,
    CostTable,
    approach,
    discrete_mix,
    expected_cost,
    feasible_range,
    feasible_start,
    frank_wolfe,
    genotype_cost,
    repair,
)
from dnas.hw_loss.feasible import cheapest_mix
from dnas.parts import LayerParts, NetworkParts, Part, Term, term_of
from dnas.selection import default_selection, random_genotype
from dnas.space import SearchSpace, canonical_genotype, one_hot_mix

BLOCKS = tuple(itertools.product(range(2), range(2)))  # (stage, number in it)
STAGES = ((8, 8, 8, 1), (8, 16, 8, 2))  # channels in and out, size of the input, stride of a stage


def under_depth(stage, number):
    """The second block of a stage is there if its depth is 2."""
    return (Condition("depth", stage, (1,)),) if number else ()


ROWS = tuple(f"stage_{stage}_block_{number}" for stage, number in BLOCKS)
UNDER = tuple(under_depth(*block) for block in BLOCKS)
DIMENSIONS = {
    "kernel": Choices(("k3", "k5"), ROWS, values=(3, 5), under=UNDER),
    "expand": Choices(("e2", "e4"), ROWS, values=(2, 4), under=UNDER),
    "depth": Choices(("d1", "d2"), ("stage_0", "stage_1"), values=(1, 2)),
}


def block_part(row, kernel, expand):
    stage, number = BLOCKS[row]
    inputs, outputs, size, stride = STAGES[stage]
    if number:
        inputs, size, stride = outputs, size // stride, 1
    keys = (("expand", DIMENSIONS["expand"].values[expand]), ("kernel", (3, 5)[kernel]))
    return Part("mbconv", inputs, outputs, size, size, stride, keys)


def elastic_parts():
    terms = [
        term_of(
            DIMENSIONS,
            (("kernel", row), ("expand", row)),
            lambda kernel, expand, row=row: block_part(row, kernel, expand),
            alive=UNDER[row],
        )
        for row in range(len(BLOCKS))
    ]
    fixed = (Part("stem", 1, 8, 8, 8), Part("classifier", 16, 10, 4, 4))
    return NetworkParts({}, fixed, (), dimensions=DIMENSIONS, terms=tuple(terms))


LAYERS = elastic_parts()
SPACE = SearchSpace("elastic", {}, None, None, None, parts=lambda: LAYERS, dimensions=DIMENSIONS)


def counts(part):
    """(params, MACs) of a part."""
    if part.op == "stem":
        return 72, 72 * 64
    if part.op == "classifier":
        return 160, 160
    keys, before, after = dict(part.keys), part.height**2, (part.height // part.stride) ** 2
    middle = part.channels_in * keys["expand"]
    expand, depthwise, project = (
        part.channels_in * middle,
        keys["kernel"] ** 2 * middle,
        middle * part.channels_out,
    )
    return expand + depthwise + project, expand * before + (depthwise + project) * after


def table_of(layers):
    random, rows = np.random.default_rng(0), {}
    for part in layers.distinct():
        params, macs = counts(part)
        numbers = dict(params=params, macs=macs, latency=random.gamma(2))
        numbers["peak_memory"] = random.gamma(2)
        rows |= {(metric, part): Cost(float(number)) for metric, number in numbers.items()}
    return CostTable("dice", "numpy", 1, "today", "counted by hand", rows)


TABLE = table_of(LAYERS)
COSTS = {metric: expected_cost(TABLE, LAYERS, metric=metric) for metric in TABLE.metrics}


def all_genotypes():
    sizes = [len(choices.rows) for choices in DIMENSIONS.values()]
    options = [own.options for own in DIMENSIONS.values()]
    of_kinds = [
        itertools.product(own, repeat=size) for own, size in zip(options, sizes, strict=True)
    ]
    for picks in itertools.product(*of_kinds):
        yield Genotype("elastic", picks=dict(zip(DIMENSIONS, picks, strict=True)))


def by_hand(genotype):
    """(params, MACs), block by block."""
    found = np.array(counts(LAYERS.fixed[0])) + counts(LAYERS.fixed[1])
    for row, (stage, number) in enumerate(BLOCKS):
        if number < int(genotype.picks["depth"][stage][1]):
            columns = [
                DIMENSIONS[k].options.index(genotype.picks[k][row]) for k in ("kernel", "expand")
            ]
            found += counts(block_part(row, *columns))
    return tuple(found.tolist())


GENOTYPES = list(all_genotypes())
MIXES = [
    {kind: np.asarray(rows, np.float64) for kind, rows in one_hot_mix(SPACE, genotype).items()}
    for genotype in GENOTYPES
]


def random_mix(seed, scale=1.0):
    random = np.random.default_rng(seed)
    return {
        kind: random.dirichlet(np.full(own.shape[1], scale), own.shape[0])
        for kind, own in DIMENSIONS.items()
    }


def chance(mix, one_hot):
    return np.prod([(mix[kind] * one_hot[kind]).sum(axis=-1).prod() for kind in mix])


def uniform():
    return {kind: np.full(own.shape, 0.5) for kind, own in DIMENSIONS.items()}


def test_there_are_400_networks_with_the_published_counts():
    networks = {canonical_genotype(SPACE, genotype): by_hand(genotype) for genotype in GENOTYPES}
    assert len(GENOTYPES) == 1024 and len(networks) == 400
    params, macs = (np.array(numbers) for numbers in zip(*networks.values(), strict=True))
    assert (params.min(), params.max()) == (1_160, 8_072)
    assert (macs.min(), macs.max()) == (44_960, 268_448)
    assert len(set(macs.tolist())) == 170 and macs.mean() == 151_072
    bins = Counter(((macs - macs.min()) // 50_000).tolist())
    assert [bins[number] for number in range(5)] == [35, 142, 164, 54, 5]


@pytest.mark.parametrize("metric", COSTS)
def test_at_a_one_hot_mix_it_is_the_cost_of_the_genotype_exactly(metric):
    cost = COSTS[metric]
    for genotype, mix in zip(GENOTYPES, MIXES, strict=True):
        assert cost(mix) == genotype_cost(TABLE, SPACE, genotype, metric=metric)
    if metric in ("params", "macs"):
        number = ("params", "macs").index(metric)
        assert [cost(mix) for mix in MIXES] == [by_hand(own)[number] for own in GENOTYPES]
    assert float(jax.jit(cost)(mix)) == pytest.approx(cost(mix), rel=1e-6)


@pytest.mark.parametrize("metric", COSTS)
def test_what_a_genotype_has_beyond_its_depth_costs_nothing(metric):
    for genotype in GENOTYPES[::7]:
        form = canonical_genotype(SPACE, genotype)
        own, other = (COSTS[metric](one_hot_mix(SPACE, one)) for one in (genotype, form))
        assert own == other


def test_uniform_rows_have_the_published_expectations():
    assert COSTS["params"](uniform()) == 3_580 and COSTS["macs"](uniform()) == 124_576


@pytest.mark.parametrize("metric", ["params", "macs", "latency"])
def test_it_is_the_mean_over_all_networks_weighted_by_the_rows(metric):
    cost = COSTS[metric]
    costs = np.array([cost(one) for one in MIXES])
    for seed in range(3):
        mix = random_mix(seed)
        weights = np.array([chance(mix, one) for one in MIXES])
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert cost(mix) == pytest.approx(weights @ costs, rel=1e-12)


@pytest.mark.parametrize("metric", ["params", "macs", "latency"])
def test_per_op_is_the_gradient_at_the_mix(metric):
    """Linear in every row of probabilities, so that a difference of any width is the derivative."""
    cost = expected_cost(TABLE, LAYERS, metric=metric, kept_only=False)
    for mix in (uniform(), random_mix(0), MIXES[700]):
        slopes, gradient = (
            cost.per_op(mix),
            jax.grad(lambda mix: cost(mix))(
                {kind: jnp.asarray(rows, jnp.float32) for kind, rows in mix.items()}
            ),
        )
        for kind, rows in mix.items():
            assert slopes[kind].dtype == np.float64
            np.testing.assert_allclose(gradient[kind], slopes[kind], rtol=1e-5, atol=1e-3)
            for index in np.ndindex(rows.shape):
                moved = rows.copy()
                moved[index] += 1.0
                found = cost({**mix, kind: moved}) - cost(mix)
                assert slopes[kind][index] == pytest.approx(found, rel=1e-9, abs=1e-9)


def test_per_op_of_counts_at_one_hot_mixes_are_whole_numbers():
    for mix in MIXES[::97]:
        for rows in COSTS["macs"].per_op(mix).values():
            assert (rows == np.round(rows)).all()


@pytest.mark.parametrize("metric", ["macs", "latency"])
def test_what_ops_add_sums_up_to_the_cost(metric):
    mix = random_mix(1)
    found = COSTS[metric].by_op(mix)
    assert set(found) == {"", "mbconv"}
    assert sum(found.values()) == pytest.approx(COSTS[metric](mix), rel=1e-12)


@pytest.mark.parametrize("metric", COSTS)
def test_the_range_is_that_of_all_networks(metric):
    costs = [COSTS[metric](mix) for mix in MIXES]
    found = feasible_range(COSTS[metric])
    assert found == (
        pytest.approx(min(costs), rel=1e-12),
        pytest.approx(max(costs), rel=1e-12),
        True,
    )
    assert COSTS[metric](cheapest_mix(COSTS[metric])) == pytest.approx(min(costs), rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("metric", COSTS)
def test_a_repaired_genotype_meets_the_bound(metric, share):
    cost, ends = COSTS[metric], feasible_range(COSTS[metric])
    bound = ends.least + share * (ends.largest - ends.least)
    for seed in range(3):
        mix = random_mix(seed)
        genotype = default_selection(SPACE, mix)
        repaired = repair(SPACE, genotype, mix, [(cost, bound)])
        assert cost(one_hot_mix(SPACE, repaired)) <= bound * (1 + 1e-9)
        kept = [
            sum((own[kind] * mix[kind]).sum() for kind in mix)
            for own in (one_hot_mix(SPACE, repaired), *MIXES)
        ]
        within = [cost(own) <= bound * (1 + 1e-12) for own in MIXES]
        assert kept[0] == pytest.approx(max(itertools.compress(kept[1:], within)), abs=1e-6)
        if cost(one_hot_mix(SPACE, genotype)) <= bound:
            assert repaired == genotype
    with pytest.raises(ValueError, match="it ranges from"):
        repair(SPACE, genotype, mix, [(cost, 0.99 * ends.least)])


def test_a_genotype_comes_as_near_to_a_target_as_is_asked_for():
    cost, mix = COSTS["macs"], random_mix(5)
    genotype = default_selection(SPACE, mix)
    for target in (60_000.0, 150_000.0, 250_000.0):
        nearest = min(abs(cost(one) / target - 1) for one in MIXES)
        found = approach(SPACE, genotype, mix, [(cost, target)], tolerance=0.03)
        assert nearest < 0.03 and abs(cost(one_hot_mix(SPACE, found)) / target - 1) <= 0.03


@pytest.mark.parametrize("metric", ["macs", "latency"])
def test_every_iterate_of_frank_wolfe_meets_the_bound(metric):
    cost, ends = COSTS[metric], feasible_range(COSTS[metric])
    bound = ends.least + 0.3 * (ends.largest - ends.least)
    arch = feasible_start(cost, bound)
    optimizer = frank_wolfe(jax.random.key(0), cost, bound)
    wish = {kind: jnp.asarray(rows, jnp.float32) for kind, rows in random_mix(3).items()}

    def loss(arch):
        return -sum((wish[kind] * rows["ops"]).sum() for kind, rows in arch.items())

    @jax.jit
    def step(arch, state):
        updates, state = optimizer.update(jax.grad(loss)(arch), state, arch)
        return optax.apply_updates(arch, updates), state

    state, first = optimizer.init(arch), float(loss(arch))
    for _ in range(40):
        arch, state = step(arch, state)
        mix = {kind: np.asarray(rows["ops"], np.float64) for kind, rows in arch.items()}
        assert cost(mix) <= bound * (1 + 1e-5)
        assert all(np.allclose(rows.sum(axis=-1), 1, atol=1e-5) for rows in mix.values())
    # In the best tenth of the networks that meet the bound; the cost is not convex in all rows.
    discrete = [
        -sum((np.asarray(wish[kind]) * rows).sum() for kind, rows in one.items())
        for one in MIXES
        if cost(one) <= bound
    ]
    assert float(loss(arch)) < first and float(loss(arch)) < np.quantile(discrete, 0.1)


def test_the_discrete_mix_is_that_of_the_genotype_read_off():
    for seed in range(5):
        mix = {kind: jnp.asarray(rows) for kind, rows in random_mix(seed).items()}
        found = jax.jit(lambda mix: discrete_mix(LAYERS, mix))(mix)
        expected = one_hot_mix(SPACE, default_selection(SPACE, mix))
        for kind in found:
            np.testing.assert_array_equal(found[kind], expected[kind])


def test_all_genotypes_are_drawn():
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = {canonical_genotype(SPACE, random_genotype(key, SPACE)) for key in keys}
    assert len(drawn) > 100


@pytest.mark.parametrize("kind", DIMENSIONS)
def test_relaxations_keep_their_contract_on_a_dimension(kind):
    for name in ("softmax", "gumbel_hard", "edge_weights"):
        dnas.contracts.check_relaxation(dnas.RELAXATIONS[name](), SPACE.choices[kind])


def conv(inputs, outputs):
    return Part("conv", inputs, outputs, 4, 4)


def test_a_width_that_two_layers_read_has_the_expectation_of_the_product():
    """E[a b] of independent widths a and b, and E[a^2] where one width is read twice."""
    width = Choices(("w8", "w16"), ("a", "b"), values=(8, 16))
    wide, sizes = {"width": width}, width.values
    two = term_of(wide, (("width", 0), ("width", 1)), lambda a, b: conv(sizes[a], sizes[b]))
    one = term_of(wide, (("width", 0),), lambda a: conv(sizes[a], sizes[a]))
    layers = NetworkParts({}, (), (), dimensions=wide, terms=(two, one))
    products = {part: float(part.channels_in * part.channels_out) for part in layers.distinct()}
    rows = {("macs", part): Cost(product) for part, product in products.items()}
    cost = expected_cost(CostTable("dice", "numpy", 1, "today", "products", rows), layers)
    mix = {"width": np.array([[0.25, 0.75], [0.5, 0.5]])}
    assert cost(mix) == 14 * 12 + (0.25 * 64 + 0.75 * 256)


def test_terms_and_the_layers_of_a_cell_add_up():
    """A chain of blocks whose width is decided as well: the ops of the blocks cost the same beside
    a convolution that reads the width and the block."""
    spec = CellSpec(1, 2, ((0, 1), (1, 2)), ("a", "b"), (2,))
    width = Choices(("w8", "w16"), ("0",), values=(8, 16))
    choices, sizes = {"layers": spec.choices, "width": width}, width.values
    layer = LayerParts("layers", (tuple(Part(op, 8, 8, 4, 4) for op in "ab"),) * 2)
    at = (("layers", 1), ("width", 0))
    term = term_of(choices, at, lambda op, width: Part(f"c{op}", 8, sizes[width], 4, 4))
    cells, dimensions = {"layers": spec}, {"width": width}
    layers = NetworkParts(cells, (), (layer,), dimensions=dimensions, terms=(term,))
    random = np.random.default_rng(0)
    rows = {("latency", part): Cost(float(random.gamma(2))) for part in layers.distinct()}
    table = CostTable("dice", "numpy", 1, "today", "random numbers", rows)
    space = SearchSpace(
        "both", cells, None, None, None, parts=lambda: layers, dimensions=dimensions
    )
    cost, costs = expected_cost(table, layers), {}
    for seed in range(30):
        genotype = random_genotype(jax.random.key(seed), space)
        costs[genotype] = cost(one_hot_mix(space, genotype))
        assert costs[genotype] == pytest.approx(genotype_cost(table, space, genotype), rel=1e-15)
    assert len(costs) == 8
    found = feasible_range(cost)
    assert found[:2] == pytest.approx((min(costs.values()), max(costs.values()))) and found.exact
    assert repair(space, genotype, one_hot_mix(space, genotype), [(cost, found.least * 1.001)])


MISFITS = {
    "no rows": (dict(at=()), "at least one"),
    "a row twice": (dict(at=(("depth", 0), ("depth", 0))), "each once"),
    "a condition on an axis": (dict(alive=(Condition("kernel", 0, (1,)),)), "put None there"),
    "an axis too few": (dict(parts=np.full((), None, object)), "as many"),
    "numbers": (dict(parts=np.zeros(2)), "array of objects"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_terms_that_contradict_themselves_are_refused_with_the_reason(name):
    changes, reason = MISFITS[name]
    parts = dict(at=(("kernel", 0),), parts=np.full(2, None, object))
    with pytest.raises(ValueError, match=reason):
        Term(**parts | changes)


OPTIONAL = CellSpec(1, 1, ((0, 1),), ("none", "a"), (1,))


@pytest.mark.parametrize(
    ("at", "size", "reason"),
    [
        (("width", 0), 2, "row 0 of 'width', which does not exist"),
        (("kernel", 4), 2, "row 4 of 'kernel', which does not exist"),
        (("kernel", 0), 3, r"have shape \(3,\), expected \(2,\)"),
        (("cell", 0), 2, "'cell', some rows of which may be left out"),
    ],
)
def test_terms_that_do_not_fit_the_choices_are_refused_with_the_reason(at, size, reason):
    term = Term((at,), np.full(size, None, object))
    layers = NetworkParts({"cell": OPTIONAL}, (), (), dimensions=DIMENSIONS, terms=(term,))
    with pytest.raises(ValueError, match=reason):
        expected_cost(TABLE, layers, metric="macs")
