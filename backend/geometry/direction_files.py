"""Vectors from files that somebody else made: safetensors, PyTorch, NumPy, and control vectors in GGUF (repeng,
llama.cpp).

1. The first bytes say what a file is; the ending of its name must agree with them.
2. Every floating-point array in it is a candidate, called by its key. Nested dictionaries give keys like
   `backtracking.mean`; a list of vectors is one array.
3. Its key (`layer_12.mean`, a number alone, `blocks.3.hook_resid_pre`) and what stands beside it (`layer`, `hook_name`,
   `layer_type`, a safetensors header), else the file's own name (layer_12.pt), say of which block's output it is
   (`backend.models.hook_points`). What is of another hook point is refused.
4. A candidate (d_model,) is a vector. Of one (n_layers, d_model), one row a block, the wanted layer chooses the row.
   One row more may start with the embeddings, as the hidden states of transformers do: then the person chooses the row,
   and row k is the output of block k − 1.
Such files are not to be trusted: nothing in them is run (PyTorch with weights_only, NumPy without pickle), and every
size that they claim is checked before it is believed.
"""

import hashlib
import io
import json
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

from backend.errors import AnchorscopeError, stands_for_another, words_of
from backend.models.hook_points import HookPoint, HookPointError, hook_point_named, hook_point_stated, together
from backend.models.pickles import refused_object

MAX_BYTES = 64 * 2**20
ENDINGS = {
    ".safetensors": "safetensors",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".npz": "NumPy archive",
    ".npy": "NumPy array",
    ".gguf": "GGUF",
}
_MAX_ENTRIES, _MAX_DEPTH = 10_000, 4
_ABOUT = ("metadata", "config", "cfg", "meta", "info")  # parts of a file that say something of what stands beside them
_WITH_ROW = re.compile(r"(.*)\[(\d{1,4})\]")
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}  # safetensors' names
# What damaged bytes raise in torch.load and in NumPy's reading of a header, which both interpret them before they check
# them.
_TORCH_DAMAGE = (
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    OverflowError,
    MemoryError,
    struct.error,
)
_NUMPY_DAMAGE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError)
_GGUF_FLOATS: dict[Any, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}  # ggml types F32 and F16
_GGUF_SCALARS = {
    0: 1,
    1: 1,
    2: 2,
    3: 2,
    4: 4,
    5: 4,
    6: 4,
    7: 1,
    10: 8,
    11: 8,
    12: 8,
}  # bytes of a value, by type; 8 text, 9 array


class DirectionFileError(AnchorscopeError):
    """A file that holds no vector that can be used here."""


@dataclass(frozen=True)
class Entry:
    """One array of a file."""

    key: str
    shape: tuple[int, ...]
    hook_point: HookPoint | None = None  # where the file says that it is from
    fault: str | None = None  # why it cannot be used, where it is from another hook point

    @property
    def layer(self) -> int | None:
        """The block whose output it is, where the file says so."""
        return None if self.hook_point is None else self.hook_point.layer

    def is_by_block(self, n_layers: int) -> bool:
        """Whether it has a row for each block, or one more; an array whose key names a layer has rows of that layer."""
        named = hook_point_named(self.key, is_label=True)
        return (named is None or named.block is None) and _squeezed(self.shape)[0] in (n_layers, n_layers + 1)

    def rows(self, d_model: int, n_layers: int) -> dict[int, str]:
        """The rows among which a person must choose, each with what it is; none where the entry is one vector, or where
        layers choose.
        """
        shape = _squeezed(self.shape)
        if len(shape) != 2 or shape[1] != d_model or (self.is_by_block(n_layers) and shape[0] == n_layers):
            return {}
        if self.is_by_block(n_layers):
            ends = {n_layers: "; in hidden states of transformers, after the final norm"}
            return {
                row: f"row {row}: the output of block {row - 1}{ends.get(row, '')}" for row in range(1, n_layers + 1)
            }
        return {row: f"row {row}" for row in range(shape[0])}


