import io
import os
import pickle
import random
import shutil
import struct
import tracemalloc
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from lib.checks import ParameterError
from lib.legacy.unpickling import read_attributes
from tests.original import KIND, pickled


@pytest.fixture
def read(tmp_path):
    """Reads what is given as the attribute `a`, or a pickle that is given as bytes."""

    def unpickle(value, protocol=4):
        path = tmp_path / "some.pkl"
        path.write_bytes(value if isinstance(value, bytes) else pickled({"a": value}, protocol))
        return read_attributes(path, KIND).get("a")

    return unpickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2**70,
        1.5,
        "text",
        [1, [2.5, None], (3,), {"name": 4, 5: "six"}],
        list(range(5000)),
        np.float32(0.1),
        np.int64(7),
        np.bool_(True),
    ],
    ids=lambda value: str(value)[:20],
)
def test_plain_values_come_as_they_are(read, value, protocol):
    found = read(value, protocol)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 4)[:, 1:, ::2],
        torch.arange(24.0).reshape(4, 6).T,
        torch.tensor(2.5),
        torch.empty(0, 3),
        torch.tensor([1.5, 2.5]).bfloat16(),
        torch.tensor([1.5, 2.5]).half(),
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([True, False]),
    ],
    ids=str,
)
def test_tensors_come_as_arrays_of_the_same_values(read, tensor, protocol):
    found = read(tensor, protocol)
    assert type(found) is np.ndarray
    assert found.shape == tuple(tensor.shape)
    assert found.tolist() == tensor.tolist()


def test_tensors_that_lay_on_a_gpu_come_without_one(read):
    here, there = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    content = pickled({"a": torch.tensor([1.0, 2.0])}, 3)
    start = content.index(b"_load_from_bytes") + len(b"_load_from_bytes\nq\x04")
    assert content[start : start + 1] == pickle.BINBYTES
    (size,) = struct.unpack("<I", content[start + 1 : start + 5])
    storage = content[start + 5 : start + 5 + size]
    assert storage.count(here) == 1
    moved = storage.replace(here, there)
    assert b"cuda:0" in moved
    content = content.replace(struct.pack("<I", size) + storage, struct.pack("<I", len(moved)) + moved)
    assert read(content).tolist() == [1.0, 2.0]


