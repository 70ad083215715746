"""Vectors from files that somebody else made: safetensors, PyTorch, NumPy, and control vectors in GGUF (repeng, llama.cpp).

1. The first bytes say what a file is; the ending of its name must agree with them.
2. Every floating-point array in it is a candidate, called by its key. Nested dictionaries and lists give keys like `backtracking.mean`.
3. A candidate (d_model,) is a vector; one (n_layers, d_model) holds one for each block, and the wanted layer chooses the row.
Such files are not to be trusted: nothing in them is run (PyTorch with weights_only, NumPy without pickle), and every size that they
claim is checked before it is believed.
"""

import hashlib
import io
import math
import pickle
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backend.errors import AnchorscopeError

MAX_BYTES = 64 * 2**20
ENDINGS = {
    ".safetensors": "safetensors", ".pt": "PyTorch", ".pth": "PyTorch", ".npz": "NumPy archive", ".npy": "NumPy array", ".gguf": "GGUF",
}
_MAX_ENTRIES, _MAX_DEPTH = 10_000, 4
_SAYS_LAYER = re.compile(r"(?:^|[._/])(?:layers?|blocks?|direction)[._]?(\d+)(?:[._/]|$)")
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}  # safetensors' names
# What damaged bytes raise in torch.load and in NumPy's reading of a header, which both interpret them before they check them.
_TORCH_DAMAGE = (
    RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError, OSError, OverflowError, MemoryError,
    struct.error,
)
_NUMPY_DAMAGE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError)
_GGUF_FLOATS = {0: np.dtype("<f4"), 1: np.dtype("<f2")}  # ggml types F32 and F16
_GGUF_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by type; 8 text, 9 array


class DirectionFileError(AnchorscopeError):
    """A file that holds no vector that can be used here."""


@dataclass(frozen=True)
class Entry:
    """One array of a file."""

    key: str
    shape: tuple[int, ...]
    layer: int | None  # where its key names one


@dataclass(frozen=True)
class FileVector:
    """A vector of a file, made a unit vector."""

    name: str  # of the file
    key: str
    layer: int | None  # block whose output it is meant for, where the file says so
    sha256: str  # of the whole file
    norm: float  # length that it has in the file
    vector: np.ndarray = field(repr=False)  # (d_model,) float32, unit length


def candidates_in(source: bytes | Path, name: str) -> list[Entry]:
    """Every array of the file, in its order. Raises DirectionFileError, which names the file as `name`."""
    return [Entry(key, array.shape, _layer_in(key)) for key, array in _arrays(_content(source, name), name).items()]


def read_direction(
    source: bytes | Path, name: str, *, d_model: int, key: str | None = None, layer: int | None = None, n_layers: int | None = None
) -> FileVector:
    """The vector at `key`, which may be left out where there is but one array, or but one whose key names `layer`.

    `layer` chooses the row of an array (n_layers, d_model). Where `n_layers` is given, such an array must have that many rows: one more
    might start with the embeddings, and which row is which would be a guess. Raises DirectionFileError.
    """
    data = _content(source, name)
    arrays = _arrays(data, name)
    chosen = _chosen(list(arrays), key, layer, name)
    array = arrays[chosen]
    while array.ndim > 1 and len(array) == 1:
        array = array[0]
    wanted = f"a vector ({d_model},) or one for each block ({n_layers or 'n_layers'}, {d_model}) was expected"
    if array.ndim not in (1, 2) or array.shape[-1] != d_model or (array.ndim == 2 and n_layers not in (None, len(array))):
        raise DirectionFileError(f"{name}: {chosen} has shape {arrays[chosen].shape}; {wanted}. It may be made for another model.")
    own_layer = _layer_in(chosen)
    if array.ndim == 2:
        if layer is None or not 0 <= layer < len(array):
            raise DirectionFileError(f"{name}: {chosen} has one vector for each of {len(array)} blocks; choose a layer below that.")
        array, own_layer = array[layer], layer
    with np.errstate(over="ignore"):
        vector = array.astype(np.float32)
    if not np.isfinite(vector).all():
        raise DirectionFileError(f"{name}: {chosen} has {int((~np.isfinite(vector)).sum())} values that are NaN or infinite.")
    if not vector.any():
        raise DirectionFileError(f"{name}: {chosen} is zero everywhere, so it points nowhere. Choose another entry.")
    exact = vector.astype(np.float64)
    norm = float(np.linalg.norm(exact))
    return FileVector(name, chosen, own_layer, hashlib.sha256(data).hexdigest(), norm, (exact / norm).astype(np.float32))


