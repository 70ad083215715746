"""Parallelograms among a dictionary's decoder rows: best matches beside those of the nulls, and the quadruples."""

import pandas as pd
import streamlit as st

from app.figures.parallelograms import searched_losses
from app.geometry.steer_by_analogy import steer_by_features
from app.shared import chosen_dictionary
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, one_line, show, visible
from backend.feature_geometry.feature_quadruples import SEARCHED
from backend.store.store import Store

QUADRUPLE = declare(Field("feature_quadruple", "quadruple of features", None, of="dictionary"))


def searched(here: Here) -> Missing | None:
    """Need of a view: decoder rows of the dictionary that were searched."""
    return undone(here.store.path, "parallelograms") if here.once(_searches).empty else None


def _searches(here: Here) -> pd.DataFrame:
    name = here.dictionary.dictionary_id
    return studies.ask(here.store.feature_quadruple_searches, dictionary_id=name)


def draw(here: Here, store: Store) -> None:
    """How small the losses of best matches are, and the best quadruples."""
    found = here.once(_searches)
    show(chosen_dictionary.named(here.dictionary))
    st.plotly_chart(
        searched_losses(found, words=SEARCHED),
        key=keys.of("feature_quadruple_losses"),
        config={"displayModeBar": False},
    )
    one = found.iloc[0]
    st.caption(
        for_markdown(
            f"n = {one['n_sides']:,} sides (differences of two of {one['n_rows']:,} rows), each with its best match"
            f" among the others. Left out: {one['n_dead']:,} features that fired on no token of the study, and"
            f" {one['n_alike']:,} rows with a cosine above 0.9 to another. A grey line is one draw of a null.",
            400,
        )
    )
    for role, own in found.groupby("role", sort=False):
        show(said(str(role), own))
    show(
        "Li et al. (2024, arXiv:2410.19750) looked for parallelograms among differences of decoder rows of Gemma's"
        " autoencoders; they report mostly noise at first, for which they blame distractors such as word length."
    )
    _draw_quadruples(here, store)


def said(role: str, own: pd.DataFrame) -> str:
    """Whether the rows have smaller losses than every draw of every null."""
    rows = own[own["searched"] == "rows"].iloc[0]
    nulls = own[own["searched"] != "rows"]
    if nulls.empty or pd.isna(rows["median"]):
        return f"{role.capitalize()} model: nothing could be matched."
    parts = [
        f"{SEARCHED[str(name)]} {number(draws['median'].mean())} ({number(draws['median'].min())} to"
        f" {number(draws['median'].max())}, n = {len(draws)} draws; smallest {number(draws['smallest'].min())})"
        for name, draws in nulls.groupby("searched", sort=False)
    ]
    turned = nulls[nulls["searched"] == "turned"]
    beyond = (
        "which leaves something for parallel sides"
        if len(turned) and rows["median"] < turned["median"].min() and rows["smallest"] < turned["smallest"].min()
        else "so that short sides explain what there is"
    )
    gain = 1 - rows["median"] / turned["median"].mean() if len(turned) else float("nan")
    return (
        f"{role.capitalize()} model: the median loss of best matches is {number(rows['median'])}, the smallest"
        f" {number(rows['smallest'])}. By chance, the same search gives {'; '.join(parts)}. Against their own sides"
        f" turned at random, which keeps every length, losses are lower by {gain:.1%} in the median, {beyond}."
    )


def _draw_quadruples(here: Here, store: Store) -> None:
    name = here.dictionary.dictionary_id
    found = studies.ask(store.feature_quadruples, dictionary_id=name)
    if found.empty:
        return
    worded = _worded(store, name, found)
    table = pd.DataFrame(
        {
            "model": found["role"],
            **{
                corner: [
                    worded.get((model, feature), str(feature))
                    for model, feature in zip(found["model_id"], found[corner], strict=True)
                ]
                for corner in "abcd"
            },
            "loss": [number(loss) for loss in found["loss"]],
            "cosine of the sides": [number(cosine) for cosine in found["cosine"]],
        }
    )
    st.dataframe(table, hide_index=True, row_height=28, height=320, key=keys.of("feature_quadruples"))
    by_id = {f"{row.model_id}.{row.place}": row for row in found.itertuples()}
    words = {key: f"{row.b} − {row.a} + {row.c}, {row.role} model" for key, row in by_id.items()}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = by_id[selection.pick(QUADRUPLE, "b − a + c", list(words), show=words.__getitem__, width=380)]
        steer_by_features(store, here.dictionary, (chosen.a, chosen.b, chosen.c), model_id=chosen.model_id)


def _worded(store: Store, dictionary_id: str, found: pd.DataFrame) -> dict[tuple[str, int], str]:
    """By model and feature: its number, and the tokens that it promotes there."""
    features = sorted({int(feature) for corner in "abcd" for feature in found[corner]})
    promoted = store.promoted_tokens(dictionary_id, features, 3)
    return {
        (row.model_id, row.feature): one_line(f"{row.feature}: {' '.join(map(visible, row.tokens))}", 60)
        for row in promoted.itertuples()
    }
