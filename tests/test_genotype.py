"""Genotypes survive every round trip, refuse every wrong text with a reason, and never evaluate
one."""

import copy
import dataclasses
import itertools
import json
import os
import pickle
import random
import time

import numpy as np
import pytest

from dnas.genotype import Edge, Genotype
from dnas.published import PUBLISHED

OPS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")


def random_darts(seed):
    """Two different sources a node, in any order, and sometimes another concatenation than the
    default."""
    draw = random.Random(seed)
    cells, concat = {}, {}
    for kind in ("normal", "reduce"):
        num_nodes = draw.randint(2, 5)
        cells[kind] = [
            Edge(source, target, draw.choice(OPS))
            for target in range(2, 2 + num_nodes)
            for source in draw.sample(range(target), 2)
        ]
        if draw.random() < 0.5:
            concat[kind] = (
                *sorted(draw.sample(range(2, 1 + num_nodes), num_nodes - 2)),
                1 + num_nodes,
            )
    return Genotype("darts", cells, concat)


def random_nasbench201(seed):
    draw = random.Random(seed)
    edges = [
        Edge(source, target, draw.choice(OPS)) for target in range(1, 4) for source in range(target)
    ]
    return Genotype("nasbench201", {"cell": edges}, {"cell": (3,)})


def random_graph(seed):
    """Any directed acyclic graph, such as no notation but JSON holds."""
    draw = random.Random(seed)
    edges = {
        (source, target, draw.choice(OPS)) for target in range(1, 7) for source in range(target)
    }
    edges = draw.sample(sorted(edges), draw.randint(1, len(edges)))
    last = max(target for _, target, _ in edges)
    concat = {"only": draw.sample(range(last + 1), draw.randint(1, last + 1))}
    return Genotype("made_up", {"only": edges}, concat)


GENOTYPES = {
    **PUBLISHED,
    **{f"darts {seed}": random_darts(seed) for seed in range(12)},
    **{f"nasbench201 {seed}": random_nasbench201(seed) for seed in range(6)},
    **{f"graph {seed}": random_graph(seed) for seed in range(12)},
}
WITH_TEXT = [name for name, genotype in GENOTYPES.items() if genotype.space != "made_up"]


@pytest.mark.parametrize("name", GENOTYPES)
@pytest.mark.parametrize(
    "trip",
    [
        lambda genotype: Genotype.from_json(genotype.to_json()),
        lambda genotype: Genotype.from_text(genotype.to_json()),
        lambda genotype: Genotype.from_text(f"\n  {genotype.to_json()}\n"),
        lambda genotype: Genotype.from_json(json.dumps(json.loads(genotype.to_json()), indent=2)),
        lambda genotype: pickle.loads(pickle.dumps(genotype)),
        copy.copy,
        copy.deepcopy,
        dataclasses.replace,
        lambda genotype: Genotype(genotype.space, dict(genotype.cells), dict(genotype.concat)),
    ],
    ids=[
        "json",
        "json as text",
        "json with blanks",
        "json indented",
        "pickle",
        "copy",
        "deepcopy",
        "replace",
        "parts",
    ],
)
def test_round_trip_returns_an_equal_genotype(name, trip):
    genotype = GENOTYPES[name]
    again = trip(genotype)
    assert again == genotype
    assert hash(again) == hash(genotype)
    assert repr(again) == repr(genotype)
    assert all(isinstance(edge, Edge) for edges in again.cells.values() for edge in edges)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_text_round_trip_returns_an_equal_genotype(name):
    genotype = GENOTYPES[name]
    text = genotype.to_text()
    assert Genotype.from_text(text) == genotype
    assert Genotype.from_text(text).to_text() == text


@pytest.mark.parametrize("seed", range(40))
def test_text_reads_back_equal_or_is_refused(seed):
    draw = random.Random(seed)
    genotype = random_graph(seed)
    kind = draw.choice(["normal", "class", "None", "a_concat", "ﬁ", "cell"])
    space = draw.choice(["darts", "nasbench201"])
    concat = (
        {kind: genotype.concat["only"]} if "only" in genotype.concat and draw.random() < 0.5 else {}
    )
    genotype = Genotype(space, {kind: genotype.cells["only"]}, concat)
    try:
        text = genotype.to_text()
    except ValueError as error:
        assert "to_json" in str(error)
    else:
        assert Genotype.from_text(text) == genotype


