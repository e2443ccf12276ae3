"""Data sets: real pixels come back unchanged, and no file on disk can do more than raise a
ValueError."""

import copyreg
import functools
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
from PIL import Image
from sklearn.datasets import load_digits

from dnas.app import datasets

ARCHIVES = {"cifar10": datasets._CIFAR10, "cifar100": datasets._CIFAR100}
SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 strings and numpy under its old module name, as the archives were
    written."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, data):
        short = len(data) < 256
        self.write(
            b"U" + bytes([len(data)]) + data
            if short
            else b"T" + struct.pack("<i", len(data)) + data
        )
        self.memoize(data)

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(b"c%s\n%s\n" % (module.encode(), (name or obj.__qualname__).encode()))
        self.memoize(obj)

    dispatch[bytes] = save_bytes
    dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = dispatch[type] = (
        save_global
    )


def python2_dumps(record):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(record)
    return file.getvalue()


WRITERS = {
    "python2": python2_dumps,
    "protocol2": lambda record: pickle.dumps(record, protocol=2),
    "protocol3": lambda record: pickle.dumps(record, protocol=3),
    "protocol4": lambda record: pickle.dumps(record, protocol=4),
}


def make_batch(archive, seed, rows=2):
    """Returns one batch in the archive's layout: random pixels and labels."""
    rng = np.random.default_rng(seed)
    return {
        b"data": rng.integers(0, 256, (rows, 3072), dtype=np.uint8),
        archive.labels_key: rng.integers(0, archive.num_classes, rows).tolist(),
        b"filenames": [b"image_%d.png" % row for row in range(rows)],
        b"batch_label": b"a batch",
    }


def write_archive(root, archive, dumps=python2_dumps):
    """Writes a tiny archive under root; returns the batches by file name."""
    folder = root / archive.folder
    folder.mkdir(parents=True)
    batches = {
        name: make_batch(archive, seed) for seed, name in enumerate((*archive.train, archive.test))
    }
    for name, batch in batches.items():
        (folder / name).write_bytes(dumps(batch))
    names = [b"class_%d" % number for number in range(archive.num_classes)]
    (folder / archive.meta).write_bytes(dumps({archive.names_key: names, b"num_vis": 3072}))
    return batches


def write_tar(root, archive):
    """Writes a tiny archive as the original .tar.gz in root, with no folder beside it."""
    write_archive(root / "source", archive)
    root.joinpath("holder").mkdir()
    path = root / "holder" / archive.tar_name
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root / "source" / archive.folder, arcname=archive.folder)
    return path


def publish(monkeypatch, name, tar):
    """Makes the archive in a file the published one."""
    archive = ARCHIVES[name]._replace(md5=pooch.file_hash(str(tar), alg="md5"))
    monkeypatch.setitem(
        datasets.DATASETS, name, functools.partial(datasets._load_cifar, archive=archive)
    )
    return archive


def test_smaller_images_are_means_of_the_pixels_that_they_cover(tiny):
    full = datasets.load("cifar100", tiny)
    small = datasets.load("cifar100:image_size=16", tiny)
    for own, other in (("train_images", "train_labels"), ("test_images", "test_labels")):
        images = getattr(full, own)
        blocks = images.reshape(len(images), 16, 2, 16, 2, 3).mean((2, 4))
        np.testing.assert_allclose(getattr(small, own), blocks, atol=1)  # rounded twice
        np.testing.assert_array_equal(getattr(small, other), getattr(full, other))


@pytest.mark.parametrize("size", [0, -1, 10_000])
def test_sizes_of_no_image_are_refused(tiny, size):
    with pytest.raises(ValueError, match=f"squares of 1 to 4096 .* got image_size {size}"):
        datasets.load(f"cifar100:image_size={size}", tiny)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(url, **kwargs):
        raise AssertionError(f"a test tried to download {url}")

    monkeypatch.setattr(pooch, "retrieve", refuse)


@pytest.fixture
def tiny(tmp_path):
    """A tiny CIFAR-100 folder; the test overwrites one of its files."""
    write_archive(tmp_path, datasets._CIFAR100)
    return tmp_path / "cifar-100-python"


def assert_same(first, second):
    assert first.name == second.name and first.class_names == second.class_names
    for one, other in zip(first[1:5], second[1:5], strict=True):
        np.testing.assert_array_equal(one, other)


def test_digits_are_the_images_of_scikit_learn_each_once():
    digits, source = datasets.load("digits"), load_digits()
    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert images.shape == (1797, 8, 8, 1) and len(digits.test_images) == 360
    recovered = np.round(images[..., 0] * (16 / 255)).astype(np.uint8)
    rows = [(image.tobytes(), int(label)) for image, label in zip(recovered, labels, strict=True)]
    expected = zip(source.images.astype(np.uint8), source.target, strict=True)
    assert sorted(rows) == sorted((image.tobytes(), int(label)) for image, label in expected)


