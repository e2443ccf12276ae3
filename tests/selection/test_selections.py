"""The contract of every selection, and what each does that the others do not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas.contracts import check_selection
from dnas.graph import CellSpec
from dnas.selection import (
    SELECTIONS,
    argmax_edges,
    best_of_samples,
    random_genotype,
    sample_genotype,
    skip_budget,
    threshold,
    top_edges,
)
from dnas.space import SearchSpace, check_genotype, one_hot_mix

DARTS = dnas.SPACES["darts"]
TINY = dnas.darts_space(name="tiny", ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=2)
NASBENCH = SearchSpace(
    "nasbench201",
    {
        "cell": CellSpec(
            num_inputs=1,
            num_nodes=3,
            edges=((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)),
            ops=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
            concat=(3,),
        )
    },
    None,
    None,
    None,
)
KEY = jax.random.key(0)


def random_mix(seed, space=DARTS, highest=1.0):
    random = np.random.default_rng(seed)
    return {
        kind: random.uniform(0, highest, (len(cell.edges), len(cell.ops)))
        for kind, cell in space.cells.items()
    }


def edges_of(genotype):
    return {kind: set(edges) for kind, edges in genotype.cells.items()}


@pytest.mark.parametrize("space", [DARTS, TINY], ids=lambda space: space.name)
@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.contract
def test_selection_keeps_its_contract(name, space):
    check_selection(SELECTIONS[name](), space)


@pytest.mark.parametrize(
    "selection",
    [
        argmax_edges(),
        dnas.default_selection,
        threshold(),
        top_edges(1),
        skip_budget(kind="recurrent", op="identity"),
    ],
    ids=["argmax_edges", "default", "threshold", "top_edges", "skip_budget"],
)
def test_selection_keeps_its_contract_on_the_recurrent_cell(selection):
    check_selection(selection, dnas.SPACES["recurrent"])


@pytest.mark.parametrize(
    "selection",
    [argmax_edges(), threshold(), top_edges(1), skip_budget(selection=top_edges(1), kind="cell")],
)
@pytest.mark.contract
def test_selection_keeps_its_contract_on_nasbench201(selection):
    check_selection(selection, NASBENCH)


def sorts_in_place(space, mix):
    if isinstance(mix["normal"], np.ndarray):
        mix["normal"].sort()
    return top_edges()(space, mix)


_COUNT = itertools.count()
BROKEN = {
    "makes a genotype": lambda space, mix: dnas.Genotype("another", top_edges()(space, mix).cells),
    "left as it was": sorts_in_place,
    "same genotype": lambda space, mix: random_genotype(jax.random.key(next(_COUNT)), space),
    "reads a genotype": lambda space, mix: top_edges()(
        space, {kind: -np.asarray(rows) for kind, rows in mix.items()}
    ),
    "NaN is refused": lambda space, mix: top_edges()(
        space, {kind: np.nan_to_num(rows) for kind, rows in mix.items()}
    ),
    "stays chosen": lambda space, mix: top_edges()(
        space, {k: np.where(rows > 1, 0, rows) for k, rows in mix.items()}
    ),
}


@pytest.mark.parametrize("law", BROKEN)
def test_check_selection_names_the_law_that_is_broken(law):
    with pytest.raises(AssertionError, match=f"law broken: .*{law}"):
        check_selection(BROKEN[law], DARTS)


# argmax of each edge


def test_argmax_writes_the_string_of_nasbench201():
    ops = ("nor_conv_3x3", "none", "skip_connect", "none", "avg_pool_3x3", "nor_conv_1x1")
    spec = NASBENCH.cells["cell"]
    rows = np.full((6, 5), 0.1)
    rows[np.arange(6), [spec.ops.index(op) for op in ops]] = 0.6
    text = argmax_edges()(NASBENCH, {"cell": rows}).to_text()
    assert text == "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"


def test_every_genotype_of_nasbench201_is_read_back_from_its_one_hot_mix():
    spec = NASBENCH.cells["cell"]
    for row in np.random.default_rng(0).integers(0, 5, (50, 6)):
        cell = [(*edge, spec.ops[op]) for edge, op in zip(spec.edges, row, strict=True)]
        genotype = dnas.Genotype("nasbench201", {"cell": cell}, {"cell": (3,)})
        assert argmax_edges()(NASBENCH, one_hot_mix(NASBENCH, genotype)) == genotype


def test_edges_of_none_vanish_on_request_and_nothing_else_does():
    mix = random_mix(0)
    kept, vanished = argmax_edges()(DARTS, mix), argmax_edges(keep_none=False)(DARTS, mix)
    assert kept.count("none")["normal"] > 0
    for kind, edges in kept.cells.items():
        assert vanished.cells[kind] == tuple(edge for edge in edges if edge.op != "none")
        assert len(edges) == 14


def test_vanishing_edges_leave_what_the_supernet_computes():
    space, images = TINY, jax.random.normal(KEY, (2, 8, 8, 1))
    supernet = space.supernet(channels=2, num_cells=1, num_classes=3)
    weights = weights_of(supernet)(KEY, images)
    mix = random_mix(3, space)
    for rows in mix.values():
        rows[:, 0] = [0, 1, 0, 1, 1]
    logits = [
        logits_of(supernet)(
            weights, one_hot_mix(space, argmax_edges(keep_none=keep)(space, mix)), images
        )
        for keep in (True, False)
    ]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("lost", ["names node 3", "reads from nodes \\[2\\]"])
def test_a_needed_node_without_edges_is_refused(lost):
    """Node 3 is the output; node 2 is read by node 3."""
    cell = CellSpec(2, 2, ((0, 2), (1, 2), (0, 3), (2, 3)), ("none", "a"), concat=(3,))
    space = SearchSpace("space", {"cell": cell}, None, None, None)
    alive = [0, 1] if "names" in lost else [3]
    rows = np.array([[0.4, 0.6] if edge in alive else [0.6, 0.4] for edge in range(4)])
    with pytest.raises(ValueError, match=f"too many edges.*{lost}.*keep_none=True"):
        argmax_edges(keep_none=False)(space, {"cell": rows})
    assert len(argmax_edges()(space, {"cell": rows}).cells["cell"]) == 4


def test_an_unneeded_node_may_lose_its_edges():
    cell = CellSpec(2, 2, ((0, 2), (1, 2), (0, 3), (2, 3)), ("none", "a"), concat=(3,))
    rows = np.array([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]])
    space = SearchSpace("space", {"cell": cell}, None, None, None)
    assert argmax_edges(keep_none=False)(space, {"cell": rows}).cells["cell"] == ((0, 3, "a"),)


def test_a_dropped_edge_counts_as_none_wherever_none_stands():
    cell = CellSpec(1, 1, ((0, 1),), ("a", "none"), concat=(1,))
    space = SearchSpace("space", {"cell": cell}, None, None, None)
    assert argmax_edges()(space, {"cell": np.zeros((1, 2))}).cells["cell"] == ((0, 1, "none"),)


# a threshold


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 2])
def test_threshold_of_zero_is_top_edges_and_one_that_is_never_reached_keeps_one(seed, k):
    mix = random_mix(seed, highest=0.84)
    assert threshold(0, k=k)(DARTS, mix) == top_edges(k)(DARTS, mix)
    assert threshold(k=k)(DARTS, mix) == top_edges(1)(DARTS, mix)


def test_threshold_keeps_at_most_k_edges_and_only_those_that_reach_it():
    for seed in range(20):
        mix = random_mix(seed, highest=0.9)
        genotype, two = threshold()(DARTS, mix), top_edges()(DARTS, mix)
        for kind, spec in DARTS.cells.items():
            strength = {
                edge: mix[kind][spec.edges.index(edge[:2]), spec.ops.index(edge.op)]
                for edge in two.cells[kind]
            }
            for node in spec.nodes:
                first, second = (edge for edge in two.cells[kind] if edge.target == node)
                expected = [first, second] if strength[second] >= 0.85 else [first]
                assert [edge for edge in genotype.cells[kind] if edge.target == node] == expected


def test_threshold_is_reached_by_equality():
    mix = {kind: np.full((14, 8), 0.85) for kind in DARTS.cells}
    assert threshold()(DARTS, mix) == top_edges()(DARTS, mix)


def test_threshold_ignores_none():
    mix = {kind: np.full((14, 8), 0.1) + 0.8 * np.eye(8)[0] for kind in DARTS.cells}
    assert threshold()(DARTS, mix) == top_edges(1)(DARTS, mix)


# a budget of skip connections


@pytest.mark.parametrize("budget", range(9))
def test_budget_is_kept_in_its_kind_and_nothing_else_changes(budget):
    for seed in range(5):
        mix = random_mix(seed)
        mix["normal"][:, 3] += 0.5
        free, bound = top_edges()(DARTS, mix), skip_budget(budget)(DARTS, mix)
        check_genotype(DARTS, bound)
        assert bound.count("skip_connect")["normal"] <= budget
        assert bound.cells["reduce"] == free.cells["reduce"]
        if free.count("skip_connect")["normal"] <= budget:
            assert bound == free


def test_budget_strikes_out_the_weakest_skip_first_and_derives_again():
    """The rule of the paper written out: one zero at a time."""
    for seed in range(5):
        mix = random_mix(seed)
        mix["normal"][:, 3] += 0.5
        zeroed = {kind: rows.copy() for kind, rows in mix.items()}
        while top_edges()(DARTS, zeroed).count("skip_connect")["normal"] > 2:
            chosen = [
                edge
                for edge in top_edges()(DARTS, zeroed).cells["normal"]
                if edge.op == "skip_connect"
            ]
            rows = [DARTS.cells["normal"].edges.index(edge[:2]) for edge in chosen]
            zeroed["normal"][min(rows, key=lambda row: zeroed["normal"][row, 3]), 3] = 0
        assert skip_budget()(DARTS, mix) == top_edges()(DARTS, zeroed)


def test_budget_counts_any_op_of_any_kind_under_any_selection():
    mix = {kind: np.full((14, 8), 0.1) + np.eye(8)[1] for kind in DARTS.cells}
    select = skip_budget(3, kind="reduce", op="max_pool_3x3", selection=argmax_edges())
    assert select(DARTS, mix).count("max_pool_3x3") == {"normal": 14, "reduce": 3}


def test_budget_that_cannot_be_met_is_refused():
    space = dnas.darts_space(name="skips", ops=("none", "skip_connect"))
    with pytest.raises(ValueError, match=r"cannot do with 2 skip_connect.*raise the budget"):
        skip_budget()(space, {kind: np.ones((14, 2)) for kind in space.cells})


# samples


def chi_square(counts, expected):
    return (((np.asarray(counts) - expected) ** 2) / expected).sum()


def test_samples_of_argmax_follow_the_rows_independently():
    rows = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]])
    cell = CellSpec(1, 2, ((0, 1), (0, 2)), ("none", "a", "b"), concat=(1, 2))
    space = SearchSpace("space", {"cell": cell}, None, None, None)
    drawn = [
        sample_genotype(key, space, {"cell": rows}, selection=argmax_edges())
        for key in jax.random.split(KEY, 2000)
    ]
    pairs = [
        tuple(cell.ops.index(edge.op) for edge in genotype.cells["cell"]) for genotype in drawn
    ]
    counts = [pairs.count((first, second)) for first in range(3) for second in range(3)]
    # P < 1e-4 with 8 degrees of freedom.
    assert chi_square(counts, 2000 * np.outer(*rows).ravel()) < 32


def test_samples_of_top_edges_draw_edges_by_their_mass_and_ops_by_their_share():
    rows = np.array([[0.8, 0.15, 0.05], [0.5, 0.1, 0.4], [0.2, 0.4, 0.4]])
    cell = CellSpec(3, 1, ((0, 3), (1, 3), (2, 3)), ("none", "a", "b"), concat=(3,))
    space = SearchSpace("space", {"cell": cell}, None, None, None)
    drawn = [
        sample_genotype(key, space, {"cell": rows}, selection=top_edges(1))
        for key in jax.random.split(KEY, 2000)
    ]
    pairs = [(edge.source, edge.op) for genotype in drawn for edge in genotype.cells["cell"]]
    counts = [pairs.count((source, op)) for source in range(3) for op in "ab"]
    expected = 2000 * (rows[:, 1:] / rows[:, 1:].sum()).ravel()
    assert chi_square(counts, expected) < 26  # p < 1e-4 with 5 degrees of freedom


def test_samples_of_a_uniform_mix_are_uniform_random_genotypes():
    uniform = {kind: np.full((5, 3), 1 / 3) for kind in TINY.cells}
    drawn = [
        sample_genotype(key, TINY, uniform).cells["normal"] for key in jax.random.split(KEY, 1200)
    ]
    pairs = [frozenset(edge.source for edge in edges if edge.target == 3) for edges in drawn]
    assert chi_square([pairs.count(pair) for pair in set(pairs)], 400) < 18  # 2 degrees of freedom
    ops = [tuple(edge.op for edge in edges) for edges in drawn]
    # 15 degrees of freedom.
    assert len(set(ops)) == 16 and chi_square([ops.count(four) for four in set(ops)], 75) < 45


def test_what_has_no_weight_is_never_drawn():
    genotype = random_genotype(KEY, DARTS)
    for key in jax.random.split(KEY, 20):
        assert edges_of(sample_genotype(key, DARTS, one_hot_mix(DARTS, genotype))) == edges_of(
            genotype
        )
    nothing = {kind: np.zeros((14, 8)) for kind in DARTS.cells}
    check_genotype(DARTS, sample_genotype(KEY, DARTS, nothing))


def test_best_of_samples_is_the_best_of_those_that_were_run():
    seen = []

    def accuracy(mix):
        seen.append((float(mix["normal"][:, 4].sum() - mix["reduce"][:, 4].sum()), mix))
        return seen[-1][0]

    uniform = {kind: np.full((14, 8), 1 / 8) for kind in DARTS.cells}
    genotype, best = best_of_samples(KEY, DARTS, uniform, accuracy, num_samples=40)
    check_genotype(DARTS, genotype)
    assert len(seen) == 40 and best == max(value for value, _ in seen) > 1
    first = next(mix for value, mix in seen if value == best)
    for kind, rows in one_hot_mix(DARTS, genotype).items():
        np.testing.assert_array_equal(rows, first[kind])
    assert best_of_samples(KEY, DARTS, uniform, accuracy, num_samples=40) == (genotype, best)


def test_a_genotype_drawn_again_is_not_run_again():
    calls = []
    mix = one_hot_mix(TINY, random_genotype(KEY, TINY))
    best_of_samples(KEY, TINY, mix, lambda mix: calls.append(mix) or 0.5, num_samples=30)
    assert len(calls) == 1  # though the two edges of a node may be listed in either order


def test_best_of_samples_of_a_supernet():
    supernet = TINY.supernet(channels=2, num_cells=1, num_classes=3)
    images, labels = jax.random.normal(KEY, (6, 8, 8, 1)), jnp.arange(6) % 3
    weights = weights_of(supernet)(KEY, images)
    accuracy = jax.jit(
        lambda mix: (logits_of(supernet)(weights, mix, images).argmax(-1) == labels).mean()
    )
    genotype, best = best_of_samples(KEY, TINY, random_mix(0, TINY), accuracy, num_samples=5)
    assert best == float(accuracy(one_hot_mix(TINY, genotype)))


BAD = {
    "threshold below 0": (lambda: threshold(-0.1), "between 0 and 1, got -0.1"),
    "threshold in percent": (lambda: threshold(85), "between 0 and 1, got 85"),
    "no edge": (lambda: threshold(k=0), "k = 0"),
    "negative budget": (lambda: skip_budget(-1), "at least 0, got -1"),
    "no such kind": (
        lambda: skip_budget(kind="cell")(DARTS, random_mix(0)),
        "no 'skip_connect' in a cell of kind 'cell'",
    ),
    "no such op": (
        lambda: skip_budget(op="skip")(DARTS, random_mix(0)),
        "no 'skip' in a cell of kind 'normal'",
    ),
    "no sample": (
        lambda: best_of_samples(KEY, DARTS, random_mix(0), abs, num_samples=0),
        "num_samples = 0",
    ),
    "negative weight": (
        lambda: sample_genotype(KEY, DARTS, {kind: -rows for kind, rows in random_mix(0).items()}),
        "probabilities, but the mix of cell 'normal' holds -0.9",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_refused(name):
    make, reason = BAD[name]
    with pytest.raises(ValueError, match=reason):
        make()
