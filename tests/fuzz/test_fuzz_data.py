"""Files that data sets and texts are read from: pickles and archives of CIFAR, pictures, texts."""

import io

import numpy as np
import pooch
import pytest
from hypothesis import given
from inputs import edited
from law import obeys
from PIL import Image
from test_datasets import WRITERS, make_batch, write_archive, write_tar

from dnas.app import datasets, text
from dnas.tasks.reading import TOKENS

ARCHIVE = datasets._CIFAR100
BATCH = make_batch(ARCHIVE, seed=0)
PICKLES = tuple(write(BATCH) for write in WRITERS.values())
NAMES = WRITERS["python2"]({ARCHIVE.names_key: [b"class_%d" % number for number in range(100)]})
# What fills memory or time, or asks for what is not in the file.
OPCODES = (
    b"\x80\x02cencodings.punycode\ndecode\n.",
    b"\x80\x02c_codecs\nencode\n(X\x05\x00\x00\x00aaaaaX\x08\x00\x00\x00punycodetR.",
    b"\x80\x02]" + b"(" * 1000 + b".",
    b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x00\x00.",
    b"\x80\x04r\xff\xff\xff\x7f.",
    b"\x80\x02X\x10\x27\x00\x00" + b"a" * 10_000 + b"q\x00" + b"h\x00" * 1000 + b"(tR.",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(url, **keywords):
        raise ValueError("no network here")

    monkeypatch.setattr(pooch, "retrieve", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    write_archive(root, ARCHIVE)
    return root / ARCHIVE.folder


@given(content=edited(PICKLES + OPCODES))
def test_a_pickle_of_images(folder, content):
    (folder / "test").write_bytes(content)
    dataset = obeys(datasets.load, "cifar100", folder)
    (folder / "test").write_bytes(PICKLES[0])
    if dataset is not None:
        assert dataset.test_images.dtype == np.uint8 and dataset.test_labels.max() < 100


@given(content=edited((NAMES, *OPCODES)))
def test_a_pickle_of_names(folder, content):
    (folder / "meta").write_bytes(content)
    obeys(datasets.load, "cifar100", folder)
    (folder / "meta").write_bytes(NAMES)


def test_a_pickle_of_nothing_but_repetitions_is_refused_soon(folder):
    (folder / "test").write_bytes(OPCODES[-1])
    assert obeys(datasets.load, "cifar100", folder) is None
    (folder / "test").write_bytes(PICKLES[0])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_tar(tmp_path_factory.mktemp("tar"), ARCHIVE).read_bytes()


@given(places=edited((bytes(1000),)))
def test_an_archive(archive, tmp_path_factory, places):
    """Cut, or with bits flipped; what is put in would have to be compressed."""
    damaged = bytearray(archive[: len(archive) * len(places) // 1000])
    for place in np.flatnonzero(np.frombuffer(places, np.uint8)):
        if place < len(damaged):
            damaged[place] ^= places[place]
    root = tmp_path_factory.mktemp("archive")
    (root / ARCHIVE.tar_name).write_bytes(damaged)
    obeys(datasets.load, "cifar100", root)


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for part in ("train", "val"):
        (root / part / "a").mkdir(parents=True)
        (root / part / "a" / "1.png").write_bytes(picture("png"))
    return root


@given(content=edited(tuple(map(picture, ("png", "jpeg", "gif", "bmp", "tiff", "webp")))))
def test_a_picture(pictures, content):
    (pictures / "train" / "a" / "2.png").write_bytes(content)
    dataset = obeys(datasets.load, "folder:image_size=8", pictures)
    if dataset is not None:
        assert dataset.train_images.shape == (2, 8, 8, 3)


BOOK = "The cat sat on the mat, and the dog — a müde dog — sat on the cat.\n" * 9


@given(content=edited((BOOK.encode(), BOOK.encode("utf-16"), BOOK.encode("latin-1", "replace"))))
def test_a_text(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "book.txt"
    path.write_bytes(content)
    source = obeys(text.read_source, text.TextConfig(text=str(path)))
    if source is not None:
        for tokens in TOKENS:
            read = obeys(text.dnas.read_text, source, tokens=tokens)
            if read is not None:
                assert read.train.max() < len(read.vocabulary)