def test_digits_scale_16_to_255_and_nothing_else_to_more():
    digits = datasets.load("digits")
    assert set(np.unique(digits.train_images)) == {round(value * 255 / 16) for value in range(17)}


def test_digits_split_is_stratified_and_fixed():
    first, second = datasets.load("digits"), datasets.load("digits", data_dir="/nowhere/at/all")
    assert_same(first, second)
    share = np.bincount(first.test_labels) / np.bincount(
        np.r_[first.train_labels, first.test_labels]
    )
    np.testing.assert_allclose(share, 360 / 1797, atol=0.005)


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_dataset_fields_have_the_promised_types(name, tmp_path):
    if name in ARCHIVES:
        write_archive(tmp_path, ARCHIVES[name])
    if name == "folder":
        write_folder(tmp_path, [(4, 4)])
    dataset = datasets.load(name, tmp_path)
    assert dataset.name == name and dataset.num_classes == len(dataset.class_names)
    assert all(type(class_name) is str for class_name in dataset.class_names)
    for images, labels in (dataset[1:3], dataset[3:5]):
        assert images.dtype == np.uint8 and images.ndim == 4 and images.flags["C_CONTIGUOUS"]
        assert images.flags["WRITEABLE"] and labels.flags["WRITEABLE"]
        assert labels.dtype == np.int32 and labels.shape == images.shape[:1]
        assert labels.min() >= 0 and labels.max() < dataset.num_classes


@pytest.mark.parametrize("name", ["mnist", "", "CIFAR10"])
def test_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(ValueError, match="not in DATASETS.*choose from: digits, cifar10, cifar100"):
        datasets.load(name)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ARCHIVES)
def test_pixels_and_labels_round_trip(name, writer, tmp_path):
    archive = ARCHIVES[name]
    batches = write_archive(tmp_path, archive, WRITERS[writer])
    dataset = datasets.load(name, tmp_path)
    data = np.concatenate([batches[part][b"data"] for part in archive.train])
    labels = np.concatenate([batches[part][archive.labels_key] for part in archive.train])
    np.testing.assert_array_equal(dataset.train_labels, labels)
    np.testing.assert_array_equal(dataset.test_labels, batches[archive.test][archive.labels_key])
    for channel in range(3):
        for row, column in [(0, 0), (0, 31), (31, 0), (5, 17)]:
            expected = data[:, 1024 * channel + 32 * row + column]
            np.testing.assert_array_equal(dataset.train_images[:, row, column, channel], expected)
    back = dataset.test_images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    np.testing.assert_array_equal(back, batches[archive.test][b"data"])
    assert dataset.class_names == tuple(f"class_{number}" for number in range(archive.num_classes))


@pytest.mark.parametrize("writer", WRITERS)
def test_fortran_order_makes_no_difference(writer, tiny):
    batch = make_batch(datasets._CIFAR100, seed=0)
    (tiny / "test").write_bytes(
        WRITERS[writer](batch | {b"data": np.asfortranarray(batch[b"data"])})
    )
    dataset = datasets.load("cifar100", tiny)
    np.testing.assert_array_equal(
        dataset.test_images.transpose(0, 3, 1, 2).reshape(-1, 3072), batch[b"data"]
    )


@pytest.mark.parametrize("name", ARCHIVES)
def test_data_dir_may_be_parent_folder_itself_or_a_renamed_copy(name, tmp_path):
    archive = ARCHIVES[name]
    write_archive(tmp_path, archive)
    parent, itself = (
        datasets.load(name, tmp_path),
        datasets.load(name, str(tmp_path / archive.folder)),
    )
    (tmp_path / archive.folder).rename(tmp_path / "renamed")
    assert_same(parent, itself)
    assert_same(parent, datasets.load(name, tmp_path / "renamed"))


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("itself", [False, True])
def test_each_missing_file_is_named(name, itself, tmp_path):
    archive = ARCHIVES[name]
    write_archive(tmp_path, archive)
    folder = tmp_path / archive.folder
    removed = []
    for file_name in reversed(archive.files):
        (folder / file_name).unlink()
        removed.append(file_name)
        with pytest.raises(ValueError, match="lacks") as caught:
            datasets.load(name, folder if itself else tmp_path)
        listed = str(caught.value).split(" lacks ")[1].split(";")[0].split(", ")
        assert sorted(listed) == sorted(removed)


