"""A state as the bytes of a file, and back: the format of safetensors
(https://github.com/huggingface/safetensors#format), so that others can read it.

Eight bytes with the length of a header, the header in JSON, the arrays one after the other. Its
metadata hold the SHA-256 of all of the file, taken with zeros in its place.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import AnyArray, PyTree

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


def to_pieces(
    state: PyTree, metadata: Mapping[str, str] = MappingProxyType({})
) -> list[bytes | memoryview]:
    """Returns what the file of a state consists of, its arrays without a copy where they lie on the
    host."""
    arrays = arrays_in(state)
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


def parsed(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the header of a file and its arrays, by their places in the state.

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


def filled(state: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Returns the state with these arrays for leaves, on the same devices.

    Raises:
      ValueError: unless they have the shapes and types of its own, naming the first that has not.
    """
    expected = {}
    for key_path, leaf in jax.tree.leaves_with_path(state):
        stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        expected[jax.tree_util.keystr(key_path)] = (np.dtype(stored.dtype), stored.shape)
    found = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    if found != expected:
        names = [*found, *expected]
        name = next(name for name in names if found.get(name) != expected.get(name))
        raise ValueError(
            f"{name} is {_in_words(found.get(name))} there and {_in_words(expected.get(name))} here"
        )

    def restored(key_path: Any, leaf: AnyArray) -> AnyArray:
        if isinstance(leaf, np.ndarray):
            return arrays[jax.tree_util.keystr(key_path)].copy()
        # A copy, since the run gives the memory of its state away.
        array = jnp.array(arrays[jax.tree_util.keystr(key_path)])
        if _is_key(leaf):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
        return jax.device_put(array, leaf.sharding)

    return jax.tree.map_with_path(restored, state)


def arrays_in(state: PyTree) -> dict[str, np.ndarray]:
    """Returns the leaves by their places; of keys of random numbers what they are made of."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(state):
        name = jax.tree_util.keystr(path)
        found[name] = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return found


def bytes_of(array: np.ndarray) -> memoryview:
    """Returns the bytes of an array of any type, those of bfloat16 too, without a copy where they
    lie one after the other."""
    whole = np.asarray(array, order="C").reshape(-1)
    return whole.view(np.uint8).data


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _in_words(kind: tuple[np.dtype, tuple[int, ...]] | None) -> str:
    return "nothing" if kind is None else f"{kind[0]} of shape {list(kind[1])}"


def _digest(pieces: list[Any]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
