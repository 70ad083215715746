"""Single pairs of directions: those of a bin that was clicked, and what hangs together."""

from typing import Any

import pandas as pd
import streamlit as st

from app.components.examples import examples
from app.geometry import cosine_frames
from app.geometry.cosines import BIN, asked
from app.shared.chosen_chunk import go
from app.shared.clicks import picked_row
from app.shared.views import Here
from app.shell import keys, navigation, selection
from app.shell.data_table import data_table
from app.shell.fields import Decimal, Field, declare
from app.shell.numbers import number
from app.shell.theme import ACCENT
from app.shell.untrusted import for_markdown, visible
from app.shell.vocabulary import CATEGORIES
from backend.feature_geometry.clusters import Pair, clusters
from backend.feature_geometry.exact_law import exceedance
from backend.feature_geometry.row_sets import ROW_KINDS
from backend.store.store import Store

LINKED = declare(Field("cosine_linked", "cosine above which rows are connected", Decimal(0.3, 0.99), of=None))
CLUSTERED = declare(Field("cosine_clustered", "set of directions whose clusters are listed", None, of="cosine_rows"))
_READ = "leave_for_the_chunk_of_a_pair"
_USUAL = 0.5
_NONE = 0.001  # pairs: as few are none
_WHY_NONE = (
    "Of small autoencoders no single pairs are kept, nor where their features fire: they are seeds and nulls of one"
    " training, whose tails are compared, and what they learned from is forgotten when they are trained."
)
_LISTED = 200  # clusters
_MEMBERS = 12  # features of a cluster that are told


def draw_pairs(here: Here, store: Store) -> None:
    at, chosen = here.once(asked), _bin(here)
    if chosen is None:
        st.caption("Click a mark of a set in a histogram: the pairs that make it are listed here.")
        return
    pairs = store.cosine_pairs(str(chosen.set_id))
    inside = pairs[
        pairs["is_drawn"].astype(bool)
        & (pairs["cosine"] * chosen.side > chosen.low)
        & ((pairs["cosine"] * chosen.side <= chosen.high) | (chosen.high >= 1))
    ].reset_index(drop=True)
    sign = "−" if chosen.side < 0 else ""
    st.caption(
        f"{for_markdown(chosen.series, 80)}{_layer(chosen.layer)}: {chosen.n:,} pairs have {sign}cos in"
        f" ({chosen.low:g}, {chosen.high:g}]; {len(inside)} of them are kept, drawn among all."
    )
    if inside.empty:
        st.caption(_WHY_NONE if _keeps_none(at.kind) else "None of them was kept (cosines.pairs).")
        return
    key = keys.of(f"cosine_pairs_{chosen.mark}")
    dictionary = _dictionary(at.sets, chosen.set_id)
    data_table(
        pair_table(inside, at.kind, _tops(store, dictionary, sorted({*inside["a"], *inside["b"]}))),
        hide_index=True,
        row_height=28,
        height="content",
        key=key,
        on_select="rerun",
        selection_mode="single-row",
    )
    picked = picked_row(key, len(inside))
    row = inside.iloc[picked or 0]
    if dictionary is not None:
        _beside(store, dictionary, [int(row.a), int(row.b)], key)


