"""Files of PyTorch before 1.6, made by hand here: as PyTorch writes them, damaged, and hostile."""

import dataclasses
import io
import os
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from jaxconv.models.torch_files import HEAD, MOST_OPCODES, read_state_dict
from jaxconv.runtime.errors import InputError


@dataclasses.dataclass
class Global:
    module: str
    name: str


@dataclasses.dataclass
class Call:
    function: Any
    arguments: Any


@dataclasses.dataclass
class Persistent:
    identity: Any


def opcodes(value) -> bytes:
    """A value as in a pickle, without its beginning and end. Bytes are taken as they are."""
    match value:
        case bytes():
            return value
        case None:
            return pickle.NONE
        case bool():
            return pickle.NEWTRUE if value else pickle.NEWFALSE
        case int():
            return pickle.BININT + struct.pack("<i", value)
        case str():
            return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return pickle.MARK + b"".join(map(opcodes, value)) + pickle.TUPLE
        case list():
            return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(opcodes, value)) + pickle.APPENDS
        case dict():
            items = b"".join(opcodes(part) for item in value.items() for part in item)
            return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
        case Global():
            return pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode()
        case Call():
            return opcodes(value.function) + opcodes(value.arguments) + pickle.REDUCE
        case Persistent():
            return opcodes(value.identity) + pickle.BINPERSID
    raise TypeError(value)


def pickled(value) -> bytes:
    return pickle.PROTO + b"\x02" + opcodes(value) + pickle.STOP


FLOATS, LONGS = Global("torch", "FloatStorage"), Global("torch", "LongStorage")
ORDERED = Call(Global("collections", "OrderedDict"), ())
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}


def tensor(offset=0, shape=(2, 3), strides=(3, 1), key="a", kind=FLOATS, size=6, view=None, tag="storage"):
    storage = Persistent((tag, kind, key, "cpu", size, view))
    arguments = (storage, offset, shape, strides, False, ORDERED)
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def storage(array) -> bytes:
    return struct.pack("<q", array.size) + array.tobytes()


A, B = np.arange(6, dtype="<f4"), np.array([7, -8], "<i8")
STORAGES = storage(A) + storage(B)
TENSORS = {
    "all": tensor(),
    "transposed": tensor(0, (3, 2), (1, 3)),
    "part": tensor(4, (2,), (1,)),
    "number": tensor(1, (), (), "b", LONGS, 2),
}


def file(tensors=None, keys=("a", "b"), storages=STORAGES, machine=None, head=HEAD) -> bytes:
    parts = (pickled(MACHINE if machine is None else machine), pickled(TENSORS if tensors is None else tensors))
    return head + b"".join(parts) + pickled(list(keys) if isinstance(keys, tuple) else keys) + storages


def one(*arguments, **options) -> bytes:
    """A file of one tensor of six floats."""
    return file({"x": tensor(*arguments, **options)}, ("a",), storage(A))


GOOD = file()


def test_tensors_are_read_as_views_of_the_data():
    found = read_state_dict(GOOD)
    assert list(found) == ["all", "transposed", "part", "number"]
    np.testing.assert_array_equal(found["all"], A.reshape(2, 3))
    np.testing.assert_array_equal(found["transposed"], A.reshape(2, 3).T)
    np.testing.assert_array_equal(found["part"], [4, 5])
    assert found["number"] == -8 and found["number"].shape == ()
    assert [array.dtype for array in found.values()] == [np.float32] * 3 + [np.int64]
    assert not any(array.flags.writeable or array.flags.owndata for array in found.values())


def put(place) -> bytes:
    return pickle.LONG_BINPUT + struct.pack("<I", place)


def get(place) -> bytes:
    return pickle.LONG_BINGET + struct.pack("<I", place)


def test_an_ordered_dict_with_attributes_and_a_file_without_tensors():
    item = opcodes("x") + opcodes(tensor()) + pickle.SETITEM
    attributes = opcodes({"_metadata": ORDERED}) + pickle.BUILD
    keys = pickle.EMPTY_LIST + opcodes("a") + pickle.APPEND
    found = read_state_dict(file(opcodes(ORDERED) + put(2**32 - 1) + item + attributes, keys, storage(A)))
    np.testing.assert_array_equal(found["x"], A.reshape(2, 3))
    assert read_state_dict(file({}, (), b"")) == {}


