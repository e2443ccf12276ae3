"""Tables that others have published, brought to the names of our parts: ProxylessNAS and OFA,
HW-NAS-Bench, FBNet.

No pickle is ever read: loading one runs the code in it.
"""

import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from dnas.checks import checked
from dnas.files import csv_rows, decode, read_file, read_json, shown
from dnas.hw_loss.table import Cost, CostTable, unit_factor
from dnas.parts import NetworkParts, Part

# Of a file; YAML takes some seconds a megabyte.
_MOST_BYTES = 2**22
_MOST_YAML = 2**20
_MOST_CLASSIFIERS = 100

_EXPORT = """\
import json
from hw_nas_bench_api import HWNASBenchAPI
tables = HWNASBenchAPI("HW-NAS-Bench-v1_0.pickle", search_space="fbnet").get_op_lookup_tables()
plain = {name: {key: float(cost) for key, cost in own.items()} for name, own in tables.items()}
json.dump(plain, open("fbnet.json", "w"))"""


@checked
def import_proxylessnas(
    path: str | os.PathLike,
    *,
    device: str,
    runtime: str,
    date: str,
    source: str,
    unit: str = "ms",
    batch: int = 1,
) -> CostTable:
    """Returns the latency table in a YAML or JSON file of ProxylessNAS or OFA, such as
    `mobile_trim.yaml`.

    Its keys are "Conv-input:224x224x3-output:112x112x32", "Conv_1-...", "Logits-...", and
    "expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0", each with
    a "mean" and perhaps "std" or "var" and "count". The parts are those of the space
    "proxylessnas"; with "-se:0-hs:1" at the end, as in OFA's tables, `expand` is a number of
    channels, and the part an "mbconv" with these as keys. A layer that is left out costs nothing
    there, and so `skip_connect` gets a row of 0 for every size at which a block may be left out.

    Raises:
      ValueError: names a key that is not understood, and a line that is not of this form.
    """
    factor, rows = unit_factor("latency", unit), {}
    for key, values in _entries(path).items():
        part = proxylessnas_part(key)
        if ("latency", part) in rows:
            raise ValueError(f"{path}: {shown(key)} is the part {part}, which is there already")
        rows["latency", part] = _cost(path, key, values, factor)
    for _, part in list(rows):
        if part.op[0] == "k" and part.stride == 1 and part.channels_in == part.channels_out:
            rows["latency", part._replace(op="skip_connect", keys=())] = Cost(0.0)
    return CostTable(device, runtime, batch, date, source, rows)


_SIZE = "[1-9][0-9]{0,8}"
_SHAPES = (
    rf"(?P<op>\w+)-input:(?P<height>{_SIZE})x(?P<width>{_SIZE})x(?P<inputs>{_SIZE})"
    rf"-output:(?:(?P<h>{_SIZE})x(?P<w>{_SIZE})x)?(?P<outputs>{_SIZE})"
)
_BLOCK = (
    rf"-expand:(?P<expand>{_SIZE})-kernel:(?P<kernel>{_SIZE})-stride:(?P<stride>{_SIZE})"
    r"-idskip:(?P<idskip>[01])"
)
_KEY = re.compile(rf"{_SHAPES}(?:{_BLOCK}(?:-se:(?P<se>[01])-hs:(?P<hs>[01]))?)?")
_LAYERS = {
    "Conv": "stem_3x3",
    "Conv_1": "head_1x1",
    "Conv_2": "conv_1x1",
    "AvgPool2D": "global_pool",
    "Logits": "classifier",
}