def draw_clusters(here: Here, store: Store) -> None:
    at = here.once(asked)
    sets = at.sets[at.sets["drawn_from"].isna() & at.sets["linked_above"].notna()]
    if sets.empty:
        st.caption(_WHY_NONE if _keeps_none(at.kind) else "Of these sets no links were kept (cosines.links).")
        return
    named = cosine_frames.series_of(sets).fillna("") + sets["layer"].map(_layer)
    names = dict(zip(sets["set_id"], named, strict=True))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        own = _bin(here)
        usual = own.set_id if own is not None and own.set_id in names else next(iter(names))
        set_id = selection.pick(CLUSTERED, "Set", list(names), default=usual, show=names.__getitem__, width=420)
        above = selection.pick_decimal(LINKED, "Connected above", _USUAL, step=0.05, width=170)
    facts = sets[sets["set_id"] == set_id].iloc[0]
    links = store.cosine_pairs(set_id)
    links = links[links["is_link"].astype(bool)]
    if above < facts.linked_above:
        st.caption(
            f"Only the {len(links)} strongest links were kept: below {number(facts.linked_above)} rows may be connected"
            " that stand apart here. Raise cosines.links in the study file, and run it again, to know."
        )
    found = clusters([Pair(int(row.a), int(row.b), float(row.cosine)) for row in links.itertuples()], above)
    dictionary = _dictionary(sets, set_id)
    members = [row for rows in found[:_LISTED] for row in rows]
    tops = _tops(store, dictionary, members)
    tokens = {int(row.a): row.token_a for row in links.itertuples()} | {
        int(row.b): row.token_b for row in links.itertuples()
    }
    table = cluster_table(found[:_LISTED], tops, tokens, _lifts(store, dictionary, members))
    st.caption(cluster_words(found, facts, above))
    if table.empty:
        return
    key = keys.of(f"cosine_clusters_{set_id}_{above:g}")
    data_table(
        table,
        hide_index=True,
        row_height=28,
        height=min(360, 40 + 28 * len(table)),
        column_config={"rows": st.column_config.NumberColumn(width="small")},
        key=key,
        on_select="rerun",
        selection_mode="single-row",
    )
    if dictionary is not None:
        picked = picked_row(key, len(table))
        _beside(store, dictionary, found[picked or 0][:2], key)


def _keeps_none(kind: str) -> bool:
    return kind in ROW_KINDS and not ROW_KINDS[kind].keeps_pairs


def pair_table(pairs: pd.DataFrame, kind: str, tops: dict[int, str]) -> pd.DataFrame:
    """Both rows of each pair, with their tokens or the tags on which they fire most."""
    row = ROW_KINDS[kind].row if kind in ROW_KINDS else "row"
    table = {"cosine": [f"{cosine:.3f}" for cosine in pairs["cosine"]]}
    for side, other in (("a", "one"), ("b", "the other")):
        table[f"{row}, {other}"] = pairs[side].astype(int).tolist()
        if pairs[f"token_{side}"].notna().any():
            table[f"token, {other}"] = [visible(str(token)) for token in pairs[f"token_{side}"]]
        if tops:
            table[f"fires most on, {other}"] = [tops.get(int(number), "unknown") for number in pairs[side]]
    return pd.DataFrame(table)


def cluster_table(
    found: list[list[int]], tops: dict[int, str], tokens: dict[int, Any], lifts: pd.DataFrame
) -> pd.DataFrame:
    """A row a cluster: its size, its rows, and the tag on which they fire together."""
    table: dict[str, list[Any]] = {"rows": [len(rows) for rows in found]}
    table["which"] = [
        ", ".join(map(str, rows[:_MEMBERS])) + (f" and {len(rows) - _MEMBERS} more" if len(rows) > _MEMBERS else "")
        for rows in found
    ]
    if any(isinstance(token, str) for token in tokens.values()):
        table["tokens"] = [
            " · ".join(visible(str(tokens[row])) for row in rows[:_MEMBERS] if isinstance(tokens.get(row), str))
            for rows in found
        ]
    if tops:
        table["fires most on"] = [_together(rows, lifts) for rows in found]
    return pd.DataFrame(table)


def _together(rows: list[int], lifts: pd.DataFrame) -> str:
    """The function tag with the largest mean lift over the cluster's features that fire."""
    own = lifts[lifts["feature"].isin(rows)]
    if own.empty:
        return "unknown: none of them fires"
    means = own.groupby("category")["lift"].agg(["mean", "count"]).sort_values("mean", ascending=False)
    best, n = means.iloc[0], own["feature"].nunique()
    shared = int((own[own["category"] == means.index[0]]["lift"] > 1).sum())
    return f"{CATEGORIES.get(str(means.index[0]), str(means.index[0]))}, lift {number(best['mean'])}, {shared} of {n}"


