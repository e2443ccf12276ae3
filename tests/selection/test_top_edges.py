"""Selection keeps the strongest edges and ops and never `none`; a random genotype is uniform."""

import jax
import numpy as np
import pytest

import dnas
from dnas.graph import CellSpec
from dnas.selection import random_genotype, top_edges
from dnas.space import SearchSpace, check_genotype, one_hot_mix

DARTS = dnas.SPACES["darts"]


def made_up(ops=("none", "a", "b"), edges=((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), concat=(2, 3)):
    cell = CellSpec(num_inputs=2, num_nodes=2, edges=edges, ops=ops, concat=concat, keep=2)
    return SearchSpace("made_up", {"cell": cell}, None, None, None)


def random_mix(seed, space=DARTS):
    random = np.random.default_rng(seed)
    logits = {
        kind: random.normal(size=(len(cell.edges), len(cell.ops)))
        for kind, cell in space.cells.items()
    }
    return {
        kind: np.exp(rows) / np.exp(rows).sum(1, keepdims=True) for kind, rows in logits.items()
    }


@pytest.mark.parametrize("seed", range(5))
def test_top_edges_are_the_rule_of_the_paper(seed):
    """DARTS's rule written out with loops."""
    mix = random_mix(seed)
    genotype = top_edges()(DARTS, mix)
    for kind, cell in DARTS.cells.items():
        expected = []
        for node in range(2, 6):
            scored = []
            for source in range(node):
                row = mix[kind][cell.edges.index((source, node))]
                weight, op = max(
                    (weight, op) for weight, op in zip(row, cell.ops, strict=True) if op != "none"
                )
                scored.append((-weight, source, op))
            expected += [(source, node, op) for _, source, op in sorted(scored)[:2]]
        assert list(genotype.cells[kind]) == expected


@pytest.mark.parametrize("seed", range(5))
def test_every_node_has_two_different_sources_and_never_none(seed):
    mix = random_mix(seed)
    for rows in mix.values():
        rows[:, 0] += 10.0  # none is the strongest everywhere
    genotype = top_edges()(DARTS, mix)
    check_genotype(DARTS, genotype)
    for kind, edges in genotype.cells.items():
        assert [edge.target for edge in edges] == [2, 2, 3, 3, 4, 4, 5, 5]
        assert len({edge[:2] for edge in edges}) == 8
        assert genotype.concat_of(kind) == (2, 3, 4, 5)
    assert sum(genotype.count("none").values()) == 0


def test_weight_of_none_does_not_count_as_strength():
    space = made_up()
    rows = np.array(
        [[0.9, 0.06, 0.04], [0.1, 0.5, 0.4], [0.9, 0.05, 0.05], [0.2, 0.4, 0.4], [0.2, 0.1, 0.7]]
    )
    edges = top_edges(1)(space, {"cell": rows}).cells["cell"]
    assert edges == ((1, 2, "a"), (2, 3, "b"))


@pytest.mark.parametrize("value", [0.0, 1 / 8, 1.0])
def test_ties_keep_the_earlier_source_and_the_earlier_op(value):
    mix = {kind: np.full((14, 8), value) for kind in DARTS.cells}
    expected = [(source, node, "max_pool_3x3") for node in range(2, 6) for source in (0, 1)]
    for edges in top_edges()(DARTS, mix).cells.values():
        assert list(edges) == expected


def test_edges_of_a_node_are_listed_by_falling_strength():
    mix = random_mix(3)
    genotype = top_edges(2)(DARTS, mix)
    for kind, cell in DARTS.cells.items():
        strength = {
            (*edge, op): mix[kind][e, o]
            for e, edge in enumerate(cell.edges)
            for o, op in enumerate(cell.ops)
        }
        edges = genotype.cells[kind]
        assert all(strength[edges[i]] >= strength[edges[i + 1]] for i in range(0, 8, 2))


@pytest.mark.parametrize(
    "change", [lambda rows: rows + 3, lambda rows: rows * 7, np.exp, lambda rows: rows**3]
)
def test_selection_depends_on_the_order_of_weights_only(change):
    mix = random_mix(4)
    assert top_edges()(DARTS, {kind: change(rows) for kind, rows in mix.items()}) == top_edges()(
        DARTS, mix
    )


KEEPING = [
    name
    for name, genotype in dnas.PUBLISHED.items()
    if all(own.keep for own in dnas.SPACES[genotype.space].choices.values())
]


@pytest.mark.parametrize("name", KEEPING)
def test_published_cell_is_selected_from_its_one_hot_mix(name):
    genotype = dnas.PUBLISHED[name]
    space = dnas.SPACES[genotype.space]
    again = top_edges(next(iter(space.choices.values())).keep)(space, one_hot_mix(space, genotype))
    assert {kind: set(edges) for kind, edges in again.cells.items()} == {
        k: set(v) for k, v in genotype.cells.items()
    }


@pytest.mark.parametrize("seed", range(5))
def test_random_cell_is_selected_from_its_one_hot_mix(seed):
    genotype = random_genotype(jax.random.key(seed), DARTS)
    again = top_edges()(DARTS, one_hot_mix(DARTS, genotype))
    assert {kind: set(edges) for kind, edges in again.cells.items()} == {
        k: set(v) for k, v in genotype.cells.items()
    }


@pytest.mark.parametrize("k", [1, 2])
def test_each_node_keeps_k_edges(k):
    edges = top_edges(k)(DARTS, random_mix(0)).cells["normal"]
    assert [edge.target for edge in edges] == [node for node in range(2, 6) for _ in range(k)]


@pytest.mark.parametrize("concat", [(2, 3), (3,), (3, 2)])
def test_output_is_that_of_the_space(concat):
    genotype = top_edges(1)(made_up(concat=concat), {"cell": np.ones((5, 3))})
    assert genotype.concat_of("cell") == concat


def test_device_arrays_and_lists_give_the_same_genotype():
    mix = random_mix(1)
    lists = {kind: rows.tolist() for kind, rows in mix.items()}
    arrays = {kind: jax.numpy.asarray(rows) for kind, rows in mix.items()}
    assert top_edges()(DARTS, lists) == top_edges()(DARTS, arrays) == top_edges()(DARTS, mix)


UNFIT = {
    "NaN": (lambda mix: mix["normal"].__setitem__((3, 2), np.nan), "'normal'.*NaN.*diverged"),
    "shape": (lambda mix: mix.update(reduce=np.ones((14, 7))), r"'reduce'.*\(14, 7\).*\(14, 8\)"),
    "transposed": (lambda mix: mix.update(reduce=np.ones((8, 14))), r"\(8, 14\)"),
    "seeds in front": (lambda mix: mix.update(reduce=np.ones((2, 14, 8))), r"\(2, 14, 8\)"),
    "a cell is missing": (lambda mix: mix.pop("reduce"), "no cell 'reduce'"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_mix_that_does_not_fit_is_refused(name):
    spoil, reason = UNFIT[name]
    mix = random_mix(0)
    spoil(mix)
    with pytest.raises(ValueError, match=reason):
        top_edges()(DARTS, mix)


def test_more_edges_than_there_are_is_refused():
    with pytest.raises(ValueError, match="2 incoming edges .'0->2', '1->2'.*k = 3"):
        top_edges(3)(DARTS, random_mix(0))


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_edge_is_refused_at_once(k):
    with pytest.raises(ValueError, match=f"k = {k}"):
        top_edges(k)


def test_random_genotype_is_a_function_of_its_key():
    first, again, other = (random_genotype(jax.random.key(seed), DARTS) for seed in (0, 0, 1))
    assert first == again != other
    assert first.cells["normal"] != first.cells["reduce"]
    check_genotype(DARTS, first)


def test_random_genotype_takes_another_selection():
    genotype = random_genotype(jax.random.key(0), DARTS, top_edges(1))
    assert len(genotype.cells["normal"]) == 4


def chi_square(counts):
    counts = np.asarray(counts, float)
    return ((counts - counts.mean()) ** 2 / counts.mean()).sum()


def test_random_genotype_is_uniform_over_pairs_of_sources_and_ops():
    space = made_up(ops=("none", "a", "b", "c"))
    draws = [
        random_genotype(key, space).cells["cell"]
        for key in jax.random.split(jax.random.key(0), 900)
    ]
    pairs = [frozenset(edge.source for edge in edges if edge.target == 3) for edges in draws]
    assert len(set(pairs)) == 3
    # P < 1e-4 with 2 degrees of freedom.
    assert chi_square([pairs.count(pair) for pair in set(pairs)]) < 18
    for place in range(4):
        ops = [edges[place].op for edges in draws]
        assert chi_square([ops.count(op) for op in "abc"]) < 18
    both = [(edges[0].op, edges[1].op) for edges in draws]
    # 8 degrees: ops are independent.
    assert chi_square([both.count((a, b)) for a in "abc" for b in "abc"]) < 32