UNWRITABLE = {
    "uneven nodes": Genotype("darts", {"normal": [(0, 2, "a"), (0, 3, "a"), (1, 3, "a")]}),
    "one input": Genotype("darts", {"normal": [(0, 1, "a"), (1, 2, "a")]}),
    "not node by node": Genotype(
        "darts", {"normal": [(0, 3, "a"), (1, 3, "a"), (0, 2, "a"), (1, 2, "a")]}
    ),
    "a keyword as kind": Genotype("darts", {"class": [(0, 2, "a"), (1, 2, "a")]}),
    "a kind that reads as a concat": Genotype("darts", {"a_concat": [(0, 2, "a"), (1, 2, "a")]}),
    "a kind that python spells otherwise": Genotype("darts", {"ﬁ": [(0, 2, "a"), (1, 2, "a")]}),
    "two cells": Genotype("nasbench201", {"cell": [(0, 1, "a")], "more": [(0, 1, "a")]}),
    "another name": Genotype("nasbench201", {"normal": [(0, 1, "a")]}),
    "a node without an edge": Genotype("nasbench201", {"cell": [(0, 2, "a")]}, {"cell": (2,)}),
    "another output": Genotype("nasbench201", {"cell": [(0, 1, "a"), (1, 2, "a")]}, {"cell": (1,)}),
    "layers with another output": Genotype("fbnet", {"layers": [(0, 1, "a"), (1, 2, "a")]}),
    "a layer-wise space of two words": Genotype("my space", {"layers": [(0, 1, "a")]}),
    "recurrent, two edges a node": Genotype(
        "recurrent", {"recurrent": [(0, 1, "a"), (0, 2, "a"), (1, 2, "a")]}
    ),
    "recurrent, a node without an edge": Genotype("recurrent", {"recurrent": [(0, 2, "a")]}),
    "nasbench out of order": Genotype(
        "nasbench201", {"cell": [(0, 2, "a"), (0, 1, "a")]}, {"cell": (2,)}
    ),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_the_notation_cannot_hold_is_refused_and_json_holds_it(name):
    genotype = UNWRITABLE[name]
    with pytest.raises(ValueError, match="to_json"):
        genotype.to_text()
    assert Genotype.from_text(genotype.to_json()) == genotype


ENAS = (
    "Genotype(recurrent=[('tanh', 0), ('tanh', 1), ('relu', 1), ('tanh', 3), ('tanh', 3), ('relu',"
    " 3), ('relu', 4), ('relu', 7), ('relu', 8), ('relu', 8), ('relu', 8)], concat=[2, 5, 6, 9, 10,"
    " 11])"
)


def test_a_recurrent_cell_of_other_size_and_output_is_read_and_written_to_the_letter():
    genotype = Genotype.from_text(ENAS)
    assert genotype.space == "recurrent" and genotype.concat_of("recurrent") == (2, 5, 6, 9, 10, 11)
    assert genotype.cells["recurrent"][7] == Edge(7, 8, "relu")
    assert genotype.to_text() == ENAS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Genotype(recurrent=[('tanh', 1)], concat=[1])",
            "belongs to node 1: its source must be below",
        ),
        ("Genotype(recurrent=[('tanh', 0)], concat=[2])", "its last node is 1"),
        ("Genotype(recurrent=[('tanh', 0)], concat=[])", "must be a list of node numbers"),
        ("Genotype(recurrent=[('tanh', 0)])", "no recurrent_concat"),
        ("Genotype(recurrent=[0], concat=[1])", "must be a pair"),
    ],
)
def test_a_wrong_recurrent_cell_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        Genotype.from_text(text)


S1 = "[('dil_conv_3x3', 0), ('skip_connect', 1)]"
TEXTS = {
    "darts": f"Genotype(normal={S1}, normal_concat=[2], reduce={S1}, reduce_concat=[2])",
    "recurrent": ENAS,
    "nasbench201": "|skip_connect~0|",
}