def _chosen(keys: list[str], key: str | None, layer: int | None, name: str) -> str:
    if key is None:
        for fitting in (keys, [one for one in keys if layer is not None and _layer_in(one) == layer]):
            if len(fitting) == 1:
                return fitting[0]
        raise DirectionFileError(f"{name} has {len(keys)} entries ({_some(keys)}); choose one.")
    if key not in keys:
        raise DirectionFileError(f"{name} has no entry {key!r}; it has {_some(keys)}.")
    return key


def _some(keys: list[str]) -> str:
    return ", ".join(key[:60] for key in keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")


def _layer_in(key: str) -> int | None:
    found = _SAYS_LAYER.search(key)
    return int(found[1]) if found and len(found[1]) <= 4 else None


def _content(source: bytes | Path, name: str) -> bytes:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_BYTES:
        raise DirectionFileError(f"{name} has {size / 2**20:,.0f} MB; a file with vectors may have {MAX_BYTES // 2**20} MB.")
    return source if isinstance(source, bytes) else source.read_bytes()


def _arrays(data: bytes, name: str) -> dict[str, np.ndarray]:
    """By key, every floating-point array of at least one dimension; at least one of them."""
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise DirectionFileError(f"{name} ends in {ending or 'nothing'}; a file with vectors ends in {', '.join(ENDINGS)}.")
    found = _kind_of(data, name)
    if found != ENDINGS[ending]:
        raise DirectionFileError(f"{name} should be {ENDINGS[ending]} by its ending, but its content is {found or 'something else'}.")
    arrays: dict[str, np.ndarray] = {}
    for key, array in _READERS[found](data, name):
        if array.ndim and array.size:
            if key in arrays:
                raise DirectionFileError(f"{name} has two entries called {key}; one cannot be told from the other.")
            arrays[key] = array
    if not arrays:
        raise DirectionFileError(f"{name} is a {found} file without any floating-point array in it; a vector (d_model,) was expected.")
    return arrays


def _kind_of(data: bytes, name: str) -> str | None:
    """What the first bytes say; None for none of these kinds."""
    if data[:4] == b"GGUF":
        return "GGUF"
    if data[:6] == b"\x93NUMPY":
        return "NumPy array"
    if data[:4] == b"PK\x03\x04":
        members = [member.filename for member in _zip_of(data, name).infolist()]
        if any(member.rpartition("/")[2] == "data.pkl" for member in members):
            return "PyTorch"
        return "NumPy archive" if members and all(member.endswith(".npy") for member in members) else "another zip archive"
    if data[8:9] == b"{":  # after the length of this header, whose first byte may be any
        return "safetensors"
    return "PyTorch" if data[:1] == b"\x80" else None  # before version 1.6 a bare pickle


def _zip_of(data: bytes, name: str) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _damaged(name, error) from error
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_BYTES:
        raise DirectionFileError(f"{name} unpacks to {unpacked / 2**20:,.0f} MB; a file with vectors may have {MAX_BYTES // 2**20} MB.")
    return archive


def _damaged(name: str, error: Exception | str) -> DirectionFileError:
    first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DirectionFileError(f"{name} cannot be read: it is damaged or cut short ({first_line}).")


def _safetensors(data: bytes, name: str) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise _damaged(name, error) from error
    for key, entry in sorted(entries, key=lambda entry: (_layer_in(entry[0]) or 0, entry[0])):  # the library gives them in any order
        if entry["dtype"] == "BF16":  # the upper half of a float32
            halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16
            yield key, halves.view(np.float32).reshape(entry["shape"])
        elif entry["dtype"] in _FLOATS:
            yield key, np.frombuffer(entry["data"], _FLOATS[entry["dtype"]]).reshape(entry["shape"])


def _npy(data: bytes, name: str, key: str = "array") -> Iterator[tuple[str, np.ndarray]]:
    """One .npy file: its header must say exactly how much follows it. Object arrays, which are pickles, are refused."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DirectionFileError(f"{name}: {key} is of .npy version {version}; versions 1 and 2 hold numbers.")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = header(stream)
    except _NUMPY_DAMAGE as error:
        raise _damaged(name, error) from error
    if dtype.hasobject:
        raise DirectionFileError(f"{name}: {key} holds pickled Python objects, which are never run; an array of numbers was expected.")
    if dtype.kind != "f" or dtype.itemsize > 8:
        return
    body = data[stream.tell() :]
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise _damaged(name, f"{key} says {shape} of {dtype}, but {len(body)} bytes follow")
    yield key, np.frombuffer(body, dtype).reshape(shape, order="F" if is_fortran else "C")


def _npz(data: bytes, name: str) -> Iterator[tuple[str, np.ndarray]]:
    archive = _zip_of(data, name)
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _damaged(name, f"{member.filename} is compressed in another way than NumPy does")
        try:
            with archive.open(member) as packed:
                content = packed.read(member.file_size)  # never more than it says, which is checked
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise _damaged(name, error) from error
        yield from _npy(content, name, member.filename.removesuffix(".npy"))


def _pytorch(data: bytes, name: str) -> Iterator[tuple[str, np.ndarray]]:
    import torch

    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DirectionFileError(
            f"{name} holds something other than plain tensors, which is never run; save the vector alone, for example with "
            f"torch.save({{'vector': vector}}, …). ({(str(error).splitlines() or [''])[0][:160]})"
        ) from error
    except _TORCH_DAMAGE as error:
        raise _damaged(name, error) from error
    claimed = 0
    for key, tensor in _leaves(content, "", name, [0]):
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
            continue
        if tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            claimed += tensor.numel() * tensor.element_size()
            if claimed > MAX_BYTES:  # far more values than the file has: a view that repeats some of them
                raise DirectionFileError(f"{name}: its tensors claim more than {MAX_BYTES // 2**20} MB.")
            wide = tensor.detach().double() if tensor.dtype == torch.float64 else tensor.detach().float()
            yield key or "tensor", wide.contiguous().numpy()


def _leaves(value: Any, key: str, name: str, seen: list[int], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Everything in nested dictionaries and lists, with the path to it. `seen` counts, against files that repeat themselves without end."""
    seen[0] += 1
    if depth > _MAX_DEPTH or seen[0] > _MAX_ENTRIES:
        raise DirectionFileError(f"{name} has more than {_MAX_ENTRIES:,} entries or {_MAX_DEPTH} levels; save the vectors alone.")
    if isinstance(value, (dict, list, tuple)):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{key}.{part}" if key else str(part), name, seen, depth + 1)
    else:
        yield key, value


class _Bytes:
    """The bytes of a GGUF file, read in order, and never past their end."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name, self.at = data, name, 0

    def take(self, n: int) -> bytes:
        if n > len(self._data) - self.at:
            raise _damaged(self._name, f"{n:,} bytes were expected at byte {self.at:,} of {len(self._data):,}")
        self.at += n
        return self._data[self.at - n : self.at]

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A metadata value; of arrays only that they are there."""
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.number("I"), self.number("Q")
            if inner in _GGUF_SCALARS:
                self.take(n * _GGUF_SCALARS[inner])
            elif inner == 8:
                for _ in range(n):
                    self.text()
            else:
                raise _damaged(self._name, f"an array of type {inner}")
            return None
        if kind not in _GGUF_SCALARS:
            raise _damaged(self._name, f"a value of type {kind}")
        return int.from_bytes(self.take(_GGUF_SCALARS[kind]), "little")


def _gguf(data: bytes, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Control vectors: `direction.k` is added to the residual stream after block k."""
    reader = _Bytes(data, name)
    reader.take(4)
    version = reader.number("I")
    if version not in (2, 3):
        raise DirectionFileError(f"{name} is GGUF of version {version}; versions 2 and 3 can be read.")
    n_tensors, n_values = reader.number("Q"), reader.number("Q")
    if n_tensors + n_values > _MAX_ENTRIES:
        raise _damaged(name, f"{n_tensors:,} tensors and {n_values:,} values")
    values = {}
    for _ in range(n_values):
        key = reader.text()
        values[key] = reader.value(reader.number("I"))
    if values.get("general.architecture") != "controlvector":
        raise DirectionFileError(
            f"{name} is GGUF of architecture {values.get('general.architecture')!r}; a control vector was expected, as repeng and "
            "llama.cpp write it (architecture controlvector, tensors direction.1, direction.2, …)."
        )
    infos = []
    for _ in range(n_tensors):
        key, n_dimensions = reader.text(), reader.number("I")
        if n_dimensions > 4:
            raise _damaged(name, f"{key} has {n_dimensions} dimensions")
        shape = tuple(reader.number("Q") for _ in range(n_dimensions))[::-1]  # stored fastest first
        infos.append((key, shape, reader.number("I"), reader.number("Q")))
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _damaged(name, f"alignment {alignment}")
    start = -(-reader.at // alignment) * alignment
    for key, shape, kind, offset in infos:
        if kind not in _GGUF_FLOATS:
            raise DirectionFileError(f"{name}: {key} is of ggml type {kind}; a control vector in F32 or F16 was expected.")
        reader.at = start + offset
        yield key, np.frombuffer(reader.take(math.prod(shape) * _GGUF_FLOATS[kind].itemsize), _GGUF_FLOATS[kind]).reshape(shape)


_READERS = {
    "safetensors": _safetensors, "PyTorch": _pytorch, "NumPy archive": _npz, "NumPy array": _npy, "GGUF": _gguf,
}
