"""Which sentence acts on which, in one chain, by one of the ways to ask it; and all of them side by side."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import streamlit as st

from app.chains_of_thought import influence_live
from app.chains_of_thought.influence_links import (
    PAIR,
    Links,
    difference,
    draw_arcs,
    draw_links,
    draw_map,
    draw_ways,
    found_in,
    one_reader,
    told,
    told_of_answers,
)
from app.figures.influence import Panel
from app.shared import chunk_colours, views
from app.shared.influence_ways import (
    DIFFERENCE,
    WAY,
    WAYS,
    Way,
    asked_for,
    choose_part,
    export_pairs,
    scale_of,
    usual_threshold,
)
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import selection, studies
from app.shell.fields import Decimal, Field, declare
from app.shell.missing import say
from backend.models.names import ROLES
from backend.store.store import Store

READER = declare(Field("influence_reader", "model that reads, for influence", None))
ABOVE = declare(Field("influence_above", "threshold of influence", Decimal(0.0, 1e6), of="influence_way"))
_SHOWN = {"arcs": "Beside the text", "map": "Matrix", "ways": "Methods side by side"}
SHOWN = declare(Field("influence_shown", "how influence is shown", _SHOWN, of=None))


def draw(here: Here, store: Store) -> None:
    known = store.influence_ways_of(here.chunk.cot)
    known = known[known["n_pairs"] > 0]
    with views.controls():
        way = _choose_way(known)
    links = _links(here, store, way, known)
    if links is None:
        if way.name != "suppression":  # which says itself what it lacks
            say(asked_for(store, way.name))
        return
    with views.controls():
        shown = selection.pick(
            SHOWN,
            "Shown",
            show=_SHOWN.__getitem__,
            widget=st.segmented_control,
            required=True,
            label_visibility="collapsed",
        )
    if shown == "map":
        draw_map(links)
    elif shown == "ways":
        there = {*studies.ask(store.influence_readings)["way"], links.way.name}
        ways = [name for name, one in WAYS.items() if one.stage or name in there]
        draw_ways([_panel(store, name, known, links) for name in ways], links)
    else:
        draw_arcs(links)
    draw_links(links)
    if not known[known["way"] == way.name].empty:
        export_pairs(store, way)
    st.caption(f"{way.label}: {way.meaning} **Limits.** {way.cannot_say}")


def _choose_way(known: pd.DataFrame) -> Way:
    """Of those by which something is known of the chain, and suppression, which can be computed."""
    there = [name for name in WAYS if name in set(known["way"])]
    name = selection.pick(
        WAY,
        "Method",
        [name for name in WAYS if name in there or name == "suppression"],
        default=(there or ["suppression"])[0],
        show=lambda name: WAYS[name].label,
        widget=st.segmented_control,
        required=True,
    )
    return WAYS[name]


def _links(here: Here, store: Store, way: Way, known: pd.DataFrame) -> Links | None:
    """The chain's pairs by a way, behind the controls of part, model and threshold; None where there are none yet."""
    where, readings = here.chunk, studies.ask(store.influence_readings)
    parts = known.loc[known["way"] == way.name, "part"].drop_duplicates().tolist()
    is_live = not parts and way.name == "suppression"
    controls = views.controls()
    with controls:
        part = choose_part(_in_order(readings, way.name, parts) or ["all"])
    if is_live:
        rows, in_all = influence_live.draw(here, store, part)
    else:
        rows = store.influence_pairs(where.cot, way.name, part)
        in_all = _in_all(store, way, where.cot, part)
    if rows.empty:
        return None
    words = _reader_words(store, rows)
    ranges = readings if (readings["way"] == way.name).any() else _ranges(rows, part)
    with controls:
        reader = _choose_reader(store, words, where.cot)
        threshold = _choose_threshold(way, usual_threshold(ranges, way.name, part))
    scale = scale_of(ranges, way.name, part, is_difference=reader == DIFFERENCE)
    if scale is None:
        st.caption("No pair of this chain has a known value above 0.")
        return None
    pairs, own = _read_by(way, rows, in_all, reader, words)
    return Links(
        way,
        part,
        reader,
        {**words, DIFFERENCE: "reasoner − base"}.get(reader),
        _chunks(store, where.cot),
        pairs,
        _answers(own),
        own,
        scale,
        threshold,
        where.chunk,
        where.cot,
        is_of_chain=ranges is not readings,
    )


def _in_order(readings: pd.DataFrame, way: str, parts: list[str]) -> list[str]:
    """What is suppressed, all of the model first; where the chain has nothing, what the study has."""
    listed = readings.loc[readings["way"] == way, "part"].drop_duplicates().tolist()
    return [part for part in listed if part in parts] if parts else listed


def _ranges(rows: pd.DataFrame, part: str) -> pd.DataFrame:
    """What `influence_readings` says of a study, of rows that were computed now for one that has none."""
    size, above = rows["value"].abs(), rows.loc[rows["value"] > 0, "value"]
    one = {
        "way": "suppression",
        "part": part,
        "n_pairs": int(size.notna().sum()),
        "least": above.quantile(0.01),
        "upper": size.quantile(0.8),
        "most": size.max(),
        "is_signed": False,
        "noise": math.nan,
    }
    return pd.DataFrame([one])


