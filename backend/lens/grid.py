"""What the live worker found under a lens, as the grids that are drawn: layers × places, unknown where it is not there
yet. Nothing here imports a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.registry import Registry

UNKNOWN = -1  # in place of a token or a rank that is not there yet


@dataclass(frozen=True)
class Place:
    """A column of a map: a token, or the mean over a chunk's tokens."""

    start: int  # position of its first token in the whole text
    end: int
    word: str  # of its token; of a mean that of its last one
    chunk: int | None  # 1-based number of the chunk that it is of; None in the prompt


@dataclass(frozen=True, eq=False)
class Grid:
    """(n_layers, n_places) each; of the followed tokens (n_followed, n_layers, n_places)."""

    places: list[Place]
    token: np.ndarray
    probability: np.ndarray
    entropy: np.ndarray
    kl: np.ndarray
    rank: np.ndarray
    log_prob: np.ndarray

    @property
    def n_layers(self) -> int:
        return len(self.token)

    def part(self, columns: range) -> "Grid":
        """Some of the places."""
        at = slice(columns.start, columns.stop)
        cut = {name: getattr(self, name)[..., at] for name in (*_WHOLE, *_REAL)}
        return Grid(self.places[at], **cut)


_WHOLE, _REAL = ("token", "rank"), ("probability", "entropy", "kl", "log_prob")
_OF_FOLLOWED = ("rank", "log_prob")


@dataclass(frozen=True)
class Cut:
    """What a column of the map is."""

    name: str
    label: str
    words: str
    is_mean: bool  # asked for by itself
    is_chunk: bool
    places: Callable[[Mapping[str, Any]], list[tuple[int, int]]]  # [start, end) of each, from what was read


def _every_token(found: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(position, position + 1) for position in range(max(0, found["n_prompt"] - 1), len(found["token_ids"]))]


def _spans(found: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(start, end) for start, end in found["spans"].values() if end > start]


CUTS: Registry[Cut] = Registry(
    "cut",
    Cut(
        "last",
        "chunks, last token",
        "A column is the last token of a chunk, at which the model predicts how the next chunk begins.",
        False,
        True,
        lambda found: [(end - 1, end) for _, end in _spans(found)],
    ),
    Cut(
        "first",
        "chunks, first token",
        "A column is the first token of a chunk.",
        False,
        True,
        lambda found: [(start, start + 1) for start, _ in _spans(found)],
    ),
    Cut(
        "mean",
        "chunks, mean",
        "A column is the mean of the residual stream over a chunk's tokens, read as if it were one stream; the last row"
        " reads the mean of the last streams, which is no prediction of the model's.",
        True,
        True,
        _spans,
    ),
    Cut(
        "token",
        "tokens",
        "A column is a token, from the last one of the prompt on.",
        False,
        False,
        _every_token,
    ),
)


def grid(found: Mapping[str, Any], cut: Cut) -> Grid:
    """The map of what has come so far."""
    spans = cut.places(found)
    places = [_place(found, start, end) for start, end in spans]
    shape, n_followed = (found["n_layers"], len(places)), len(found["followed"])
    made: dict[str, np.ndarray] = {}
    for name in (*_WHOLE, *_REAL):
        whole = (n_followed, *shape) if name in _OF_FOLLOWED else shape
        made[name] = np.full(whole, UNKNOWN, np.int64) if name in _WHOLE else np.full(whole, np.nan)
    for columns, at, rows in _pieces(found, cut, [start for start, _ in spans]):
        for layer, row in rows.items():
            for name, values in row.items():
                made[name][..., layer, columns] = values[..., at]
    return Grid(places, **made)


def _pieces(found: Mapping[str, Any], cut: Cut, starts: Sequence[int]) -> list[tuple[list[int], list[int], Any]]:
    """Columns of the map, where they stand in what was sent, and the rows that were sent."""
    if cut.is_mean:
        of_all = list(range(len(starts)))
        return [(of_all, of_all, found["means"]["rows"])] if "means" in found else []
    known = {start: column for column, start in enumerate(starts)}
    pieces = []
    if "first" in found:
        pieces.append((list(found["first"]["places"]), found["first"]["rows"]))
    for window in found.get("windows", {}).values():
        pieces.append((list(range(window["first"], window["end"])), window["rows"]))
    return [
        ([known[place] for place in sent if place in known], [at for at, p in enumerate(sent) if p in known], rows)
        for sent, rows in pieces
    ]


def _place(found: Mapping[str, Any], start: int, end: int) -> Place:
    numbers = (number for number, (s, e) in enumerate(found["spans"].values(), start=1) if s <= start < e)
    return Place(start, end, found["tokens"][end - 1], next(numbers, None))
