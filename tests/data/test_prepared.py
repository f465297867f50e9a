import threading
import time

import numpy as np
import pytest

from lib.checks import ParameterError
from lib.data import prepared
from tests.conftest import left

LARGE = np.arange(3_000_000, dtype=np.uint8).reshape(1000, 3000)


def test_large_arrays_are_mapped_and_small_ones_read(tmp_path):
    stored = {"x": LARGE, "y": np.arange(5), "text": np.array("of here")}
    made = prepared.prepared(tmp_path / "a.npz", lambda: stored)
    assert isinstance(made["x"], np.memmap)
    assert not isinstance(made["y"], np.memmap)
    assert all(np.array_equal(made[name], stored[name]) for name in stored)
    assert str(made["text"]) == "of here"


def test_writing_to_a_mapped_array_leaves_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=LARGE)
    prepared.read(tmp_path / "a.npz")["x"][:] = 7
    assert np.array_equal(prepared.read(tmp_path / "a.npz")["x"], LARGE)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["x", "x_train", "a_longer_name_than_that"])
def test_prepared_arrays_of_every_type_are_mapped(tmp_path, dtype, name):
    arrays = {"first": np.arange(7), name: LARGE.astype(dtype), "second": LARGE.astype(dtype)}
    made = prepared.prepared(tmp_path / "a.npz", lambda: arrays)
    for mapped in (name, "second"):
        assert isinstance(made[mapped], np.memmap)
        assert made[mapped].ctypes.data % 64 == 0
        assert np.array_equal(made[mapped], arrays[mapped])
    with np.load(tmp_path / "a.npz") as stored:
        assert all(np.array_equal(stored[key], value) for key, value in arrays.items())


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32])
def test_every_type_and_order_comes_back_as_it_was(tmp_path, dtype):
    values = (np.arange(2_400_000) % 200).astype(dtype).reshape(1200, 2000)
    for array in (values, np.asfortranarray(values)):
        np.savez(tmp_path / "a.npz", array)
        assert np.array_equal(prepared.read(tmp_path / "a.npz")["arr_0"], values)


def test_a_compressed_file_is_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=LARGE)
    assert np.array_equal(prepared.read(tmp_path / "a.npz")["x"], LARGE)


@pytest.mark.parametrize("kept", [0, 10, 1_000_000, 2_999_999])
def test_a_cut_file_is_named(tmp_path, kept):
    np.savez(tmp_path / "a.npz", x=LARGE)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:kept])
    with pytest.raises(ParameterError, match=r"a\.npz is damaged; delete it"):
        prepared.prepared(tmp_path / "a.npz", dict)


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ParameterError, match=r"a\.npz is damaged"):
        prepared.read(tmp_path / "a.npz")


def test_two_that_need_the_same_file_make_it_once(tmp_path):
    made = []

    def slow():
        made.append(1)
        time.sleep(0.2)
        return {"x": np.arange(3)}

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(prepared.prepared(tmp_path / "a.npz", slow))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert [result["x"].tolist() for result in results] == [[0, 1, 2]] * 2


def test_an_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, _arrays):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(prepared, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared.prepared(tmp_path / "a.npz", lambda: {"x": LARGE})
    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / "a.npz.123.part").write_bytes(b"half")
    (tmp_path / "b.npz.123.part").write_bytes(b"another's")
    prepared.prepared(tmp_path / "a.npz", lambda: {"x": np.arange(3)})
    assert left(tmp_path) == ["a.npz", "b.npz.123.part"]


def test_a_flipped_byte_in_a_compressed_file(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 9, 5000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for place in range(200, len(content) - 200, 97):
        damaged = content.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(damaged)
        with pytest.raises(ParameterError, match="is damaged"):
            prepared.read(tmp_path / "b.npz")


def test_a_folder_that_may_not_be_written_costs_time_not_the_run(tmp_path, monkeypatch, caplog):
    def read_only(*_arguments, **_options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(prepared, "write", read_only)
    monkeypatch.setattr("pathlib.Path.unlink", read_only)
    assert prepared.prepared(tmp_path / "a.npz", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
    assert "it will be computed again: [Errno 30] Read-only file system" in caplog.text