@pytest.mark.parametrize("name", ARCHIVES)
def test_missing_data_dir_is_refused_at_once(name, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for given in (tmp_path / "absent", str(tmp_path / "absent"), file):
        with pytest.raises(ValueError, match="is not a folder; create it") as caught:
            datasets.load(name, given)
        assert str(given) in str(caught.value)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ARCHIVES)
def test_tar_in_data_dir_is_unpacked_and_kept(name, tmp_path, monkeypatch):
    tar = write_tar(tmp_path, ARCHIVES[name])
    publish(monkeypatch, name, tar)
    packed, before = datasets.load(name, tar.parent), tar.read_bytes()
    assert_same(packed, datasets.load(name, tmp_path / "source"))
    assert_same(packed, datasets.load(name, tar.parent))
    assert tar.read_bytes() == before
    assert sorted(os.listdir(tar.parent)) == sorted([tar.name, ARCHIVES[name].folder])


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_tar_is_refused_and_leaves_nothing_behind(fraction, tmp_path, monkeypatch):
    tar = write_tar(tmp_path, datasets._CIFAR100)
    publish(monkeypatch, "cifar100", tar)
    content = tar.read_bytes()
    tar.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ValueError, match="could not unpack") as caught:
        datasets.load("cifar100", tar.parent)
    assert str(tar) in str(caught.value)
    assert os.listdir(tar.parent) == [tar.name]


def test_tar_with_one_changed_byte_is_refused(tmp_path, monkeypatch):
    tar = write_tar(tmp_path, datasets._CIFAR100)
    publish(monkeypatch, "cifar100", tar)
    content = tar.read_bytes()
    for position in np.linspace(60, len(content) - 1, 50).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        tar.write_bytes(damaged)
        with pytest.raises(ValueError, match="could not unpack"):
            datasets.load("cifar100", tar.parent)
        assert os.listdir(tar.parent) == [tar.name]


@pytest.mark.parametrize("name", ARCHIVES)
def test_tar_that_is_not_the_published_one_is_refused_before_it_is_opened(
    name, tmp_path, monkeypatch
):
    """It may unpack to any size, and its images may be others."""
    tar = write_tar(tmp_path, ARCHIVES[name])
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(
        ValueError, match="could not unpack .*MD5 sum is not the published"
    ) as caught:
        datasets.load(name, tar.parent)
    for part in (str(tar), ARCHIVES[name].url, str(tar.parent / ARCHIVES[name].folder)):
        assert part in str(caught.value)
    assert os.listdir(tar.parent) == [tar.name]


def test_tar_writes_nothing_outside_and_follows_no_link(tmp_path, monkeypatch):
    folder, tar_path = tmp_path / "holder", tmp_path / "holder" / "cifar-100-python.tar.gz"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(pickle.dumps({b"fine_label_names": [b"secret"] * 100}, protocol=2))
    with tarfile.open(tar_path, "w:gz") as tar:
        for name in (
            "../escaped",
            f"{tmp_path}/escaped",
            "cifar-100-python/../../escaped",
            "cifar-100-python/test",
        ):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo("cifar-100-python/meta")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    publish(monkeypatch, "cifar100", tar_path)
    with pytest.raises(ValueError, match="lacks train, meta"):
        datasets.load("cifar100", folder)
    assert not (tmp_path / "escaped").exists()
    assert os.listdir(folder / "cifar-100-python") == ["test"]


def test_tar_without_the_folder_is_refused(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"), io.BytesIO())
    publish(monkeypatch, "cifar100", tmp_path / "cifar-100-python.tar.gz")
    with pytest.raises(ValueError, match="could not unpack cifar-100-python/"):
        datasets.load("cifar100", tmp_path)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("given", [False, True])
def test_download_asks_for_the_published_archive_once(name, given, tmp_path, monkeypatch):
    tar, cache, calls = write_tar(tmp_path, ARCHIVES[name]), tmp_path / "cache", []
    archive = publish(monkeypatch, name, tar)
    cache.mkdir()

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append((url, known_hash, Path(path), progressbar))
        (Path(path) / fname).write_bytes(tar.read_bytes())

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda project: cache if project == "dnas" else None)
    data_dir = cache if given else None
    assert_same(datasets.load(name, data_dir), datasets.load(name, tmp_path / "source"))
    datasets.load(name, data_dir)
    assert calls == [(archive.url, f"md5:{archive.md5}", cache, True)]


