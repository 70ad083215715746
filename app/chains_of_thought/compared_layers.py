"""What depends on the layer, at the layer that is open beside the one that was pinned: local steepness, the cloud of
activations around, KL(β), nearest chunks, what lenses read, and how far base and reasoner are apart.

Each number stands with the interval and the n that the store has; a difference of the two is that of the values. Both
are of one chunk, so that intervals over tokens or probes are not those of two independent draws.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from pandas.api.types import is_numeric_dtype as is_number

from app.figures.compared_curves import curves_beside
from app.shared import chosen_stream, pinned
from app.shared.chosen_stream import Stream
from app.shared.chunk_list import three_digits
from app.shared.geometry_columns import DIRECTION, POSITION, UNIT
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.numbers import range_of
from app.shell.untrusted import for_markdown, one_line
from app.shell.vocabulary import direction_order, position_words, studied_words, unit_words
from backend.feature_geometry.divergence_kinds import ALL, MEASURES
from backend.store.geometry_columns import NONE, column_named
from backend.store.store import Store

_NEAREST = 12
_FIRST, _NUMBER = st.column_config.TextColumn(width=225), st.column_config.NumberColumn(format="%.3g", width=76)
_SE = 1.96  # standard errors of a 95 % interval


class Quantity(NamedTuple):
    """A number of a chunk at a layer; what is unknown is None."""

    name: str
    unit: str
    value: float | None
    low: float | None = None  # 95 % interval
    high: float | None = None
    n: float | None = None
    of: str = ""  # what n counts


class Steered(NamedTuple):
    """How what depends on a direction was measured."""

    kind: str | None
    position: str | None
    unit: str | None

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows that were measured so, and those to which it does not apply."""
        for name, value in zip(self._fields, self, strict=True):
            rows = rows[rows[name].isin([value, NONE])]
        return rows


def draw(here: Here, store: Store) -> None:
    """The open layer beside the pinned one, where they are two."""
    at, other = chosen_stream.chosen(store), pinned.stream(store)
    if at is None or at.layer is None or other is None or at == other:
        return
    names = [chosen_stream.in_words(store, stream) for stream in (at, other)]
    st.markdown("**This chunk at this layer, and at the pinned one**")
    curves = store.kl_curves_of(here.chunk.chunk)
    how = steered(curves, at, other)
    found = [list(quantities(store, here.chunk.chunk, here.chunk.cot, stream, how)) for stream in (at, other)]
    if not any(found):
        st.caption(for_markdown(f"Nothing of this chunk is known at {names[0]}, nor at {names[1]}.", 300))
        return
    _table(beside(*found), "compared_layers")
    measured = (
        "" if how.kind is None else f", direction {studied_words(how.kind)}, {position_words(how.position or '')}"
    )
    st.caption(for_markdown(f"This: {names[0]}; pinned: {names[1]}{measured}.", 300))
    st.caption(
        "An empty cell is unknown. Difference: this less pinned; it has no interval of its own. KL(model ‖ lens) and"
        " what compares the models are of all texts."
    )
    places = zip(names, (at, other), strict=True)
    _curves(points([(name, at_layer(how.of(curves), stream)) for name, stream in places]), names)
    _neighbours(store, here.chunk.chunk, at, other)


def _curves(found: pd.DataFrame, names: list[str]) -> None:
    if found.empty:
        return
    data_figure(curves_beside(found), key=keys.of("compared_curves"), config={"displayModeBar": False})
    with st.expander("KL at each β"):
        _table(kl_beside(found, *names), "compared_kl")


def _neighbours(store: Store, chunk: str, at: Stream, other: Stream) -> None:
    near, far = (store.neighbours(chunk, one.model, int(one.layer or 0), _NEAREST) for one in (at, other))
    if near.empty or far.empty:
        return
    rows = neighbours_beside(near, far)
    n_common = int((rows["this"].notna() & rows["pinned"].notna()).sum())
    st.caption(
        f"Of the {_NEAREST} nearest chunks at each layer {n_common} are the same. Values: cosine of the mean residual"
        " streams; empty where the chunk is not among the nearest there."
    )
    _table(rows, "compared_neighbours")


