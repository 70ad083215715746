"""What only several features side by side have: where they fire together, how alike their rows are, and their place on
one chain.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.feature.side_by_side import controls, read_later
from app.figures import compared_features
from app.shared import chosen_chain, chosen_chunk, chosen_dictionary, coded_chain, feature_rows
from app.shared.clicks import marks, picked_row
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.missing import Missing, say, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import show, visible
from backend.crosscoder import on_text, stored
from backend.crosscoder.together import Lift, Together, others, pair_cosines, together, usual
from backend.errors import AnchorscopeError
from backend.models.names import role_words
from backend.store.store import Store

Several = Callable[[Here, Store, list[int]], None]


def of_several(draw: Several) -> Callable[[Here, Store], None]:
    """A view of features side by side; of one alone it says how to choose a second."""

    def drawn(here: Here, store: Store) -> None:
        shown = here.once(controls)
        if len(shown) < 2:
            st.caption("This compares features: choose above what to compare this one with.")
        else:
            draw(here, store, shown)

    return drawn


def names(rows: pd.DataFrame, shown: Sequence[int]) -> dict[int, str]:
    """Number and label of each."""
    labels = rows.set_index("feature")["label"]
    return {
        feature: f"{feature} · {label}" if isinstance(label := labels[feature], str) else str(feature)
        for feature in shown
    }


# Along one chain


def draw_overlay(here: Here, store: Store, shown: list[int]) -> None:
    dictionary, rows = here.dictionary, here.features
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        where = chosen_chain.choose_in_drawer(store, here.chunk)
        text = coded_chain.find(store, dictionary, where.cot)
        is_silent = not isinstance(text, Missing) and not text.own["feature"].isin(shown).any()
        if is_silent:
            _offer_another(store, dictionary, shown)
    if isinstance(text, Missing):
        say(text)
        return
    if is_silent:
        st.caption(f"None of these features fires on the n = {text.n_coded:,} tokens of this chain.")
        return
    norms = feature_rows.decoder_norms(dictionary, rows)
    cells = on_text.contributions(on_text.by_token(text, shown, with_prompt=False), norms)
    places, key = range(text.first, len(text.tokens)), keys.of("overlay")
    spans = text.chunks.set_index("chunk_id")[["token_start", "token_end"]]
    marked = range(*spans.loc[where.chunk].astype(int)) if where.chunk in spans.index else None

    def look() -> None:
        place = next(iter(marks(key)), None)
        if type(place) is int and (chunk := text.chunk_at(place)):
            chosen_chunk.go(chunk)
            selection.redraw()

    data_figure(
        compared_features.overlay(
            cells,
            names=names(rows, shown),
            panels={role: role_words(role) for role in norms},
            places=places,
            labels={at: f"token {at}: {text.tokens[at]!r}" for at in places},
            marked=marked,
            view=where.cot,
        ),
        key=key,
        on_select=look,
        selection_mode="points",
        config={"scrollZoom": True},
    )
    st.caption(
        f"n = {text.n_coded:,} tokens of this chain. Height: what the feature adds to the model, f · ‖W‖ of its"
        " decoder row there, in scaled units; f is one for both models. Shaded: the selected chunk. A click on a mark"
        " selects its chunk."
    )


def _offer_another(store: Store, dictionary: pd.Series, shown: Sequence[int]) -> None:
    """A way to the chain on which the first of them that fires at all is strongest."""
    for feature in shown:
        found = store.feature_examples(dictionary.dictionary_id, feature)
        if len(found):
            chain = {chosen_chunk.PROBLEM: None, chosen_chunk.COT: found["cot_id"][0], chosen_chunk.CHUNK: None}
            st.button(
                f"Show the chain where feature {feature} is strongest",
                key=keys.of("chain_where_it_fires"),
                on_click=partial(selection.choose, chain),
            )
            return


# On the same tokens


def draw_together(here: Here, store: Store, shown: list[int]) -> None:
    name, fires = here.dictionary.dictionary_id, chosen_dictionary.fires_above(here.dictionary)
    tokens = studies.ask(store.coded_tokens, dictionary_id=name)
    if tokens.empty:
        say(undone(store.path, "codes"))
        return
    counts = studies.ask(store.fired_together, dictionary_id=name, features=tuple(sorted(shown)), **fires)
    found = together(counts, tokens, shown)
    data_table(together_table(found), hide_index=True, height="content", row_height=28, column_config=_TOGETHER_HEADS)
    n_fired = {one.first: one.n_first for one in found} | {found[-1].second: found[-1].n_second}
    fired = ", ".join(f"{feature} on {n:,}" for feature, n in n_fired.items())
    st.caption(
        f"n = {found[0].n_tokens:,} tokens of {found[0].n_cots:,} chains about {found[0].n_problems:,} problems;"
        f" {fired}. Expected by chance: n_a · n_b / n over all tokens, and chain by chain, which takes out that both"
        " fire in the same chains. Lift: tokens on which both fire over that. Intervals draw whole problems; of none"
        " together, the upper end is a Poisson count's."
    )


_TOGETHER_HEADS = {
    "lift": st.column_config.TextColumn(help="Tokens on which both fire over the expected number: 1 is chance."),
    "lift within chains": st.column_config.TextColumn(
        help="Over the number that is expected chain by chain: 1 is chance once both fire in the chain."
    ),
}


def together_table(found: Sequence[Together]) -> pd.DataFrame:
    """Rows of pairs, in words."""
    return pd.DataFrame(
        {
            "features": [f"{one.first} and {one.second}" for one in found],
            "both fire on": [one.n_both for one in found],
            "expected": [number(one.overall.expected) for one in found],
            "lift": [_lift(one.overall) for one in found],
            "lift within chains": [_lift(one.within) for one in found],
        }
    )


def _lift(found: Lift) -> str:
    return "unknown" if pd.isna(found.lift) else f"{number(found.lift)} {interval(found.low, found.high)}"


def draw_places(here: Here, store: Store, shown: list[int]) -> None:
    dictionary, key = here.dictionary, keys.of("places_together")
    found = studies.ask(
        store.places_together,
        dictionary_id=dictionary.dictionary_id,
        features=tuple(sorted(shown)),
        n=12,
        **chosen_dictionary.fires_above(dictionary),
    )
    if found.empty:
        st.caption("No two of them fire on one token of the study's CoTs.")
        return
    found = found.assign(
        written_by=found["written_by"].map({one: called(store, one) for one in set(found["written_by"])})
    )

    def read() -> None:
        if (picked := picked_row(key, len(found))) is not None:
            read_later(found.iloc[picked])

    data_table(
        places_table(found, shown),
        hide_index=True,
        height="content",
        row_height=28,
        key=key,
        on_select=read,
        selection_mode="single-row",
        column_config={"text": st.column_config.TextColumn(width="large")},
    )
    st.caption(
        f"n = {len(found)} tokens, between ‹ and ›: most of these features first, then where the weakest of them is"
        " strongest for its own largest f, the best of each chain before second ones. An empty cell does not fire. A"
        " row opens its chunk."
    )


def places_table(found: pd.DataFrame, shown: Sequence[int]) -> pd.DataFrame:
    """Rows of `DictionaryQueries.places_together` as a table: the text, f of each of these features, and where."""
    codes = [dict(zip(row.features, row.codes, strict=True)) for row in found.itertuples()]
    return pd.DataFrame(
        {
            "text": [_around(row) for row in found.itertuples()],
            **{f"f of {feature}": [own.get(feature) for own in codes] for feature in shown},
            "chunk": [None if pd.isna(one) else int(one) + 1 for one in found["chunk_index"]],
            "token": found["position"].tolist(),
            "written by": found["written_by"].tolist(),
        }
    )


def _around(row: Any) -> str:
    """The window's text, with the token between ‹ and ›."""
    at = int(row.position - row.window_start)
    before, token, after = row.window_tokens[:at], row.window_tokens[at], row.window_tokens[at + 1 :]
    return f"{''.join(before)}‹{token if token.strip() else visible(token)}›{''.join(after)}"