def _reader_words(store: Store, rows: pd.DataFrame) -> dict[str, str]:
    """The models that read, by id, the base before the distilled one; none where the way has no such model."""
    there = set(rows["model_id"]) - {""}
    models = studies.ask(store.models)
    words = {
        row.model_id: called(store, row.model_id) for row in models.itertuples(index=False) if row.model_id in there
    }
    return words | {model: called(store, model) for model in sorted(there - set(words))}


def _choose_reader(store: Store, words: Mapping[str, str], cot: str) -> str:
    """The model that reads, at first the one that wrote the chain; or the difference of two."""
    if not words:
        return ""
    writer = store.cot_to_read(cot)["model_id"].iloc[0]
    both = set(ROLES.values()) <= set(words.values())
    offered = [*words, *([DIFFERENCE] if both else [])]
    if len(offered) == 1:
        return offered[0]
    shown = {**words, DIFFERENCE: "reasoner − base"}
    return selection.pick(
        READER, "Read by", offered, default=writer if writer in words else offered[0], show=shown.__getitem__, width=150
    )


def _choose_threshold(way: Way, usual: float) -> float:
    step = 10.0 ** math.floor(math.log10(usual)) if usual > 0 else 0.01
    label = f"Links of at least ({'nats' if way.unit == 'nats' else 'value'})"
    return selection.pick_decimal(ABOVE, label, usual, step=step, width=150)


def _read_by(
    way: Way, rows: pd.DataFrame, in_all: pd.DataFrame, reader: str, words: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs and the chunks in all, as the chosen model reads them, or distilled less base."""
    by_model = one_reader(rows, words)
    if reader == DIFFERENCE:
        base, distilled = ({word: model for model, word in words.items()}[role] for role in ROLES.values())
        own = difference(rows, base, distilled)
        noise = in_all.groupby("chunk_id")["noise"].max()
        chunks = difference_in_all(in_all, base, distilled)
    else:
        own = rows[rows["model_id"] == reader]
        chunks = in_all[in_all["model_id"] == reader]
        noise = chunks.set_index("chunk_id")["noise"]
    index = pd.MultiIndex.from_frame(own[["source_chunk_id", "target_chunk_id"]])
    own = own.assign(
        by_model=by_model.reindex(index).fillna("").to_numpy() if len(by_model) else "",
        is_found=found_in(way, own, noise.dropna().to_dict()),
    )
    return own[list(PAIR)].reset_index(drop=True), chunks.reset_index(drop=True)


def difference_in_all(in_all: pd.DataFrame, base: str, distilled: str) -> pd.DataFrame:
    """Of each chunk, distilled less base; counts are of the distilled model's, the noise is the larger one."""
    own, other = (in_all[in_all["model_id"] == model].set_index("chunk_id") for model in (distilled, base))
    other = other.reindex(own.index)
    less = {
        name: own[name].astype(float) - other[name].astype(float)
        for name in ("answer_kl", "out_influence", "in_influence")
    }
    noise = pd.concat([own["noise"], other["noise"]], axis=1).max(axis=1)
    return own.assign(**less, noise=noise, last_reader=math.nan).reset_index()


def _answers(own: pd.DataFrame) -> pd.DataFrame:
    found = own.rename(columns={"answer_kl": "value"})
    found = found.assign(is_found=found["value"].abs() > found["noise"].fillna(0.0).astype(float))
    return found.assign(told=told_of_answers(found))


def _chunks(store: Store, cot: str) -> pd.DataFrame:
    """The chain's chunks with the tag that gives their colour."""
    source = selection.checked(chunk_colours.TAGS, store.tag_sources()) or ""
    return chunk_colours.chunks(store, cot, source, None, None)


def _panel(store: Store, name: str, known: pd.DataFrame, links: Links) -> Panel:
    """The chain by one way: the chosen one as it is chosen, another under its usual part and read by the same model."""
    title, readings = WAYS[name].label, studies.ask(store.influence_readings)
    if name == links.way.name:
        return Panel(f"{title} · {links.reader}" if links.reader else title, _said(links), links.scale, "")
    parts = known.loc[known["way"] == name, "part"].tolist()
    part = next(iter(_in_order(readings, name, parts)), "") if parts else ""
    scale = scale_of(readings, name, part)
    if not parts or scale is None:
        why = "no pair of this chain" if (readings["way"] == name).any() else "not in this study"
        return Panel(title, _said(links).iloc[:0], links.scale, why)
    rows = store.influence_pairs(links.cot, name, part)
    words = _reader_words(store, rows)
    reader = links.reader_id if links.reader_id in words else next(reversed(words), "")
    pairs, _ = _read_by(WAYS[name], rows, _in_all(store, WAYS[name], links.cot, part), reader, words)
    own = replace(links, way=WAYS[name], pairs=pairs, scale=scale)
    return Panel(f"{title} · {words[reader]}" if words else title, _said(own), scale, "")


def _said(links: Links) -> pd.DataFrame:
    return links.pairs.assign(told=told(links, links.pairs))


def _in_all(store: Store, way: Way, cot: str, part: str) -> pd.DataFrame:
    """What each chunk does in all, which only suppression says."""
    if way.name == "suppression":
        return store.chunk_influences_of(cot, part)
    return pd.DataFrame(columns=list(influence_live.IN_ALL))