@pytest.mark.parametrize("space", TEXTS)
def test_the_context_says_the_space_of_a_notation_that_does_not(space):
    """The cells of RobustDARTS, s1 to s4, are published in DARTS's notation."""
    usual = Genotype.from_text(TEXTS[space])
    assert usual.space == space
    assert Genotype.from_text(TEXTS[space], space="s1") == dataclasses.replace(usual, space="s1")


@pytest.mark.parametrize(
    "text",
    ["fbnet: k3_e1", "digits: kernel = k3", '{"space": "x", "cells": {"a": [[0, 1, "op"]]}}'],
)
def test_a_notation_that_names_its_space_is_believed(text):
    assert Genotype.from_text(text, space="s1") == Genotype.from_text(text)


@pytest.mark.parametrize("space", TEXTS)
def test_a_mark_of_byte_order_and_a_log_around_it_make_no_difference(space):
    text, genotype = TEXTS[space], Genotype.from_text(TEXTS[space])
    assert Genotype.from_text("\ufeff" + text) == genotype
    assert Genotype.from_text("\ufeff" + genotype.to_json()) == genotype
    assert Genotype.from_json("\ufeff" + genotype.to_json()) == genotype
    assert Genotype.from_text(f"INFO 11/23 genotype = {text}\n") == genotype


def test_a_genotype_of_many_edges_is_read_and_compared_in_linear_time():
    """10,000 edges took 3.6 s, in the square of their number."""
    edges = [(source, target, "op") for target in range(1, 300) for source in range(target)]
    genotype = Genotype("large", {"cell": edges[:40_000]})
    text = genotype.to_json()
    start = time.process_time()
    assert Genotype.from_json(text) == genotype
    assert time.process_time() - start < 2
    with pytest.raises(ValueError, match="2000001 characters was given; of JSON at most 2000000"):
        Genotype.from_json(" " * 2_000_001)


PAIRS = "[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 2)]"


@pytest.mark.parametrize("same", ["[2, 3]", "(2, 3)", "range(2, 4)", "range( 2,4 )", "(2, 3,)"])
def test_ways_to_write_a_concat_are_equal(same):
    usual = Genotype.from_text(f"Genotype(normal={PAIRS}, normal_concat=[2, 3])")
    assert Genotype.from_text(f"Genotype(normal={PAIRS}, normal_concat={same})") == usual


def test_published_text_with_ranges_equals_the_list():
    genotype = PUBLISHED["DARTS_V2"]
    text = genotype.to_text()
    assert text.count("[2, 3, 4, 5]") == 2
    assert Genotype.from_text(text.replace("[2, 3, 4, 5]", "range(2, 6)")) == genotype


def test_range_with_one_bound_starts_at_zero():
    genotype = Genotype.from_text(f"Genotype(normal={PAIRS}, normal_concat=range(4))")
    assert genotype.concat_of("normal") == (0, 1, 2, 3)
    assert Genotype.from_text(genotype.to_text()) == genotype


def test_nasbench201_string_reads_as_its_edges_and_returns():
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|skip_connect~1|nor_conv_3x3~2|"
    genotype = Genotype.from_text(text)
    assert genotype.space == "nasbench201"
    assert genotype.cells["cell"] == (
        (0, 1, "avg_pool_3x3"),
        (0, 2, "nor_conv_1x1"),
        (1, 2, "skip_connect"),
        (0, 3, "none"),
        (1, 3, "skip_connect"),
        (2, 3, "nor_conv_3x3"),
    )
    assert genotype.concat_of("cell") == (3,)
    assert genotype.to_text() == text


def test_equality_and_hash_do_not_depend_on_the_order_of_kinds():
    genotype = random_darts(0)
    turned = Genotype(
        "darts", dict(reversed(genotype.cells.items())), dict(reversed(genotype.concat.items()))
    )
    assert list(turned.cells) != list(genotype.cells)
    assert turned == genotype and hash(turned) == hash(genotype)
    assert len({turned, genotype}) == 1


def test_every_part_of_a_genotype_counts_for_equality():
    genotype = Genotype("darts", {"normal": [(0, 2, "a"), (1, 2, "b")]})
    others = [
        Genotype("other", genotype.cells),
        Genotype("darts", {"reduce": genotype.cells["normal"]}),
        Genotype("darts", {"normal": genotype.cells["normal"][:1]}),
        Genotype("darts", {"normal": genotype.cells["normal"][::-1]}),
        Genotype("darts", {"normal": [(0, 2, "a"), (1, 2, "c")]}),
        Genotype("darts", genotype.cells, {"normal": (1, 2)}),
        genotype.to_text(),
    ]
    assert all(genotype != other for other in others)


