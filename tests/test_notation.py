"""The two text notations, as plain data: what one writes, it reads."""

import itertools
import random

import pytest

from dnas import notation


def cell(draw, num_nodes, per_node):
    return [
        (source, target, draw.choice("abc"))
        for target in range(2, 2 + num_nodes)
        for source in draw.sample(range(target), per_node)
    ]


@pytest.mark.parametrize("num_nodes, per_node", [*itertools.product((1, 2, 3, 4, 6), (1, 2))])
def test_original_reads_what_it_writes(num_nodes, per_node):
    draw = random.Random(num_nodes)
    cells = {"normal": cell(draw, num_nodes, per_node), "reduce": cell(draw, num_nodes, per_node)}
    concat = {kind: tuple(range(2, 2 + num_nodes)) for kind in cells}
    assert notation.parse_original(notation.write_original(cells, concat)) == (cells, concat)


@pytest.mark.parametrize("last_only", [False, True])
def test_two_pairs_a_node_are_read_whatever_is_concatenated(last_only):
    cells = {"normal": cell(random.Random(0), 4, 2)}
    concat = {"normal": (5,) if last_only else (3, 5)}
    assert notation.parse_original(notation.write_original(cells, concat)) == (cells, concat)


def test_place_is_line_and_column_counted_from_one():
    text = "Genotype(\n normal=[('a', 0),\n  oops], normal_concat=[2])"
    with pytest.raises(ValueError, match=r"line 3, column 3.*not oops"):
        notation.parse_original(text)


def test_shown_expression_is_cut_short():
    text = f"Genotype(normal=[('a', 0), ('a', 1)], normal_concat=[{', '.join(['x'] * 500)}])"
    with pytest.raises(ValueError, match="x, x") as caught:
        notation.parse_original(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 5])
def test_nasbench201_reads_what_it_writes(num_nodes):
    draw = random.Random(num_nodes)
    edges = [(s, t, draw.choice("abc")) for t in range(1, num_nodes + 1) for s in range(t)]
    cells, concat = {"cell": edges}, {"cell": (num_nodes,)}
    text = notation.write_nasbench201(cells, concat)
    assert text.count("+") == num_nodes - 1
    assert notation.parse_nasbench201(text) == (cells, concat)


def test_all_nasbench201_strings_of_two_ops_are_different_and_return():
    places = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    texts = set()
    for ops in itertools.product(("none", "skip_connect"), repeat=6):
        edges = [(*place, op) for place, op in zip(places, ops, strict=True)]
        text = notation.write_nasbench201({"cell": edges}, {"cell": (3,)})
        assert notation.parse_nasbench201(text) == ({"cell": edges}, {"cell": (3,)})
        texts.add(text)
    assert len(texts) == 2**6


@pytest.mark.parametrize("text", ["fbnet: k3_e1", "my_space: a, b, skip_connect, a"])
def test_layers_are_written_as_they_are_read(text):
    space, cells, concat = notation.parse_layers(text)
    assert notation.write_layers(space, cells, concat) == text
    assert [edge[:2] for edge in cells["layers"]] == [
        (n, n + 1) for n in range(len(cells["layers"]))
    ]
    assert concat == {"layers": (len(cells["layers"]),)}


def test_layers_may_be_spaced_otherwise():
    assert notation.parse_layers("x:\n a ,b,\n  c") == notation.parse_layers("x: a, b, c")


@pytest.mark.parametrize(
    "text, place",
    [
        ("x: a,, b", "layer 1"),
        ("x: a, b c", "layer 1"),
        ("x: ", "layer 0"),
        ("x: a, f()", "layer 1"),
    ],
)
def test_what_is_no_block_is_refused_with_its_layer(text, place):
    with pytest.raises(ValueError, match=f"{place} of the genotype is"):
        notation.parse_layers(text)


UNCHAINED = {
    "a gap": [(0, 1, "a"), (2, 3, "a")],
    "a branch": [(0, 1, "a"), (0, 2, "a")],
    "out of order": [(1, 2, "a"), (0, 1, "a")],
}


