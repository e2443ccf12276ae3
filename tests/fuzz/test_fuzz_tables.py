"""Files of hardware costs and of known results, as dnas and others write them."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from inputs import edited, edited_json
from law import obeys
from test_nats import real_results

import dnas
from dnas import hw_loss
from dnas.app.fit import read_measurements
from dnas.hw_loss import importers
from dnas.parts import Part
from dnas.tabular import from_nats, load_benchmark

FROM = {"device": "Pixel 1", "runtime": "TFLite", "date": "2018", "source": "mobile_trim.yaml"}
ROWS = {
    ("latency", Part("sep_conv_3x3", 8, 8, 4, 4)): hw_loss.Cost(0.5, 0.1, 30),
    ("latency", Part("skip_connect", 8, 16, 4, 4, 2, (("residual", 0),))): hw_loss.Cost(1.5),
}
CALIBRATION = {"latency": hw_loss.Calibration(0.1, {"sum_pool": 1.1, "": 0.9}, 30, 0.002)}
TABLE = hw_loss.CostTable(**FROM, batch=1, rows=ROWS, calibrations=CALIBRATION)
CONV = "Conv-input:224x224x3-output:112x112x32"
BLOCK = (
    "expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0-se:0-hs:1"
)
PROXYLESS = (CONV, BLOCK, "Logits-input:7x7x1280-output:1000", BLOCK[: -len("-se:0-hs:1")])
YAML = (
    f"# of a phone\n{CONV}:\n  mean: 1.5\n  std: 0.1\n  count: 5\n{PROXYLESS[2]}: 2\n",
    f"---\n{CONV}: {{mean: 1.5, std: 0.1,\n  count: 5}}\n'{PROXYLESS[2]}': 2.0\n",
)
HW_NAS = {
    "pixel3_latency": {
        "ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1": 1.0,
        "ConvBlock_H112_W112_Cin16_Cout24_exp3_kernel5_stride2_group1": 2.0,
        "Skip_H56_W56_Cin24_Cout24_stride1": 0.5,
        "AvgP_H7_W7_Cin1984_Cout1984_kernel7_stride1": 0.25,
        "FC_Cin1984_Cout1000": 1.5,
    }
}
FBNET = dnas.SPACES["fbnet"].parts(image_size=32, num_classes=10)
BLOCKS = [
    {op: 1.0 for op, part in zip(FBNET.cells["layers"].ops, parts, strict=True) if part is not None}
    for parts in FBNET.layers[0].parts
]
CELLS = [
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|",
    "|none~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
]
CSV = f"arch,accuracy,latency_ms\n{CELLS[0]},93.5,2\n{CELLS[1]},54.25,1e-3\n"
CSVS = (CSV.encode(), b"\xef\xbb\xbf" + CSV.encode(), gzip.compress(CSV.encode(), mtime=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def file_of(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    return path


@given(edited((hw_loss.write_table(TABLE),)))
def test_a_table(text):
    table = obeys(hw_loss.read_table, text)
    if table is not None:
        assert hw_loss.read_table(hw_loss.write_table(table)) == table


@given(edited((hw_loss.write_table(TABLE).encode(), hw_loss.write_table(TABLE).encode("utf-16"))))
def test_the_file_of_a_table(folder, content):
    obeys(hw_loss.load_table, file_of(folder, "table.csv", content))


@given(edited(YAML))
def test_yaml_of_proxylessnas(folder, text):
    obeys(importers.import_proxylessnas, file_of(folder, "table.yaml", text), **FROM)


@given(edited_json({key: {"mean": 1.5, "std": 0.1, "count": 5} for key in PROXYLESS}))
def test_json_of_proxylessnas(folder, text):
    obeys(importers.import_proxylessnas, file_of(folder, "table.json", text), **FROM)


@given(edited(PROXYLESS))
def test_a_key_of_proxylessnas(key):
    obeys(importers.proxylessnas_part, key)


@given(edited_json(HW_NAS))
def test_json_of_hw_nas_bench(folder, text):
    path = file_of(folder, "hw.json", text)
    obeys(importers.import_hw_nas_bench, path, "pixel3_latency")


@given(edited(["key,cost\n" + "".join(f"{k},{v}\n" for k, v in HW_NAS["pixel3_latency"].items())]))
def test_csv_of_hw_nas_bench(folder, text):
    path = file_of(folder, "hw.csv", text)
    obeys(importers.import_hw_nas_bench, path, "pixel3_latency")


@given(edited_json([None, *BLOCKS]))
def test_json_of_fbnet(folder, text):
    obeys(importers.import_fbnet, file_of(folder, "fbnet.json", text), FBNET, **FROM)


@given(edited(CSVS))
def test_a_benchmark(folder, content):
    path = file_of(folder, "results.csv", content)
    table = obeys(load_benchmark, path, space=dnas.SPACES["nasbench201"])
    if table is not None:
        for metric in table.metrics:
            assert table.rank(table.best(metric), metric) == 1


@given(edited(CSVS))
def test_measurements_to_fit(folder, content):
    name = "measured.csv.gz" if content[:2] == b"\x1f\x8b" else "measured.csv"
    obeys(read_measurements, file_of(folder, name, content), "latency_ms")


@pytest.fixture(scope="module")
def nats(tmp_path_factory):
    """The published file and a file of the published folder, as bytes."""
    nats_bench = pytest.importorskip("nats_bench")
    folder = tmp_path_factory.mktemp("nats")
    content = real_results(nats_bench)
    nats_bench.pickle_save(content, folder / "whole.pickle")
    return (folder / "whole.pickle.pbz2").read_bytes()


@given(places=edited((bytes(1000),)))
def test_a_damaged_file_of_nats_bench(nats, folder, places):
    """Cut, or with bits flipped. A pickle runs what is in it, so nothing is put in."""
    damaged = bytearray(nats[: len(nats) * len(places) // 1000])
    for place in np.flatnonzero(np.frombuffer(places, np.uint8)):
        if place < len(damaged):
            damaged[place] ^= places[place]
    obeys(from_nats, file_of(folder, "NATS-tss.pickle.pbz2", bytes(damaged)))


def cost_model() -> str:
    """A small one: what it says of graphs is checked graph by graph."""
    spec = dnas.CellSpec(1, 2, ((0, 1), (1, 2), (0, 2)), ("none", "conv", "pool"), concat=(2,))
    mixes = np.eye(3)[np.random.default_rng(0).integers(0, 3, (40, 3))]
    costs = 1.0 + mixes[:, 2, 1] + 0.01 * np.arange(40)
    return hw_loss.fit_cost(spec, mixes, costs).to_json()


MODEL = json.loads(cost_model())


@given(edited_json(MODEL))
def test_a_cost_model(text):
    obeys(hw_loss.CostModel.from_json, text)
