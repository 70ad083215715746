"""The parts of the latent map page: what is chosen, the points, what a click or a lasso does."""

import json
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures.latent_map import MOST_POINTS, latent_map
from app.shared import chosen_chunk, chosen_stream, chunk_colours, views
from app.shared.chosen_chunk import ChosenChunk
from app.shared.clicks import boxes, chunk_ids, lassos
from app.shared.views import Here
from app.shell import keys, navigation, selection, studies
from app.shell.fields import Field, declare
from app.shell.missing import Missing, no_activations, undone
from app.shell.more import more
from app.shell.untrusted import show_exactly
from app.shell.vocabulary import METHODS, metric_choice
from backend.store.store import Store

_HIGHLIGHTS = {
    "all": "every chunk",
    "cot": "this chain of thought",
    "problem": "this problem",
    "correct": "correct CoTs",
    "wrong": "wrong CoTs",
}
_CLICKS = {"open": "opens the chunk’s text", "select": "selects it here"}
_COLOURS = {"category": "category", "metric": "metric"}
MAP = declare(Field("map_method", "map", METHODS))
COLOUR = declare(Field("map_colour", "colour of the map", _COLOURS, of=None))
HIGHLIGHT = declare(Field("map_bright", "highlighted chunks of the map", _HIGHLIGHTS))
CLICK = declare(Field("map_click", "meaning of a click on the map", _CLICKS, of=None))
LASSO, _LEAVE, TURN = "lassoed_chunks", "leave_for_the_chunk", "map_turn"


@dataclass(frozen=True)
class Chosen:
    """What the page shows."""

    model: str
    layer: int
    method: str  # umap_2d, umap_3d, pca_2d (the first two components of pca_3d) or pca_3d
    by_metric: bool
    metric: str
    convention: str
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
        metric=chunk_colours.described(found.chosen.metric) if found.chosen.by_metric else None,
        path=found.points[found.points["cot_id"] == where.cot],
        selected=where.chunk,
    )
    st.plotly_chart(figure, key=key, on_select=lambda: taken(key, found.points), config={"scrollZoom": True})
    caption(found.chosen, found.points)


def controls(store: Store) -> Chosen:
    """The row of pickers."""
    maps = store.maps()
    metrics, sources = chunk_colours.importance_options(store), store.tag_sources()
    columns = iter(st.columns([2.1, 1.7, 4.2, 2.6, 1.2], gap="small", vertical_alignment="bottom"))
    with next(columns):
        stream = chosen_stream.pick(store, maps)
    here = chosen_stream.at(maps, stream)
    methods = [name for name in METHODS if ("pca_3d" if name == "pca_2d" else name) in set(here["method"])]
    with next(columns):
        colour = selection.pick(COLOUR, "Colour", None if metrics else ["category"], show=_COLOURS.__getitem__)
    chosen = chunk_colours.usual_choice(metrics) if metrics else ":"
    with next(columns):
        if colour == "metric":
            chosen = selection.pick(chunk_colours.METRIC, "Metric", metrics, default=chosen, show=metric_choice)
        elif sources:
            selection.pick(chunk_colours.TAGS, "Tags from", sources)
    with next(columns):
        highlight = selection.pick(
            HIGHLIGHT,
            "Highlight",
            show=_HIGHLIGHTS.__getitem__,
            then=forget_lasso,
            help="The other chunks are dimmed, never hidden.",
        )
    with next(columns), more(MAP, CLICK):
        method = selection.pick(
            MAP,
            "Map",
            methods,
            show=METHODS.__getitem__,
            help="UMAP keeps neighbours together and distorts distances; PCA is linear.",
        )
        selection.pick(CLICK, "On click", show=_CLICKS.__getitem__)
    name, _, convention = chosen.partition(":")
    source = selection.checked(chunk_colours.TAGS, sources) or ""
    facts = here[here["method"] == ("pca_3d" if method == "pca_2d" else method)].iloc[0]
    assert stream.layer is not None  # it is of these rows
    return Chosen(stream.model, stream.layer, method, colour == "metric", name, convention, source, highlight, facts)


def points(store: Store, chosen: Chosen, where: ChosenChunk) -> pd.DataFrame:
    """Every chunk of the map, and whether it is highlighted (`lit`)."""
    rows = studies.ask(
        store.map_points,
        model_id=chosen.model,
        layer=chosen.layer,
        method=chosen.stored,
        source=chosen.source,
        metric=chosen.metric,
        convention=chosen.convention,
    )
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
    unknown = f" · metric unknown for {int(rows['value'].isna().sum())} (hollow)" if chosen.by_metric else ""
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
        st.session_state[_LEAVE] = selection.checked(CLICK) == "open"


def leave_if_asked() -> None:
    if st.session_state.pop(_LEAVE, False):
        navigation.go_to(navigation.CHAINS)


def forget_lasso() -> None:
    st.session_state.pop(LASSO, None)
    st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
