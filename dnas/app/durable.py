"""Files that are written whole or not at all, and digests by which damage is noticed."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dnas.running.states import bytes_of

_SEAL = "sha256"  # the last field of what is sealed


def write_file(path: pathlib.Path, *pieces: bytes | memoryview) -> None:
    """Writes the pieces, one after the other, so that a reader sees the old file or the new one and
    no half of either, and so does who looks after a crash of the machine.

    Raises:
      OSError: with the file's name, where there is no space or no right to write. The old file, if
        there was one, is as it was.
    """
    part = path.with_name(path.name + ".part")
    with _named(path):
        try:
            with open(part, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            # Where the disk is full, half a file is what others have no space for.
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        sync_folder(path.parent)


def append_line(path: pathlib.Path, line: str) -> None:
    """Adds a line to a file, which is on the disk when this returns.

    Raises:
      OSError: with the file's name.
    """
    with _named(path), open(path, "ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder and those that it lies in, where they are not there, and has the disk know."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Has the disk know the names in a folder, where its file system can be asked to."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(number)


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Has an OSError name the file: that of a write which finds the disk full does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def digest_of(content: Any) -> str:
    """Returns the SHA-256 of a JSON tree, in its order."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def digest_of_file(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_arrays(*arrays: np.ndarray) -> str:
    """Returns the SHA-256 of arrays: of their types, shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(bytes_of(array))
    return digest.hexdigest()


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON object with the digest of all that is in it."""
    return {**content, _SEAL: digest_of(content)}


def unseal(text: str) -> dict[str, Any]:
    """Returns what was sealed, from the text of the JSON object.

    Raises:
      ValueError: if it is not as it was sealed.

    Example:
      >>> unseal(json.dumps(seal({"seed": 0})))
      {'seed': 0}
      >>> unseal(json.dumps(seal({"seed": 0})).replace("0", "1", 1))
      Traceback (most recent call last):
      ValueError: it has changed since it was written
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is cut short or overwritten") from None
    if not isinstance(content, dict) or _SEAL not in content:
        raise ValueError(f"it has no {_SEAL}, which dnas writes")
    given = content.pop(_SEAL)
    if given != digest_of(content):
        raise ValueError("it has changed since it was written")
    return content