def test_concat_that_repeats_the_default_is_no_difference():
    edges = {"normal": [(0, 2, "a"), (0, 3, "a")]}
    assert Genotype("darts", edges, {"normal": [2, 3]}) == Genotype("darts", edges)
    assert Genotype("darts", edges, {"normal": [3, 2]}) != Genotype("darts", edges)
    assert Genotype("darts", edges, {"normal": [3, 2]}).concat_of("normal") == (3, 2)


def test_genotype_does_not_change():
    genotype = copy.deepcopy(PUBLISHED["DARTS_V2"])
    edges = genotype.cells["normal"]
    attempts = [
        lambda: setattr(genotype, "space", "x"),
        lambda: delattr(genotype, "cells"),
        lambda: genotype.cells.update(normal=()),
        lambda: genotype.cells.clear(),
        lambda: genotype.cells.pop("normal"),
        lambda: genotype.cells.popitem(),
        lambda: genotype.cells.setdefault("other", ()),
        lambda: genotype.cells.__setitem__("normal", ()),
        lambda: genotype.cells.__delitem__("normal"),
        lambda: genotype.cells.__ior__({"normal": ()}),
        lambda: genotype.concat.__setitem__("normal", (2,)),
        lambda: setattr(edges[0], "op", "x"),
        lambda: edges.__setitem__(0, edges[1]),
    ]
    for attempt in attempts:
        with pytest.raises((TypeError, AttributeError)):
            attempt()
    assert genotype == PUBLISHED["DARTS_V2"]


def test_genotype_does_not_share_what_it_was_made_from():
    edges, cells = [(0, 2, "a"), (1, 2, "a")], {}
    cells["normal"] = edges
    genotype = Genotype("darts", cells)
    edges.append((0, 3, "a"))
    cells["reduce"] = edges
    assert genotype == Genotype("darts", {"normal": [(0, 2, "a"), (1, 2, "a")]})


def test_count_adds_up_to_the_number_of_edges():
    for genotype in GENOTYPES.values():
        ops = {edge.op for edges in genotype.cells.values() for edge in edges}
        counts = [genotype.count(op) for op in ops]
        for kind, edges in genotype.cells.items():
            assert sum(count[kind] for count in counts) == len(edges)
        assert set(genotype.count("no such op").values()) == {0}


def original(normal="[('a', 0), ('a', 1)]", concat="[2]"):
    return f"Genotype(normal={normal}, normal_concat={concat})"