@dataclass(frozen=True)
class FileVector:
    """A vector of a file, made a unit vector."""

    name: str  # of the file
    key: str  # with the row in brackets, where one was chosen
    layer: int | None  # block whose output it is, where the file says so
    sha256: str  # of the whole file
    norm: float  # length that it has in the file
    vector: np.ndarray = field(repr=False)  # (d_model,) float32, unit length
    given: np.ndarray = field(repr=False)  # (d_model,) float32, as it is in the file


def candidates_in(source: bytes | Path, name: str) -> list[Entry]:
    """Every array of the file, in its order. Raises DirectionFileError, which names the file as `name`."""
    found = _read(_content(source, name), name)
    return [_entry(found, key) for key in found.arrays]


def read_direction(
    source: bytes | Path,
    name: str,
    *,
    d_model: int,
    key: str | None = None,
    layer: int | None = None,
    n_layers: int | None = None,
    row: int | None = None,
) -> FileVector:
    """The vector at `key`, which may be left out where there is but one array, or but one that the file says is of
    `layer`.

    Of an array with several rows `layer` chooses where it has one for each of the model's `n_layers` blocks. Else `row`
    does, or a key with the row in brackets: `Entry.rows` has the choices. Raises DirectionFileError, also for a layer
    that the model does not have.
    """
    data = _content(source, name)
    found = _read(data, name)
    if row is None and key is not None and key not in found.arrays and (with_row := _WITH_ROW.fullmatch(key)):
        key, row = with_row[1], int(with_row[2])
    entry = _entry(found, _chosen(found, key, layer, name))
    chosen = entry.key
    fault = entry.fault or (None if entry.hook_point is None else entry.hook_point.fault(n_layers))
    if fault is not None:
        raise DirectionFileError(f"{name}: {chosen} cannot be used: {fault}.")
    if layer is not None and not 0 <= layer < (n_layers or layer + 1):
        those = (
            "a block's number from 0 on"
            if n_layers is None
            else f"one of the model's {n_layers} blocks, 0 to {n_layers - 1}"
        )
        raise DirectionFileError(f"{name}: layer {layer} was asked for; choose {those}.")
    array = found.arrays[chosen].reshape(_squeezed(entry.shape))
    if array.ndim not in (1, 2) or array.shape[-1] != d_model:
        raise DirectionFileError(f"{name}: {chosen} has shape {entry.shape}; {_wanted(d_model, n_layers)}")
    own_layer = entry.layer
    if array.ndim == 2:
        by_layer = row is None
        row, own_layer = _row(entry, len(array), row, layer, n_layers, d_model, name)
        array = array[row]
        chosen = chosen if by_layer else f"{chosen}[{row}]"
    with np.errstate(over="ignore"):
        vector = array.astype(np.float32)
    if not np.isfinite(vector).all():
        raise DirectionFileError(
            f"{name}: {chosen} has {int((~np.isfinite(vector)).sum())} values that are NaN or infinite."
        )
    if not vector.any():
        raise DirectionFileError(f"{name}: {chosen} is zero everywhere, so it points nowhere. Choose another entry.")
    exact = vector.astype(np.float64)
    norm = float(np.linalg.norm(exact))
    return FileVector(
        name, chosen, own_layer, hashlib.sha256(data).hexdigest(), norm, (exact / norm).astype(np.float32), vector
    )