class Call:
    """Pickled, it calls a function as soon as it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touching(path):
    return f"open({str(path)!r}, 'w').close()"


def torch_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def storage_file(size):
    return torch_file(torch.ones(size).__reduce_ex__(2)[1][0])


def tensor(content, size=(1,), stride=(1,), offset=0):
    """A tensor whose storage is what a torch file holds, be it none."""
    storage = Call(torch.storage._load_from_bytes, content)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


@pytest.mark.parametrize(
    ("attack", "asked"),
    [
        (lambda path: Call(os.system, f"touch {path}"), "'posix.system'"),
        (lambda path: Call(eval, touching(path)), "'builtins.eval'"),
        (lambda path: Call(exec, touching(path)), "'builtins.exec'"),
        (lambda path: Call(open, str(path), "w"), r"'_?io\.open'"),
        (lambda path: Call(shutil.copy, __file__, str(path)), "'shutil.copy'"),
        (lambda path: Call(pickle.loads, pickle.dumps(Call(eval, touching(path)))), "'_pickle.loads'"),
        (lambda path: [[Call(os.system, f"touch {path}")]], "'posix.system'"),
        (lambda path: np.array([Call(os.system, f"touch {path}")], dtype=object), r"numpy.dtype\('O8'\)"),
        (lambda path: tensor(torch_file(Call(os.system, f"touch {path}"))), "'posix.system'"),
        (lambda path: tensor(torch_file([torch.ones(1), Call(eval, touching(path))])), "eval'"),
        (lambda path: torch.load, "'torch.serialization.load'"),
        (lambda path: getattr, "'builtins.getattr'"),
        (lambda path: torch.nn.Parameter(torch.ones(1)), "'torch._utils._rebuild_parameter'"),
        (lambda path: torch.nn.Softmax(), "(opcode EMPTY_SET|'torch.nn.modules.activation.Softmax')"),
        (lambda path: np.random.default_rng(0), r"'numpy.random._pickle"),
        (lambda path: {1, 2}, "opcode EMPTY_SET"),
    ],
)
def test_what_asks_for_code_is_refused_in_one_line_and_none_runs(read, tmp_path, attack, asked):
    ran = tmp_path / "ran"
    with pytest.raises(
        ParameterError, match=rf"^(holds a tensor that )?asks for .*{asked}.*, which is refused: must hold"
    ) as caught:
        read(attack(ran))
    assert str(caught.value).isprintable()
    assert not ran.exists()


def test_the_attacks_run_where_nothing_refuses_them(tmp_path):
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path / 'plain'}")))
    with pytest.raises(AttributeError):
        pickle.loads(pickle.dumps(tensor(torch_file(Call(eval, touching(tmp_path / "nested"))))))
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "nested"}


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


PERFORMANCES = name(*KIND.split("."))
INSTANCE = PERFORMANCES + b")" + pickle.NEWOBJ
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
DTYPE = name("numpy", "dtype")


def text(word):
    return pickle.SHORT_BINUNICODE + bytes([len(word)]) + word.encode()


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (pickle.EXT1 + b"\x01", "asks for opcode EXT1, which is refused"),
        (pickle.EXT2 + b"\x01\x00", "asks for opcode EXT2"),
        (pickle.EXT4 + b"\x01\x00\x00\x00", "asks for opcode EXT4"),
        (pickle.PERSID + b"1\n", "asks for opcode PERSID"),
        (text("1") + pickle.BINPERSID, "asks for opcode BINPERSID"),
        (b"\xff", "cut or damaged"),
        (name("os", "system"), "asks for 'os.system', which is refused"),
        (pickle.MARK + pickle.INST + b"os\nsystem\n", "asks for 'os.system'"),
        (text("os") + text("system") + pickle.STACK_GLOBAL, "asks for 'os.system'"),
        (name("performances", "Performances.__init__.__globals__"), "asks for 'performances.Performances.__init__"),
        (name("torch._utils", "os.system"), "asks for 'torch._utils.os.system'"),
        (
            name("numpy.core.multiarray", "_reconstruct.__globals__"),
            "asks for 'numpy.core.multiarray._reconstruct.__gl",
        ),
        (name("os\x1b[2J", "system"), r"asks for 'os\\x1b\[2J.system'"),
        (name("builtins", "getattr"), "asks for 'builtins.getattr'"),
        (name("copyreg", "__newobj__"), "asks for 'copyreg.__newobj__'"),
        (REBUILD + b")" + pickle.NEWOBJ, "cut or damaged"),
        (REBUILD + text("a") + b"N" + pickle.SETITEM, "cut or damaged"),
        (REBUILD + b"}" + pickle.BUILD, "sets the state of a function"),
        (REBUILD + b"N}" + text("_make") + b"Ns" + pickle.TUPLE2 + pickle.BUILD, "sets the state of a function"),
        (name("numpy", "ndarray") + b")" + pickle.NEWOBJ, "cut or damaged"),
        (name("numpy", "ndarray") + b")" + pickle.REDUCE, "cut or damaged"),
        (name("builtins", "bytes") + b"J\xff\xff\xff\x7f" + pickle.TUPLE1 + pickle.REDUCE, "cut or damaged"),
        (PERFORMANCES, "must hold an instance of performances.Performances, holds type"),
        (PERFORMANCES + text("a") + pickle.TUPLE1 + pickle.NEWOBJ, "cut or damaged"),
        (INSTANCE + b"]" + pickle.BUILD, "cut or damaged"),
        (INSTANCE + b"N}" + text("__class__") + REBUILD + b"s" + pickle.TUPLE2 + pickle.BUILD, "cut or damaged"),
        (text("a") + b")" + pickle.REDUCE, "cut or damaged"),
        (b"]}" + pickle.BUILD, "cut or damaged"),
        (DTYPE + text("O8") + pickle.TUPLE1 + pickle.REDUCE, r"asks for numpy.dtype\('O8'\)"),
        (DTYPE + text("i4,i4") + pickle.TUPLE1 + pickle.REDUCE, r"asks for numpy.dtype\('i4,i4'\)"),
        (DTYPE + b"}" + pickle.TUPLE1 + pickle.REDUCE, "cut or damaged"),
    ],
)
def test_opcodes_that_reach_beyond_plain_values_are_refused(read, opcodes, message):
    with pytest.raises(ParameterError, match=message) as caught:
        read(pickle.PROTO + b"\x04" + opcodes + pickle.STOP)
    assert str(caught.value).isprintable()


def test_a_file_cannot_change_how_the_next_is_read(read):
    state = b"N}" + text("__setstate__") + REBUILD + b"s" + pickle.TUPLE2
    with pytest.raises(ParameterError, match="holds type"):
        read(pickle.PROTO + b"\x04" + PERFORMANCES + state + pickle.BUILD + pickle.STOP)
    assert read([1, 2]) == [1, 2]


def test_what_is_no_instance_of_the_class_is_refused(read):
    with pytest.raises(ParameterError, match=r"must hold an instance of performances\.Performances, holds dict"):
        read(pickle.dumps({"a": 1}))
    with pytest.raises(ParameterError, match=r"asks for 'collections\.Counter', which is refused"):
        read(pickle.dumps(Counter()))


ONES = storage_file(8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: tensor(ONES, (9,)), "a tensor of 9 values: must be at most the 8 of its storage"),
        (lambda: tensor(ONES, (2**40,), (0,)), "must be at most the 8"),
        (lambda: tensor(ONES, (2,), (8,)), "cut or damaged"),
        (lambda: tensor(ONES, offset=8), "cut or damaged"),
        (lambda: tensor(ONES, offset=-1), "cut or damaged"),
        (lambda: tensor(ONES, (3,), (-1,)), "cut or damaged"),
        (lambda: tensor(ONES, (-1, -1), (1, 1)), "cut or damaged"),
        (lambda: tensor(ONES, (2,), (1, 1)), "cut or damaged"),
        (lambda: tensor(torch_file({"a": 1})), "holds dict in place of a tensor"),
        (lambda: tensor(torch_file(torch.ones(2))), "holds Tensor in place of a tensor"),
        (lambda: tensor(ONES[:-1]), "damaged"),
        (lambda: tensor(b"PK\x03\x04"), "damaged"),
        (lambda: tensor("text"), "damaged"),
        (lambda: Call(np._core.multiarray.scalar, np.dtype("f8"), b"\0" * 4), "cut or damaged"),
        (lambda: Call(np._core.multiarray.scalar, "f8", b"\0" * 8), "holds str in place of a type"),
        (lambda: Call(np._core.numeric._frombuffer, b"\0" * 8, np.dtype("f8"), (2**40,), "C"), "cut or damaged"),
        (lambda: np.zeros(2, dtype="f4,f4"), r"asks for numpy.dtype\('V8'\)"),
        (lambda: np.array(["a"]), r"asks for numpy.dtype\('U1'\)"),
        (lambda: np.zeros(2, dtype="c16"), r"asks for numpy.dtype\('c16'\)"),
    ],
)
def test_arrays_and_tensors_that_are_more_than_their_bytes_are_refused(read, value, message):
    with pytest.raises(ParameterError, match=message) as caught:
        read(value())
    assert str(caught.value).isprintable()


def test_a_storage_that_says_it_is_larger_than_its_file_is_refused(read):
    said, keys = b"K\x08N", b"]q\x00X"  # its number of values, and what says that they are in the file
    assert ONES.count(said) == ONES.count(keys) == 1
    content = ONES[: ONES.index(keys)].replace(said, b"J" + struct.pack("<i", 10**9) + b"N") + b"]."
    with pytest.raises(ParameterError, match="a tensor of 4000000000 bytes"):
        read(tensor(content, (10**9,)))


@pytest.mark.parametrize(
    "content",
    [
        b"N" + pickle.LONG_BINPUT + b"\xff\xff\xff\xff",
        b"N" + pickle.PUT + b"4294967295\n",
        pickle.BINBYTES8 + struct.pack("<Q", 2**40),
        pickle.BYTEARRAY8 + struct.pack("<Q", 2**36),
        pickle.BYTEARRAY8 + struct.pack("<Q", 2**63),
        pickle.FRAME + struct.pack("<Q", 2**36),
    ],
)
def test_damage_to_a_count_does_not_ask_for_much_memory(read, content):
    tracemalloc.start()
    try:
        with pytest.raises(ParameterError, match="must be a whole pickle, is"):
            read(pickle.PROTO + b"\x05" + content + pickle.STOP)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_file_that_is_larger_than_any_of_the_original_is_not_read(tmp_path):
    path = tmp_path / "some.pkl"
    with path.open("wb") as file:
        file.truncate(2**32 + 1)  # takes no room on the disk
    with pytest.raises(ParameterError, match=r"must be of at most 4,294,967,296 bytes, is of 4,294,967,297"):
        read_attributes(path, KIND)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_file_that_is_cut_anywhere_is_named(read, protocol):
    content = pickled(protocol=protocol)
    for end in range(0, len(content), 53):
        with pytest.raises(ParameterError, match=r"^must be a whole pickle, is cut or damaged"):
            read(content[:end])


@pytest.mark.filterwarnings("error")
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
    assert len(told) > 100
    assert not [line for line in told if not line.isprintable()]
