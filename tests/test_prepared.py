import threading
import time

import numpy as np
import pytest

from lib import prepared
from lib.checks import ParameterError

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
    def interrupted(path, **_arrays):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared.prepared(tmp_path / "a.npz", lambda: {"x": LARGE})
    assert not list(tmp_path.iterdir())