def _row(
    entry: Entry, n_rows: int, row: int | None, layer: int | None, n_layers: int | None, d_model: int, name: str
) -> tuple[int, int | None]:
    """The row of an entry with several, and the block whose output it is."""
    said, key = f"{name}: {entry.key}", entry.key
    if row is not None and not 0 <= row < n_rows:
        raise DirectionFileError(f"{said} has rows 0 to {n_rows - 1}; row {row} was asked for.")
    if entry.layer is not None and (
        n_layers is None or not entry.is_by_block(n_layers)
    ):  # several vectors of one layer
        if row is None:
            raise DirectionFileError(f"{said} has {n_rows} vectors of layer {entry.layer}; choose a row, as {key}[0].")
        return row, entry.layer
    shift = int(entry.hook_point is not None and entry.hook_point.site == "input")  # row k is what enters block k
    if n_layers is not None and n_rows == n_layers + 1:
        if row is None:
            choose = "Choose the row" if layer is None else f"For layer {layer} choose row {layer + 1}"
            raise DirectionFileError(
                f"{said} has {n_rows} rows, one more than the model's {n_layers} blocks, as where the first is of the"
                f" embeddings: then row k is the output of block k − 1. {choose}, if that is so (as"
                f" {key}[{(layer or 0) + 1}])."
            )
        shift = 1
    elif n_layers not in (None, n_rows):
        if row is None:
            raise DirectionFileError(f"{said} has shape {entry.shape}; {_wanted(d_model, n_layers)}")
        return row, None
    elif row is None:
        if layer is None or not 0 <= layer + shift < n_rows:
            raise DirectionFileError(f"{said} has one vector for each of {n_rows} blocks; choose a layer below that.")
        row = layer + shift
    if row < shift:
        raise DirectionFileError(
            f"{said}: row 0 is of the embeddings, which are no block's output; choose row 1 or a later one."
        )
    return row, row - shift