def proxylessnas_part(key: str) -> Part:
    """Returns the part that a key of ProxylessNAS or OFA names.

    Raises:
      ValueError: if it is not such a key.

    Example:
      >>> print(
      ...     proxylessnas_part(
      ...         "expanded_conv-input:112x112x16-output:56x56x24-expand:3"
      ...         "-kernel:5-stride:2-idskip:0"
      ...     )
      ... )
      k5_e3 16->24 112x112 stride 2 activation=relu6
    """
    found = _KEY.fullmatch(key)
    if (
        not found
        or (found["op"] != "expanded_conv" and found["op"] not in _LAYERS)
        or (found["op"] in _LAYERS) == bool(found["kernel"])
    ):
        raise ValueError(
            f"{shown(key)} is not a key of ProxylessNAS or OFA; those are"
            " 'Conv-input:224x224x3-output:112x112x32' and"
            " 'expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0',"
            " with Conv_1, Conv_2, AvgPool2D and Logits beside Conv"
        )
    height, width, inputs, outputs = (
        int(found[name]) for name in ("height", "width", "inputs", "outputs")
    )
    if found["op"] in _LAYERS:
        op = _LAYERS[found["op"]]
        stride = -(-height // int(found["h"])) if found["h"] and op != "global_pool" else 1
        keys = (("activation", "relu6"),) if op in ("stem_3x3", "head_1x1") else ()
        return Part(op, inputs, outputs, height, width, stride, keys)
    expand, kernel, stride, idskip = (
        int(found[name]) for name in ("expand", "kernel", "stride", "idskip")
    )
    if found["se"]:
        keys = (
            ("expand", expand),
            ("hs", int(found["hs"])),
            ("kernel", kernel),
            ("residual", idskip),
            ("se", int(found["se"])),
        )
        return Part("mbconv", inputs, outputs, height, width, stride, keys)
    keys = [("activation", "relu6")]
    keys += [("expand_ones", 0)] if expand == 1 else []
    keys += [("residual", idskip)] if bool(idskip) != (stride == 1 and inputs == outputs) else []
    return Part(f"k{kernel}_e{expand}", inputs, outputs, height, width, stride, tuple(keys))


@checked
def import_hw_nas_bench(
    path: str | os.PathLike, name: str, *, date: str = "2021", batch: int = 1
) -> CostTable:
    """Returns one of the op tables of HW-NAS-Bench for FBNet's space, in ms or mJ.
    https://arxiv.org/abs/2103.10584

    Its own file is a pickle, which is refused with the three lines that write it as JSON. The JSON
    holds {name: {key: cost}}, with names such as "pixel3_latency" and "edgegpu_energy" and keys
    such as "ConvBlock_H112_W112_Cin16_Cout24_exp3_kernel5_stride2_group1"; a CSV holds "key,cost".
    The parts are those of the space "fbnet"; its average pooling and linear layer together are our
    classifier.

    Args:
      name: of the table, device and metric; it says which of them to take from a JSON.

    Raises:
      ValueError: for a pickle, a name that is not there, and keys that are not understood.
    """
    device, _, metric = name.rpartition("_")
    if metric not in ("latency", "energy") or not device:
        raise ValueError(
            "tables of HW-NAS-Bench are named by device and metric, such as 'pixel3_latency', not"
            f" {name!r}"
        )
    entries = _entries(path)
    if any(isinstance(own, Mapping) for own in entries.values()):
        if not isinstance(entries.get(name), Mapping):
            raise ValueError(f"{path} has no table {name!r}; it has: {', '.join(entries):.500}")
        entries = entries[name]
    rows, pools, linear = {}, {}, {}
    for key, value in entries.items():
        cost, (kind, sizes) = _cost(path, key, value, 1.0), _fbnet_sizes(key)
        if kind == "AvgP":
            pools[sizes["Cin"], sizes["H"], sizes["W"]] = cost
        elif kind == "FC":
            linear[sizes["Cin"], sizes["Cout"]] = cost
        else:
            rows[metric, _fbnet_part(kind, sizes)] = cost
    if max(len(pools), len(linear)) > _MOST_CLASSIFIERS:
        raise ValueError(
            f"{path} has {len(pools)} keys of AvgP and {len(linear)} of FC, any two of which may"
            f" be one classifier; at most {_MOST_CLASSIFIERS} of each are read"
        )
    for (channels, height, width), pool in pools.items():
        for (inputs, outputs), cost in linear.items():
            if inputs == channels:
                rows[metric, Part("classifier", inputs, outputs, height, width)] = Cost(
                    pool.mean + cost.mean
                )
    return CostTable(device, "HW-NAS-Bench", batch, date, "HW-NAS-Bench v1.0, FBNet space", rows)


_FBNET_KEYS = {
    "ConvNorm": "ConvNorm_H{H}_W{W}_Cin{Cin}_Cout{Cout}_kernel{kernel}_stride{stride}_group{group}",
    "ConvBlock": (
        "ConvBlock_H{H}_W{W}_Cin{Cin}_Cout{Cout}_exp{exp}_kernel{kernel}_stride{stride}_group{group}"
    ),
    "Skip": "Skip_H{H}_W{W}_Cin{Cin}_Cout{Cout}_stride{stride}",
    "AvgP": "AvgP_H{H}_W{W}_Cin{Cin}_Cout{Cout}_kernel{kernel}_stride{stride}",
    "FC": "FC_Cin{Cin}_Cout{Cout}",
}
_FBNET_PATTERNS = {
    kind: re.compile(re.sub(r"\{(\w+)\}", rf"(?P<\1>{_SIZE})", key))
    for kind, key in _FBNET_KEYS.items()
}


def _fbnet_sizes(key: str) -> tuple[str, dict[str, int]]:
    """The kind of layer that a key of HW-NAS-Bench names, and the sizes in it."""
    kind = key.partition("_")[0]
    found = _FBNET_PATTERNS[kind].fullmatch(key) if kind in _FBNET_PATTERNS else None
    if not found or (kind == "ConvNorm" and found["kernel"] not in ("1", "3")):
        raise ValueError(
            f"{shown(key)} is not a key of HW-NAS-Bench; those are"
            f" {', '.join(_FBNET_KEYS.values())}, with kernels of 1 or 3 in ConvNorm"
        )
    return kind, {name: int(size) for name, size in found.groupdict().items()}


def _fbnet_part(kind: str, sizes: Mapping[str, int]) -> Part:
    if kind == "ConvNorm":
        op = "stem_3x3" if sizes["kernel"] == 3 else "head_1x1"
    elif kind == "Skip":
        op = "skip_connect"
    else:
        group = f"_g{sizes['group']}" if sizes["group"] > 1 else ""
        op = f"k{sizes['kernel']}_e{sizes['exp']}{group}"
    shape = (sizes[name] for name in ("Cin", "Cout", "H", "W"))
    return Part(op, *shape, stride=sizes["stride"])


@checked
def import_fbnet(
    path: str | os.PathLike,
    layers: NetworkParts,
    *,
    device: str,
    runtime: str,
    date: str,
    source: str,
    metric: str = "latency",
    unit: str = "us",
    batch: int = 1,
) -> CostTable:
    """Returns the table in a JSON of FBNet's kind: a list with, for each layer, the costs of its
    blocks, [[1.5, ...], ...].

    Entries that are null, which stand for the fixed layers around those searched, are left out. A
    layer has a cost for each block that it can choose, in the order of the space; or, instead of a
    list, {block: cost}. Fixed parts are not in such files: merge a table that has them.

    Args:
      layers: `space.parts(...)` of the layer-wise space that was measured, at its size.

    Raises:
      ValueError: if layers, blocks or costs do not fit the space.
    """
    tree = read_json(_text(pathlib.Path(path)), path)
    if not isinstance(tree, list):
        raise ValueError(
            f"{path} holds {type(tree).__name__}, not a list with the costs of each layer"
        )
    (places,) = layers.layers
    spec, found = layers.cells[places.kind], [entry for entry in tree if entry is not None]
    if len(found) != len(places.parts):
        raise ValueError(f"{path} has {len(found)} layers, but the space has {len(places.parts)}")
    factor, rows = unit_factor(metric, unit), {}
    for number, (entry, parts) in enumerate(zip(found, places.parts, strict=True)):
        own = {op: part for op, part in zip(spec.ops, parts, strict=True) if part is not None}
        if isinstance(entry, list) and len(entry) == len(own):
            entry = dict(zip(own, entry, strict=True))
        if not isinstance(entry, dict) or set(entry) != set(own):
            raise ValueError(
                f"layer {number} of {path} needs a cost for each of {', '.join(own)}; got"
                f" {shown(entry)}"
            )
        for op, part in own.items():
            cost = _cost(path, f"layer {number}, {op}", entry[op], factor)
            # Equal layers were measured more than once: the first stands for all, as one network
            #   has one table.
            rows.setdefault((metric, part), cost)
    return CostTable(device, runtime, batch, date, source, rows)


def _cost(path: str | os.PathLike, key: str, given: Any, factor: float) -> Cost:
    """The cost of a number, or of {"mean": number, ...}."""
    values = given if isinstance(given, Mapping) else {"mean": given}
    try:
        numbers = {name: _number(value) for name, value in values.items()}
        mean = numbers.pop("mean") * factor
        spread = numbers.pop("std", None)
        if "var" in numbers:
            spread = math.sqrt(numbers.pop("var"))
        count = numbers.pop("count", None)
        if numbers or not (count is None or count.is_integer()):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{path}: {shown(key)} needs a number, or a mean and perhaps std or var, and a whole"
            f" count; got {shown(given)}"
        ) from None
    return Cost(
        mean,
        None if spread is None else spread * factor,
        None if count is None else int(count),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _entries(path: str | os.PathLike) -> dict[str, Any]:
    """{key: number, or {"mean": number, ...}} of a JSON, CSV or YAML file."""
    path = pathlib.Path(path)
    if path.suffix == ".json":
        entries = read_json(_text(path), path)
    elif path.suffix == ".csv":
        entries = _read_pairs(_text(path), path)
    else:
        entries = _read_yaml(_text(path, most_bytes=_MOST_YAML), path)
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"{path} holds no keys with their costs, but {shown(entries)}")
    return entries


