"""Data sets by name, as arrays: the digits of scikit-learn, CIFAR-10 and CIFAR-100 from their
original archives, and folders of images as ImageNet has them.

Nothing in an archive is trusted: its pickles can build inert records only, which are checked before
  use.
"""

import io
import os
import pickle
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pooch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dnas.app import named
from dnas.files import read_file, shown


class Dataset(NamedTuple):
    """Images with labels in 0..num_classes-1, split in two; every array is C-contiguous."""

    name: str
    train_images: np.ndarray  # [N, H, W, C], uint8
    train_labels: np.ndarray  # [N], int32
    test_images: np.ndarray  # [M, H, W, C], uint8
    test_labels: np.ndarray  # [M], int32
    class_names: tuple[str, ...]  # [num_classes]

    @property
    def num_classes(self) -> int:
        """Returns the number of classes."""
        return len(self.class_names)


class _Archive(NamedTuple):
    """Where a CIFAR archive comes from and how it is laid out."""

    name: str
    num_classes: int
    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels_key: bytes
    names_key: bytes

    @property
    def files(self) -> tuple[str, ...]:
        """Returns the names of the files read from folder."""
        return (*self.train, self.test, self.meta)

    @property
    def tar_name(self) -> str:
        """Returns the file name of the archive."""
        return self.url.rsplit("/", 1)[1]


_CIFAR10 = _Archive(
    name="cifar10",
    num_classes=10,
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels_key=b"labels",
    names_key=b"label_names",
)
_CIFAR100 = _Archive(
    name="cifar100",
    num_classes=100,
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels_key=b"fine_labels",
    names_key=b"fine_label_names",
)


class _Record:
    """What a pickle builds in place of a numpy object: it keeps what it was given and does
    nothing."""

    args = ()
    state = ()

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


# numpy's own constructors are no safe targets: a pickled dtype can claim that bytes are object
# pointers.
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Record,
    ("numpy._core.multiarray", "_reconstruct"): _Record,
    ("numpy", "ndarray"): _Record,
    ("numpy", "dtype"): _Record,
}
# BYTEARRAY8 fills memory by a claimed size; an extension code that is cached never reaches
# find_class.
_REFUSED = pickle.BYTEARRAY8 + pickle.EXT1 + pickle.EXT2 + pickle.EXT4
_INTEGERS = pickle.INT + pickle.LONG + pickle.LONG1 + pickle.LONG4
# The largest file of the archives has 155 MB. As Python 3 writes it again, it takes half a million
# steps, each of which may make an object.
_MOST_BYTES = 2**28
_MOST_STEPS = 600_000
_MOST_PIXELS = 2**26  # of an image file
_MOST_SIZE = 2**12  # pixels of a side that images are brought to


class _Encode:
    """How Python 3 writes bytes in protocol 2: as text, to be encoded by `_codecs.encode`."""

    def __init__(self, most: int):
        self._left = most

    def __call__(self, text: str, codec: str) -> bytes:
        # An honest file encodes what it holds once, and what is not latin1 may take any time.
        self._left -= len(text)
        if codec != "latin1" or self._left < 0:
            raise pickle.UnpicklingError(f"it encodes as {codec!r:.20}, or more than it holds")
        return text.encode("latin1")

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it changes what encodes")


def _bounded(code: int, read: Callable[[Any], None]) -> Callable[[Any], None]:
    """A step of an unpickler, of which there are so many, and none that makes a huge integer: these
    can be chosen to have one hash all."""

    def step(unpickler: Any) -> None:
        unpickler.steps += 1
        if unpickler.steps > _MOST_STEPS:
            raise pickle.UnpicklingError(f"it takes more than {_MOST_STEPS:,} steps")
        read(unpickler)
        if code in _INTEGERS and abs(unpickler.stack[-1]) >= 2**31:
            raise pickle.UnpicklingError("it holds an integer of more than 32 bits")

    return step


