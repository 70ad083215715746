"""Dual numbers for batches: a tensor whose row 0 is the value and whose other rows are tangents of it.

Whatever is linear (views, slices, sums, products with weights) is done to all rows at once, as it stands. The few
operations that are not have their rule here: a constant is added to the value alone, products follow the product rule,
a function of one number is multiplied by its derivative at the value. All tangents share one value, so it is computed
once, and there is no graph to record. That is worth a factor of 1.6 to 1.7 against torch's own forward mode (`python
benchmarks/fisher.py` prints it). An operation without a rule raises `NoRule`; whoever asked can fall back to
torch's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from backend.models.linear import linear
from backend.models.private import without_subclasses

_LINEAR = {
    "view",
    "reshape",
    "transpose",
    "contiguous",
    "chunk",
    "split",
    "unsqueeze",
    "neg",
    "to",
    "float",
}
_OF_ONE_NUMBER = {"pow", "__pow__", "rsqrt", "tanh", "silu", "gelu", "relu", "sigmoid"}


class NoRule(Exception):
    """An operation that duals do not know."""


class Dual(torch.Tensor):
    """(1 + n_tangents, …); no operation may mix rows."""

    @staticmethod
    def of(value: torch.Tensor, tangents: torch.Tensor) -> "Dual":
        """The dual of a value (1, …) with tangents (n, …)."""
        return torch.cat([value, tangents]).as_subclass(Dual)

    @property
    def rows(self) -> torch.Tensor:
        """Value and tangents as an ordinary tensor."""
        return self.as_subclass(torch.Tensor)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = func.__name__, kwargs or {}
        with without_subclasses():
            if name in ("__get__", "dim", "size", "as_subclass"):  # shape, dtype, device, …
                return func(*args, **kwargs)
            if name in _LINEAR:
                made = func(*args, **kwargs)
                if any(
                    one.shape[:1] != args[0].shape[:1] for one in (made if isinstance(made, tuple | list) else [made])
                ):
                    raise NoRule(name)  # it mixed rows
                return _dual(made)
            if name in _OF_ONE_NUMBER:
                return _dual(_of_one_number(lambda x: func(x, *args[1:], **kwargs), _rows(args[0])))
            if name not in _RULES:
                raise NoRule(name)
            return _dual(
                _RULES[name](*map(_rows_if_dual, args), duals=[isinstance(one, Dual) for one in args], **kwargs)
            )


def dual_linear(x: Dual, weight: torch.Tensor, bias: torch.Tensor | None) -> Dual:
    """x (1 + n, …, n_in) times constant weight (n_out, n_in) transposed, plus bias."""
    rows = x.rows
    y = linear(rows.reshape(-1, rows.shape[-1]), weight).view(*rows.shape[:-1], len(weight))
    if bias is not None:
        y[:1] += bias
    return _dual(y)


def _of_one_number(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        at = x[:1].detach().requires_grad_()
        y = f(at)
        (slope,) = torch.autograd.grad(y.sum(), at)
    new = x * slope
    new[:1] = y.detach()
    return new


def _add(a: Any, b: Any, *, duals: list[bool], alpha: float = 1) -> torch.Tensor:
    if all(duals[:2]):
        return a + alpha * b if alpha != 1 else a + b
    if not duals[0]:
        if alpha != 1:
            raise NoRule("scaled sums")
        a, b = b, a
    constant = (b.to(a) if isinstance(b, torch.Tensor) else a.new_full((), b)) * alpha
    if constant.ndim == a.ndim and constant.shape[0] != 1:
        raise NoRule("sums with several rows")
    new = a.clone()
    new[:1] += constant
    return new


def _subtract(a: Any, b: Any, *, duals: list[bool]) -> torch.Tensor:
    return _add(a, -b, duals=duals)


def _multiply(a: Any, b: Any, *, duals: list[bool]) -> torch.Tensor:
    if not all(duals):
        constant = b if duals[0] else a
        if (
            isinstance(constant, torch.Tensor)
            and constant.ndim == (a if duals[0] else b).ndim
            and constant.shape[0] != 1
        ):
            raise NoRule("products with several rows")
        return a * b
    new = a * b[:1]
    new[1:].addcmul_(a[:1], b[1:])
    return new


def _concatenate(parts: Any, dim: int = 0, *, duals: list[bool]) -> torch.Tensor:
    if dim == 0 or not all(isinstance(part, Dual) for part in parts):
        raise NoRule("rows joined, or constants to duals")
    return torch.cat([_rows(part) for part in parts], dim)


def _part(x: torch.Tensor, index: Any, *, duals: list[bool]) -> torch.Tensor:
    if not isinstance(index, tuple) or index[0] not in (Ellipsis, slice(None)):
        raise NoRule("some rows")
    return x[index]


def _mean(x: torch.Tensor, dim: int, *, duals: list[bool], keepdim: bool = False) -> torch.Tensor:
    if dim != -1:
        raise NoRule("means over other dimensions than the last")
    return x.mean(-1, keepdim=keepdim)


def _layer_norm(
    x: torch.Tensor,
    shape: Any,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    duals: list[bool],
) -> torch.Tensor:
    if len(shape) != 1:
        raise NoRule("norms over several dimensions")
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred[:1].square().mean(-1, keepdim=True) + eps).rsqrt()
    normed = centred[:1] * scale
    new = (centred - normed * (centred * normed).mean(-1, keepdim=True)) * scale
    if weight is not None:
        new *= weight
    new[:1] = nn.functional.layer_norm(x[:1], shape, weight, bias, eps)
    return new


def _dropout(
    x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, duals: list[bool]
) -> torch.Tensor:
    if training:
        raise NoRule("dropout while training")
    return x


_RULES: dict[str, Callable[..., torch.Tensor]] = {
    "add": _add,
    "__add__": _add,
    "__radd__": _add,
    "sub": _subtract,
    "__sub__": _subtract,
    "mul": _multiply,
    "__mul__": _multiply,
    "__rmul__": _multiply,
    "cat": _concatenate,
    "__getitem__": _part,
    "mean": _mean,
    "layer_norm": _layer_norm,
    "dropout": _dropout,
}


def _dual(result: Any) -> Any:
    if isinstance(result, (tuple, list)):
        return type(result)(_dual(one) for one in result)
    return result.as_subclass(Dual)


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x.as_subclass(torch.Tensor)


def _rows_if_dual(x: Any) -> Any:
    return _rows(x) if isinstance(x, Dual) else x