# Text, and what the message must name: the fault or its place.
MALFORMED = {
    "nothing": ("", "not a genotype"),
    "a word": ("darts", "'darts'"),
    "a call of something else": ("print('x')", "not a genotype"),
    "a longer name": ("Genotypes(normal=[])", "one call"),
    "a method": ("Genotype.from_text(normal=1)", "one call"),
    "no call": ("Genotype", "one call"),
    "no end": ("Genotype(normal=[('a', 0)", "line 1"),
    "two calls": ("Genotype(a=1); Genotype(a=1)", "line 1"),
    "no fields": ("Genotype()", "no cells"),
    "positional": ("Genotype([('a', 0), ('a', 1)])", "one call"),
    "starred": ("Genotype(*x)", "one call"),
    "double starred": ("Genotype(**{'normal': 1})", r"\*\*"),
    "repeated field": ("Genotype(normal=1, normal=2)", "normal.* repeated"),
    "concat without cell": (
        "Genotype(normal=[('a', 0), ('a', 1)], normal_concat=[2], x_concat=[2])",
        "x_concat",
    ),
    "cell without concat": ("Genotype(normal=[('a', 0), ('a', 1)])", "normal_concat"),
    "only a concat": ("Genotype(normal_concat=[2])", "no cells"),
    "empty cell": (original("[]"), "normal.*column 17"),
    "cell is a number": (original("3"), "normal.*column 17"),
    "cell is a text": (original("'abc'"), "normal.*column 17"),
    "pair of three": (original("[('a', 0, 1), ('a', 1)]"), r"column 18.*\('a', 0, 1\)"),
    "pair of one": (original("[('a',), ('a', 1)]"), r"column 18.*\('a',\)"),
    "pair reversed": (original("[(0, 'a'), ('a', 1)]"), r"column 18.*\(0, 'a'\)"),
    "no pair": (original("['a', ('a', 1)]"), "column 18.*'a'"),
    "second line": (
        "Genotype(\n  normal=[('a', 0),\n    ('a', True)], normal_concat=[2])",
        "line 3, column 5",
    ),
    "bytes as op": (original("[(b'a', 0), ('a', 1)]"), "b'a'"),
    "float as node": (original("[('a', 0.0), ('a', 1)]"), "0.0"),
    "bool as node": (original("[('a', True), ('a', 1)]"), "True"),
    "negative node": (original("[('a', -1), ('a', 1)]"), "-1"),
    "source above target": (original("[('a', 0), ('a', 2)]"), "pair 1 .*node 2"),
    "op with a blank": (original("[('a b', 0), ('a', 1)]"), "'a b'"),
    "op with a tag": (original("[('<script>', 0), ('a', 1)]"), "<script>"),
    "op with a line break": (original("[('a\\n', 0), ('a', 1)]"), "edge 0"),
    "empty op": (original("[('', 0), ('a', 1)]"), "edge 0"),
    "twice the same edge": (original("[('a', 0), ('a', 0)]"), "more than once"),
    "pairs that do not divide": (original("[('a', 0), ('a', 1), ('a', 1)]", "[2, 3]"), "3 pairs"),
    "concat above the cell": (original(concat="[9]"), r"\[9\]"),
    "concat empty": (original(concat="[]"), "normal_concat.*line 1"),
    "concat of a text": (original(concat="'23'"), "normal_concat.*'23'"),
    "concat negative": (original(concat="[-2]"), r"normal_concat.*\[-2\]"),
    "concat repeated": (original(concat="[2, 2]"), "twice"),
    "concat a name": (original(concat="CONCAT"), "normal_concat.*CONCAT"),
    "range empty": (original(concat="range(6, 2)"), r"normal_concat.*range\(6, 2\)"),
    "range of zero": (original(concat="range(0)"), r"range\(0\)"),
    "range without bounds": (original(concat="range()"), r"range\(\)"),
    "range with a step": (original(concat="range(2, 6, 2)"), r"range\(2, 6, 2\)"),
    "range by keyword": (original(concat="range(stop=3)"), "stop=3"),
    "range starred": (original(concat="range(*[2, 3])"), r"range\("),
    "range huge": (original(concat="range(1000000000)"), "1000000000"),
    "range as a power": (original(concat="range(10**9)"), r"10 \*\* 9"),
    "another function": (original(concat="list(2)"), r"list\(2\)"),
    "injected import": (original(concat="__import__('os').system('true')"), "normal_concat"),
    "injected pair": (original("[(__import__('os').name, 0), ('a', 1)]"), "__import__"),
    "injected field": (
        "Genotype(normal=__import__('os').system('true'), normal_concat=[2])",
        "normal.*column 17",
    ),
    "injected function": (
        "Genotype(normal=exec('raise SystemExit'), normal_concat=[2])",
        "normal.*column 17",
    ),
    "lambda": (original(concat="lambda: 0"), "lambda"),
    "lambda called": (original(concat="(lambda: [2])()"), "lambda"),
    "comprehension": (original(concat="[i for i in range(3)]"), "for i in"),
    "walrus": (original(concat="(x := [2])"), "x := "),
    "await": (original(concat="await x"), "await"),
    "yield": (original(concat="(yield)"), "yield"),
    "conditional": (original(concat="[2] if 1 else [3]"), "if 1"),
    "f-string": (original("[(f'{1}', 0), ('a', 1)]"), r"f'\{1\}'"),
    "f-string as concat": (original(concat="f'{exit()}'"), "exit"),
    "joined constants": (original(concat="[1 + 1]"), r"1 \+ 1"),
    "parentheses": ("Genotype(normal=" + "(" * 9000 + ")" * 9000 + ")", "not well-formed"),
    "brackets": ("Genotype(normal=" + "[" * 9000 + "]" * 9000 + ")", "not well-formed"),
    "signs": ("Genotype(normal=" + "-" * 19_000 + "1)", "not well-formed"),
    "sums": ("Genotype(normal=" + "1+" * 9_000 + "1)", "not well-formed"),
    "attributes": ("Genotype(normal=" + "a." * 9_000 + "a)", "not well-formed"),
    "a long number": ("Genotype(normal=" + "9" * 5_000 + ")", "not well-formed"),
    "null byte": ("Genotype(\0)", "not well-formed"),
    "null byte in an op": (original("[('a\0', 0), ('a', 1)]"), "not well-formed"),
    "surrogate": (original("[('\ud800', 0), ('a', 1)]"), "not well-formed"),
    "too long": ("Genotype(" + " " * 20_000 + ")", "20010 characters"),
    "10,000 parentheses": ("(" * 10_000 + ")" * 10_000, "not a genotype"),
    "bars": ("|||", "node 1"),
    "no source": ("|skip_connect|", "node 1"),
    "no bar": ("|skip_connect~0", "node 1"),
    "empty node": ("|skip_connect~0|+", "node 2"),
    "source missing": ("|skip_connect~0|+|skip_connect~|", "node 2"),
    "source too high": ("|skip_connect~1|", "1 -> 1"),
    "source huge": ("|skip_connect~999999999|", "node 1"),
    "nasbench twice": ("|a~0|a~0|", "more than once"),
    "nasbench with a call": ("|exit()~0|", "node 1"),
    "nasbench null": ("|a\0~0|", "node 1"),
    "broken json": ("{", "JSON"),
    "empty json": ("{}", "cells"),
    "json without space": ('{"cells": {"a": [[0, 1, "x"]]}}', "space"),
    "json without cells": ('{"space": "darts"}', "cells"),
    "json with a list of cells": ('{"space": "darts", "cells": [[0, 1, "x"]]}', "cells"),
    "json with more": ('{"space": "darts", "cells": {"a": [[0, 1, "x"]]}, "extra": 1}', "extra"),
    "json with a short edge": (
        '{"space": "darts", "cells": {"a": [[0, 1]]}}',
        "edge 0 of cell 'a'",
    ),
    "json with a loop": (
        '{"space": "darts", "cells": {"a": [[0, 1, "x"], [1, 1, "x"]]}}',
        "edge 1 of cell 'a'.*1 -> 1",
    ),
    "json with an arrow back": ('{"space": "darts", "cells": {"a": [[2, 1, "x"]]}}', "2 -> 1"),
    "json with a float": ('{"space": "darts", "cells": {"a": [[0, 1.0, "x"]]}}', "1.0"),
    "json with NaN": ('{"space": "darts", "cells": {"a": [[0, NaN, "x"]]}}', "nan"),
    "json with true": ('{"space": "darts", "cells": {"a": [[0, true, "x"]]}}', "True"),
    "json with a huge node": (
        '{"space": "darts", "cells": {"a": [[0, 1000000000, "x"]]}}',
        "0 to 999",
    ),
    "json with a bad kind": ('{"space": "darts", "cells": {"a b": [[0, 1, "x"]]}}', "'a b'"),
    "json with a bad op": ('{"space": "darts", "cells": {"a": [[0, 1, "<x>"]]}}', "<x>"),
    "json with concat null": (
        '{"space": "darts", "cells": {"a": [[0, 1, "x"]]}, "concat": null}',
        "concat",
    ),
    "json with a lost concat": (
        '{"space": "darts", "cells": {"a": [[0, 1, "x"]]}, "concat": {"b": [1]}}',
        "'b'",
    ),
    "json with concat above": (
        '{"space": "darts", "cells": {"a": [[0, 1, "x"]]}, "concat": {"a": [5]}}',
        "node 5",
    ),
    "json nested": ('{"a":' * 3_000 + "1" + "}" * 3_000, "JSON"),
    "json lists": ('{"a":' + "[" * 15_000, "JSON"),
    "json null byte": ('{"space": "darts\0"}', "JSON"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_text_is_refused_with_the_reason(name, monkeypatch):
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("the text was evaluated"))
    text, reason = MALFORMED[name]
    with pytest.raises(ValueError, match=f"(?s){reason}") as caught:
        Genotype.from_text(text)
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "given", [None, 3, b"Genotype()", ["Genotype()"], {"space": "darts"}, ValueError]
)
def test_only_a_str_is_read(given):
    with pytest.raises(ValueError, match="from a str, not from"):
        Genotype.from_text(given)