class _ArrayUnpickler(pickle._Unpickler):
    """Unpickles builtin containers, numbers, strings and numpy arrays, the latter as records.

    The Python implementation, because the C one allocates whatever memo size a file claims.
    """

    dispatch = {
        code: _bounded(code, read)
        for code, read in pickle._Unpickler.dispatch.items()
        if code not in _REFUSED
    }

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.steps = 0
        self._encode = _Encode(len(content))

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {shown(module)}, {shown(name)}, which no array needs"
            )
        return _ADMITTED[module, name]

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to an object outside the file")


def _read(path: Path, keys: tuple[bytes, ...], parse: Callable[..., Any]) -> Any:
    """Returns parse of the values under keys in the dict that path holds; any fault is a ValueError
    naming path."""
    try:
        record = _ArrayUnpickler(read_file(path, most_bytes=_MOST_BYTES)).load()
        if type(record) is not dict:
            raise ValueError(f"it holds a {type(record).__name__}, not a dict")
        missing = [key for key in keys if key not in record]
        if missing:
            raise ValueError(f"it lacks the keys {missing}")
        return parse(*(record[key] for key in keys))
    except Exception as fault:
        raise ValueError(
            f"{path} is truncated, damaged or not from the original archive"
            f" ({type(fault).__name__}: {fault!s:.300}); delete {path.parent} and fetch the archive"
            " again"
        ) from fault


def _parse_names(names: Any, *, num_classes: int) -> tuple[str, ...]:
    if type(names) is not list or not all(
        type(name) is bytes and len(name) < 100 for name in names
    ):
        raise ValueError("the class names are not a list of short strings")
    if len(names) != num_classes:
        raise ValueError(f"it names {len(names)} classes instead of {num_classes}")
    return tuple(name.decode("ascii") for name in names)


