"""Files are written whole or not at all, and what was sealed says when it has changed."""

import errno
import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from dnas.app.durable import append_line, digest_of_arrays, seal, unseal, write_file
from dnas.running.states import bytes_of


def test_a_file_is_on_the_disk_before_it_takes_its_name_and_the_name_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        "os.fsync", lambda number: done.append(os.fstat(number).st_ino) or fsync(number)
    )
    monkeypatch.setattr("os.replace", lambda *paths: done.append("named") or replace(*paths))
    write_file(tmp_path / "a", b"one", b"two")
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert done == [(tmp_path / "a").stat().st_ino, "named", tmp_path.stat().st_ino]


def test_where_the_disk_is_full_the_old_file_stays_and_no_half_of_the_new_one(
    tmp_path, monkeypatch
):
    write_file(tmp_path / "a", b"old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError) as found:
        write_file(tmp_path / "a", b"new")
    assert found.value.filename == str(tmp_path / "a")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux has this device")
def test_a_full_disk_is_named_by_who_appends_to_it():
    with pytest.raises(OSError) as found:
        append_line(pathlib.Path("/dev/full"), "a")
    assert found.value.errno == errno.ENOSPC and found.value.filename == "/dev/full"


CONTENT = {"seed": 0, "rate": 0.1, "name": 'a "b"', "rows": [[1, 2.5e-3], None], "on": True}


def test_no_bit_of_what_was_sealed_can_change_what_is_read():
    text = json.dumps(seal(CONTENT)).encode()
    assert unseal(text.decode()) == CONTENT
    noticed = 0
    for place in range(8 * len(text)):
        changed = bytearray(text)
        changed[place // 8] ^= 1 << place % 8
        try:
            found = unseal(changed.decode(errors="replace"))
        except ValueError:
            noticed += 1
        else:
            assert found == CONTENT  # a blank became another one
    assert noticed > 7.8 * len(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", '{"a": 1}', "[" * 10**5])
def test_what_was_not_sealed_is_refused(text):
    with pytest.raises(ValueError, match="it "):
        unseal(text)


def test_arrays_of_other_types_shapes_or_bytes_have_other_digests():
    arrays = [
        np.zeros(4, np.float32),
        np.zeros(4, np.int32),
        np.zeros((2, 2), np.float32),
        np.array([0, 0, 0, -0.0], np.float32),
        np.zeros(4, jnp.bfloat16),
    ]
    assert len({digest_of_arrays(array) for array in arrays}) == len(arrays)
    both = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digest_of_arrays(both.T) == digest_of_arrays(np.ascontiguousarray(both.T))
    assert bytes_of(np.array(1, np.int8)).tobytes() == b"\x01"