EDGE = (0, 1, "x")
NOT_GENOTYPES = {
    "no space": (("", {"a": [EDGE]}), "space"),
    "space of another type": ((None, {"a": [EDGE]}), "space"),
    "no cells": (("s", {}), "cells"),
    "cells as a list": (("s", [EDGE]), "cells"),
    "kind of another type": (("s", {1: [EDGE]}), "kind.*1"),
    "no edges": (("s", {"a": []}), "'a'"),
    "edges as text": (("s", {"a": "xyz"}), "'a'"),
    "edges as a set": (("s", {"a": {EDGE}}), "'a'"),
    "edge as text": (("s", {"a": ["xyz"]}), "edge 0"),
    "op of another type": (("s", {"a": [(0, 1, None)]}), "None"),
    "node of another type": (("s", {"a": [("0", 1, "x")]}), "edge 0"),
    "concat as a list": (("s", {"a": [EDGE]}, [1]), "concat"),
    "concat of another cell": (("s", {"a": [EDGE]}, {"b": [1]}), "'b'"),
    "concat of a number": (("s", {"a": [EDGE]}, {"a": 1}), "concat"),
    "node of thousands of digits": (("s", {"a": [(0, 10**5000, "x")]}), "0 -> a huge int"),
    "kinds of several types": (("s", {"a": [EDGE]}, {1: [1], None: [1]}), "concat names"),
}