def _parse_batch(data: Any, labels: Any, *, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [N, 32, 32, 3] and labels [N] from a pickled uint8 array [N, 3072] and a list
    of N integers."""
    if type(labels) is not list or not all(
        type(label) is int and 0 <= label < num_classes for label in labels
    ):
        raise ValueError(f"the labels are not a list of integers in 0..{num_classes - 1}")
    if not labels:
        raise ValueError("it holds no images")
    match data:
        case _Record(
            state=(
                _,
                (int(rows), int(columns)),
                _Record(args=(str(code) | bytes(code), *_)),
                fortran,
                raw,
            )
        ):
            shape = (rows, columns)
        case _:
            raise ValueError("b'data' is not a numpy array of rank 2")
    if code not in ("u1", b"u1"):
        raise ValueError(f"b'data' has dtype {shown(code)} instead of 'u1'")
    if shape != (len(labels), 3072):
        raise ValueError(
            f"b'data' has shape {shape} instead of {(len(labels), 3072)} for {len(labels)} labels"
        )
    if type(raw) is not bytes or len(raw) != rows * columns:
        raise ValueError("the size of b'data' is not what its shape says")
    pixels = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.int32)


def _download(archive: _Archive, root: Path) -> None:
    try:
        pooch.retrieve(
            archive.url,
            known_hash=f"md5:{archive.md5}",
            fname=archive.tar_name,
            path=root,
            progressbar=True,
        )
    except (OSError, ValueError) as fault:  # no network or an HTTP error; a wrong checksum
        raise ConnectionError(
            f"could not download {archive.url} to {root} ({type(fault).__name__}: {fault!s:.300});"
            f" try again, or put {archive.tar_name} into DATA_DIR by hand and pass that folder as"
            " data_dir"
        ) from fault


def _unpack(archive: _Archive, root: Path) -> None:
    """Unpacks the files that are read, and no others, into root/folder: all of them or none.

    Before it is opened, the archive has to be the published one to the last bit.
    """
    tar_path = root / archive.tar_name
    wanted = {f"{archive.folder}/{name}" for name in archive.files}
    try:
        if pooch.file_hash(str(tar_path), alg="md5") != archive.md5:
            raise ValueError("it is damaged or another file: its MD5 sum is not the published one")
        with tarfile.open(tar_path) as tar, tempfile.TemporaryDirectory(dir=root) as scratch:
            for member in tar:
                if not member.isreg() or member.name not in wanted:
                    continue
                # One of the wanted names, so inside the scratch folder.
                target = Path(scratch, member.name)
                target.parent.mkdir(exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                target.write_bytes(content.read())
            (Path(scratch) / archive.folder).rename(root / archive.folder)
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as fault:
        raise ValueError(
            f"could not unpack {archive.folder}/ from {tar_path} ({type(fault).__name__}: {fault});"
            f" make sure that {root} is writable, or delete {tar_path} and fetch {archive.url}"
            f" again; an archive of your own is read once it is unpacked to {root / archive.folder}"
        ) from fault


def _find_folder(archive: _Archive, data_dir: str | os.PathLike | None) -> Path:
    """Returns the folder of batches in or at data_dir, unpacked or downloaded first where there is
    none."""
    root = Path(pooch.os_cache("dnas") if data_dir is None else data_dir)
    if data_dir is not None and not root.is_dir():
        raise ValueError(
            f"data_dir {str(data_dir)!r} is not a folder; create it and put"
            f" {archive.folder}/ or {archive.tar_name} there, or leave data_dir out to use"
            f" {pooch.os_cache('dnas')}"
        )
    if (root / archive.folder).is_dir():
        return root / archive.folder
    if root.name == archive.folder or all((root / name).is_file() for name in archive.files):
        return root
    if not (root / archive.tar_name).is_file():
        _download(archive, root)
    _unpack(archive, root)
    return root / archive.folder


def _load_cifar(
    data_dir: str | os.PathLike | None, *, archive: _Archive, image_size: int | None = None
) -> Dataset:
    """Returns a CIFAR data set, its images brought to squares of image_size where it is given."""
    _check_size(image_size)
    folder = _find_folder(archive, data_dir)
    missing = [name for name in archive.files if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} lacks {', '.join(missing)}; delete the folder and fetch {archive.url} again"
        )
    parse_names = partial(_parse_names, num_classes=archive.num_classes)
    parse_batch = partial(_parse_batch, num_classes=archive.num_classes)
    batch_keys = (b"data", archive.labels_key)
    names = _read(folder / archive.meta, (archive.names_key,), parse_names)
    train = [_read(folder / name, batch_keys, parse_batch) for name in archive.train]
    train_images, train_labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    test_images, test_labels = _read(folder / archive.test, batch_keys, parse_batch)
    if image_size is not None:
        train_images = _resized(train_images, image_size)
        test_images = _resized(test_images, image_size)
    return Dataset(archive.name, train_images, train_labels, test_images, test_labels, names)


def _check_size(image_size: int | None) -> None:
    if image_size is not None and not 1 <= image_size <= _MOST_SIZE:
        raise ValueError(
            f"images can be brought to squares of 1 to {_MOST_SIZE} pixels a side, got image_size"
            f" {image_size}: --dataset=cifar10:image_size=16"
        )


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    """Images [N, H, W, 3] as [N, size, size, 3]; a pixel is the mean of those that it covers."""
    resize = partial(Image.Image.resize, size=(size, size), resample=Image.Resampling.BOX)
    return np.stack([np.asarray(resize(Image.fromarray(image))) for image in images])


def _load_digits(data_dir: str | os.PathLike | None) -> Dataset:
    """Returns the 1,797 digits that scikit-learn carries, 360 of them for testing; data_dir is not
    needed."""
    del data_dir
    source: Any = load_digits()  # scikit-learn carries no types
    images = np.round(source.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int32)
    parts: Any = train_test_split(images, labels, test_size=360, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = parts
    names = tuple(str(name) for name in source.target_names)
    return Dataset("digits", train_images, train_labels, test_images, test_labels, names)


def _load_folder(data_dir: str | os.PathLike | None, *, image_size: int = 224) -> Dataset:
    """Returns the images of data_dir/train/CLASS/ and data_dir/val/CLASS/, in red, green and blue,
    brought to squares of one size, all of which have to fit into memory.

    The largest square in the middle of a training image becomes one of image_size. Of a test image
    7/8 of that square does, which is the middle 224 pixels of 256 at the published size.
    """
    if data_dir is None or not 1 <= image_size <= _MOST_SIZE:
        raise ValueError(
            f"a folder of images needs a place and a size from 1 to {_MOST_SIZE}, got data_dir"
            f" {data_dir} and image_size {image_size}: --dataset=folder:image_size=224"
            " --data-dir=FOLDER"
        )
    root = Path(data_dir)
    names = _subfolders(root / "train")
    if unknown := sorted(set(_subfolders(root / "val")) - set(names)):
        raise ValueError(
            f"{root / 'val'} has classes that {root / 'train'} has not: {', '.join(unknown)}"
        )
    train = _read_folder(root / "train", names, image_size, margin=0.0)
    test = _read_folder(root / "val", names, image_size, margin=1 / 16)
    return Dataset("folder", *train, *test, names)


def _subfolders(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in folder.glob("[!.]*") if path.is_dir()))
    if not names:
        raise ValueError(f"{folder} is not a folder that has a folder of images for each class")
    return names


def _read_folder(
    folder: Path, names: tuple[str, ...], image_size: int, *, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels in random order, always the same one.

    Args:
      margin: part of an image that is left out on each of its sides.
    """
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).glob("[!.]*"))
    ]
    if not files:
        raise ValueError(f"the folders of {folder} hold no images")
    images = np.empty((len(files), image_size, image_size, 3), np.uint8)
    labels = np.empty(len(files), np.int32)
    for row, place in enumerate(np.random.default_rng(0).permutation(len(files))):
        path, labels[row] = files[place]
        try:
            images[row] = _read_square(path, image_size, margin)
        except Exception as fault:  # of any kind: each format of Pillow has its own
            raise ValueError(
                f"{path} is no image that can be read ({type(fault).__name__}: {fault!s:.200});"
                " remove it"
            ) from fault
    return images, labels