def _read_pairs(text: str, path: pathlib.Path) -> dict[str, str]:
    """Of lines "key,cost", which may begin with a line of such words."""
    entries = {}
    for line, cells in csv_rows(text.splitlines(), path):
        if line == 1 and cells[0] == "key":
            continue
        if len(cells) != 2 or cells[0] in entries:
            raise ValueError(
                f"{path}, line {line}: a key and its cost are needed, each key once; got"
                f" {shown(cells)}"
            )
        entries[cells[0]] = cells[1]
    return entries


# Of dicts, lists and strings, in C where PyYAML was built with it.
_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _YamlLoader(_BaseLoader):
    """Builds nothing else, whatever a tag says, and dicts of text that have each key once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        found = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                raise yaml.MarkedYAMLError(
                    problem=f"a key is text, and is there once, not {shown(key.value)}",
                    problem_mark=key.start_mark,
                )
            found[key.value] = self.construct_object(value, deep=True)
        return found


def _read_yaml(text: str, path: pathlib.Path) -> Any:
    try:
        return yaml.load(text, Loader=_YamlLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or error
        raise ValueError(f"{path}{place}: this is not understood: {reason!s:.300}") from None


def _text(path: pathlib.Path, *, most_bytes: int = _MOST_BYTES) -> str:
    content = read_file(path, most_bytes=most_bytes)
    if path.suffix in (".pickle", ".pkl", ".pth", ".npy") or content[:1] == b"\x80":
        raise ValueError(
            f"{path} is a pickle, or may hold one, and is not read: loading it would run the code"
            " in it. Write it as JSON with the package that it belongs to, for HW-NAS-Bench in an"
            f" environment of its own:\n{_EXPORT}"
        )
    return decode(content, path)