def _table(rows: pd.DataFrame, key: str) -> None:
    data_table(
        rows,
        hide_index=True,
        row_height=28,
        height="content" if len(rows) <= 14 else 400,
        key=keys.of(key),
        column_config={name: _NUMBER for name in three_digits(rows)}
        | {name: _FIRST for name in rows.columns[:1] if not is_number(rows[name])},
    )


# Numbers


def steered(curves: pd.DataFrame, at: Stream, other: Stream) -> Steered:
    """Direction, position and unit that both layers have, the chosen ones where they have these; where only one of them
    was steered, or otherwise, what there is.
    """
    own, second = at_layer(curves, at), at_layer(curves, other)
    found: dict[str, str | None] = {}
    for name, field in (("kind", DIRECTION), ("position", POSITION), ("unit", UNIT)):
        common = set(own[name]) & set(second[name]) or {*own[name], *second[name]}
        order = direction_order(common) if name == "kind" else sorted(common)
        wanted = selection.get(field)
        found[name] = wanted if wanted in common else next(iter(order), None)
        own, second = own[own[name] == found[name]], second[second[name] == found[name]]
    return Steered(**found)


def at_layer(rows: pd.DataFrame, stream: Stream) -> pd.DataFrame:
    return chosen_stream.at(rows, stream)


def quantities(store: Store, chunk: str, cot: str, stream: Stream, how: Steered) -> Iterator[Quantity]:
    """All that the store has of the chunk at the layer."""
    yield from _geometry(store, chunk, stream, how)
    yield from _readings(store, chunk, cot, stream)
    yield from _lenses(store, stream)
    yield from _divergence(store, stream)


def _geometry(store: Store, chunk: str, stream: Stream, how: Steered) -> Iterator[Quantity]:
    """Every geometry column; of those along directions, where the chunk is steered, the mean over the kind's."""
    for row in how.of(store.geometry_of(chunk, stream.model, int(stream.layer or 0))).to_dict("records"):
        column, value, n = column_named(row["name"]), _known(row["x"]), _known(row["n"])
        unit = column.unit + (f" (β in {unit_words(how.unit or '')})" if "β" in column.unit else "")
        counted = "directions" if column.source.is_directed else column.counted
        if value is None or (se := _known(row["se"])) is None:
            yield Quantity(column.label, unit, value, n=n, of=counted)
        else:
            yield Quantity(column.label, unit, value, value - _SE * se, value + _SE * se, n, counted)


def _readings(store: Store, chunk: str, cot: str, stream: Stream) -> Iterator[Quantity]:
    """How probable the chain's own answer, and the control's, are after the chunk, read at the layer."""
    place = store.chunk_place(chunk)
    rows = at_layer(store.answer_readings(cot), stream)
    rows = rows[rows["n_read"] == place["chunk_index"].iloc[0] + 1]
    several = rows["lens"].duplicated(keep=False)
    for row, is_one_of_several in zip(rows.to_dict("records"), several, strict=True):
        lens = "the model's last layer" if row["is_model"] else f"{row['lens']} lens"
        lens += f" {row['lens_id']}" if is_one_of_several else ""
        n = _known(row["n_tokens"])
        yield Quantity(f"ln p of its own answer, {lens}", "nats", _known(row["logprob"]), n=n, of="tokens")
        n = _known(row["other_n_tokens"])
        yield Quantity(f"ln p of another answer, {lens}", "nats", _known(row["other_logprob"]), n=n, of="tokens")


def _lenses(store: Store, stream: Stream) -> Iterator[Quantity]:
    rows = store.lens_quality(stream.model)
    for row in rows[(rows["layer"] == stream.layer) & (rows["positions"] == ALL)].to_dict("records"):
        variant = "" if row["variant"] == "none" else f" ({one_line(str(row['variant']), 20)})"
        yield Quantity(
            f"KL(model ‖ lens), {row['kind']}{variant}",
            "nats",
            _known(row["kl"]),
            _known(row["ci_low"]),
            _known(row["ci_high"]),
            _known(row["n_tokens"]),
            "tokens",
        )