@pytest.mark.parametrize("name", NOT_GENOTYPES)
def test_wrong_parts_are_refused_with_the_reason(name):
    parts, reason = NOT_GENOTYPES[name]
    with pytest.raises(ValueError, match=reason):
        Genotype(*parts)


def mutated(draw, text):
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.choice((0, 1, 1, 3, 20)))
        words = [
            "",
            "range(",
            "lambda:",
            "Genotype(",
            "_concat=",
            "('x', 0)",
            "null",
            "1e9",
            text[end : end + 30],
        ]
        signs = draw.choice("()[]{}|~+,='\"\\\n\0*:-0123456789"), chr(draw.randrange(1, 0x2FFF))
        piece = draw.choice([*words, *signs])
        text = text[:start] + piece + text[end:]
    return text


@pytest.mark.parametrize("name", ["DARTS_V2", "darts 1", "nasbench201 0", "graph 0"])
def test_mutated_text_reads_as_a_genotype_or_raises_value_error(name):
    genotype, draw = GENOTYPES[name], random.Random(name)
    texts = [genotype.to_json()] + ([genotype.to_text()] if name in WITH_TEXT else [])
    read = 0
    for _ in range(400):
        text = mutated(draw, draw.choice(texts))
        try:
            found = Genotype.from_text(text)
        except ValueError as error:
            assert str(error)
        else:
            read += 1
            assert isinstance(found, Genotype)
            assert Genotype.from_json(found.to_json()) == found
    assert read > 0


def test_all_15_625_nasbench201_strings_are_different_and_return():
    ops = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    texts = [
        "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*chosen)
        for chosen in itertools.product(ops, repeat=6)
    ]
    genotypes = {Genotype.from_text(text): text for text in texts}
    assert len(genotypes) == 15_625
    assert all(genotype.to_text() == text for genotype, text in genotypes.items())
    assert all(
        Genotype.from_json(genotype.to_json()) == genotype for genotype in [*genotypes][::25]
    )


def test_numbers_of_nodes_may_be_of_any_type_of_whole_numbers():
    given = Genotype(
        "darts",
        {"normal": [(np.int64(0), np.uint8(2), "sep_conv_3x3"), (1, np.int32(3), "skip_connect")]},
        {"normal": np.asarray([3]).tolist()},
    )
    plain = Genotype(
        "darts", {"normal": [(0, 2, "sep_conv_3x3"), (1, 3, "skip_connect")]}, {"normal": [3]}
    )
    assert given == plain and Genotype.from_json(given.to_json()) == plain
    assert all(type(edge.source) is type(edge.target) is int for edge in given.cells["normal"])
