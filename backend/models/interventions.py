"""Changes of the residual stream along a direction: where, which operation, how much. Plain records that travel to
other processes.

At every changed position t of every layer, with h the residual stream as it arrives there (layers below may have been
changed already) and v̂ the unit vector:

- `add` h + β·size(h)·v̂ · `replace` the component h·v̂ becomes β·size(h) · `ablate` it becomes 0 · `cap` a component
  above β·size(h) becomes β·size(h), lower ones stay · `rotate` h + β·size(h)·v̂, scaled back to the norm of h.
- size(h): `rms` √(mean h²), so that β = 1 moves a position by 1/√d_model of its norm · `norm` ‖h‖ · `absolute` 1.

Positions, for a chunk with tokens [s, e): `anchor` s−1, the token before it (Dawes 2025's code) · `chunk` every t in
[s−1, e−1), whose predictions are the chunk's · `onward` s−1 and every later token, those that are generated too ·
`prompt` the prompt's tokens but the first, which in most models is an attention sink with a norm hundreds of times that
of others.

A gate restricts the change to tokens whose residual stream projects beyond a threshold: "only while" something is the
case. Sums are taken in float64. With β = 0, `add` and `rotate` give h back bit for bit, as does any operation where the
gate is shut.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import AnchorscopeError
from backend.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from backend.models.edits import Edit


class InterventionError(AnchorscopeError):
    """A change that cannot be made as asked."""


@dataclass(frozen=True)
class Operation:
    """What is done to the residual stream at a position."""

    name: str
    words: str  # in a picker
    phrase: str  # in a sentence, of {direction} and {amount}
    apply: "Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]"  # h, h in float64, v̂, size(h), β -> the new h
    zero_changes_nothing: bool  # β moves h by so much, and β = 0 gives it back bit for bit
    has_magnitude: bool = True


@dataclass(frozen=True)
class PositionSet:
    """Where in the text it is done."""

    name: str
    words: str  # in a picker
    phrase: str  # in a sentence, of {chunk}, {chunk_tokens} ("14 tokens"), {n_rest} (of the prompt's but the first)
    positions: Callable[[tuple[int, int], int], tuple[int, ...]]  # chunk's [s, e), prompt's n
    of_chunk: bool = False  # needs a chunk with tokens of its own
    of_prompt: bool = False  # before the chain of thought
    goes_on: bool = False  # at every token after them too, those that are generated included
    as_swept: str = ""  # what pages of swept chunks call it; empty: KL(β) is not had there. It lies in [s−1, e−1)


@dataclass(frozen=True)
class StepUnit:
    """What β counts."""

    name: str
    words: str  # on an axis
    short: str  # in a picker
    phrase: str  # in a sentence, after the number
    size: "Callable[[Tensor], Tensor]"  # h (n_positions, d_model) float64 -> size of a step of 1, (n_positions, 1)
    most: float  # of the slider, either way
    usual: float  # β at first; NaN: β counts what h is counted in, so that it depends on how large h is
    step: float
    share: Callable[[int], float] | None = None  # d_model -> what a step of 1 is of the norm of h; None: that differs


@dataclass(frozen=True)
class Gate:
    """Only where h · vector > threshold, token by token. `name` says in words while what is the case."""

    vector: np.ndarray = field(repr=False)  # (d_model,) float32, of any length
    threshold: float  # in units of h · vector
    name: str

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or not np.isfinite(self.vector).all() or not math.isfinite(self.threshold):
            raise InterventionError(
                f"The condition “{self.name}” needs a finite vector (d_model,) and threshold, got {self.vector.shape}."
            )


@dataclass(frozen=True)
class Intervention:
    """One change, at each of `layers`."""

    layers: tuple[int, ...]  # 0-based blocks, rising
    place: str
    operation: str
    vector: np.ndarray = field(repr=False)  # (d_model,) float32, unit length
    beta: float  # in `unit`; without meaning for ablate
    unit: str = "rms"
    gate: Gate | None = None

    def __post_init__(self) -> None:
        _ = OPERATIONS[self.operation], PLACES[self.place], UNITS[self.unit]  # raises for what no entry knows
        if not isinstance(self.beta, (int, float)) or not math.isfinite(self.beta):
            raise InterventionError(f"β is {self.beta}; a finite number was expected.")
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise InterventionError(
                f"Layers must be one or more different block numbers from 0 on, in order, got {list(self.layers)}."
            )
        length = float(np.linalg.norm(np.asarray(self.vector, np.float64))) if np.ndim(self.vector) == 1 else math.nan
        if not math.isclose(length, 1, abs_tol=1e-4):
            raise InterventionError(
                f"A unit vector (d_model,) is needed, got shape {np.shape(self.vector)} of length {length:g}."
            )

    def with_beta(self, beta: float) -> "Intervention":
        return replace(self, beta=float(beta))

    def with_vector(self, vector: np.ndarray) -> "Intervention":
        return replace(self, vector=np.asarray(vector, np.float32))

    def positions(self, span: tuple[int, int], *, n_prompt: int) -> tuple[int, ...]:
        """Changed positions of the text, `onward` by its first alone. `span` is the chunk's token span [s, e).

        Raises InterventionError.
        """
        return PLACES[self.place].positions(span, n_prompt)

    def edits(self, span: tuple[int, int], *, n_prompt: int) -> "tuple[Edit, ...]":
        """One edit for each layer. Raises InterventionError for a chunk without the positions asked for."""
        from backend.models.edits import Edit

        positions = self.positions(span, n_prompt=n_prompt)
        change = partial(changed, intervention=self)
        goes_on = PLACES[self.place].goes_on
        return tuple(Edit(layer, positions, change, goes_on) for layer in self.layers)


def changed(h: "Tensor", *, intervention: Intervention) -> "Tensor":
    """h (n_positions, d_model) after the intervention's operation, row by row.

    Raises InterventionError for a vector of another width.
    """
    import torch

    for what, vector in (
        ("vector", intervention.vector),
        ("condition", intervention.gate.vector if intervention.gate else None),
    ):
        if vector is not None and len(vector) != h.shape[-1]:
            raise InterventionError(f"The {what} has {len(vector)} values, but the residual stream has {h.shape[-1]}.")
    exact = h.double()
    v = torch.from_numpy(np.asarray(intervention.vector, np.float64)).to(h.device)
    size = UNITS[intervention.unit].size(exact)
    new = OPERATIONS[intervention.operation].apply(h, exact, v, size, intervention.beta)
    if intervention.gate is None:
        return new
    is_open = (
        exact @ torch.from_numpy(np.asarray(intervention.gate.vector, np.float64)).to(h.device)
        > intervention.gate.threshold
    )
    return torch.where(is_open[:, None], new, h)


def _add(h: "Tensor", exact: "Tensor", v: "Tensor", size: "Tensor", beta: float) -> "Tensor":
    return h + (beta * (size * v)).to(h.dtype)


def _replace(h: "Tensor", exact: "Tensor", v: "Tensor", size: "Tensor", beta: float) -> "Tensor":
    return (exact + (beta * size - (exact @ v)[:, None]) * v).to(h.dtype)


def _ablate(h: "Tensor", exact: "Tensor", v: "Tensor", size: "Tensor", beta: float) -> "Tensor":
    return (exact - (exact @ v)[:, None] * v).to(h.dtype)


def _cap(h: "Tensor", exact: "Tensor", v: "Tensor", size: "Tensor", beta: float) -> "Tensor":
    excess = ((exact @ v)[:, None] - beta * size).clamp(min=0)
    return (exact - excess * v).to(h.dtype)


def _rotate(h: "Tensor", exact: "Tensor", v: "Tensor", size: "Tensor", beta: float) -> "Tensor":
    moved = exact + beta * (size * v)
    return (moved * (exact.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True))).to(h.dtype)


def _prompt(span: tuple[int, int], n_prompt: int) -> tuple[int, ...]:
    if n_prompt < 2:
        raise InterventionError(f"The prompt has {n_prompt} tokens; there is none after the first to change.")
    return tuple(range(1, n_prompt))


def _anchor(span: tuple[int, int], n_prompt: int) -> tuple[int, ...]:
    if span[0] < 1:
        raise InterventionError(
            "There is no token before this chunk, so nothing predicts it; choose another chunk or give a prompt."
        )
    return (span[0] - 1,)


def _chunk(span: tuple[int, int], n_prompt: int) -> tuple[int, ...]:
    (first,), (start, end) = _anchor(span, n_prompt), span
    if end <= start:
        raise InterventionError(
            "This chunk has no tokens of its own; change the token before it, or everything from there on."
        )
    return tuple(range(first, end - 1))


OPERATIONS: Registry[Operation] = Registry(
    "operation",
    Operation("add", "add", "add {amount} of {direction}", _add, zero_changes_nothing=True),
    Operation(
        "replace",
        "set the component",
        "set the component along {direction} to {amount}",
        _replace,
        zero_changes_nothing=False,
    ),
    Operation(
        "ablate",
        "remove the component",
        "remove the component along {direction}",
        _ablate,
        zero_changes_nothing=False,
        has_magnitude=False,
    ),
    Operation(
        "cap", "cap the component", "cap the component along {direction} at {amount}", _cap, zero_changes_nothing=False
    ),
    Operation(
        "rotate",
        "rotate, keeping the norm",
        "turn towards {direction} by {amount}, keeping the norm,",
        _rotate,
        zero_changes_nothing=True,
    ),
    error=InterventionError,
)

PLACES: Registry[PositionSet] = Registry(
    "place",
    PositionSet("anchor", "the token before", "the token before {chunk}", _anchor, as_swept="token before the chunk"),
    PositionSet(
        "chunk",
        "the chunk's tokens",
        "the {chunk_tokens} that predict {chunk}",
        _chunk,
        of_chunk=True,
        as_swept="tokens of the chunk",
    ),
    PositionSet(
        "onward",
        "from there on",
        "every token from the one before {chunk} on, what is written included",
        _anchor,
        goes_on=True,
    ),
    PositionSet("prompt", "the prompt", "the {n_rest} tokens of the prompt after its first", _prompt, of_prompt=True),
    error=InterventionError,
)

UNITS: Registry[StepUnit] = Registry(
    "unit",
    StepUnit(
        "rms",
        "RMS of the residual stream",
        "RMS",
        "RMS",
        lambda h: h.square().mean(-1, keepdim=True).sqrt(),
        most=10.0,
        usual=8.0,
        step=0.5,
        share=lambda d_model: 1 / math.sqrt(d_model),
    ),
    StepUnit(
        "norm",
        "norm of the residual stream",
        "norms",
        "norms of the residual stream",
        lambda h: h.norm(dim=-1, keepdim=True),
        most=1.0,
        usual=0.3,
        step=0.05,
        share=lambda d_model: 1.0,
    ),
    StepUnit(
        "absolute",
        "absolute",
        "absolute",
        "(absolute)",
        lambda h: h.new_ones(len(h), 1),
        most=100.0,
        usual=math.nan,
        step=1.0,
    ),
    error=InterventionError,
)


def swept_places() -> tuple[str, ...]:
    """The position sets at which KL(β) is had, the usual one first."""
    return tuple(place.name for place in PLACES.values() if place.as_swept)