def _divergence(store: Store, stream: Stream) -> Iterator[Quantity]:
    """Base and reasoner at the layer, over all positions."""
    rows = studies.ask(store.divergence)
    of_pair = (rows["base_model_id"] == stream.model) | (rows["distilled_model_id"] == stream.model)
    rows = rows[of_pair & (rows["layer"] == stream.layer) & (rows["positions"] == ALL)]
    if rows["distilled_model_id"].nunique() != 1 or rows["base_model_id"].nunique() != 1:
        return  # of several pairs none is meant
    for row in rows.to_dict("records"):
        about = MEASURES.get(row["measure"])
        yield Quantity(
            row["measure"] if about is None else about.label,
            "" if about is None else about.axis,
            _known(row["value"]),
            _known(row["low"]),
            _known(row["high"]),
            _known(row["n_tokens"]),
            "tokens",
        )


def beside(own: list[Quantity], other: list[Quantity]) -> pd.DataFrame:
    """A row a quantity that is known of either, by its name, in the order in which they come: the one value and the
    other, their difference, and what they rest on.
    """
    first, second = ({one.name: one for one in some} for some in (own, other))
    longer, shorter = (second, first) if len(second) > len(first) else (first, second)
    rows = []
    for name in {**longer, **shorter}:
        one, two = first.get(name), second.get(name)
        value, pinned_value = _number(one), _number(two)
        if np.isnan([value, pinned_value]).all():
            continue
        rows.append(
            {
                "quantity": name,
                "this": value,
                "pinned": pinned_value,
                "difference": value - pinned_value,
                "95 %": None if one is None else range_of(one.low, one.high),
                "pinned's 95 %": None if two is None else range_of(two.low, two.high),
                "n": _counted(one, two),
                "unit": (one or two or Quantity("", "", None)).unit,
            }
        )
    columns = ["quantity", "this", "pinned", "difference", "95 %", "pinned's 95 %", "n", "unit"]
    return pd.DataFrame(rows, columns=columns)


def points(places: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """The points of KL(β) at each place, its curves' mean where a kind has several."""
    found = []
    for place, curves in places:
        own = pd.DataFrame(
            [
                {"place": place, "unit": row.unit, "beta": float(beta), "kl": float(kl), "n_tokens": row.n_tokens}
                for row in curves.itertuples()
                for beta, kl in zip(row.betas, row.kl, strict=True)
            ],
            columns=["place", "unit", "beta", "kl", "n_tokens"],
        )
        found.append(own.groupby(["place", "unit", "beta"], as_index=False)[["kl", "n_tokens"]].mean())
    return pd.concat(found, ignore_index=True)


def kl_beside(found: pd.DataFrame, this: str, pinned: str) -> pd.DataFrame:
    """KL at each β of `points` at two places, by their names, with the difference; unknown where one has none."""
    wide = found.pivot(index="beta", columns="place", values="kl").reindex(columns=[this, pinned]).reset_index()
    one, two = wide[this], wide[pinned]
    return pd.DataFrame({"β": wide["beta"], "this": one, "pinned": two, "difference": one - two})


def neighbours_beside(near: pd.DataFrame, far: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Store.neighbours` at two layers, by chunk: those that are near at the first in their order, then the
    others'.
    """
    both = near[["chunk_id", "text", "cosine"]].merge(
        far[["chunk_id", "text", "cosine"]], on="chunk_id", how="outer", suffixes=("", "_other"), sort=False
    )
    both = both.sort_values(["cosine", "cosine_other"], ascending=False, kind="stable", na_position="last")
    texts = both["text"].where(both["text"].notna(), both["text_other"])
    return pd.DataFrame(
        {
            "chunk": [one_line(text, 120) for text in texts],
            "this": both["cosine"].astype("float64"),
            "pinned": both["cosine_other"].astype("float64"),
            "difference": both["cosine"] - both["cosine_other"],
        }
    ).reset_index(drop=True)


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _number(one: Quantity | None) -> float:
    return np.nan if one is None or one.value is None else one.value


def _counted(one: Quantity | None, two: Quantity | None) -> str | None:
    """What both rest on, in words; None where neither says it."""
    counts = [None if found is None or found.n is None else f"{int(found.n):,}" for found in (one, two)]
    of = next((found.of for found in (one, two) if found is not None), "")
    if counts == [None, None]:
        return None
    both = {count or "unknown" for count in counts}
    return f"{' and '.join(both) if len(both) == 1 else ' and '.join(count or 'unknown' for count in counts)} {of}"
