import builtins
import io
import os
import pickle
import random
import subprocess
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from lib.checks import ParameterError
from lib.legacy.unpickling import read_attributes
from tests.original import KIND, pickled

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def read(tmp_path):
    """Reads what is given as the attribute `a`, or a pickle that is given as bytes."""

    def unpickle(value, protocol=4):
        path = tmp_path / "some.pkl"
        path.write_bytes(value if isinstance(value, bytes) else pickled({"a": value}, protocol))
        return read_attributes(path, KIND).get("a")

    return unpickle


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_as_they_are(read, protocol):
    value = [None, True, -3, 2**70, 1.5, "text", b"", [2.5, None], (3,), {"name": 4, 5: "six"}, list(range(5000))]
    value += [np.float32(0.1), np.int64(7), np.bool_(True)]
    found = read(value, protocol)
    assert found == value
    assert list(map(type, found)) == list(map(type, value))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6, dtype=">i2")[::2],
        np.array([True, False]),
        np.zeros((0, 3)),
        np.array(2.5),
    ],
    ids=str,
)
def test_arrays_come_with_the_same_values_shape_and_type(read, array, protocol):
    found = read(array, protocol)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    assert np.array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 4)[:, 1:, ::2],
        torch.arange(24.0).reshape(4, 6).T,
        torch.tensor(2.5),
        torch.empty(0, 3),
        torch.tensor([1.5, 2.5]).bfloat16(),
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([True, False]),
    ],
    ids=str,
)
def test_tensors_come_as_arrays_of_the_same_values(read, tensor, protocol):
    found = read(tensor, protocol)
    assert found.dtype == np.float64
    assert found.shape == tuple(tensor.shape)
    assert found.tolist() == tensor.tolist()


def test_tensors_that_lay_on_a_gpu_come_without_one(read, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    content = pickled({"a": torch.tensor([1.0, 2.0])})
    assert b"cuda:0" in content
    assert read(content).tolist() == [1.0, 2.0]


def test_what_numpy_1_wrote_comes_too(read):
    content = pickled({"a": np.arange(3.0)}, protocol=2)
    old = content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    assert old != content
    assert read(old).tolist() == [0, 1, 2]


class Call:
    """Pickled, it calls a function as soon as it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touching(path):
    return f"open({str(path)!r}, 'w').close()"


def tensor_of(value):
    """A tensor whose storage is a torch file that holds this."""
    content = io.BytesIO()
    torch.save(value, content, _use_new_zipfile_serialization=False)
    storage = Call(torch.storage._load_from_bytes, content.getvalue())
    return Call(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,), False, OrderedDict())


@pytest.mark.parametrize(
    ("attack", "asked"),
    [
        (lambda path: Call(os.system, f"touch {path}"), "'posix.system'"),
        (lambda path: Call(subprocess.Popen, ["touch", str(path)]), "'subprocess.Popen'"),
        (lambda path: Call(eval, touching(path)), "'builtins.eval'"),
        (lambda path: Call(exec, touching(path)), "'builtins.exec'"),
        (lambda path: Call(builtins.__import__, "antigravity"), "'builtins.__import__'"),
        (lambda path: Call(getattr, Call(getattr, [], "__class__"), "__base__"), "'builtins.getattr'"),
        (lambda path: Call(open, str(path), "w"), r"'_?io\.open'"),
        (lambda path: Call(pickle.loads, pickle.dumps(Call(eval, touching(path)))), "'_pickle.loads'"),
        (lambda path: np.array([Call(os.system, f"touch {path}")], dtype=object), "'posix.system'"),
        (lambda path: torch.load, "'torch.serialization.load'"),
    ],
)
def test_what_asks_for_code_is_refused_in_one_line_and_none_runs(read, tmp_path, attack, asked):
    with pytest.raises(ParameterError, match=rf"^asks for .*{asked}: must hold nothing but numbers") as caught:
        read(attack(tmp_path / "ran"))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", [os.system, eval])
def test_the_storage_of_a_tensor_that_asks_for_code_is_refused_and_none_runs(read, tmp_path, function):
    command = f"touch {tmp_path / 'ran'}" if function is os.system else touching(tmp_path / "ran")
    with pytest.raises(ParameterError, match=r"^must be a whole pickle, is cut or damaged, or holds more than numbers"):
        read(tensor_of(Call(function, command)))
    assert not (tmp_path / "ran").exists()


def test_the_attacks_run_where_nothing_refuses_them(tmp_path):
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path / 'plain'}")))
    with pytest.raises(AttributeError):
        pickle.loads(pickle.dumps(tensor_of(Call(eval, touching(tmp_path / "nested")))))
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "nested"}


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


PERFORMANCES = name(*KIND.split("."))


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (pickle.MARK + pickle.INST + b"os\nsystem\n", "asks for 'os.system'"),
        (name("performances", "Performances.__init__.__globals__"), "asks for 'performances.Performances.__init__"),
        (name("torch._utils", "os.system"), "asks for 'torch._utils.os.system'"),
        (name("os\x1b[2J", "system"), r"asks for 'os\\x1b\[2J.system'"),
        (name("copyreg", "__newobj__"), "asks for 'copyreg.__newobj__'"),
        (pickle.EXT1 + b"\x01", "cut or damaged"),
        (pickle.PERSID + b"1\n", "cut or damaged"),
        (PERFORMANCES + b")" + pickle.NEWOBJ + b"]" + pickle.BUILD, "cut or damaged"),
        (PERFORMANCES, "must hold an instance of performances.Performances, holds type"),
    ],
)
def test_opcodes_that_reach_beyond_plain_values_are_refused(read, opcodes, message):
    with pytest.raises(ParameterError, match=message) as caught:
        read(pickle.PROTO + b"\x04" + opcodes + pickle.STOP)
    assert str(caught.value).isprintable()


def test_a_file_that_changes_the_class_does_not_change_how_the_next_is_read(read):
    state = b"N}" + pickle.SHORT_BINUNICODE + b"\x0c__setstate__" + name("numpy", "dtype") + b"s" + pickle.TUPLE2
    with pytest.raises(ParameterError, match="holds type"):
        read(pickle.PROTO + b"\x04" + PERFORMANCES + state + pickle.BUILD + pickle.STOP)
    assert read([1, 2]) == [1, 2]


def test_what_is_no_instance_of_the_class_is_refused(read):
    with pytest.raises(ParameterError, match=r"must hold an instance of performances\.Performances, holds dict"):
        read(pickle.dumps({"a": 1}))
    with pytest.raises(ParameterError, match=r"asks for 'collections\.Counter'"):
        read(pickle.dumps(Counter()))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_file_that_is_cut_anywhere_is_named(read, protocol):
    content = pickled(protocol=protocol)
    for end in range(0, len(content), 53):
        with pytest.raises(ParameterError, match=r"^must be a whole pickle, is cut or damaged"):
            read(content[:end])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_damaged_file_is_read_or_named_but_never_worse(read, protocol):
    rng = random.Random(0)
    content, told = pickled(protocol=protocol), []
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 3])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read(bytes(damaged))
        except ParameterError as error:
            told.append(str(error))
    assert len(told) > 50
    assert not [line for line in told if not line.isprintable()]
