"""Published tables: every key becomes the part that it names, and what is not understood is
refused."""

import itertools
import json

import numpy as np
import pytest
import yaml
from test_expected import chain_space

import dnas
from dnas.hw_loss import (
    expected_cost,
    import_fbnet,
    import_hw_nas_bench,
    import_proxylessnas,
    read_table,
    write_table,
)
from dnas.hw_loss.importers import proxylessnas_part
from dnas.parts import Part

FROM = dict(device="Pixel 1", runtime="TFLite", date="2018", source="mobile_trim.yaml")
RELU6 = (("activation", "relu6"),)

# The forms of ProxylessNAS's LatencyEstimator and OFA's MBv3LatencyTable.
KEYS = {
    "Conv-input:224x224x3-output:112x112x32": Part("stem_3x3", 3, 32, 224, 224, 2, RELU6),
    "Conv_1-input:7x7x320-output:7x7x1280": Part("head_1x1", 320, 1280, 7, 7, 1, RELU6),
    "Logits-input:7x7x1280-output:1000": Part("classifier", 1280, 1000, 7, 7),
    "expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0": Part(
        "k3_e3", 16, 24, 112, 112, 2, RELU6
    ),
    "expanded_conv-input:56x56x24-output:56x56x24-expand:6-kernel:7-stride:1-idskip:1": Part(
        "k7_e6", 24, 24, 56, 56, 1, RELU6
    ),
    "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0": Part(
        "k3_e1", 32, 16, 112, 112, 1, (*RELU6, ("expand_ones", 0))
    ),
    "expanded_conv-input:56x56x24-output:56x56x24-expand:3-kernel:3-stride:1-idskip:0": Part(
        "k3_e3", 24, 24, 56, 56, 1, (*RELU6, ("residual", 0))
    ),
    "expanded_conv-input:40x40x32-output:40x40x32-expand:96-kernel:5-stride:1-idskip:1-se:0-hs:1": (
        Part(
            "mbconv",
            32,
            32,
            40,
            40,
            1,
            (("expand", 96), ("hs", 1), ("kernel", 5), ("residual", 1), ("se", 0)),
        )
    ),
    "AvgPool2D-input:7x7x1152-output:1x1x1152": Part("global_pool", 1152, 1152, 7, 7),
    "Conv_2-input:1x1x1152-output:1x1x1536": Part("conv_1x1", 1152, 1536, 1, 1),
}
COSTS = {key: 1.25 + number for number, key in enumerate(KEYS)}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_proxylessnas_or_ofa_names_its_part(key):
    assert proxylessnas_part(key) == KEYS[key]


@pytest.mark.parametrize(
    "key",
    [
        "Dense-input:7x7x1280-output:1000",
        "Conv-input:224x224-output:112x112x32",
        "expanded_conv-input:56x56x24-output:56x56x24",
        "Conv-input:56x56x24-output:56x56x24-expand:3-kernel:3-stride:1-idskip:0",
        "expanded_conv-input:56x56x24-output:56x56x24-expand:3-kernel:3-stride:1-idskip:2",
        "",
    ],
)
def test_another_key_is_refused(key):
    with pytest.raises(ValueError, match="is not a key of ProxylessNAS or OFA"):
        proxylessnas_part(key)


YAML = {
    "block": lambda: "".join(
        f"{key}:\n  count: 50\n  mean: {mean}\n  std: 0.5\n" for key, mean in COSTS.items()
    ),
    "flow": lambda: (
        "---\n"
        + "".join(f"{key}: {{mean: {mean}, std: 0.5, count: 50}}\n" for key, mean in COSTS.items())
    ),
    # As PyYAML writes long entries: braces over two lines, and what is not a word in quotes.
    "dumped": lambda: yaml.safe_dump(
        {key: {"mean": mean, "std": 0.5, "count": 50} for key, mean in COSTS.items()},
        default_flow_style=None,
        sort_keys=False,
        width=40,
    ),
    "variance": lambda: "".join(
        f"{key}: {{count: 50, mean: {mean}, var: 0.25}}\n" for key, mean in COSTS.items()
    ),
    "quoted": lambda: (
        "# made up\n"
        + "".join(
            f"'{key}':\n    mean: {mean}\n    std: 0.5\n    count: 50\n"
            for key, mean in COSTS.items()
        )
    ),
}


