"""What is decided is described without contradiction, and read the same by everyone."""

import itertools

import jax
import pytest

import dnas
from dnas.choices import Choices, Condition, relevant_rows
from dnas.genotype import Genotype
from dnas.relax import softmax
from dnas.selection import default_selection, random_genotype, sample_genotype, top_edges
from dnas.space import SearchSpace, canonical_genotype, check_genotype, one_hot_mix, picked_of


def choices(**changes):
    parts = dict(options=("none", "a", "b"), rows=("x", "y", "z"), nothing=("none",))
    return Choices(**parts | changes)


MISFITS = {
    "no options": (dict(options=()), "options are names"),
    "an option twice": (dict(options=("a", "a"), nothing=()), "each once"),
    "a row twice": (dict(rows=("x", "x")), "rows are names"),
    "an unknown nothing": (dict(nothing=("zero",)), "nothing names"),
    "too few values": (dict(values=(1, 2)), "ascending numbers"),
    "values that fall": (dict(values=(1, 3, 2)), "ascending numbers"),
    "values that repeat": (dict(values=(1, 1, 2)), "ascending numbers"),
    "too few options of rows": (dict(row_options=(("a",),)), "of each of 3 rows"),
    "a row without options": (dict(row_options=(("a",), (), ("b",))), "of each of 3 rows"),
    "unknown options": (dict(row_options=(("a",), ("c",), ("b",))), r"names \['c'\]"),
    "a row that is not there": (dict(groups=((0, 3),)), "from 0 to 2"),
    "a row in two groups": (dict(groups=((0, 1), (1, 2))), "at most once"),
    "nothing to keep": (dict(keep=1), "and there are groups"),
    "no row kept": (dict(groups=((0, 1),), keep=0), "at least one"),
    "too few conditions": (dict(under=((),)), "of each of 3 rows"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_together_is_refused_with_the_reason(name):
    changes, reason = MISFITS[name]
    with pytest.raises(ValueError, match=reason):
        choices(**changes)


def test_masks_say_what_may_be_chosen():
    own = choices(row_options=(("none", "a"), ("a", "b"), ("none", "b")), groups=((0, 1),), keep=1)
    assert own.shape == (3, 3)
    assert own.allowed.tolist() == [[True, True, False], [False, True, True], [True, False, True]]
    assert own.computes.tolist() == [
        [False, True, False],
        [False, True, True],
        [False] * 2 + [True],
    ]
    assert own.may_be_dropped.tolist() == [True, True, False]
    assert own.always.tolist() == [False, False, False]
    assert own.together == ((0, 1), (2,)) and own.group_of(2) == (2,) and own.group_of(1) == (0, 1)
    assert own.compete.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert own.options_of(1) == ("a", "b") and choices().options_of(1) == ("none", "a", "b")
    with pytest.raises(ValueError, match="read-only"):
        own.allowed[0, 0] = False


def test_choices_are_values():
    assert choices() == choices() != choices(nothing=()) and len({choices(), choices()}) == 1


@pytest.mark.parametrize("name", dnas.SPACES)
def test_the_choices_of_a_cell_are_its_edges_and_ops(name):
    space = dnas.SPACES[name]
    for kind, spec in space.cells.items():
        own = space.choices[kind]
        assert own.shape == (len(spec.edges), len(spec.ops)) and own.options == spec.ops
        assert own.groups == tuple(spec.incoming(node) for node in spec.nodes)
        for row, edge_ops in enumerate(spec.edge_ops or [spec.ops] * len(spec.edges)):
            assert own.options_of(row) == tuple(edge_ops)
            assert {op for op, may in zip(spec.ops, own.allowed[row], strict=True) if may} == set(
                edge_ops
            )
        assert own.is_nothing.tolist() == [op == "none" for op in spec.ops]


# Four blocks in two stages: the second block of a stage is there if its depth is 2.
KERNEL = Choices(
    ("k3", "k5"),
    ("0.0", "0.1", "1.0", "1.1"),
    values=(3, 5),
    under=((), (Condition("depth", 0, (1,)),), (), (Condition("depth", 1, (1,)),)),
)
DEPTH = Choices(("d1", "d2"), ("0", "1"), values=(1, 2))
ELASTIC = SearchSpace(
    "elastic", {}, None, None, None, dimensions={"kernel": KERNEL, "depth": DEPTH}
)
GENOTYPE = Genotype("elastic", picks={"kernel": ("k5", "k5", "k3", "k5"), "depth": ("d1", "d2")})


def test_kinds_that_are_no_cells_are_drawn_read_and_checked_like_all_others():
    for seed in range(5):
        genotype = random_genotype(jax.random.key(seed), ELASTIC)
        check_genotype(ELASTIC, genotype)
        mix = one_hot_mix(ELASTIC, genotype)
        assert {kind: rows.shape for kind, rows in mix.items()} == {
            "kernel": (4, 2),
            "depth": (2, 2),
        }
        for select in (default_selection, top_edges()):
            assert select(ELASTIC, mix) == genotype
        assert sample_genotype(jax.random.key(seed), ELASTIC, mix) == genotype
    dnas.contracts.check_selection(default_selection, ELASTIC)
    dnas.contracts.check_relaxation(softmax(), KERNEL)


def test_picks_are_written_and_read_back():
    text = GENOTYPE.to_text()
    assert text == "elastic: kernel = k5 k5 k3 k5; depth = d1 d2"
    for again in (Genotype.from_text(text), Genotype.from_text(GENOTYPE.to_json())):
        assert again == GENOTYPE and hash(again) == hash(GENOTYPE)
    dropped = Genotype("elastic", picks={"kernel": ("k3", None)})
    assert dropped.to_text() == "elastic: kernel = k3 -"
    assert Genotype.from_text(dropped.to_text()) == dropped != GENOTYPE
    assert GENOTYPE.count("k5") == {"kernel": 3, "depth": 0}
    picture = GENOTYPE._repr_svg_()
    assert picture.count(">k5<") == 3 and ">depth<" in picture


def test_a_genotype_may_have_cells_and_picks():
    both = Genotype("both", {"cell": [(0, 1, "a")]}, picks={"depth": ["d1"]})
    assert Genotype.from_json(both.to_json()) == both != Genotype("both", both.cells)
    assert ">a<" in both._repr_svg_() and ">d1<" in both._repr_svg_()
    with pytest.raises(ValueError, match="to_json"):
        both.to_text()


PICKS = {
    "another kind": ({"width": ("w1",)}, "picks of .'width'.*needs .'depth', 'kernel'"),
    "a row too few": ({"kernel": ("k3",), "depth": ("d1", "d1")}, "has 4 rows.*1 picks"),
    "an unknown option": ({"kernel": ("k3",) * 4, "depth": ("d1", "d9")}, "'d9'.*row '1'.*d1, d2"),
    "a row that is needed": ({"kernel": ("k3",) * 4, "depth": (None, "d1")}, "None.*row '0'"),
}


@pytest.mark.parametrize("name", PICKS)
def test_picks_that_do_not_fit_the_space_are_refused_with_the_reason(name):
    picks, reason = PICKS[name]
    with pytest.raises(ValueError, match=reason):
        check_genotype(ELASTIC, Genotype("elastic", picks=picks))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (dict(), "at least one kind"),
        (dict(picks=["k3"]), "picks must map"),
        (dict(picks={"kernel": "k3"}), "list of options"),
        (dict(picks={"kernel": ["k 3"]}), "row 0 of 'kernel'"),
        (dict(picks={"ker nel": ["k3"]}), "identifier"),
        (dict(cells={"a": [(0, 1, "b")]}, picks={"a": ["b"]}), "have both"),
    ],
)
def test_picks_that_are_none_are_refused_with_the_reason(parts, reason):
    with pytest.raises(ValueError, match=reason):
        Genotype("elastic", **parts)


