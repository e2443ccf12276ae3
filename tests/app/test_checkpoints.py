"""Checkpoints give back the bits that were saved, or say that they cannot."""

import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.app.checkpoints import Checkpoints, arrays_of

RUN = {"id": "a", "settings": {"seed": 0, "relax": None}, "phase": "search"}


def state_of(number: int) -> dict:
    key = jax.random.key(number)
    return {"key": key, "x": jax.random.normal(key, (3,)), "step": jnp.int32(number)}


def bits(state) -> list[bytes]:
    leaves = jax.tree.leaves(state)
    arrays = (
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for leaf in leaves
    )
    return [np.asarray(array).tobytes() for array in arrays]


@pytest.fixture
def two(tmp_path):
    """Checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path / "phase", RUN)
    for step in (1, 2):
        checkpoints.save(step, state_of(step), {"rows": step})
    return checkpoints


def test_the_newest_two_are_kept_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path / "phase", RUN)
    assert checkpoints.restore(state_of(0)) is None
    for step in range(4):
        checkpoints.save(step, state_of(step), {"step": step})
    assert checkpoints.steps() == [2, 3]
    assert len(list((tmp_path / "phase").iterdir())) == 2
    found, notes = Checkpoints(tmp_path / "phase", RUN).restore(state_of(0))
    assert notes == {"step": 3} and bits(found) == bits(state_of(3))


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "bool", "int8", "uint8", "int32", "uint32"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_of_every_type_and_shape_come_back(dtype, shape, tmp_path):
    state = [jnp.ones(shape, dtype), jnp.zeros((2,), "int8")]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state)
    found, _ = checkpoints.restore(jax.tree.map(jnp.zeros_like, state))
    assert bits(found) == bits(state)
    assert [leaf.dtype for leaf in found] == [leaf.dtype for leaf in state]


def test_a_file_is_as_the_format_says(two, tmp_path):
    content = (tmp_path / "phase" / "2.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert all(isinstance(value, str) for value in metadata.values())
    assert length % 8 == 0
    end = 0
    for entry in header.values():
        assert set(entry) == {"dtype", "shape", "data_offsets"}
        assert entry["data_offsets"][0] == end
        end = entry["data_offsets"][1]
    assert len(content) == 8 + length + end
    assert header["['x']"] | {"data_offsets": None} == {
        "dtype": "F32",
        "shape": [3],
        "data_offsets": None,
    }


def test_any_bit_that_flips_is_noticed_and_the_older_one_is_taken(two, tmp_path, capsys):
    path = tmp_path / "phase" / "2.safetensors"
    content = path.read_bytes()
    places = random.Random(0).sample(range(8 * len(content)), 300)
    for place in places:
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        found, notes = two.restore(state_of(0))
        assert notes == {"rows": 1} and bits(found) == bits(state_of(1)), place
    assert capsys.readouterr().err.count(f"{path} is damaged") == len(places)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_is_noticed(part, two, tmp_path):
    path = tmp_path / "phase" / "2.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert two.restore(state_of(0))[1] == {"rows": 1}
    (tmp_path / "phase" / "1.safetensors").write_bytes(b"")
    assert two.restore(state_of(0)) is None


def test_a_checkpoint_under_the_number_of_another_is_noticed(two, tmp_path):
    (tmp_path / "phase" / "1.safetensors").rename(tmp_path / "phase" / "3.safetensors")
    assert two.restore(state_of(0))[1] == {"rows": 2}


def test_what_lies_after_the_state_that_was_taken_is_gone_with_the_next_one(two, tmp_path):
    (tmp_path / "phase" / "2.safetensors").write_bytes(b"")
    (tmp_path / "phase" / "5.safetensors.part").write_bytes(b"")
    Checkpoints(tmp_path / "phase", RUN).save(1, state_of(1))
    assert [path.name for path in (tmp_path / "phase").iterdir()] == ["1.safetensors"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"id": "b", "settings": {"seed": 1, "relax": None}}, "seed is 0 there and 1 here"),
        ({"settings": {"seed": 0, "relax": "softmax"}}, "relax is None there and 'softmax' here"),
        ({"phase": "searched"}, "phase is 'search' there and 'searched' here"),
        ({"id": "b"}, "it has the same settings, and was begun"),
        ({"jax": {"jax_enable_x64": True}}, "jax is None there and"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(other, message, two, tmp_path):
    with pytest.raises(ValueError, match=f"of another run: {message}"):
        Checkpoints(tmp_path / "phase", RUN | other).restore(state_of(0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": jnp.zeros(4)}, r"\['x'\] is float32 of shape \[3\] there and .*\[4\] here"),
        ({"x": jnp.zeros(3, "bfloat16")}, "and bfloat16 of shape"),
        ({"y": jnp.zeros(3)}, r"\['y'\] is nothing there"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changed, message, two):
    with pytest.raises(ValueError, match=message):
        two.restore(state_of(0) | changed)


def test_who_reads_changes_nothing(two, tmp_path):
    folder = tmp_path / "phase"
    (folder / "9.safetensors.part").write_bytes(b"half")
    (folder / "2.safetensors").write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    Checkpoints(folder, RUN).restore(state_of(0))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert set(arrays_of(folder / "1.safetensors")) == {"['key']", "['step']", "['x']"}