def _wanted(d_model: int, n_layers: int | None) -> str:
    return (
        f"a vector ({d_model},) or one for each block ({n_layers or 'n_layers'}, {d_model}) was expected. It may be"
        " made for another model."
    )


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape less axes of one before the last."""
    return (*(size for size in shape[:-1] if size != 1), *shape[-1:])


@dataclass(frozen=True)
class _Found:
    """What a file has: its arrays by key, and what numbers and words in it say, by the key of the part that they stand
    in.
    """

    arrays: dict[str, np.ndarray]
    said: dict[str, dict[str, Any]]
    of_file: HookPoint | None = None  # what the file's own name says, for arrays of which nothing in it says anything


def _entry(found: _Found, key: str) -> Entry:
    shape = found.arrays[key].shape
    try:
        point = _hook_point(found, key) or found.of_file
    except HookPointError as error:
        return Entry(key, shape, fault=str(error).removesuffix("."))
    return Entry(key, shape, point, None if point is None else point.fault())


def _hook_point(found: _Found, key: str) -> HookPoint | None:
    """What the key says; where it names no block, or no site, also what stands beside the array or, else, above it."""
    point, above = hook_point_named(key, is_label=True), key
    while above:
        above = above.rpartition(".")[0]
        stated = hook_point_stated(found.said.get(above, {}))
        if stated is not None and point is not None and point.block is not None:
            stated = (
                None if stated.site is None or point.site is not None else HookPoint(None, stated.site, stated.said)
            )
        point = together([one for one in (point, stated) if one is not None])
        if point is not None and point.block is not None and point.site is not None:
            break
    return point


def _chosen(found: _Found, key: str | None, layer: int | None, name: str) -> str:
    keys = list(found.arrays)
    if key is None:
        for fitting in (keys, [one for one in keys if layer is not None and _entry(found, one).layer == layer]):
            if len(fitting) == 1:
                return fitting[0]
        raise DirectionFileError(f"{name} has {len(keys)} entries ({_some(keys)}); choose one.")
    if key not in keys:
        raise DirectionFileError(f"{name} has no entry {key!r}; it has {_some(keys)}.")
    return key


def _some(keys: list[str]) -> str:
    return ", ".join(key[:60] for key in keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")


def _content(source: bytes | Path, name: str) -> bytes:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_BYTES:
        raise DirectionFileError(
            f"{name} has {size / 2**20:,.0f} MB; a file with vectors may have {MAX_BYTES // 2**20} MB."
        )
    return source if isinstance(source, bytes) else source.read_bytes()


def _read(data: bytes, name: str) -> _Found:
    """Every floating-point array of at least one dimension, at least one of them, and what else is said."""
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise DirectionFileError(
            f"{name} ends in {ending or 'nothing'}; a file with vectors ends in {', '.join(ENDINGS)}."
        )
    if (placeholder := stands_for_another(data[:64])) is not None:
        raise DirectionFileError(f"{name} {placeholder}")
    found = _kind_of(data, name)
    if found != ENDINGS[ending]:
        raise DirectionFileError(
            f"{name} should be {ENDINGS[ending]} by its ending, but its content is {found or 'something else'}."
        )
    arrays: dict[str, np.ndarray] = {}
    said: dict[str, dict[str, Any]] = {}
    for key, value in _READERS[found](data, name):
        if not isinstance(value, np.ndarray):
            part, _, of = key.rpartition(".")
            while part.rpartition(".")[2] in _ABOUT:
                part = part.rpartition(".")[0]
            said.setdefault(part, {})[of] = value
        elif value.ndim and value.size:
            if key in arrays:
                raise DirectionFileError(f"{name} has two entries called {key}; one cannot be told from the other.")
            arrays[key] = value
    if not arrays:
        raise DirectionFileError(
            f"{name} is a {found} file without any floating-point array in it; a vector (d_model,) was expected."
        )
    stem = name.rpartition("/")[2].removesuffix(Path(name).suffix)
    names_block = (
        named := hook_point_named(stem)
    ) is not None and named.block is not None  # "3.pt" is no layer, "layer_3.pt" is
    return _Found(arrays, said, hook_point_named(stem, is_label=True) if names_block else None)


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
        return (
            "NumPy archive" if members and all(member.endswith(".npy") for member in members) else "another zip archive"
        )
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
        raise DirectionFileError(
            f"{name} unpacks to {unpacked / 2**20:,.0f} MB; a file with vectors may have {MAX_BYTES // 2**20} MB."
        )
    return archive


def _damaged(name: str, error: Exception | str) -> DirectionFileError:
    why = error if isinstance(error, str) else words_of(error)
    return DirectionFileError(f"{name} cannot be read: it is damaged or cut short ({why}).")


_Parts = Iterator[
    tuple[str, "np.ndarray | int | str"]
]  # by key: arrays, and the numbers and words that may say something of them


def _safetensors(data: bytes, name: str) -> _Parts:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise _damaged(name, error) from error
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])  # the library has read it, so it is whole
    yield from header.get("__metadata__", {}).items()
    for key, entry in sorted(entries, key=lambda entry: _by_number(entry[0])):  # the library gives them in any order
        if entry["dtype"] == "BF16":  # the upper half of a float32
            halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16
            yield key, halves.view(np.float32).reshape(entry["shape"])
        elif entry["dtype"] in _FLOATS:
            yield key, np.frombuffer(entry["data"], _FLOATS[entry["dtype"]]).reshape(entry["shape"])


def _by_number(key: str) -> list[tuple[int, str]]:
    """A key to sort by: numbers in names as numbers."""
    return [
        (int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in re.split(r"(\d{1,9})", key)
    ]


def _npy(data: bytes, name: str, key: str = "array") -> _Parts:
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
        raise DirectionFileError(
            f"{name}: {key} holds pickled Python objects, which are never run; an array of numbers was expected."
        )
    body = data[stream.tell() :]
    if shape == () and dtype.kind in "iuU" and len(body) == dtype.itemsize <= 4096:
        yield key, np.frombuffer(body, dtype)[0].item()
    if dtype.kind != "f" or dtype.itemsize > 8:
        return
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise _damaged(name, f"{key} says {shape} of {dtype}, but {len(body)} bytes follow")
    yield key, np.frombuffer(body, dtype).reshape(shape, order="F" if is_fortran else "C")


def _npz(data: bytes, name: str) -> _Parts:
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


def _pytorch(data: bytes, name: str) -> _Parts:
    import torch

    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DirectionFileError(
            f"{name} holds {refused_object(error)}, which is never run; save tensors alone, for example with "
            "torch.save({'vector': torch.as_tensor(vector)}, …), or the arrays as .npz."
        ) from error
    except _TORCH_DAMAGE as error:
        raise _damaged(name, error) from error
    claimed = 0
    for key, value in _leaves(content, "", name, [0]):
        tensors = value if isinstance(value, list) else [value]
        if not all(isinstance(one, torch.Tensor) for one in tensors):
            if isinstance(value, (int, str)) and not isinstance(value, bool):
                yield key, value
            continue
        if any(one.layout != torch.strided or one.device.type != "cpu" for one in tensors):
            continue
        if tensors[0].dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            claimed += sum(one.numel() * one.element_size() for one in tensors)
            if claimed > MAX_BYTES:  # far more values than the file has: a view that repeats some of them
                raise DirectionFileError(f"{name}: its tensors claim more than {MAX_BYTES // 2**20} MB.")
            wide = [one.detach().double() if one.dtype == torch.float64 else one.detach().float() for one in tensors]
            yield key or "tensor", (torch.stack(wide) if isinstance(value, list) else wide[0].contiguous()).numpy()
        elif value.ndim == 0 and not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool:
            yield key, int(value)


def _leaves(value: Any, key: str, name: str, seen: list[int], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Everything in nested dictionaries and lists, with the path to it; a list of vectors as it is.

    `seen` counts, against files that repeat themselves without end.
    """
    seen[0] += 1
    if depth > _MAX_DEPTH or seen[0] > _MAX_ENTRIES:
        raise DirectionFileError(
            f"{name} has more than {_MAX_ENTRIES:,} entries or {_MAX_DEPTH} levels; save the vectors alone."
        )
    if isinstance(value, dict):
        for part, inner in value.items():
            yield from _leaves(inner, f"{key}.{part}" if key else str(part), name, seen, depth + 1)
    elif isinstance(value, (list, tuple)) and _are_vectors(value):
        seen[0] += len(value)
        yield key, list(value)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):  # a position in a list is no layer
            yield from _leaves(inner, f"{key}.item{i}" if key else f"item{i}", name, seen, depth + 1)
    else:
        yield key, value