@pytest.mark.parametrize("text", ["a: b =", "a: b = c; b = d", "a: b = c; d", "a: b = c, d"])
def test_texts_of_picks_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match="a kind, each once"):
        Genotype.from_text(text)


def test_genotypes_that_differ_beyond_the_depth_only_have_one_canonical_form():
    forms = {}
    for kernels in itertools.product(KERNEL.options, repeat=4):
        for depths in itertools.product(DEPTH.options, repeat=2):
            genotype = Genotype("elastic", picks={"kernel": kernels, "depth": depths})
            form = canonical_genotype(ELASTIC, genotype)
            assert canonical_genotype(ELASTIC, form) == form
            assert form.picks["depth"] == depths
            network = [
                kernels[2 * stage : 2 * stage + 1 + DEPTH.options.index(depth)]
                for stage, depth in enumerate(depths)
            ]
            forms.setdefault(form, set()).add(str(network))
    assert len(forms) == (2 + 4) ** 2 and all(len(same) == 1 for same in forms.values())


def test_what_stands_under_a_row_that_does_not_matter_does_not_matter():
    chain = {
        "a": Choices(("p", "q"), ("0",)),
        "b": Choices(("p", "q"), ("0",), under=((Condition("a", 0, (1,)),),)),
        "c": Choices(("p", "q"), ("0",), under=((Condition("b", 0, (1,)),),)),
    }
    for columns in itertools.product((0, 1), repeat=3):
        found = relevant_rows(chain, {k: {0: own} for k, own in zip("abc", columns, strict=True)})
        assert found["a"][0] and found["b"][0] == (columns[0] == 1)
        assert found["c"][0] == (columns[0] == columns[1] == 1)


def test_picked_rows_are_those_of_the_genotype():
    assert picked_of(ELASTIC, GENOTYPE)["kernel"] == [(0, 1), (1, 1), (2, 0), (3, 1)]
    genotype = dnas.PUBLISHED["DARTS_V2"]
    spec = dnas.SPACES["darts"].cells["normal"]
    assert [
        (*spec.edges[row], spec.ops[column])
        for row, column in picked_of(dnas.SPACES["darts"], genotype)["normal"]
    ] == list(genotype.cells["normal"])
