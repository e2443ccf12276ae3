"""Checkpoints of a phase of a run: files that tell when they are damaged and whose they are, the
newest two kept.

A file has the format of safetensors (https://github.com/huggingface/safetensors#format), so that
others can read it: eight bytes with the length of a header, the header in JSON, the arrays one
after the other. Its metadata hold the SHA-256 of all of the file, taken with zeros in its place.
"""

import hashlib
import json
import pathlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas.app.durable import bytes_of, make_folder, write_file
from dnas.app.runs import differences
from dnas.base import PyTree

_SUFFIX = ".safetensors"
_KEPT = 2
_ZEROS = "0" * 64
# Types by the names that the format has for them.
_CODES = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
_TYPES = {code: name for name, code in _CODES.items()}


class Checkpoints:
    """The states of one phase by step.

    Args:
      run: what tells the run and the phase from all others, a JSON tree, which is kept in every
        checkpoint. One of another run is refused.
    """

    def __init__(self, folder: pathlib.Path, run: Mapping[str, Any] = MappingProxyType({})):
        self._folder = folder
        self._run = dict(run)

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints, the newest last."""
        stems = [path.stem for path in self._folder.glob(f"*{_SUFFIX}")]
        return sorted(int(stem) for stem in stems if stem.isdecimal() and str(int(stem)) == stem)

    def save(
        self, step: int, state: PyTree, notes: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Writes the state and notes about it, a JSON object; a crash on the way leaves the older
        checkpoints as they are."""
        metadata = {
            "step": str(step),
            "run": json.dumps(self._run),
            "notes": json.dumps(dict(notes)),
        }
        make_folder(self._folder)
        write_file(self._path(step), *_pieces(_arrays_of(state), metadata))
        # One of a later step is of no use: it is damaged, or the run was continued from before it.
        older = [other for other in self.steps() if other < step]
        for other in self.steps():
            if other != step and other not in older[len(older) + 1 - _KEPT :]:
                self._path(other).unlink()
        for part in self._folder.glob("*.part"):
            part.unlink()

    def restore(self, state: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Returns the newest state that is whole, with its notes; None if there is none.

        Damaged ones are left out, with a sentence on stderr.

        Args:
          state: says shapes and types.

        Raises:
          ValueError: for a checkpoint of another run, naming what is different, and for one whose
            arrays are not those of `state`.
        """
        for step in reversed(self.steps()):
            path = self._path(step)
            try:
                header, arrays = _parsed(path.read_bytes())
                metadata = header["__metadata__"]
                if metadata["step"] != str(step):
                    raise ValueError(f"it is of step {metadata['step']}")
            except ValueError as error:
                print(
                    f"warning: {path} is damaged ({error}); what lies before it is taken",
                    file=sys.stderr,
                )
                continue
            _check_whose(path, json.loads(metadata["run"]), self._run)
            return _filled(path, state, arrays), json.loads(metadata["notes"])
        return None

    def _path(self, step: int) -> pathlib.Path:
        return self._folder / f"{step}{_SUFFIX}"


def arrays_of(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint by their places in the state: what another program needs
    no dnas for, and a test no networks.

    Raises:
      ValueError: if the file is damaged.
    """
    return _parsed(path.read_bytes())[1]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _arrays_of(state: PyTree) -> dict[str, np.ndarray]:
    """The leaves by their paths; of keys of random numbers what they are made of."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(state):
        name = jax.tree_util.keystr(path)
        found[name] = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return found


def _filled(path: pathlib.Path, state: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The state with the arrays for leaves, on the same devices."""
    expected = {}
    for key_path, leaf in jax.tree.leaves_with_path(state):
        stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        expected[jax.tree_util.keystr(key_path)] = (np.dtype(stored.dtype), stored.shape)
    found = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    if found != expected:
        name, before, now = differences(found, expected)[0]
        raise ValueError(
            f"{path} does not fit the networks of these settings: {name} is {_in_words(before)}"
            f" there and {_in_words(now)} here. Was the code changed since? Take the version that"
            " wrote it, or begin anew"
        )

    def restored(key_path: Any, leaf: jax.Array) -> jax.Array:
        # A copy, since the run gives the memory of its state away.
        array = jnp.array(arrays[jax.tree_util.keystr(key_path)])
        if _is_key(leaf):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
        return jax.device_put(array, leaf.sharding)

    return jax.tree.map_with_path(restored, state)


def _in_words(kind: tuple[np.dtype, tuple[int, ...]] | None) -> str:
    return "nothing" if kind is None else f"{kind[0]} of shape {list(kind[1])}"


def _check_whose(path: pathlib.Path, found: Any, run: Mapping[str, Any]) -> None:
    """Raises ValueError unless the checkpoint is one of this phase of this run."""
    changed = differences(found, run)
    if not changed:
        return
    others = [
        f"{name} is {there!r} there and {here!r} here"
        for name, there, here in changed
        if name != "id"
    ]
    if not others:
        others = ["it has the same settings, and was begun at another time"]
    raise ValueError(
        f"{path} is a checkpoint of another run: {'; '.join(others)}. Move it away, and --resume"
        " continues from what lies before it"
    )


def _pieces(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> list[Any]:
    """What a file consists of."""
    header: dict[str, Any] = {"__metadata__": {"sha256": _ZEROS, **metadata}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        code = _CODES.get(array.dtype.name, array.dtype.name)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format wants arrays that are aligned
    pieces = [len(text).to_bytes(8, "little"), text, *map(bytes_of, arrays.values())]
    pieces[1] = text.replace(_ZEROS.encode(), _digest(pieces).encode(), 1)
    return pieces


def _parsed(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file.

    Raises:
      ValueError: if the file is not as it was written.
    """
    length = int.from_bytes(content[:8], "little")
    view = memoryview(content)
    text, data = content[8 : 8 + length], view[8 + length :]
    start = text.find(b'"sha256": "') + len(b'"sha256": "')
    given = text[start : start + len(_ZEROS)]
    zeroed = text[:start] + _ZEROS.encode() + text[start + len(_ZEROS) :]
    if given.decode(errors="replace") != _digest([view[:8], zeroed, data]):
        raise ValueError("its bytes are not those that were written")
    header = json.loads(text)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            dtype = jnp.dtype(_TYPES.get(entry["dtype"], entry["dtype"]))
            arrays[name] = np.frombuffer(data[first:end], dtype).reshape(entry["shape"])
    return header, arrays


def _digest(pieces: list[Any]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
