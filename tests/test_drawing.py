"""A drawn genotype is a valid picture that shows every edge, with labels that can be read."""

import itertools
import random
import re
from xml.etree import ElementTree

import pytest

from dnas.drawing import _lanes, draw_genotype
from dnas.genotype import Genotype
from dnas.published import PUBLISHED

SVG = "{http://www.w3.org/2000/svg}"


def random_edges(seed):
    draw = random.Random(seed)
    places = [(source, target) for target in range(1, 9) for source in range(target)]
    edges = [
        (*place, f"op_{draw.randrange(9)}")
        for place in draw.sample(places, draw.randint(1, len(places)))
    ]
    if draw.random() < 0.5:
        edges.append((*edges[0][:2], "second_op"))  # two ops on one edge
    return edges


GENOTYPES = PUBLISHED | {
    "nasbench201": Genotype.from_text("|a~0|+|a~0|b~1|+|a~0|b~1|c~2|"),
    "one edge": Genotype("x", {"cell": [(0, 1, "op")]}),
    "inputs in the output": Genotype(
        "x", {"cell": [(0, 3, "op"), (1, 3, "op")]}, {"cell": (0, 1, 3)}
    ),
    **{f"random {seed}": Genotype("x", {"cell": random_edges(seed)}) for seed in range(8)},
}


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("name", GENOTYPES)
def test_picture_is_xml_and_names_every_op_as_often_as_it_is_there(name):
    genotype = GENOTYPES[name]
    root = ElementTree.fromstring(genotype._repr_svg_())
    assert root.tag == f"{SVG}svg"
    labels = texts(root)
    for kind, edges in genotype.cells.items():
        assert kind in labels
        for edge in edges:
            assert labels.count(edge.op) == sum(genotype.count(edge.op).values())


@pytest.mark.parametrize("name", GENOTYPES)
def test_picture_lies_within_its_frame(name):
    root = ElementTree.fromstring(GENOTYPES[name]._repr_svg_())
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    for group in root.iter(f"{SVG}g"):
        top = float(re.fullmatch(r"translate\(0 ([\d.]+)\)", group.get("transform"))[1])
        for element in [*group.iter(f"{SVG}rect"), *group.iter(f"{SVG}text")]:
            assert 0 <= float(element.get("x")) <= width
            assert 0 <= float(element.get("y")) + top <= height


@pytest.mark.parametrize("name", GENOTYPES)
def test_labels_on_one_height_do_not_meet(name):
    root = ElementTree.fromstring(GENOTYPES[name]._repr_svg_())
    for group in root.iter(f"{SVG}g"):
        rows = {}
        for element in group.iter(f"{SVG}text"):
            if element.get("text-anchor") is None:
                rows.setdefault(element.get("y"), []).append(
                    (float(element.get("x")), len(element.text))
                )
        for labels in rows.values():
            labels.sort()
            for (x, length), (after, _) in itertools.pairwise(labels):
                assert x + 7 * length < after  # 12 px type is under 7 px a letter


@pytest.mark.parametrize("seed", range(20))
def test_edges_in_one_lane_do_not_overlap(seed):
    edges = random_edges(seed)
    lanes = _lanes(edges)
    assert sorted(lanes) == list(range(len(edges)))
    assert set(lanes.values()) == set(range(max(lanes.values()) + 1))
    for one in lanes:
        for other in lanes:
            if one < other and lanes[one] == lanes[other]:
                (a, b, _), (c, d, _) = edges[one], edges[other]
                assert b <= c or d <= a


@pytest.mark.parametrize("seed", range(10))
def test_no_two_lines_meet_a_node_at_one_place(seed):
    root = ElementTree.fromstring(draw_genotype({"cell": random_edges(seed)}, {"cell": (8,)}, {}))
    lines = [
        element.get("d") for element in root.iter(f"{SVG}path") if element.get("fill") == "none"
    ]
    ends = [
        float(x)
        for d in lines
        for x in (re.match(r"M([\d.]+)", d)[1], re.findall(r"Q([\d.]+)", d)[1])
    ]
    assert len(set(ends)) == len(ends) == 2 * len(lines)


def test_drawing_is_deterministic_and_follows_the_edges():
    first, second = (Genotype("x", {"cell": random_edges(seed)}) for seed in (0, 1))
    assert first._repr_svg_() == Genotype.from_json(first.to_json())._repr_svg_()
    assert first._repr_svg_() != second._repr_svg_()


def test_signs_of_xml_are_escaped():
    op, kind = "<b>&\"'", "a<b&c"
    root = ElementTree.fromstring(draw_genotype({kind: [(0, 1, op)]}, {kind: (1,)}, {}))
    assert op in texts(root) and kind in texts(root)


def test_one_op_has_one_colour_in_all_cells():
    genotype = PUBLISHED["DARTS_V2"]
    root = ElementTree.fromstring(genotype._repr_svg_())
    colours = {}
    for element in root.iter(f"{SVG}text"):
        if "_" in element.text:
            colours.setdefault(element.text, set()).add(element.get("fill"))
    assert {len(found) for found in colours.values()} == {1}
    assert len(set.union(*colours.values())) == len(colours)


def test_output_nodes_are_marked_and_named():
    genotype = Genotype("x", {"cell": [(0, 2, "a"), (1, 2, "a"), (2, 3, "a")]}, {"cell": (1, 3)})
    root = ElementTree.fromstring(genotype._repr_svg_())
    assert "output: concatenation of nodes 1, 3" in texts(root)
    double = [element for element in root.iter(f"{SVG}rect") if element.get("fill") == "none"]
    assert len(double) == 2


@pytest.mark.parametrize("name", ["FBNET_A", "PROXYLESS_GPU"])
def test_a_chain_is_drawn_as_boxes_that_do_not_meet_in_the_order_of_the_layers(name):
    genotype = PUBLISHED[name]
    root = ElementTree.fromstring(genotype._repr_svg_())
    boxes = [element for element in root.iter(f"{SVG}rect") if element.get("rx")]
    places = [(float(box.get("y")), float(box.get("x"))) for box in boxes]
    assert len(boxes) == len(genotype.cells["layers"]) and places == sorted(places)
    for (y, x), (other_y, other_x) in itertools.pairwise(places):
        assert other_y > y + float(boxes[0].get("height")) or other_x > x + float(
            boxes[0].get("width")
        )
    assert 7 * max(len(edge.op) for edge in genotype.cells["layers"]) < float(boxes[0].get("width"))


def test_what_is_no_long_chain_is_drawn_as_a_cell():
    for edges in ([(0, 1, "a"), (1, 2, "b")], [(n, n + 1, "a") for n in range(6)] + [(0, 6, "b")]):
        assert "output: node" in draw_genotype({"layers": edges}, {"layers": (edges[-1][1],)}, {})


def test_an_edge_of_none_is_dashed_and_pale_and_no_other_is():
    root = ElementTree.fromstring(Genotype.from_text("|none~0|+|op~0|none~1|")._repr_svg_())
    colours = {element.text: element.get("fill") for element in root.iter(f"{SVG}text")}
    lines = [element for element in root.iter(f"{SVG}path") if element.get("fill") == "none"]
    dashed = [element.get("stroke") for element in lines if element.get("stroke-dasharray")]
    assert len(lines) == 3 and dashed == [colours["none"]] * 2 != [colours["op"]] * 2


def test_the_output_of_a_recurrent_cell_is_the_mean_of_its_nodes():
    root = ElementTree.fromstring(PUBLISHED["DARTS_RNN_V2"]._repr_svg_())
    assert "output: mean of nodes 1, 2, 3, 4, 5, 6, 7, 8" in texts(root)