@pytest.mark.parametrize(
    "fault",
    [
        requests.exceptions.ConnectionError("Failed to resolve 'www.cs.toronto.edu'"),
        requests.exceptions.HTTPError("404 Client Error"),
        requests.exceptions.ReadTimeout("timed out"),
        PermissionError(13, "Permission denied"),
        ValueError("MD5 hash of downloaded file does not match the known hash"),
    ],
)
def test_failed_download_says_which_url_and_what_to_do(fault, tmp_path, monkeypatch):
    def retrieve(url, **kwargs):
        raise fault

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ConnectionError) as caught:
        datasets.load("cifar10", tmp_path)
    message = str(caught.value)
    for part in (
        datasets._CIFAR10.url,
        str(fault),
        "DATA_DIR",
        "by hand",
        "cifar-10-python.tar.gz",
    ):
        assert part in message
    assert os.listdir(tmp_path) == []


def test_partly_filled_folder_is_never_downloaded_over(tmp_path):
    write_archive(tmp_path, datasets._CIFAR10)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(
        ValueError, match="cifar-10-batches-py lacks data_batch_3; delete the folder"
    ):
        datasets.load("cifar10", tmp_path)


def assert_refused(folder, file_name="train", match=None):
    with pytest.raises(ValueError, match=match) as caught:
        datasets.load("cifar100", folder)
    assert str(folder / file_name) in str(caught.value)
    assert "fetch the archive again" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("file_name", ["train", "meta"])
def test_truncation_anywhere_is_refused(file_name, writer, tmp_path):
    write_archive(tmp_path, datasets._CIFAR100, WRITERS[writer])
    path = tmp_path / "cifar-100-python" / file_name
    content = path.read_bytes()
    edges = {*range(60), *range(len(content) - 60, len(content))}
    for size in sorted(edges | set(range(0, len(content), 97))):
        path.write_bytes(content[:size])
        assert_refused(path.parent, file_name)


@pytest.mark.parametrize("writer", WRITERS)
def test_flipped_bytes_are_refused_or_harmless(writer, tmp_path):
    write_archive(tmp_path, datasets._CIFAR100, WRITERS[writer])
    path = tmp_path / "cifar-100-python" / "train"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    frame = np.r_[0:200, len(content) - 200 : len(content)]
    for position in rng.choice(frame, 150):
        damaged = bytearray(content)
        damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            dataset = datasets.load("cifar100", tmp_path)
        except ValueError as fault:
            assert str(path) in str(fault)
        else:
            assert dataset.train_images.shape == (2, 32, 32, 3) and dataset.train_labels.max() < 100


def test_batch_folder_with_folders_for_files_is_refused(tmp_path):
    for name in datasets._CIFAR100.files:
        (tmp_path / "cifar-100-python" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="lacks train, test, meta"):
        datasets.load("cifar100", tmp_path)


NESTED = [0]
for _ in range(40):
    NESTED = [NESTED] * 10

WRONG_BATCHES = {
    "no data": ({b"data": ...}, "lacks the keys .*data"),
    "no labels": ({b"fine_labels": ...}, "lacks the keys .*fine_labels"),
    "object dtype": ({b"data": np.full((2, 3072), None)}, "dtype .*O8"),
    "float dtype": ({b"data": np.zeros((2, 3072), np.float32)}, "dtype .*f4"),
    "signed dtype": ({b"data": np.zeros((2, 3072), np.int8)}, "dtype .*i1"),
    "structured dtype": ({b"data": np.zeros((2, 3072), [("x", "u1")])}, "dtype .*V1"),
    "four axes": ({b"data": np.zeros((2, 32, 32, 3), np.uint8)}, "rank 2"),
    "one axis": ({b"data": np.zeros(6144, np.uint8)}, "rank 2"),
    "grey images": (
        {b"data": np.zeros((2, 1024), np.uint8)},
        r"shape \(2, 1024\) instead of \(2, 3072\)",
    ),
    "more images than labels": (
        {b"data": np.zeros((3, 3072), np.uint8)},
        r"shape \(3, 3072\) .* 2 labels",
    ),
    "data as a list": ({b"data": [[0] * 3072] * 2}, "not a numpy array"),
    "data as a dtype": ({b"data": np.dtype("u1")}, "not a numpy array"),
    "data as bytes": ({b"data": bytes(6144)}, "not a numpy array"),
    "label too large": ({b"fine_labels": [0, 100]}, r"0\.\.99"),
    "label negative": ({b"fine_labels": [-1, 0]}, r"0\.\.99"),
    "label huge": ({b"fine_labels": [0, 10**9000]}, "an integer of more than 32 bits"),
    "label float": ({b"fine_labels": [0.0, 1.0]}, "integers"),
    "label bool": ({b"fine_labels": [True, False]}, "integers"),
    "label none": ({b"fine_labels": [None, 1]}, "integers"),
    "label string": ({b"fine_labels": [b"0", b"1"]}, "integers"),
    "labels in an array": ({b"fine_labels": np.array([0, 1])}, "not a list"),
    "labels nested without end": ({b"fine_labels": NESTED}, "integers"),
    "too few labels": ({b"fine_labels": [0]}, r"instead of \(1, 3072\)"),
    "no images": ({b"fine_labels": [], b"data": np.zeros((0, 3072), np.uint8)}, "no images|bytes"),
}


