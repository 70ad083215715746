"""Parallelograms among decoder rows of the study's dictionary or of one of its small autoencoders: best matches beside
those of the nulls, and the quadruples.
"""

import pandas as pd
import streamlit as st

from app.figures.parallelograms import searched_losses
from app.geometry.steer_by_analogy import steer_by_features
from app.shared import chosen_dictionary
from app.shared.chosen_dictionary import DICTIONARY
from app.shared.model_names import called, named
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, one_line, show, visible
from backend.feature_geometry.feature_quadruples import SEARCHED
from backend.feature_geometry.trained_on import SOURCES
from backend.models.names import role_words
from backend.store.store import Store

QUADRUPLE = declare(Field("feature_quadruple", "quadruple of features", None, of="dictionary"))
SEARCHED_ROWS = declare(Field("searched_rows", "decoder rows that were searched for parallelograms", None))


def searched(here: Here) -> Missing | None:
    """Need of a view: decoder rows that were searched."""
    return None if here.once(_names) else undone(here.store.path, "parallelograms")


def _every(here: Here) -> pd.DataFrame:
    return studies.ask(here.store.searched_dictionaries)


def _names(here: Here) -> dict[str, str]:
    """What each searched dictionary is called, by its id: the study's own first."""
    own = here.store.dictionaries().set_index("dictionary_id", drop=False)
    names = {}
    for row in _every(here).drop_duplicates("dictionary_id").itertuples():
        if isinstance(row.sae_id, str):
            of = f"autoencoder of {called(here.store, row.model_id)}, layer {int(row.layer)}"
            names[row.dictionary_id] = f"{of}, trained on {_source(row.trained_on)}"
        elif row.dictionary_id in own.index:
            names[row.dictionary_id] = chosen_dictionary.named(here.store, own.loc[row.dictionary_id])
    return names


def _source(trained_on: str) -> str:
    return SOURCES[trained_on].label if trained_on in SOURCES else one_line(trained_on, 40)


def draw(here: Here, store: Store) -> None:
    """How small the losses of best matches are, and the best quadruples."""
    names = here.once(_names)
    chosen = selection.get(DICTIONARY)
    name = next(iter(names))
    if len(names) > 1:
        usual = chosen if chosen in names else name
        name = selection.pick(SEARCHED_ROWS, "Decoder rows of", list(names), default=usual, show=names.__getitem__)
    else:
        show(names[name])
    found = studies.ask(store.feature_quadruple_searches, dictionary_id=name)
    data_figure(
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
    _draw_quadruples(here, store, name)
    if _every(here)["sae_id"].notna().any():
        _draw_autoencoders(here)


def _draw_autoencoders(here: Here) -> None:
    """All searched autoencoders beside each other: how much lower their losses are than of their sides turned."""
    table = autoencoder_table(named(here.store, _every(here)))
    data_table(table, hide_index=True, row_height=28, key=keys.of("searched_autoencoders"))
    st.caption(
        f"n = {len(table)} autoencoders, one training a layer and source. Lower by: the median loss of best matches"
        " beside the mean of its own sides turned at random, 0 % by chance. What one trained on a Gaussian cloud or on"
        " random weights has, training makes by itself; other seeds were not searched."
    )


def autoencoder_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row an autoencoder, of rows of `searched_dictionaries`."""
    saes = rows[rows["sae_id"].notna()]
    made = []
    for _, own in saes.groupby(["dictionary_id", "model_id"], sort=False):
        one = own.iloc[0]
        median = own.loc[own["searched"] == "rows", "median"].mean()
        turned = own.loc[own["searched"] == "turned", "median"]
        spread = turned.max() - turned.min()
        made.append(
            {
                "model": one["model"],
                "layer": int(one["layer"]),
                "trained on": _source(one["trained_on"]),
                "rows": int(one["n_rows"]),
                "median loss": number(median),
                "sides turned": f"{number(turned.mean())} ({len(turned)} draws, {number(spread)} apart)",
                "lower by, %": round(100 * (1 - median / turned.mean()), 2) if len(turned) else None,
            }
        )
    return pd.DataFrame(made)


def said(role: str, own: pd.DataFrame) -> str:
    """Whether the rows have smaller losses than every draw of every null."""
    rows = own[own["searched"] == "rows"].iloc[0]
    nulls = own[own["searched"] != "rows"]
    if nulls.empty or pd.isna(rows["median"]):
        return f"{role_words(role).capitalize()}: nothing could be matched."
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
        f"{role_words(role).capitalize()}: the median loss of best matches is {number(rows['median'])}, the smallest"
        f" {number(rows['smallest'])}. By chance, the same search gives {'; '.join(parts)}. Against their own sides"
        f" turned at random, which keeps every length, losses are lower by {gain:.1%} in the median, {beyond}."
    )


def _draw_quadruples(here: Here, store: Store, name: str) -> None:
    found = studies.ask(store.feature_quadruples, dictionary_id=name)
    if found.empty:
        return
    worded = _worded(store, name, found)
    table = pd.DataFrame(
        {
            "model": found["role"].map(role_words),
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
    data_table(table, hide_index=True, row_height=28, height=320, key=keys.of("feature_quadruples"))
    own = store.dictionaries().set_index("dictionary_id", drop=False)
    if name not in own.index:
        st.caption(
            "Where an autoencoder's features fire is not kept, and nothing is steered along them; the study's own"
            " dictionary has both."
        )
        return
    by_id = {f"{row.model_id}.{row.place}": row for row in found.itertuples()}
    words = {key: f"{row.b} − {row.a} + {row.c}, {role_words(row.role)}" for key, row in by_id.items()}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = by_id[selection.pick(QUADRUPLE, "b − a + c", list(words), show=words.__getitem__, width=380)]
        steer_by_features(store, own.loc[name], (chosen.a, chosen.b, chosen.c), model_id=chosen.model_id)


def _worded(store: Store, dictionary_id: str, found: pd.DataFrame) -> dict[tuple[str, int], str]:
    """By model and feature: its number, and the tokens that it promotes there."""
    features = sorted({int(feature) for corner in "abcd" for feature in found[corner]})
    promoted = store.promoted_tokens(dictionary_id, features, 3)
    return {
        (row.model_id, row.feature): one_line(f"{row.feature}: {' '.join(map(visible, row.tokens))}", 60)
        for row in promoted.itertuples()
    }
