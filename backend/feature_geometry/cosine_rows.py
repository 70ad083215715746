"""What is stored of the cosines of one set of directions, and of the rows that are drawn in its stead.

Rows are looked at three times: all of them, without those of features that never fired (`live`), and without those that
repeat an earlier one either (`distinct`); where it is known how often features fire, also within each quarter of the
live ones.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backend.feature_geometry import covariance_nulls
from backend.feature_geometry.cosine_tails import EDGES, LINKED, Directions, Tails, directions, duplicates, tails
from backend.feature_geometry.exact_law import exceedance, threshold
from backend.feature_geometry.tail_mass import mass
from backend.ids import seed_for, stable_id

PUBLISHED = 0.1  # the threshold of the published figures
EXCEEDANCES = (1e-3, 1e-6)  # equal shares of isotropic pairs, whatever the width
QUARTERS = 4
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class About:
    """Whose rows they are: columns of `cosine_sets`."""

    kind: str
    model_id: str | None
    model: str
    role: str
    layer: int | None
    source: str | None = None
    trained_on: str | None = None
    seed: int | None = None

    @property
    def set_id(self) -> str:
        return stable_id("u", *(getattr(self, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Asked:
    """How a set is looked at."""

    nulls: tuple[str, ...]
    most_rows: int  # a larger set is represented by so many of its rows, drawn by the seed
    pairs: int  # that are kept of each bin, at most
    links: int  # that are kept, at most
    seed: int


@dataclass(frozen=True)
class Beside:
    """What else is known of the rows."""

    frequencies: np.ndarray | None = None  # (n,), how often each row's feature fires
    activations: np.ndarray | None = None  # (n_chunks, d), at the layer
    tokens: Callable[[int], str] | None = None  # what a row of an unembedding is


def marks(d: int) -> dict[str, float]:
    """Thresholds of |cosine| by their names."""
    return {f"{PUBLISHED:g}": PUBLISHED} | {_named(p): threshold(p, d) for p in EXCEEDANCES}


def measured(rows: np.ndarray, about: About, asked: Asked, beside: Beside) -> Rows:
    """All that is stored of the set."""
    n_total, d = rows.shape
    numbers = _looked_at(n_total, asked.most_rows, seed_for(asked.seed, about.kind, n_total))  # of all models the same
    of = directions(rows if len(numbers) == n_total else rows[numbers])
    del rows  # large ones are not held twice
    of = replace(of, numbers=numbers[of.numbers])
    whole = tails(of, marks(d), drawn=asked.pairs, linked=True)
    dead = None if beside.frequencies is None else beside.frequencies[of.numbers] == 0
    living = of if dead is None or not dead.any() else of.only(~dead)
    live = whole if living is of else tails(living, marks(d), linked=True)
    repeated = duplicates(live.links)
    single = ~np.isin(living.numbers, sorted(repeated))
    subsets = {"all": whole, **({} if dead is None else {"live": live})}
    subsets["distinct"] = live if single.all() else tails(living.only(single), marks(d))
    found = _tables(about.set_id, subsets, d)
    for name, own, low, high in _quarters(living, beside.frequencies):
        quarter = _tables(about.set_id, {name: tails(own, marks(d))}, d, low=low, high=high)
        found = {table: found[table] + quarter[table] for table in found}
    pairs, linked_above = _pairs(about.set_id, whole, live, asked, beside.tokens)
    row = _set_row(about, d, n_total=n_total, n_rows=len(numbers), n_zero=of.n_zero)
    row |= {
        "n_dead": None if dead is None else int(dead.sum()),
        "n_duplicates": len(repeated),
        "linked_above": linked_above,
    }
    nulls = [_null(null, about, of, asked, beside) for null in asked.nulls]
    parts = [{"cosine_sets": [row], **found, "cosine_pairs": pairs}, *(one for one in nulls if one is not None)]
    return {table: [line for part in parts for line in part.get(table, ())] for table in parts[0]}


def _looked_at(n: int, most: int, seed: int) -> np.ndarray:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _null(null: str, about: About, of: Directions, asked: Asked, beside: Beside) -> Rows | None:
    """None where nothing is known that the rows could resemble."""
    kind = covariance_nulls.NULLS[null]
    cloud = of.units if kind.of_rows else beside.activations
    if cloud is None or len(cloud) < 2 or not len(of.units):
        return None
    set_id, (n, d) = stable_id("u", about.set_id, null), of.units.shape
    rows = covariance_nulls.drawn(kind, covariance_nulls.moments(cloud), n, seed=seed_for(asked.seed, set_id))
    drawn = directions(rows, given_away=True)
    row = _set_row(about, d, n_total=n, n_rows=n, n_zero=drawn.n_zero)
    row |= {"set_id": set_id, "null_of": about.set_id, "drawn_from": null}
    return {"cosine_sets": [row], **_tables(set_id, {"all": tails(drawn, marks(d))}, d)}


def _set_row(about: About, d: int, **sizes: int) -> dict[str, Any]:
    own = {name: getattr(about, name) for name in about.__dataclass_fields__}
    unknown = dict.fromkeys(("null_of", "drawn_from", "n_dead", "n_duplicates", "linked_above"))
    return {"set_id": about.set_id, **own, **unknown, "d": d, **sizes}


def _tables(
    set_id: str, subsets: Mapping[str, Tails], d: int, *, low: float | None = None, high: float | None = None
) -> Rows:
    return {
        "cosine_tails": [
            {
                "set_id": set_id,
                "subset": name,
                "n_rows": found.n_rows,
                "n_pairs": found.n_pairs,
                "frequency_low": low,
                "frequency_high": high,
                "first_edge": float(EDGES[0]),
                "bin_width": round(float(EDGES[1] - EDGES[0]), 9),
                "negative": _trimmed(found.negative),
                "positive": _trimmed(found.positive),
            }
            for name, found in subsets.items()
        ],
        "cosine_exceedances": [
            _exceedance_row(found, mark, d) | {"set_id": set_id, "subset": name}
            for name, found in subsets.items()
            for mark in found.beyond
        ],
    }


def _trimmed(counts: np.ndarray) -> list[int]:
    """Without the empty bins at the end."""
    return counts[: np.flatnonzero(counts)[-1] + 1 if counts.any() else 0].tolist()


def _exceedance_row(found: Tails, mark: str, d: int) -> dict[str, Any]:
    beyond = found.beyond[mark]
    known = mass(beyond.n, beyond.degrees)
    return {
        "mark": mark,
        "threshold": beyond.threshold,
        "n_beyond": beyond.n,
        "n_negative": beyond.n_negative,
        "share": known and known.share,
        "ci_low": known and known.low,
        "ci_high": known and known.high,
        "expected": float(exceedance(beyond.threshold, d)),
        "touching": beyond.touching.tolist(),
        "group_rows": found.group_rows.tolist(),
    }


def _quarters(living: Directions, frequencies: np.ndarray | None) -> Sequence[tuple[str, Directions, float, float]]:
    """Live rows by how often they fire, the rarest first; of ties the earlier row."""
    if frequencies is None or len(living.units) < 4 * QUARTERS:
        return ()
    own = frequencies[living.numbers]
    parts = [np.sort(part) for part in np.array_split(np.argsort(own, kind="stable"), QUARTERS)]
    return [
        (f"fired {number}", living.only(part), float(own[part].min()), float(own[part].max()))
        for number, part in enumerate(parts, start=1)
    ]


def _pairs(
    set_id: str, whole: Tails, live: Tails, asked: Asked, tokens: Callable[[int], str] | None
) -> tuple[list[dict[str, Any]], float | None]:
    """Rows of `cosine_pairs`, and the cosine from which their links are whole; None where none are kept."""
    kept = live.links[: asked.links]
    drawn = {(pair.a, pair.b): pair for one in whole.drawn for pair in one}
    linked = {(pair.a, pair.b): pair for pair in kept}
    rows = [
        {
            "set_id": set_id,
            "a": a,
            "b": b,
            "cosine": _shortened(pair.cosine),
            "is_drawn": (a, b) in drawn,
            "is_link": (a, b) in linked,
            "token_a": tokens and tokens(a),
            "token_b": tokens and tokens(b),
        }
        for (a, b), pair in sorted((drawn | linked).items())
    ]
    if not asked.links:
        return rows, None
    return rows, LINKED if len(kept) == len(live.links) else kept[-1].cosine


def _shortened(cosine: float) -> float:
    """Five decimals, its size rounded up: bins are open below, so that it stays in its own."""
    return math.copysign(min(1.0, math.ceil(abs(cosine) * 1e5 - 1e-6) / 1e5), cosine)


def _named(p: float) -> str:
    return f"{p:.0e}".replace("e-0", "e-")
