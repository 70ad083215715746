"""The parts of the latent map page: what is chosen, the points, what a click or a lasso does."""

import json
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures.latent_map import MOST_POINTS, OTHERS, WORD_COLOURS, Colour, latent_map
from app.shared import chosen_chunk, chosen_stream, chunk_colours, searched, views
from app.shared.chosen_chunk import ChosenChunk
from app.shared.chosen_dictionary import FEATURE
from app.shared.clicks import boxes, chunk_ids, lassos
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, no_activations, undone
from app.shell.more import more
from app.shell.untrusted import for_markdown, show_exactly
from app.shell.vocabulary import METHODS
from backend.search.columns import KnownColumns, could_be_a_name
from backend.store.search_queries import Column
from backend.store.store import Store

_HIGHLIGHTS = {
    "all": "every chunk",
    "cot": "this chain of thought",
    "problem": "this problem",
    "correct": "correct CoTs",
    "wrong": "wrong CoTs",
}
MAP = declare(Field("map_method", "map", METHODS))
COLOUR = declare(Field("map_colour", "colour of the map", could_be_a_name, of=None))
HIGHLIGHT = declare(Field("map_bright", "highlighted chunks of the map", _HIGHLIGHTS))
LASSO, TURN = "lassoed_chunks", "map_turn"


@dataclass(frozen=True)
class Chosen:
    """What the page shows."""

    model: str
    layer: int
    method: str  # umap_2d, umap_3d, pca_2d (the first two components of pca_3d) or pca_3d
    colour: Column
    source: str
    highlight: str
    facts: pd.Series  # the map's row of `maps`

    @property
    def stored(self) -> str:
        return "pca_3d" if self.method == "pca_2d" else self.method


@dataclass(frozen=True)
class Mapped:
    """What is drawn: the choice, and every chunk of the map."""

    chosen: Chosen
    points: pd.DataFrame


def a_map(here: Here) -> Missing | None:
    """A map of the activations."""
    store = here.store
    if len(store.maps()):
        return None
    unmapped = undone(store.path, "maps")
    return no_activations(store.coverage().iloc[0], store.path) if store.activation_places().empty else unmapped


def mapped(here: Here) -> Mapped:
    """The row of pickers, and the points by them."""
    views.require(here, a_map)
    chosen = controls(here.store)
    return Mapped(chosen, points(here.store, chosen, here.chunk))


def draw(here: Here, store: Store) -> None:
    """The map, and how it was made."""
    found, where, key = here.once(mapped), here.chunk, chart_key()
    figure = latent_map(
        found.points,
        axes=axes(found.chosen),
        colour=None if found.chosen.colour.name == "tag" else _drawn(found.chosen.colour),
        path=found.points[found.points["cot_id"] == where.cot],
        selected=where.chunk,
    )
    colour = found.chosen.colour
    data_figure(
        figure,
        words={colour.label: searched.meaning(colour)},
        key=key,
        on_select=lambda: taken(key, found.points),
        config={"scrollZoom": True},
    )
    caption(found.chosen, found.points)


def controls(store: Store) -> Chosen:
    """The row of pickers."""
    maps = store.maps()
    known, sources = searched.columns(store), store.tag_sources()
    with views.controls():
        stream = chosen_stream.pick(store, maps, width=190)
        here = chosen_stream.at(maps, stream)
        methods = [name for name in METHODS if ("pca_3d" if name == "pca_2d" else name) in set(here["method"])]
        colour = _pick_colour(store, known)
        highlight = selection.pick(
            HIGHLIGHT,
            "Highlight",
            show=_HIGHLIGHTS.__getitem__,
            then=forget_lasso,
            help="The other chunks are dimmed, never hidden.",
            width=200,
        )
        with more(MAP):
            method = selection.pick(
                MAP,
                "Map",
                methods,
                show=METHODS.__getitem__,
                help="UMAP keeps neighbours together and distorts distances; PCA is linear.",
            )
            if colour.name == "tag" and len(sources) > 1:
                selection.pick(chunk_colours.TAGS, "Tags from", sources)
    source = selection.checked(chunk_colours.TAGS, sources) or ""
    facts = here[here["method"] == ("pca_3d" if method == "pca_2d" else method)].iloc[0]
    assert stream.layer is not None  # it is of these rows
    return Chosen(stream.model, stream.layer, method, colour, source, highlight, facts)


def _pick_colour(store: Store, known: KnownColumns) -> Column:
    """Any column of the search that is no text; the tag where nothing is chosen."""
    options = [name for name in known if known[name].holds != "text"]
    if (feature := selection.get(FEATURE)) and (firing := searched.named(known, f"fires@{feature}")):
        options.append(firing.name)
    chosen = _colour_of_link(store, known)
    if chosen.name not in options:
        options.append(chosen.name)
    selection.offer(
        "map_colour",
        "Colour",
        options,
        chosen.name,
        lambda name: selection.choose({COLOUR: name}),
        show=lambda name: known[name].label,
        width=260,
        help=for_markdown(searched.meaning(chosen), 400),
    )
    return chosen