@pytest.mark.parametrize("name", UNCHAINED)
def test_what_is_no_chain_is_not_written_as_layers(name):
    edges = UNCHAINED[name]
    with pytest.raises(ValueError, match="one block a layer.*to_json"):
        notation.write_layers("x", {"layers": edges}, {"layers": (max(edges)[1],)})


UNEVEN = {
    "normal": [(0, 2, "a"), (1, 2, "b"), (0, 3, "a"), (1, 3, "b"), (2, 3, "c")],
    "reduce": [(1, 2, "a"), (0, 3, "b")],
}


def nested(edges, brackets="[]"):
    """As khanrc/pt.darts writes a cell, a list a node, and AutoDL-Projects with "()"."""
    left, right = brackets
    nodes = {target: [] for _, target, _ in edges}
    for source, target, op in edges:
        nodes[target].append(f"('{op}', {source})")
    return f"[{', '.join(left + ', '.join(own) + ',' + right for own in nodes.values())}]"


@pytest.mark.parametrize("brackets", ["[]", "()"])
def test_a_list_a_node_is_read_whatever_its_length(brackets):
    fields = [
        f"{kind}={nested(edges, brackets)}, {kind}_concat=range(2, 4)"
        for kind, edges in UNEVEN.items()
    ]
    read = notation.parse_original(f"Genotype({', '.join(fields)}, connectN=None, connects=None)")
    assert read == (UNEVEN, {kind: (2, 3) for kind in UNEVEN})


def test_a_list_a_node_needs_no_concat():
    text = f"Genotype(normal={nested(UNEVEN['normal'])}, normal_concat=None)"
    assert notation.parse_original(text) == ({"normal": UNEVEN["normal"]}, {})


@pytest.mark.parametrize(
    ("normal", "reason"),
    [
        ("[[('a', 0)], ('a', 1)]", r"must be a pair .*not \[\('a', 0\)\]"),
        ("[[('a', 0)], []]", "must be a pair"),
        ("[[('a', 0)], [('a', 3)]]", r"pair 1 of cell 'normal', \('a', 3\), belongs to node 3"),
        ("[[('a', 0), 1]]", "must be a pair"),
        ("[[[('a', 0)]]]", "must be a pair"),
        (f"[('a', 0x{'f' * 4000}), ('a', 1)]", "must be a pair .*not a huge expression"),
    ],
)
def test_wrong_lists_are_refused_with_the_reason(normal, reason):
    with pytest.raises(ValueError, match=reason):
        notation.parse_original(f"Genotype(normal={normal}, normal_concat=[2])")


CALL = "Genotype(normal=[('a)(', 0), ('b', 1)], normal_concat=[2])"
STRING = "|a~0|+|b~0|c~1|"
AROUND = {
    "an assignment": "MINE = {}\n",
    "a module": (
        "from collections import namedtuple\nGenotype = namedtuple('Genotype', 'normal ...')\n"
        "PRIMITIVES = ['none']\n# Genotype of (mine\nMINE = {}  # 97 %\nDARTS = MINE\n"
    ),
    "a line of a log": "2019-05-01 09:12:13,456 genotype = {}\n",
    "a log with it twice": "epoch 8: {0}\nbest: {0}\n",
    "other code": "gt.{}",
    "a structure": "best arch : Structure(4 nodes with {})",
    "alone": "{}",
}


@pytest.mark.parametrize("text", [CALL, STRING])
@pytest.mark.parametrize("around", AROUND)
def test_a_genotype_is_found_in_what_stands_around_it(around, text):
    assert notation.excerpt(AROUND[around].format(text)) == text


def test_of_several_genotypes_none_is_taken():
    with pytest.raises(ValueError, match=r"holds 2 genotypes; give one of them.*\|c~0\|"):
        notation.excerpt("epoch 1 |b~0|\nepoch 2 |b~0|\nepoch 3 |c~0|")


def test_a_text_without_a_genotype_is_left_as_it_is():
    for text in ("fbnet: k3_e1", "digits: kernel = k3", "", "(" * 99, "a|b"):
        assert notation.excerpt(text) == text


def test_a_call_without_an_end_is_left_to_who_says_where_it_breaks():
    with pytest.raises(ValueError, match="not well-formed"):
        notation.parse_original(notation.excerpt("MINE = Genotype(normal=[('a', 0)"))