@pytest.mark.parametrize("legacy", [True, False])
def test_files_of_pytorch_itself(legacy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")
    weight = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {"weight": weight, "moved": weight.permute(2, 0, 1)[1:], "count": torch.tensor(3)}
    stream = io.BytesIO()
    torch.save(tensors, stream, _use_new_zipfile_serialization=not legacy)
    if not legacy:
        with pytest.raises(InputError, match="it begins otherwise"):
            read_state_dict(stream.getvalue())
        return
    found = read_state_dict(stream.getvalue())
    assert list(found) == list(tensors)
    for name, array in found.items():
        np.testing.assert_array_equal(array, tensors[name].numpy())


def doubled(times) -> bytes:
    """A tuple of two same tuples of two same tuples, and so on: to hash it takes a time of 2**times."""
    return pickle.EMPTY_TUPLE + times * (put(0) + get(0) + pickle.TUPLE2)


LARGE = 2**31 - 1
CALL = "it calls '{}'"
MORE, DAMAGED, OUTSIDE = "it has more than tensors", "it is damaged", "a tensor is not within its storage"
OTHERS, SIZE, END = "its storages are not those of its tensors", "a storage has another size", "its end is not that of"
HOSTILE = {
    "nothing": (b"", "it begins otherwise"),
    "the beginning alone": (HEAD, MORE),
    "another magic number": (file(head=HEAD.replace(b"\x1f", b"\x1e")[:-1] + b"!"), "it begins otherwise"),
    "noise": (np.random.default_rng(0).bytes(1000), "it begins otherwise"),
    "noise behind the beginning": (HEAD + np.random.default_rng(1).bytes(1000), MORE),
    "zeros": (HEAD + bytes(1000), MORE),
    "another order of bytes": (file(machine={"little_endian": False}), "its numbers are not little-endian"),
    "no machine": (file(machine=()), MORE),
    # What is called, named and made.
    "os.system": (file({"x": Call(Global("os", "system"), ("true",))}), CALL.format("os.system")),
    "eval": (file(Call(Global("builtins", "eval"), ("1",))), CALL.format("builtins.eval")),
    "a string as a function": (file(Call("collections.OrderedDict", ())), CALL.format("no function")),
    "a name without end": (file(pickle.GLOBAL + b"o" * 10_000), MORE),
    "an ordered dict of items": (file(Call(Global("collections", "OrderedDict"), ([],))), "it calls"),
    "a tensor of less": (file({"x": Call(Global("torch._utils", "_rebuild_tensor_v2"), (1,))}), "it calls"),
    "a function alone": (file({"x": Global("os", "system")}), MORE),
    "a new object": (file(opcodes(Global("os", "system")) + pickle.EMPTY_TUPLE + pickle.NEWOBJ), MORE),
    "an instance": (file(pickle.MARK + pickle.INST + b"os\nsystem\n"), MORE),
    "a global of the stack": (file(opcodes("os") + opcodes("system") + pickle.STACK_GLOBAL), MORE),
    "an extension": (file(pickle.EXT1 + b"\x01"), MORE),
    "bytes of 8 GB": (file(pickle.BINBYTES8 + struct.pack("<Q", 2**33)), MORE),
    "a string of 4 GB": (file(pickle.BINUNICODE + struct.pack("<I", 2**32 - 1) + b"x"), DAMAGED),
    "a string that is none": (file(pickle.BINUNICODE + struct.pack("<I", 1) + b"\xff"), DAMAGED),
    "a number": (file({"x": 3}), MORE),
    "a list": (file([tensor()]), MORE),
    # The stack and the memo.
    "an empty stack": (file(b""), DAMAGED),
    "too few values": (file(pickle.TUPLE2), DAMAGED),
    "no mark": (file(pickle.TUPLE), DAMAGED),
    "an empty place of the memo": (file(get(5)), DAMAGED),
    "a key without a value": (file(pickle.EMPTY_DICT + pickle.MARK + opcodes("x") + pickle.SETITEMS), DAMAGED),
    "an item for a list": (file(pickle.EMPTY_LIST + opcodes("x") + pickle.NONE + pickle.SETITEM), MORE),
    "an item for a dict": (file(pickle.EMPTY_DICT + pickle.NONE + pickle.APPEND), MORE),
    "a key that is no string": (file({1: tensor()}), MORE),
    "a key to hash for ages": (file(pickle.EMPTY_DICT + doubled(200) + pickle.NONE + pickle.SETITEM), MORE),
    "a storage to compare for ages": (file({"x": Persistent(doubled(200))}), "it has other storages"),
    "a list in itself": (file(keys=pickle.EMPTY_LIST + put(0) + get(0) + pickle.APPEND), MORE),
    "a deep tuple": (file((MOST_OPCODES - 10) * pickle.TUPLE1), DAMAGED),
    "a deeper tuple": (file(pickle.NONE + 1_000_000 * pickle.TUPLE1), "a pickle is too long"),
    "many dicts": (file(1_000_000 * pickle.EMPTY_DICT), "a pickle is too long"),
    # Storages.
    "another tag": (one(tag="module"), "it has other storages than of float32 and int64"),
    "another type": (one(kind=Global("torch", "HalfStorage")), "it has other storages"),
    "a type by its name": (one(kind="torch.FloatStorage"), "it has other storages"),
    "a view of a storage": (one(view=("a", 0, 6)), "it has other storages"),
    "a storage of two types": (file({"x": tensor(), "y": tensor(kind=LONGS)}, ("a",), storage(A)), OTHERS),
    "a storage of two sizes": (file({"x": tensor(), "y": tensor(size=7)}, ("a", "a"), 2 * storage(A)), OTHERS),
    "too few keys": (file(keys=("a",)), OTHERS),
    "too many keys": (file(keys=("a", "b", "c")), OTHERS),
    "a key twice": (file(keys=("a", "b", "b")), OTHERS),
    "keys that are no strings": (file(keys=(1, 2)), MORE),
    "keys that are no list": (file(keys={}), MORE),
    "keys in another order": (file(keys=("b", "a")), SIZE),
    "an empty storage": (file({"x": tensor(0, (), (), size=0)}, ("a",), struct.pack("<q", 0)), OUTSIDE),
    "a negative storage": (file({"x": tensor(0, (), (), size=-6)}, ("a",), struct.pack("<q", -6)), OUTSIDE),
    "a large storage": (one(0, (LARGE,), (1,), size=LARGE), SIZE),
    "a large storage that says so": (
        file({"x": tensor(0, (LARGE,), (1,), size=LARGE)}, ("a",), struct.pack("<q", LARGE) + bytes(24)),
        END,
    ),
    "no storages": (file(storages=b""), DAMAGED),
    "a cut storage": (GOOD[:-1], END),
    "more than storages": (GOOD + b"x", END),
    # Tensors.
    "a large tensor": (one(0, (LARGE, LARGE), (LARGE, 1)), OUTSIDE),
    "a tensor of one element too many": (one(1, (2, 3), (3, 1)), OUTSIDE),
    "an element many times": (one(0, (LARGE,), (0,)), OUTSIDE),
    "an element one time too often": (one(0, (7,), (0,)), OUTSIDE),
    "a large step": (one(0, (2,), (LARGE,)), OUTSIDE),
    "a negative step": (one(5, (2, 3), (-3, -1)), OUTSIDE),
    "a negative offset": (one(-1, (2,), (1,)), OUTSIDE),
    "a negative side": (one(0, (-2, -3), (3, 1)), OUTSIDE),
    "a side of zero": (one(0, (0, LARGE), (LARGE, 1)), OUTSIDE),
    "more sides than steps": (one(0, (2, 3), (1,)), DAMAGED),
    "nine sides": (one(0, 9 * (1,), 9 * (1,)), DAMAGED),
    "sides that are no numbers": (one(0, ("2", 3), (3, 1)), DAMAGED),
    "an offset that is no number": (one(None), DAMAGED),
    "an offset that is true": (one(True, (2,), (1,)), DAMAGED),
    "sides that are no tuple": (one(0, [2, 3], (3, 1)), "it calls"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(name):
    data, reason = HOSTILE[name]
    with pytest.raises(InputError) as raised:
        read_state_dict(data)
    line = str(raised.value)
    assert reason in line and len(line) < 200 and line.isprintable()
    assert line.startswith("this is no file of tensors by name of PyTorch before 1.6 (")


def test_what_python_would_run_is_not_run(tmp_path):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for value in (Command(), {"x": Command()}, [Command()]):
            evil = pickle.dumps(value, protocol)
            for data in (HEAD + evil, HEAD + pickled(MACHINE) + evil, file(evil[2:-1]), file(keys=evil[2:-1]), evil):
                with pytest.raises(InputError):
                    read_state_dict(data)
    assert not (tmp_path / "made").exists()


def outcome(data) -> int:
    """The elements that are read, each of them once more; -1 if the file is refused."""
    try:
        found = read_state_dict(data)
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 300
        return -1
    assert all(isinstance(name, str) and array.dtype in (np.float32, np.int64) for name, array in found.items())
    return sum(array.copy().size for array in found.values())


def test_a_file_that_is_cut_is_refused():
    assert {outcome(GOOD[:length]) for length in range(len(GOOD))} == {-1}


def test_mutated_files_are_refused_or_read():
    rng, found = np.random.default_rng(0), []
    for _ in range(600):
        data = bytearray(GOOD)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        start, end = sorted(rng.integers(0, len(data), 2))
        found.append(outcome(bytes(data) if rng.random() < 0.8 else bytes(data[:start] + data[end:])))
    assert found.count(-1) > 100 and 0 < max(found) <= 4 * 6


@pytest.mark.parametrize("seed", range(3))
def test_random_opcodes_are_refused(seed):
    """Only those that the reader knows, so that most pickles run for a while."""
    rng = np.random.default_rng(seed)
    parts = [opcodes(part) for part in (None, 3, "a", (), [], {}, FLOATS, ORDERED, tensor(), {"x": tensor()})]
    parts += [pickle.MARK, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE3, pickle.SETITEM, pickle.SETITEMS, pickle.APPEND]
    parts += [pickle.APPENDS, pickle.REDUCE, pickle.BINPERSID, pickle.BUILD, put(0), get(0), put(1), get(1)]
    for _ in range(200):
        mixed = b"".join(parts[part] for part in rng.integers(0, len(parts), rng.integers(1, 30)))
        outcome(file(mixed, ("a",), storage(A)))


@pytest.mark.parametrize("name", [name for name in HOSTILE if any(word in name for word in ("GB", "large", "many"))])
def test_no_memory_is_taken_for_what_a_file_claims(name):
    data, _ = HOSTILE[name]
    tracemalloc.start()
    outcome(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data) + 100_000