def _read_square(path: Path, image_size: int, margin: float) -> np.ndarray:
    with Image.open(path) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"it has more than {_MOST_PIXELS:,} pixels")
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise ValueError(f"its pixels, of mode {image.mode}, have more than 8 bits")
        square = ImageOps.fit(
            image.convert("RGB"),
            (image_size, image_size),
            Image.Resampling.BILINEAR,
            bleed=margin,
        )
    return np.asarray(square)


DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": _load_digits,
    "cifar10": partial(_load_cifar, archive=_CIFAR10),
    "cifar100": partial(_load_cifar, archive=_CIFAR100),
    "folder": _load_folder,
}


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Returns the data set called name.

    >>> digits = load("digits")
    >>> digits.train_images.shape, digits.test_images.shape, digits.num_classes
    ((1437, 8, 8, 1), (360, 8, 8, 1), 10)

    Args:
      name: a key of DATASETS, perhaps with keywords: folder:image_size=64, cifar10:image_size=16.
      data_dir: for CIFAR, an existing folder that holds the archive, or its unpacked folder, or is
        that folder; where it holds neither, the archive is downloaded to it. None is the user's
        cache folder. For "folder" what holds train/ and val/.

    Raises:
      ValueError: name is unknown, data_dir does not exist, or a file there is missing or damaged.
      ConnectionError: the archive is needed and could not be downloaded.
    """
    if named.name_of(name) not in DATASETS:
        raise ValueError(
            f"data set {shown(name)} is not in DATASETS; add it to dnas/app/datasets.py or choose"
            f" from: {', '.join(DATASETS)}"
        )
    return named.make(DATASETS, "data set", name, {}, {"data_dir": data_dir})