def cluster_words(found: list[list[int]], facts: pd.Series, above: float) -> str:
    n_rows = int(facts.n_rows)
    expected = n_rows * (n_rows - 1) / 4 * float(exceedance(above, int(facts.d)))
    few = number(expected) if expected > _NONE else f"fewer than {_NONE:g}"
    chance = f"Among as many isotropic rows {few} pairs lie above it by the exact law."
    if not found:
        return f"No two of {n_rows:,} rows are connected by a cosine above {number(above)}. {chance}"
    held = sum(map(len, found))
    listed = f" The {_LISTED} largest are listed." if len(found) > _LISTED else ""
    return (
        f"{held:,} of {n_rows:,} rows are connected into {len(found):,} clusters by cosines above {number(above)}, the"
        f" largest of {len(found[0])}. {chance}{listed} Duplicates, and features that training splits or absorbs, make"
        " such clusters too."
    )


def _bin(here: Here) -> Any:
    """The bin that was clicked, of a set that is looked at; None where there is none."""
    chosen, at = selection.get(BIN), here.once(asked)
    if chosen is None:
        return None
    rows = at.tails[(at.tails["subset"] == "all") & (at.tails["set_id"] == chosen.partition("|")[0])]
    if rows.empty:
        return None
    found = cosine_frames.bins(rows)
    found = found[found["mark"] == chosen]
    return None if found.empty else next(found.itertuples(index=False))


def _dictionary(sets: pd.DataFrame, set_id: str) -> str | None:
    """The dictionary of the study whose features the set's rows are."""
    row = sets[sets["set_id"] == set_id].iloc[0]
    return str(row.source) if row.kind == "dictionary" else None


def _tops(store: Store, dictionary: str | None, features: list[int]) -> dict[int, str]:
    """Of each of these features the function tag on which it fires most."""
    if dictionary is None or not features:
        return {}
    rows = store.features(dictionary)
    rows = rows[rows["feature"].isin(features)]
    return {
        int(row.feature): CATEGORIES.get(row.top_category, row.top_category)
        if isinstance(row.top_category, str)
        else "it never fires"
        if row.frequency == 0
        else "none stands out"
        for row in rows.itertuples()
    }


def _lifts(store: Store, dictionary: str | None, features: list[int]) -> pd.DataFrame:
    if dictionary is None or not features:
        return pd.DataFrame(columns=["feature", "category", "lift"])
    return store.categories_of_features(dictionary, features)


def _beside(store: Store, dictionary: str, features: list[int], key: str) -> None:
    """Where these features fire, side by side; an example opens its chunk among the chains of thought."""
    if st.session_state.pop(_READ, False):
        navigation.go_to(navigation.CHAINS)
    for column, feature in zip(st.columns(len(features), gap="medium"), features, strict=True):
        with column:
            st.markdown(f"**Feature {feature}**")
            found = store.feature_examples(dictionary, feature)
            if found.empty:
                st.caption("It fires on no token of the study's CoTs.")
                continue

            def read(number: int, found: pd.DataFrame = found) -> None:
                if isinstance(chunk := found.iloc[number].chunk_id, str):
                    go(chunk)
                    st.session_state[_READ] = True

            examples(found.head(6), key=f"{key}_{feature}", colour=ACCENT, names=_models(found), on_read=read)
            st.caption(f"The {min(6, len(found))} strongest of {len(found)} kept examples.")


def _models(found: pd.DataFrame) -> list[str]:
    return ["base", "distilled"] if found["contribution_distilled"].notna().any() else ["the model"]


def _layer(layer: float | None) -> str:
    return "" if layer is None or pd.isna(layer) or layer < 0 else f", layer {int(layer)}"
