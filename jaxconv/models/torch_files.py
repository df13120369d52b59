"""Files of tensors by name of PyTorch before version 1.6, read without PyTorch.

Such a file has five pickles (a magic number, a version, the machine, the tensors, and the keys of the storages), and
then for each storage the number of its elements (int64) and the elements.

Python's unpickler imports and calls what a file names, and reserves gigabytes for a file of ten bytes. The one here
knows only the opcodes of such files. It imports and calls nothing, and makes descriptions of tensors.
"""

import io
import math
import pickle
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxconv.runtime.errors import InputError

HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)  # the magic number and the version
MOST_OPCODES, MOST_AXES = 50_000, 8  # so that objects take 20 MB at most; EfficientNet-Lite0 has 10,696 opcodes
INTEGERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H"}
PUTS, GETS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}, {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
NUMBERS = {pickle.PROTO: "<B", pickle.BINUNICODE: "<I", **INTEGERS, **PUTS, **GETS}  # what follows these opcodes
CONSTANTS: dict[bytes, Any] = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}
TAKEN = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3, pickle.APPEND: 1, pickle.SETITEM: 2, pickle.REDUCE: 2}


@dataclass(frozen=True)
class _Global:
    """A class or function that a pickle names."""

    name: str


ORDERED_DICT, TENSOR = _Global("collections.OrderedDict"), _Global("torch._utils._rebuild_tensor_v2")
DTYPES = {_Global("torch.FloatStorage"): "<f4", _Global("torch.LongStorage"): "<i8"}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    size: int


@dataclass(frozen=True)
class _Tensor:
    """Elements of a storage. The offset and the strides are in bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file by name: read-only views of `data`, float32 or int64.

    Raises:
        InputError: the data are damaged, or have more than tensors of these types.
    """
    try:
        return _read(data)
    except InputError as error:
        reason = str(error)
    except (ValueError, LookupError, struct.error):  # no text, an empty stack or place of the memo, an early end
        reason = "it is damaged"
    raise InputError(f"this is no file of tensors by name of PyTorch before 1.6 ({reason})")


def _read(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if stream.read(len(HEAD)) != HEAD:
        raise InputError("it begins otherwise")
    machine, tensors, keys = (_Unpickler(stream).load() for _ in range(3))
    if _checked(machine, dict).get("little_endian") is not True:
        raise InputError("its numbers are not little-endian")
    found = {name: _checked(tensor, _Tensor) for name, tensor in _checked(tensors, dict).items()}
    places = _places(data, stream.tell(), keys, {tensor.storage for tensor in found.values()})
    return {
        name: np.ndarray(one.shape, one.storage.dtype, data, places[one.storage] + one.offset, one.strides)
        for name, one in found.items()
    }


def _places(data: bytes, start: int, keys: Any, storages: set[_Storage]) -> dict[_Storage, int]:
    """Where the elements of each storage begin. The storages are from `start` on, in the order of `keys`."""
    by_key = {storage.key: storage for storage in storages}
    keys = [_checked(key, str) for key in _checked(keys, list)]
    if len(by_key) < len(storages) or sorted(keys) != sorted(by_key):
        raise InputError("its storages are not those of its tensors")
    places = {}
    for storage in (by_key[key] for key in keys):
        places[storage] = start + 8
        if struct.unpack_from("<q", data, start) != (storage.size,):
            raise InputError("a storage has another size")
        start += 8 + storage.size * storage.dtype.itemsize
    if start != len(data):
        raise InputError("its end is not that of its last storage")
    return places


class _Unpickler:
    """The machine with a stack that runs a pickle."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.stream = stream
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        for _ in range(MOST_OPCODES):
            opcode = self.stream.read(1)
            if opcode == pickle.STOP:
                return self.stack.pop()
            code = NUMBERS.get(opcode, "")
            self._run(opcode, *struct.unpack(code, self.stream.read(struct.calcsize(code))))
        raise InputError("a pickle is too long")

    def _run(self, opcode: bytes, number: int = 0) -> None:
        if opcode in PUTS:
            self.memo[number] = self.stack[-1]
        elif opcode == pickle.MARK:
            self.marks.append(len(self.stack))
        elif opcode in (pickle.APPEND, pickle.APPENDS):
            items = self._take(opcode)
            _checked(self.stack[-1], list).extend(items)
        elif opcode in (pickle.SETITEM, pickle.SETITEMS):
            items = self._take(opcode)
            keys = [_checked(key, str) for key in items[::2]]
            _checked(self.stack[-1], dict).update(zip(keys, items[1::2], strict=True))
        elif opcode == pickle.BUILD:  # gives a dict attributes, such as the versions of PyTorch's layers
            self.stack.pop()
        elif opcode != pickle.PROTO:
            self.stack.append(self._value(opcode, number))

    def _value(self, opcode: bytes, number: int) -> Any:
        if opcode in CONSTANTS or opcode in INTEGERS:
            return CONSTANTS.get(opcode, number)
        if opcode in GETS:
            return self.memo[number]
        match opcode:
            case pickle.BINUNICODE:
                return self.stream.read(number).decode()
            case pickle.EMPTY_LIST | pickle.EMPTY_DICT:
                return [] if opcode == pickle.EMPTY_LIST else {}
            case pickle.TUPLE | pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                return tuple(self._take(opcode))
            case pickle.GLOBAL:
                return _Global(".".join(self.stream.readline(100).decode().rstrip("\n") for _ in range(2)))
            case pickle.BINPERSID:
                return _storage(self.stack.pop())
            case pickle.REDUCE:
                return _called(*self._take(opcode))
        raise InputError("it has more than tensors")

    def _take(self, opcode: bytes) -> list[Any]:
        """The values that an opcode takes from the stack: a number of them, or all from the last mark on."""
        start = len(self.stack) - TAKEN[opcode] if opcode in TAKEN else self.marks.pop()
        if start < 0:
            raise IndexError
        taken, self.stack[start:] = self.stack[start:], []
        return taken


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise InputError("it has more than tensors")
    return value


def _storage(identity: Any) -> _Storage:
    match identity:
        case ("storage", _Global() as kind, str() as key, str(), int() as size, None) if kind in DTYPES:
            return _Storage(key, np.dtype(DTYPES[kind]), size)
    raise InputError("it has other storages than of float32 and int64")


def _called(function: Any, arguments: Any) -> Any:
    """What a function would return. The last two arguments of a tensor are about gradients."""
    match arguments:
        case () if function == ORDERED_DICT:
            return {}
        case (_Storage() as storage, offset, tuple() as shape, tuple() as strides, _, _) if function == TENSOR:
            return _tensor(storage, offset, shape, strides)
    raise InputError(f"it calls {ascii(getattr(function, 'name', 'no function'))[:60]}")


def _tensor(storage: _Storage, offset: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > MOST_AXES or not all(type(number) is int for number in numbers):
        raise InputError("it is damaged")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min(offset, *strides, 0) < 0 or min(shape, default=1) < 1 or max(last, math.prod(shape) - 1) >= storage.size:
        raise InputError("a tensor is not within its storage")
    size = storage.dtype.itemsize
    return _Tensor(storage, size * offset, shape, tuple(size * stride for stride in strides))
