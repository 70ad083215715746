"""A device named `checked` that refuses implicit transfers: what would fail, or wait unseen, on a GPU, found on a CPU.

It is torch's free device type (PrivateUse1) with kernels in Python. A tensor on it is a tensor of its own device type
over ordinary memory; every operation runs on the CPU in its place, so numbers are the CPU's.

Refused, by AssertionError or by torch itself (RuntimeError, TypeError):
- an operation of tensors on it and on the CPU, index tensors and masks among them, but for numbers (dimension 0);
- a copy from or to it that is not asked for by name (`to`, `cpu`, `copy_`, `tensor(…, device=)`): `tolist`, and an
  assignment of another device's tensor;
- `numpy()` and `__array__`.
Lists of Python numbers may index it. Waits for the device (`item`, `bool`, `cpu`, shapes that depend on values) are
counted by `checking`.

**What it proves**: that code creates its tensors on the model's device and brings results back explicitly. **What it
does not**: that a GPU has every operation and precision asked for, that its numbers are the CPU's, that memory fits, or
that anything is fast.
"""

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NAME = "checked"
DEVICE = f"{NAME}:0"
_OURS, _CPU = 12, 1  # DLPack's numbers of PrivateUse1 and of the CPU
_BY_NAME = {"to", "cpu", "copy_", "tensor", "as_tensor", "asarray", "new_tensor", NAME}  # transfers that code asks for
_BY_INDEX = {"__getitem__", "__setitem__"}  # lists of numbers become index tensors in these
_OF_VALUES = {  # operations that wait, because a number or a shape of theirs follows from values
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "nonzero",  # of masks that index, too
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
}
_state = threading.local()


@contextmanager
def checking() -> Iterator[Counter[str]]:
    """Inside, tensors on `DEVICE` can be made and used; what it gives counts waits for the device, by operation."""
    waits: Counter[str] = Counter()
    before, _state.waits = getattr(_state, "waits", None), waits
    try:
        with _Named():
            yield waits
    finally:
        _state.waits = before


class _Named(TorchFunctionMode):
    """Keeps the name of the function that Python called, so that a copy knows whether it was asked for."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _BY_INDEX:
            _require_one_device(name, args)
        before, _state.name = getattr(_state, "name", None), name
        try:
            return func(*args, **(kwargs or {}))
        finally:
            _state.name = before


def _kernel(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operation: checked, then done on the CPU over the same memory."""
    facts = _facts_of(op)
    _require_one_device(facts.name, (args, kwargs))
    if facts.name in _OF_VALUES:
        _wait(facts.name)
    if facts.name == "_fused_sdp_choice":
        return 0  # the plain sums: a GPU's own kernels are another matter
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    here = [_as_declared(of, _each(value, _here)) for of, value in zip(facts.of_tensor, args, strict=False)]
    here_named = {name: _each(value, _here) for name, value in kwargs.items()}
    here_named |= {name: torch.empty(0, dtype=kwargs[name].dtype) for name in facts.out}
    found = op(*here, **here_named)
    for name in facts.out:
        _fill(kwargs[name], here_named[name])
    written = [kwargs[name] if name in kwargs else args[place] for place, name in facts.written]
    if written:  # in place, or into `out`: what was given comes back
        return written[0] if facts.n_returns == 1 else tuple(written[: facts.n_returns]) or None
    is_inference = (
        args[facts.view_of].is_inference() if facts.view_of is not None else torch.is_inference_mode_enabled()
    )
    with torch.inference_mode(is_inference):
        return _each(found, _there)


@dataclass(frozen=True)
class _Facts:
    """What an operation's schema says."""

    name: str
    of_tensor: tuple[bool, ...]  # by argument: whether it is one tensor
    out: tuple[str, ...]
    written: tuple[tuple[int, str], ...]  # place and name of arguments that are written to
    view_of: int | None  # place of the argument that the result is a view of
    n_returns: int


@cache
def _facts_of(op: Any) -> _Facts:
    arguments = list(enumerate(op._schema.arguments))
    aliased = [(place, one) for place, one in arguments if one.alias_info is not None]
    return _Facts(
        name=op._schema.name.removeprefix("aten::"),
        of_tensor=tuple(str(one.type) == "Tensor" for _, one in arguments),
        out=tuple(one.name for _, one in arguments if one.is_out),
        written=tuple((place, one.name) for place, one in aliased if one.alias_info.is_write),
        view_of=next((place for place, one in aliased if not one.alias_info.is_write), None),
        n_returns=len(op._schema.returns),
    )


def _each(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value` with every tensor in it changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    return type(value)(_each(one, change) for one in value) if isinstance(value, list | tuple) else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _as_declared(is_tensor: bool, value: Any) -> Any:
    """A number that stands for a tensor is one again."""
    return torch.tensor(value) if is_tensor and isinstance(value, int | float) else value


def _fill(out: torch.Tensor, found: torch.Tensor) -> None:
    """`out` becomes what was found, in its own memory where that fits."""
    if out.shape == found.shape:
        _here(out).copy_(found)
    else:
        out.data = _there(found)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """A copy between devices, or on the device."""
    if source.device != target.device:
        if getattr(_state, "name", None) not in _BY_NAME | _BY_INDEX:
            raise AssertionError(f"{_where()} copies from {source.device} to {target.device} without being asked to.")
        if target.device.type == "cpu":
            _wait("cpu")
    _here(target).copy_(_here(source))
    return target


def _wait(what: str) -> None:
    if (waits := getattr(_state, "waits", None)) is not None:
        waits[what] += 1


def _require_one_device(name: str, values: Any) -> None:
    """Numbers may stand anywhere, as on a GPU."""
    tensors = list(_tensors(values))
    strangers = [one for one in tensors if one.device.type != NAME and one.dim() > 0]
    if strangers and any(one.device.type == NAME for one in tensors) and name != "copy_":
        raise AssertionError(
            f"{name} (in {_where()}) mixes a tensor on {DEVICE} with one of shape {tuple(strangers[0].shape)} on"
            f" {strangers[0].device}."
        )


def _where() -> str:
    return getattr(_state, "name", None) or "C++"


def _here(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor on the CPU."""
    return _of_type(tensor, _CPU) if tensor.device.type == NAME else tensor


def _there(tensor: torch.Tensor) -> torch.Tensor:
    return _of_type(tensor, _OURS) if tensor.device.type == "cpu" else tensor


def _of_type(tensor: torch.Tensor, number: int) -> torch.Tensor:
    """Over the same memory, of the device type with this number, which stands after the first pointer of a capsule."""
    if tensor._is_zerotensor():  # of a derivative: it has no memory
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
    capsule = torch._C._to_dlpack(tensor)
    ctypes.c_int32.from_address(_pointer(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)).value = number
    return torch._C._from_dlpack(capsule)


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


@cache
def _install() -> list[torch.library.Library]:
    """Once a process: the device type gets its name, and its kernels."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    every, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(_kernel, "PrivateUse1")
    own.impl("_copy_from", _copy_from, "PrivateUse1")
    return [every, own]  # kernels live as long as these


_install()  # when tests are collected: at its first backward pass autograd makes a queue for each device there is