@pytest.mark.parametrize("writer", ["python2", "protocol2", "protocol4"])
@pytest.mark.parametrize("case", WRONG_BATCHES)
def test_batch_of_the_wrong_form_is_refused(case, writer, tiny):
    changes, match = WRONG_BATCHES[case]
    batch = make_batch(datasets._CIFAR100, seed=0) | changes
    kept = {key: value for key, value in batch.items() if value is not ...}
    (tiny / "test").write_bytes(WRITERS[writer](kept))
    assert_refused(tiny, "test", match)


@pytest.mark.parametrize("record", [[], None, b"text", 3, (), {"data", "labels"}, np.zeros(3)])
def test_pickle_of_no_dict_is_refused(record, tiny):
    (tiny / "train").write_bytes(pickle.dumps(record, protocol=4))
    assert_refused(tiny, "train", "not a dict")


@pytest.mark.parametrize(
    "names",
    [None, b"text", [b"a"] * 99, [b"a"] * 101, ["a"] * 100, [b"\xff"] * 100, NESTED, np.zeros(100)],
)
def test_wrong_class_names_are_refused(names, tiny):
    (tiny / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=4))
    assert_refused(tiny, "meta")


class Call:
    """Pickles as a call of function, followed by an optional BUILD with state."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args, state)

    def __reduce__(self):
        return self.reduced


EXECUTED = []


def record_execution(*args):
    EXECUTED.append(args)
    return b""


def hostile_calls(marker):
    """Returns objects whose unpickling by pickle.loads would run code or build unchecked numpy
    objects."""
    python = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Call(os.system, f"touch {marker}"),
        "subprocess": Call(subprocess.check_call, ["touch", str(marker)]),
        "builtins.eval": Call(eval, python),
        "builtins.exec": Call(exec, python),
        "builtins.getattr": Call(getattr, b"", "join"),
        "builtins.open": Call(open, str(marker), "w"),
        "own function": Call(record_execution, 1),
        "numpy.load": Call(np.load, str(marker)),
        "numpy.frombuffer": Call(np.frombuffer, b"1234"),
        "numpy.fromfile": Call(np.fromfile, str(marker)),
        "numpy.memmap": Call(np.memmap, str(marker), "u1", "w+", 0, (4,)),
        "numpy scalar": np.int64(3),
        "numpy generic function": Call(np.save, str(marker), 0),
        "numpy array of objects": np.array(
            [Call(os.system, f"touch {marker}"), None], dtype=object
        ),
        "state with a call": Call(np.ndarray, (1,), state=Call(os.system, f"touch {marker}")),
    }


def hostile_bytes(marker):
    """Returns pickles written opcode by opcode."""
    command = b"touch " + str(marker).encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    name = lambda word: b"\x8c" + bytes([len(word)]) + word  # noqa: E731
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return {
        "STACK_GLOBAL": b"\x80\x04" + name(b"posix") + name(b"system") + b"\x93(" + text + b"tR.",
        "STACK_GLOBAL with a dot": (
            b"\x80\x04" + name(b"numpy") + name(b"ndarray.tofile") + b"\x93."
        ),
        "GLOBAL by its old name": b"\x80\x02c__builtin__\neval\n(" + text + b"tR.",
        "INST": b"(" + text + b"iposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\n" + text + b"o.",
        "NEWOBJ": b"\x80\x02cbuiltins\nbytearray\n(K\x05t\x81.",
        "NEWOBJ of a record": b"\x80\x02cnumpy\nndarray\n(K\x05t\x81.",
        "module attribute": b"\x80\x02cnumpy.core.multiarray\nfromfile\n.",
        "submodule": b"\x80\x02cnumpy.core\nmultiarray\n.",
        "PERSID": b"Pthing\n.",
        "BINPERSID": b"\x80\x02K\x01Q.",
        "EXT1": b"\x80\x02\x82\xf0.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "BUILD on the class": (
            b"\x80\x02cnumpy\nndarray\n}X\x05\x00\x00\x00statecposix\nsystem\nsb."
        ),
        "BUILD of slots on the class": (
            b"\x80\x02cnumpy\nndarray\nN}X\x05\x00\x00\x00stateK\x07s\x86b."
        ),
        "BUILD on encode": b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x07sb.",
        "BUILD of slots on encode": b"\x80\x02c_codecs\nencode\nN}X\x01\x00\x00\x00aK\x07s\x86b.",
        "BUILD on a dict": b"\x80\x02}}X\x01\x00\x00\x00aK\x07sb.",
        "BUILD on an array twice": b"\x80\x02" + array + b"K\x01bNb.",
        "APPEND to an array": b"\x80\x02" + array + b"K\x01a.",
        "encode to a codec that is none": (
            b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR."
        ),
        "call of a dict": b"\x80\x02})R.",
        "endless name": b"\x80\x02c" + b"a" * 100_000 + b"\nb\n.",
        "unknown opcode": b"\x80\x02\xff.",
        "protocol of the future": b"\x80\x63}.",
        "empty stack": b"\x80\x02R.",
        "not a pickle": b"\x1f\x8b\x08\x00",
        "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "nothing": b"",
    }


HOSTILE_CALLS, HOSTILE_BYTES = list(hostile_calls(Path())), list(hostile_bytes(Path()))


@pytest.mark.parametrize("file_name", ["train", "meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("case", HOSTILE_CALLS)
def test_hostile_call_is_refused_and_not_made(case, protocol, file_name, tiny, tmp_path):
    marker = tmp_path / "executed"
    batch = make_batch(datasets._CIFAR100, seed=0)
    batch[b"fine_label_names"] = [b"name"] * 100
    batch[b"unused"] = hostile_calls(marker)[case]
    (tiny / file_name).write_bytes(pickle.dumps(batch, protocol=protocol))
    assert_refused(tiny, file_name, "which no array needs")
    assert not marker.exists() and not EXECUTED


@pytest.mark.parametrize("case", HOSTILE_BYTES)
def test_hostile_bytes_are_refused_and_change_nothing(case, tiny, tmp_path):
    marker = tmp_path / "executed"
    (tiny / "train").write_bytes(hostile_bytes(marker)[case])
    admitted, fields = dict(datasets._ADMITTED), dict(vars(datasets._Record))
    assert_refused(tiny)
    assert not marker.exists()
    assert datasets._ADMITTED == admitted and dict(vars(datasets._Record)) == fields


@pytest.mark.parametrize(
    "value",
    [
        b"Pthing\n",
        b"K\x01Q",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR",
        b"c_codecs\nencode\n(U\x01aX\x04\x00\x00\x00zlibtR",
    ],
)
def test_one_bad_value_spoils_a_good_record(value, tiny):
    good = (tiny / "train").read_bytes().removesuffix(b".")
    (tiny / "train").write_bytes(good + b"U\x01xNs.")
    datasets.load("cifar100", tiny)
    (tiny / "train").write_bytes(good + b"U\x01x" + value + b"s.")
    assert_refused(tiny)


def test_cached_extension_code_is_refused(tiny):
    good = (tiny / "train").read_bytes().removesuffix(b".")
    copyreg.add_extension("posix", "system", 240)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
        for opcode in (b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"):
            (tiny / "train").write_bytes(good + b"U\x01x" + opcode + b"s.")
            assert_refused(tiny)
    finally:
        copyreg.remove_extension("posix", "system", 240)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(%stU\x01btR"
UINT8 = (
    b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
BATCH = b"\x80\x02}(U\x0bfine_labels](K\x00K\x01eU\x04data%su."
BOMBS = {
    "memo index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "memo get": b"\x80\x02}j\xff\xff\xff\x7f.",
    "string": b"\x80\x02T\xff\xff\xff\x7f.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b".",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
    "integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "reconstructed shape": BATCH % (ARRAY % b"J\x00\x00\x00\x7f"),
    "shape of the state": (
        BATCH
        % (
            ARRAY % b"K\x00"
            + b"(K\x01\x8a\x08"
            + struct.pack("<q", 2**50)
            + b"M\x00\x0c\x86"
            + UINT8
            + b"\x89U\x01atb"
        )
    ),
    "shape of gigantic digits": (
        BATCH
        % (
            ARRAY % b"K\x00"
            + b"(K\x01\x8b\x88\x13\x00\x00"
            + b"\x7f" * 5000
            + b"M\x00\x0c\x86"
            + UINT8
            + b"\x89U\x01atb"
        )
    ),
    "negative shape": (
        BATCH
        % (ARRAY % b"K\x00" + b"(K\x01J\xfe\xff\xff\xffM\x00\x0c\x86" + UINT8 + b"\x89U\x01atb")
    ),
    "ndarray called": BATCH % b"cnumpy\nndarray\n(J\x00\x00\x00\x7ftR",
    "deep tuple": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "deep key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
}


@pytest.mark.parametrize("case", BOMBS)
def test_claimed_sizes_allocate_nothing(case, tiny):
    (tiny / "train").write_bytes(BOMBS[case])
    tracemalloc.start()
    try:
        assert_refused(tiny)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def text_of(content):
    return b"X" + struct.pack("<I", len(content)) + content


ENCODE = b"c_codecs\nencode\n"
SLOW = {
    # Over 30 seconds, in the square of its length.
    "punycode": BATCH
    % (ENCODE + b"(" + text_of(b"a" * 100_000 + b"\xc3\xbc" * 9) + text_of(b"punycode") + b"tR"),
    # 1.9 GB and more: bytes that are made again and again from one text.
    "repeated": (
        b"\x80\x02"
        + text_of(b"a" * 10**6)
        + b"q\x010"
        + ENCODE
        + b"q\x020]("
        + (b"h\x02(h\x01" + text_of(b"latin1") + b"tR") * 2000
        + b"e."
    ),
    "many steps": b"\x80\x02](" + b"]" * 2 * 10**6 + b"e.",
    # Keys of a dict of one hash, all of which are compared with each other.
    "one hash": b"\x80\x02}("
    + b"".join(
        b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(1, 50_000)
    )
    + b"u.",
}


@pytest.mark.parametrize("case", SLOW)
def test_pickle_that_takes_time_or_memory_is_refused_soon(case, tiny):
    (tiny / "train").write_bytes(SLOW[case])
    tracemalloc.start()
    start = time.process_time()
    try:
        assert_refused(tiny)
        assert tracemalloc.get_traced_memory()[1] < 3 * 10**8
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 10  # traced, which takes several times as long


def test_a_name_that_is_repeated_is_not_copied_for_every_class(tiny):
    names = [b"a" * 10**6] * 100
    (tiny / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=4))
    assert_refused(tiny, "meta", "not a list of short strings")


def test_a_file_of_any_size_is_not_read_whole(tiny, monkeypatch):
    monkeypatch.setattr(datasets, "_MOST_BYTES", 10**4)
    (tiny / "train").write_bytes(b"\x80\x02" + b"a" * 10**5)
    assert_refused(tiny, match="holds more than 10,000 bytes")


def test_dtype_that_calls_its_bytes_objects_stays_inert(tiny):
    # Real numpy would take the bytes for object pointers here: V8 with a field of objects and no
    #   flags.
    field = b"}U\x01xcnumpy\ndtype\n(U\x02O8K\x00K\x01tRK\x00\x86s"
    dtype = (
        b"cnumpy\ndtype\n(U\x02V8K\x00K\x01tR(K\x03U\x01|N(U\x01xt" + field + b"K\x08K\x01K\x00tb"
    )
    state = b"(K\x01K\x02M\x00\x0c\x86" + dtype + b"\x89U\x08ABCDEFGHtb"
    (tiny / "train").write_bytes(BATCH % (ARRAY % b"K\x00" + state))
    assert_refused(tiny, match="dtype b'V8' instead of 'u1'")


def test_array_bytes_shorter_than_the_shape_are_refused(tiny):
    state = b"(K\x01K\x02M\x00\x0c\x86" + UINT8 + b"\x89U\x08ABCDEFGHtb"
    (tiny / "train").write_bytes(BATCH % (ARRAY % b"K\x00" + state))
    assert_refused(tiny, match="the size of b'data' is not what its shape says")


@pytest.fixture(scope="module")
def real_cifar10(tmp_path_factory):
    script = SHARED_DATA / "unpack_cifar10.py"
    if not script.is_file():
        pytest.skip(f"the real CIFAR-10 images are not here: {script} is absent")
    root = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, str(script), str(root)], check=True, capture_output=True)
    return root


@pytest.mark.slow
def test_real_cifar10_is_complete_balanced_and_bit_exact(real_cifar10):
    image_module = pytest.importorskip(
        "PIL.Image", reason="the real images are JPEGs, which Pillow decodes"
    )
    dataset = datasets.load("cifar10", real_cifar10)
    assert dataset.train_images.shape == (50_000, 32, 32, 3) and dataset.test_images.shape == (
        10_000,
        32,
        32,
        3,
    )
    assert dataset.class_names == tuple(
        "airplane automobile bird cat deer dog frog horse ship truck".split()
    )
    assert np.bincount(dataset.train_labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    source = np.load(SHARED_DATA / "cifar10_jpeg.npz")
    for part, images, labels in (("train", *dataset[1:3]), ("test", *dataset[3:5])):
        blob, offset = source[f"{part}_jpeg"], source[f"{part}_offset"]
        np.testing.assert_array_equal(labels, source[f"{part}_label"])
        for row in (0, 1, len(images) // 3, len(images) - 1):
            jpeg = io.BytesIO(blob[offset[row] : offset[row + 1]].tobytes())
            np.testing.assert_array_equal(
                images[row], np.asarray(image_module.open(jpeg).convert("RGB"))
            )


def write_folder(root, sizes, val_classes=("cat", "dog")):
    """Images of one grey level each, eleven times their number, of two classes in each part."""
    number = 0
    for part, classes in (("train", ("cat", "dog")), ("val", val_classes)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for size in sizes:
                Image.new("L", size, 11 * number).save(root / part / name / f"{number}.png")
                number += 1
    return root


def test_a_folder_of_images_is_read_whatever_their_size_and_order(tmp_path):
    root = write_folder(tmp_path, [(20, 30), (9, 5), (16, 16)])
    (root / "train" / "cat" / ".hidden").write_text("no image")
    dataset = datasets.load("folder:image_size=8", root)
    assert dataset.train_images.shape == dataset.test_images.shape == (6, 8, 8, 3)
    assert dataset.class_names == ("cat", "dog") and dataset.train_labels.dtype == np.int32
    for images, labels, first in ((*dataset[1:3], 0), (*dataset[3:5], 6)):
        assert (images == images[:, :1, :1, :1]).all()
        numbers = images[:, 0, 0, 0] // 11
        assert sorted(numbers) == list(range(first, first + 6))
        np.testing.assert_array_equal(labels, (numbers - first) // 3)
    assert (np.diff(dataset.train_labels) < 0).any()  # not class by class
    again = datasets.load("folder:image_size=8", root)
    for one, other in zip(dataset[1:5], again[1:5], strict=True):
        np.testing.assert_array_equal(one, other)


def test_test_images_are_the_middle_of_what_training_images_show(tmp_path):
    """On an image whose red is its column: 224 of 256 pixels in the middle, as published."""
    column = np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 256))
    image = np.stack([column, 0 * column, 0 * column], -1)
    for part in ("train", "val"):
        (tmp_path / part / "only").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / part / "only" / "0.png")
    dataset = datasets.load("folder:image_size=224", tmp_path)
    np.testing.assert_array_equal(dataset.test_images[0], image[16:240, 16:240])
    shown = dataset.train_images[0, 0, :, 0]
    assert shown[0] <= 1 and shown[-1] >= 254


def test_folders_that_hold_no_such_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="data_dir None.*--data-dir=FOLDER"):
        datasets.load("folder")
    for size in (0, 10**6):
        with pytest.raises(ValueError, match=f"size from 1 to 4096, .* image_size {size}"):
            datasets.load(f"folder:image_size={size}", tmp_path)
    with pytest.raises(ValueError, match="train is not a folder that has"):
        datasets.load("folder", tmp_path)
    root = write_folder(tmp_path / "other", [(4, 4)], val_classes=("cat", "cow"))
    with pytest.raises(ValueError, match="classes that .*train has not: cow"):
        datasets.load("folder", root)
    root = write_folder(tmp_path / "broken", [(4, 4)])
    (root / "val" / "dog" / "bad.jpeg").write_text("no image")
    with pytest.raises(ValueError, match="bad.jpeg is no image"):
        datasets.load("folder", root)
    with pytest.raises(ValueError, match="does not take size"):
        datasets.load("folder:size=8", root)


def damaged_png(path):
    """Its size is said to be other than it is."""
    Image.new("RGB", (9, 9)).save(path)
    content = bytearray(path.read_bytes())
    content[16:20] = b"\0\0\0\x01"
    path.write_bytes(content)


WRONG_IMAGES = {
    "text": (lambda path: path.write_text("no image"), "UnidentifiedImageError"),
    "nothing": (lambda path: path.touch(), "UnidentifiedImageError"),
    "a folder": (lambda path: path.mkdir(), "IsADirectoryError"),
    "damaged": (damaged_png, ""),
    # In 8 bits all of its pixels above 255 would be white.
    "16 bits": (lambda path: Image.new("I;16", (4, 4), 9000).save(path), "more than 8 bits"),
    "large": (lambda path: Image.new("1", (9000, 9000)).save(path), "more than 67,108,864 pixels"),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_an_image_that_cannot_be_read_as_it_is_is_named(name, tmp_path):
    write, reason = WRONG_IMAGES[name]
    root = write_folder(tmp_path, [(4, 4)])
    write(root / "val" / "dog" / "bad.png")
    with pytest.raises(ValueError, match=f"bad.png is no image that can be read.*{reason}"):
        datasets.load("folder:image_size=4", root)