# Their rows


def draw_cosines(here: Here, store: Store, shown: list[int]) -> None:
    dictionary, rows = here.dictionary, here.features
    beside = others(rows.loc[rows["frequency"] > 0, "feature"].tolist(), shown)
    try:
        found = _rows(store.path, dictionary.dictionary_id, dictionary.sha256, (*shown, *beside))
    except AnchorscopeError as error:
        show(str(error))
        return
    roles = list(chosen_dictionary.roles(dictionary).values())
    data_table(cosine_table(found, shown, roles), hide_index=True, height="content", row_height=28)
    st.caption(
        f"Last row: 95 % of the cosines of pairs of {len(beside)} other features that fire, drawn once. A decoder row"
        " is what the feature writes to that model, an encoder row what it reads from it."
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _rows(study: Path, dictionary_id: str, sha256: str, features: tuple[int, ...]) -> stored.FeatureRows:
    return stored.feature_rows(study, dictionary_id, features, sha256=sha256)


def cosine_table(found: stored.FeatureRows, shown: Sequence[int], roles: Sequence[str]) -> pd.DataFrame:
    """Cosines of each pair of the first rows, those of `shown`, and where 95 % of those of the others' pairs lie."""
    table = {"features": [f"{one} and {other}" for one, other in combinations(shown, 2)] + ["others, 95 %"]}
    for side, each in (("decoder", found.decoder), ("encoder", found.encoder)):
        of_pairs, of_others = pair_cosines(each[:, : len(shown)]), usual(each[:, len(shown) :])
        for role, own, band in zip(roles, of_pairs, of_others, strict=True):
            head = side if role == "model" else f"{side}, {role_words(role)}"
            table[head] = [*map(number, own), interval(*band)]
    return pd.DataFrame(table)