def _colour_of_link(store: Store, known: KnownColumns) -> Column:
    """What is chosen; links of before say category, or metric for the one that is chosen for every page."""
    name, metrics = selection.get(COLOUR), chunk_colours.importance_options(store)
    if name == "metric" and metrics:
        chosen = selection.get(chunk_colours.METRIC)
        name = (chosen if chosen in metrics else chunk_colours.usual_choice(metrics)).replace(":", "@")
    name = "tag" if name == "category" else name
    if name is not None and (found := searched.named(known, name)) is not None and found.holds != "text":
        return found
    usual = known["tag" if "tag" in known else "chunk"]
    if name is not None and name != "tag":
        if COLOUR.takes(name):
            selection.stand_in(COLOUR, name, usual.label)
        else:
            selection.forget_unknown(COLOUR)
    return usual


def _drawn(column: Column) -> Colour:
    return Colour(column.label, column.unit, signed=column.signed, of_words=column.holds != "number")


def points(store: Store, chosen: Chosen, where: ChosenChunk) -> pd.DataFrame:
    """Every chunk of the map, and whether it is highlighted (`lit`)."""
    rows = studies.ask(
        store.map_points,
        model_id=chosen.model,
        layer=chosen.layer,
        method=chosen.stored,
        source=chosen.source,
    )
    values = searched.values(store, chosen.colour)
    rows = rows.assign(value=_worded(chosen.colour, rows["chunk_id"].map(values)))
    if len(rows) > MOST_POINTS:
        st.caption(f"Showing {MOST_POINTS:,} of {len(rows):,} chunks, those of the first CoTs by id.")
        rows = rows.head(MOST_POINTS)
    lit = (
        {
            "all": pd.Series(True, index=rows.index),
            "cot": rows["cot_id"] == where.cot,
            "problem": rows["problem_id"] == where.problem,
            "correct": rows["is_correct"].eq(True),
            "wrong": rows["is_correct"].eq(False),
        }[chosen.highlight]
        .fillna(False)
        .astype(bool)
    )
    if lassoed := st.session_state.get(LASSO):
        lit = rows["chunk_id"].isin(lassoed)
    return rows.assign(number=rows["chunk_index"] + 1, lit=lit)


def _worded(column: Column, values: pd.Series) -> pd.Series:
    """Numbers as they are; words as they are said, those that are too many for a colour each as one."""
    if column.holds == "number":
        return values.astype(float)
    if column.holds == "yes or no":
        return values.astype(object).map({True: "yes", False: "no"})
    said = values.map(lambda value: searched.word(column, value))
    frequent = said.value_counts().index[: len(WORD_COLOURS)]
    return said.where(said.isna() | said.isin(frequent), OTHERS)


def axes(chosen: Chosen) -> tuple[str, ...]:
    """Titles of the axes: PCA's bear their share of the variance."""
    n = 3 if chosen.method.endswith("3d") else 2
    if chosen.method.startswith("umap"):
        return tuple(f"UMAP {k + 1}" for k in range(n))
    shares = chosen.facts["explained_variance"]
    known = shares is not None and shares is not pd.NA
    return tuple(f"component {k + 1}" + (f" ({shares[k]:.0%} of variance)" if known else "") for k in range(n))


def caption(chosen: Chosen, rows: pd.DataFrame) -> None:
    """How the map was made, and how much of it to believe."""
    facts = chosen.facts
    trust = "unknown" if pd.isna(facts.trustworthiness) else f"{facts.trustworthiness:.2f}"
    n_unknown = int(rows["value"].isna().sum())
    unknown = f" · {for_markdown(chosen.colour.label)} unknown for {n_unknown:,} (grey)" if n_unknown else ""
    st.caption(
        f"n = {len(rows):,} chunks, {int(rows['lit'].sum()):,} highlighted{unknown} · seed {facts.seed} ·"
        f" trustworthiness {trust} (share of map neighbours that are neighbours in the residual stream; 1 is best)."
        + (
            " Drag to pan; the lasso and box of the toolbar list chunks below."
            if chosen.method.endswith("2d")
            else " Clicks and lassos work on the 2-D maps."
        )
    )
    with st.expander("How this map was made"):
        made = json.loads(facts.parameters) if isinstance(facts.parameters, str) else "unknown"
        show_exactly(json.dumps(made, indent=2, ensure_ascii=False))


def chart_key() -> str:
    """A new chart after each lasso, so that its points do not travel to the server again and again."""
    return keys.of(f"latent_map_{st.session_state.get(TURN, 0)}")


def taken(key: str, rows: pd.DataFrame) -> None:
    """What a click (one chunk) or a box or lasso (a list) does."""
    ids = chunk_ids(key, rows["chunk_id"])
    if boxes(key) or lassos(key):
        st.session_state[LASSO] = ids
        st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
    elif ids:
        chosen_chunk.go(ids[0])
        selection.redraw()


def forget_lasso() -> None:
    st.session_state.pop(LASSO, None)
    st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