def _are_vectors(values: "list[Any] | tuple[Any, ...]") -> bool:
    """Whether they are two or more vectors of one length and dtype, as of one for each layer."""
    shapes = {(getattr(one, "dtype", None), tuple(getattr(one, "shape", ()))) for one in values[:_MAX_ENTRIES]}
    return 2 <= len(values) <= _MAX_ENTRIES and len(shapes) == 1 and len(next(iter(shapes))[1]) == 1


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

    def value(self, code: int) -> Any:
        """A metadata value; of arrays only that they are there."""
        if code == 8:
            return self.text()
        if code == 9:
            inner, n = self.number("I"), self.number("Q")
            if inner in _GGUF_SCALARS:
                self.take(n * _GGUF_SCALARS[inner])
            elif inner == 8:
                for _ in range(n):
                    self.text()
            else:
                raise _damaged(self._name, f"an array of type {inner}")
            return None
        if code not in _GGUF_SCALARS:
            raise _damaged(self._name, f"a value of type {code}")
        return int.from_bytes(self.take(_GGUF_SCALARS[code]), "little")


def _gguf(data: bytes, name: str) -> _Parts:
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
            f"{name} is GGUF of architecture {values.get('general.architecture')!r}; a control vector was expected, as"
            " repeng and llama.cpp write it (architecture controlvector, tensors direction.1, direction.2, …)."
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
    for key, shape, code, offset in infos:
        if code not in _GGUF_FLOATS:
            raise DirectionFileError(
                f"{name}: {key} is of ggml type {code}; a control vector in F32 or F16 was expected."
            )
        reader.at = start + offset
        yield (
            key,
            np.frombuffer(reader.take(math.prod(shape) * _GGUF_FLOATS[code].itemsize), _GGUF_FLOATS[code]).reshape(
                shape
            ),
        )


_READERS = {
    "safetensors": _safetensors,
    "PyTorch": _pytorch,
    "NumPy archive": _npz,
    "NumPy array": _npy,
    "GGUF": _gguf,
}