@pytest.mark.parametrize("form", [*YAML, "json"])
def test_a_file_of_proxylessnas_becomes_a_table(form, tmp_path):
    path = tmp_path / ("table.json" if form == "json" else "table.yaml")
    values = {key: {"mean": mean, "std": 0.5, "count": 50} for key, mean in COSTS.items()}
    path.write_text(json.dumps(values) if form == "json" else YAML[form]())
    table = import_proxylessnas(path, **FROM)
    measured = {("latency", KEYS[key]): (mean, 0.5, 50, False) for key, mean in COSTS.items()}
    left_out = {("latency", Part("skip_connect", 24, 24, 56, 56)): (0.0, None, None, False)}
    assert table.rows == measured | left_out
    assert read_table(write_table(table)) == table
    in_us = import_proxylessnas(path, unit="us", **FROM)
    assert [cost.mean for cost in in_us.rows.values()] == pytest.approx(
        [*(mean / 1000 for mean in COSTS.values()), 0]
    )


KEY = "Logits-input:7x7x1280-output:1000"
WRONG = {
    "no mean": (f"{KEY}:\n  std: 1\n", "needs a number, or a mean"),
    "text": (f"{KEY}: fast\n", "needs a number"),
    "a word that YAML may read as a number": (f"{KEY}: yes\n", "needs a number"),
    "a number in another base": (f"{KEY}: 1:30\n", "needs a number"),
    "a list for a number": (f"{KEY}: [1, 2]\n", "needs a number"),
    "an unknown statistic": (f"{KEY}: {{mean: 1, sdt: 2}}\n", "a mean and perhaps std or var"),
    "half a count": (f"{KEY}: {{mean: 1, count: 1.5}}\n", "a whole count"),
    "an infinite count": (f"{KEY}: {{mean: 1, count: inf}}\n", "a whole count"),
    "a negative variance": (f"{KEY}: {{mean: 1, var: -1}}\n", "needs a number"),
    "not a number": (f"{KEY}: nan\n", "finite number"),
    "twice": (
        f"{KEY}: 1\n" * 2,
        "line 2: this is not understood: a key is text, and is there once",
    ),
    "twice within": (f"{KEY}: {{mean: 1, mean: 2}}\n", "line 1: .* is there once, not 'mean'"),
    "a list": ("- 1\n- 2\n", "holds no keys with their costs, but .'1', '2'."),
    "an orphan": ("  mean: 3\n", "'mean' is not a key of ProxylessNAS"),
    "empty": ("", "holds no keys with their costs"),
    "a key that is a list": ("? [a]\n: 1\n", "line 1: this is not understood: a key is text"),
    "no end": (f"{KEY}: {{mean: 1\n", "line 2: this is not understood"),
    "two documents": (f"{KEY}: 1\n---\n{KEY}: 1\n", "line 2: this is not understood"),
    "nested": ("[" * 100_000, "this is not understood"),
    "many times itself": (
        "a: &a [1, 1]\n"
        + "".join(
            f"{new}: &{new} [{f'*{old}, ' * 20}]\n"
            for old, new in itertools.pairwise("abcdefghijklmnopq")
        ),
        "'a' is not a key",
    ),
    "in itself": (f"{KEY}: &a [*a]\n", "this is not understood|needs a number"),
    "a call": (f"{KEY}: !!python/object/apply:os.system [exit]\n", "needs a number"),
    "no height": ("Conv-input:0x0x3-output:112x112x32: 1\n", "is not a key of ProxylessNAS"),
    "no place to divide by": ("Conv-input:8x8x3-output:0x0x32: 1\n", "is not a key of"),
    "digits": (f"Conv-input:{'1' * 500}x8x3-output:8x8x32: 1\n", "is not a key of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_not_understood_is_refused(name, tmp_path):
    text, message = WRONG[name]
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        import_proxylessnas(tmp_path / "table.yaml", **FROM)


# The keys that the benchmark's own fbnet_get_metrics looks up.
FBNET = {
    "ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1": (
        Part("stem_3x3", 3, 16, 224, 224, 2),
        1.0,
    ),
    "ConvBlock_H112_W112_Cin16_Cout24_exp3_kernel5_stride2_group1": (
        Part("k5_e3", 16, 24, 112, 112, 2),
        2.0,
    ),
    "ConvBlock_H112_W112_Cin16_Cout16_exp1_kernel3_stride1_group2": (
        Part("k3_e1_g2", 16, 16, 112, 112),
        3.0,
    ),
    "Skip_H56_W56_Cin24_Cout24_stride1": (Part("skip_connect", 24, 24, 56, 56), 0.5),
    "ConvNorm_H7_W7_Cin352_Cout1984_kernel1_stride1_group1": (
        Part("head_1x1", 352, 1984, 7, 7),
        4.0,
    ),
}
POOLED = {
    "AvgP_H7_W7_Cin1984_Cout1984_kernel7_stride1": 0.25,
    "FC_Cin1984_Cout1000": 1.5,
    "FC_Cin1504_Cout100": 9.0,
}


@pytest.mark.parametrize("form", ["all tables", "one table", "csv"])
def test_a_table_of_hw_nas_bench_is_read_with_pooling_and_linear_layer_as_one(form, tmp_path):
    entries = {key: cost for key, (_, cost) in FBNET.items()} | POOLED
    path = tmp_path / ("fbnet.csv" if form == "csv" else "fbnet.json")
    if form == "csv":
        path.write_text("key,cost\n" + "".join(f"{key},{cost}\n" for key, cost in entries.items()))
    else:
        path.write_text(
            json.dumps(
                {"pixel3_latency": entries, "fpga_energy": {}} if form == "all tables" else entries
            )
        )
    table = import_hw_nas_bench(path, "pixel3_latency")
    expected = {("latency", part): cost for part, cost in FBNET.values()}
    expected["latency", Part("classifier", 1984, 1000, 7, 7)] = 1.75
    assert {key: cost.mean for key, cost in table.rows.items()} == expected
    assert table.device == "pixel3" and table.metrics == ("latency",)


WRONG_JSON = (
    ('{"KEY": 1e400}', "finite number"),
    ('{"KEY": 1%s}' % ("0" * 400), "needs a number"),
    ('{"KEY": 1%s}' % ("0" * 5000), "is not valid JSON"),
    ('{"KEY": true}', "needs a number, .*got True"),
    ('{"KEY": {"mean": 1, "count": 1e400}}', "a whole count"),
    ('{"KEY": 1, "KEY": 2}', "is not valid JSON: the name 'Conv.* is given twice"),
    ("[" * 100_000, "is not valid JSON"),
    ('{"KEY": %s}' % ("[" * 500 + "]" * 500), "needs a number"),
    ("[1]", "holds no keys with their costs"),
    ("", "is not valid JSON"),
)


@pytest.mark.parametrize("number", range(len(WRONG_JSON)))
def test_json_that_is_no_table_is_refused_with_the_reason(number, tmp_path):
    text, reason = WRONG_JSON[number]
    key = next(iter(KEYS))
    (tmp_path / "t.json").write_text(text.replace("KEY", key))
    with pytest.raises(ValueError, match=reason) as caught:
        import_proxylessnas(tmp_path / "t.json", **FROM)
    assert len(str(caught.value)) < 500


WRONG_CSV = (
    ("key,cost\nFC_Cin1984_Cout1000,1\nFC_Cin1984_Cout1000,1\n", "line 3: .*each key once"),
    ("FC_Cin1984_Cout1000,1,2\n", "line 1: a key and its cost are needed"),
    (f"{'a' * 200_000},1\n", "line 1: this is not CSV"),
    ("FC_Cin1984_Cout1000,fast\n", "needs a number"),
    ("FC_Cin1984,1\n", "'FC_Cin1984' is not a key of HW-NAS-Bench"),
    ("AvgP_H7_W7_Cin1984,1\n", "is not a key of HW-NAS-Bench"),
    ("Skip_H0_W7_Cin8_Cout8_stride1,1\n", "is not a key of HW-NAS-Bench"),
    ("ConvNorm_H7_W7_Cin3_Cout8_kernel5_stride1_group1,1\n", "kernels of 1 or 3"),
    (f"FC_Cin{'1' * 5000}_Cout10,1\n", "is not a key of HW-NAS-Bench"),
    ("".join(f"FC_Cin8_Cout{n + 1},1\n" for n in range(101)), "and 101 of FC.* at most 100"),
)


@pytest.mark.parametrize("number", range(len(WRONG_CSV)))
def test_a_csv_of_hw_nas_bench_with_a_part_missing_is_refused(number, tmp_path):
    text, reason = WRONG_CSV[number]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        import_hw_nas_bench(tmp_path / "t.csv", "pixel3_latency")


def test_files_of_other_programs_are_read_as_their_text(tmp_path):
    entries = {key: cost for key, (_, cost) in FBNET.items()}
    for name, text in (
        ("t.csv", "".join(f"{key},{cost}\n" for key, cost in entries.items())),
        ("t.json", json.dumps(entries)),
        ("t.yaml", yaml.safe_dump(entries)),
    ):
        (tmp_path / name).write_bytes(text.encode())
        table = import_hw_nas_bench(tmp_path / name, "pixel3_latency")
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        assert import_hw_nas_bench(tmp_path / name, "pixel3_latency") == table
        (tmp_path / name).write_bytes(text.encode("utf-16"))
        with pytest.raises(ValueError, match="save it as UTF-8"):
            import_hw_nas_bench(tmp_path / name, "pixel3_latency")
    with pytest.raises(ValueError, match="none.json cannot be read: No such file"):
        import_hw_nas_bench(tmp_path / "none.json", "pixel3_latency")


def test_a_pickle_is_never_loaded_and_the_message_says_how_to_export_it(tmp_path):
    path = tmp_path / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(b"cos\nsystem\n(S'touch loaded'\ntR.")
    renamed = tmp_path / "table.json"
    renamed.write_bytes(b"\x80\x04\x95")
    for own in (path, renamed):
        with pytest.raises(ValueError, match=r"is a pickle, or may hold one") as caught:
            import_hw_nas_bench(own, "pixel3_latency")
        assert "get_op_lookup_tables" in str(caught.value) and "json.dump" in str(caught.value)


def test_what_hw_nas_bench_does_not_have_is_refused(tmp_path):
    path = tmp_path / "fbnet.json"
    path.write_text(json.dumps({"pixel3_latency": {"ConvBlock_H7_W7": 1.0}}))
    with pytest.raises(ValueError, match="is not a key of HW-NAS-Bench"):
        import_hw_nas_bench(path, "pixel3_latency")
    with pytest.raises(ValueError, match="has no table 'fpga_energy'; it has: pixel3_latency"):
        import_hw_nas_bench(path, "fpga_energy")
    with pytest.raises(ValueError, match="named by device and metric"):
        import_hw_nas_bench(path, "latency")


@pytest.mark.parametrize("form", ["lists", "names"])
def test_fbnets_list_of_layers_goes_to_the_parts_of_the_space(form, tmp_path):
    layers = chain_space(length=3).parts()
    # The second layer lacks an op.
    costs = [
        [1000.0, 2000.0, 3000.0],
        [4000.0, 5000.0],
        [6000.0, 7000.0, 8000.0],
    ]
    named = [dict(zip("abc", own, strict=False)) for own in costs]
    (tmp_path / "pi.json").write_text(
        json.dumps([None, *(costs if form == "lists" else named), None])
    )
    table = import_fbnet(tmp_path / "pi.json", layers, **FROM)
    found = [
        [table.rows["latency", part].mean for part in row if part] for row in layers.layers[0].parts
    ]
    assert [pytest.approx(own) for own in found] == [list(np.array(own) / 1000) for own in costs]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([[1.0, 2.0, 3.0]], "has 1 layers, but the space has 3"),
        ([[1.0, 2.0, 3.0], [1.0], [1.0, 2.0, 3.0]], "layer 1 of .* needs a cost for each of a, b"),
        (
            [[1.0, 2.0, 3.0], {"a": 1.0, "c": 2.0}, [1.0, 2.0, 3.0]],
            "layer 1 of .* needs a cost for each of a, b",
        ),
        ([[1.0, 2.0, "x"], [1.0, 1.0], [1.0, 2.0, 3.0]], "'layer 0, c' needs a number"),
        ({"layers": []}, "holds dict, not a list"),
    ],
)
def test_fbnets_list_that_does_not_fit_is_refused(tree, message, tmp_path):
    (tmp_path / "pi.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=message):
        import_fbnet(tmp_path / "pi.json", chain_space(length=3).parts(), **FROM)


IMAGENET = dict(image_size=224, num_classes=1000, stem="imagenet")


def fbnet_keys():
    """Every key that HW-NAS-Bench looks up for FBNet's networks on ImageNet, made as its own code
    does."""
    channels, layers, strides = (
        (16, 24, 32, 64, 112, 184, 352),
        (1, 4, 4, 4, 4, 4, 1),
        (1, 2, 2, 2, 1, 2, 1),
    )
    blocks = [(e, k, g) for k in (3, 5) for e, g in ((1, 1), (1, 2), (3, 1), (6, 1))]
    yield "ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1"
    side, inputs = 112, 16
    for outputs, number, first_stride in zip(channels, layers, strides, strict=True):
        for layer in range(number):
            stride = 1 if layer else first_stride
            shape = f"H{side}_W{side}_Cin{inputs}_Cout{outputs}"
            yield f"Skip_{shape}_stride{stride}"
            for e, k, g in blocks:
                yield f"ConvBlock_{shape}_exp{e}_kernel{k}_stride{stride}_group{g}"
            side, inputs = side // stride, outputs
    yield f"ConvNorm_H{side}_W{side}_Cin{inputs}_Cout1984_kernel1_stride1_group1"
    yield f"AvgP_H{side}_W{side}_Cin1984_Cout1984_kernel{side}_stride1"
    yield "FC_Cin1984_Cout1000"


def test_the_tables_of_hw_nas_bench_are_those_of_our_fbnet_space(tmp_path):
    path = tmp_path / "fbnet.json"
    path.write_text(json.dumps({key: 1.0 for key in fbnet_keys()}))
    table, layers = (
        import_hw_nas_bench(path, "raspi4_latency"),
        dnas.SPACES["fbnet"].parts(**IMAGENET),
    )
    assert {part for _, part in table.rows} == set(layers.distinct())
    # Stem, 22 layers, head, and pooling with its linear layer.
    assert expected_cost(table, layers)({"layers": np.full((22, 9), 1 / 9)}) == pytest.approx(
        1 + 22 + 1 + 2
    )


def proxyless_keys():
    """Every key that ProxylessNAS looks up for the networks of its space, made as its own code
    does."""
    stages = [(24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1)]
    yield "Conv-input:224x224x3-output:112x112x32"
    yield "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0"
    side, inputs = 112, 16
    for outputs, number, first_stride in stages:
        for layer in range(number):
            stride, after = (1, side) if layer else (first_stride, side // first_stride)
            shape = f"input:{side}x{side}x{inputs}-output:{after}x{after}x{outputs}"
            for kernel in (3, 5, 7):
                for expand in (3, 6):
                    yield (
                        f"expanded_conv-{shape}-expand:{expand}"
                        f"-kernel:{kernel}-stride:{stride}-idskip:{int(layer > 0)}"
                    )
            side, inputs = after, outputs
    yield "Conv_1-input:7x7x320-output:7x7x1280"
    yield "Logits-input:7x7x1280-output:1000"


def test_the_tables_of_proxylessnas_are_those_of_our_space(tmp_path):
    path = tmp_path / "mobile_trim.yaml"
    path.write_text("".join(f"{key}: {{mean: 2.0}}\n" for key in dict.fromkeys(proxyless_keys())))
    table, layers = import_proxylessnas(path, **FROM), dnas.SPACES["proxylessnas"].parts(**IMAGENET)
    assert {part for _, part in table.rows} == set(layers.distinct())
    blocks = np.zeros((21, 7))
    blocks[:, 0] = 1.0
    assert expected_cost(table, layers)({"layers": blocks}) == 2.0 * (21 + 4)
    blocks[1] = [0, 0, 0, 0, 0, 0, 1]  # a layer left out is free
    assert expected_cost(table, layers)({"layers": blocks}) == 2.0 * (20 + 4)
