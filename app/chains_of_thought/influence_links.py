"""The pairs of one chain by one way, and what is drawn of them: beside the text, as a matrix, those of one chunk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app.components.arcs import MOST, arcs
from app.figures.influence import Panel, Scale, influence_map, ways_beside
from app.shared import chosen_chunk
from app.shared.chunk_list import go_table
from app.shared.clicks import marks
from app.shared.influence_ways import Way
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.numbers import count, interval, number
from app.shell.untrusted import for_plotly

ANSWER = "answer"  # as a target
_LISTED = 10  # links of a chunk to either side
PAIR = (
    "source_chunk_id",
    "target_chunk_id",
    "source_index",
    "target_index",
    "value",
    "low",
    "high",
    "p",
    "n",
    "by_model",
    "is_found",
)


@dataclass(frozen=True)
class Links:
    """`pairs` have the columns of PAIR; `answers` are what each chunk does to the answer, in the columns of
    `influence_map`'s.
    """

    way: Way
    part: str
    reader_id: str  # of a model, DIFFERENCE, or empty where the way has no such model
    reader: str | None  # who reads, in words; None where nobody does
    chunks: pd.DataFrame  # of the chain: chunk_id, chunk_index, number, text, category
    pairs: pd.DataFrame
    answers: pd.DataFrame
    in_all: pd.DataFrame  # of each chunk and the reading model: rows of `chunk_influences_of`
    scale: Scale
    threshold: float
    selected: str
    cot: str
    is_of_chain: bool  # whether the scale is of this chain alone, as the study has no other

    @property
    def unit(self) -> str:
        return self.way.unit

    @property
    def of(self) -> str:
        """What is shown, as a title."""
        return f"{self.way.value}, {self.unit}" + (f" · {self.reader}" if self.reader else "")

    @property
    def shown(self) -> pd.DataFrame:
        """The links that are drawn: those found, of at least the threshold."""
        size = self.pairs["value"].abs()
        found = self.pairs[self.pairs["is_found"] & (size >= self.threshold) & self.pairs["value"].notna()]
        return found.assign(strength=self.scale.strength(found["value"], self.threshold))

    @property
    def place(self) -> int:
        return int(self.chunks.index[self.chunks["chunk_id"] == self.selected][0])


def found_in(way: Way, rows: pd.DataFrame, noise: Mapping[str, float]) -> pd.Series:
    """Whether each pair stands out: from the source's `noise` (by its id), or an interval that does not hold 0."""
    floor = rows["source_chunk_id"].map(noise).fillna(0.0).astype(float)
    holds = (rows["low"] <= 0) & (rows["high"] >= 0)
    return (rows["value"].abs() > floor) & ~holds if way.stage else rows["value"].notna()


def one_reader(rows: pd.DataFrame, words: Mapping[str, str]) -> pd.Series:
    """What every model that reads says of each pair, in words, by both chunks' ids; empty where only one does."""
    if len(words) < 2:
        return pd.Series(dtype=object)
    named = rows[rows["model_id"].isin(words)]
    named = named.iloc[named["model_id"].map(list(words).index).argsort(kind="stable")]
    said = named["model_id"].map(words) + " " + named["value"].map(number)
    return said.groupby([named["source_chunk_id"], named["target_chunk_id"]]).agg(" · ".join)


def difference(rows: pd.DataFrame, base: str, distilled: str) -> pd.DataFrame:
    """Distilled less base, of the pairs that both know."""
    own = rows[rows["model_id"] == distilled]
    other = rows.loc[rows["model_id"] == base, ["source_chunk_id", "target_chunk_id", "value"]]
    both = own.merge(other, on=["source_chunk_id", "target_chunk_id"], suffixes=("", "_base"))
    return both.assign(value=both["value"] - both["value_base"], low=math.nan, high=math.nan, p=math.nan)


# What is drawn


def draw_arcs(links: Links) -> None:
    """The text with its links beside it."""
    shown = links.shown
    arcs(links.chunks, shown, unit=links.unit, selected=links.selected, on_chunk=chosen_chunk.go_along)
    n = int(links.pairs["value"].notna().sum())
    below = int((~links.pairs["is_found"] & links.pairs["value"].notna()).sum())
    strongest = "the strongest here" if links.is_of_chain else "the study's strongest"
    st.caption(
        f"{min(len(shown), MOST)} of {n} pairs are drawn: those of at least {number(links.threshold)} {links.unit}"
        + (f", the {MOST} strongest of {len(shown)}" if len(shown) > MOST else "")
        + f". {below_words(links.way, below)}Width and opacity grow from there to {strongest},"
        f" {number(links.scale.most)}{', on a logarithm' if links.scale.kind != 'linear' else ''}."
    )


def draw_map(links: Links) -> None:
    """Every pair as a cell, and the answer apart; a click goes to either chunk."""
    key = keys.of("influence_map")
    data_figure(
        influence_map(
            links.pairs.assign(told=told(links, links.pairs)),
            links.answers,
            n_chunks=len(links.chunks),
            scale=links.scale,
            title=links.of,
            selected=links.place,
            view=f"{links.cot}.{links.way.name}",
        ),
        key=key,
        on_select=lambda: _clicked(key, links.chunks["chunk_id"].tolist(), links.selected),
        selection_mode="points",
    )
    below = int((~links.pairs["is_found"] & links.pairs["value"].notna()).sum())
    unknown = int(links.pairs["value"].isna().sum())
    st.caption(
        f"One colour range for {'this chain' if links.is_of_chain else 'the whole study'}, so that"
        f" {'models' if links.is_of_chain else 'chains and models'} compare: {links.scale.words}."
        f" {below_words(links.way, below)}Blank: later chunks act on no earlier one, or it is unknown"
        + (f" ({unknown} pairs)" if unknown else "")
        + ". A click goes to the chunk acted on, from there to the one that acts."
    )


def below_words(way: Way, n: int) -> str:
    """What becomes of pairs that do not stand out, and how many there are."""
    if not way.stage or not n:
        return ""
    why = "whose interval holds 0" if not way.is_log else "at or below the noise floor, what rounding alone gives,"
    return f"{n} pairs {why} are drawn as nothing (a dot in the matrix). "


def _clicked(key: str, chunks: Sequence[str], selected: str) -> None:
    """Go to the target of the cell that was clicked, or, from there, to its source."""
    mark = next(iter(marks(key)), None)
    parts = mark.split(".") if isinstance(mark, str) else []
    if len(parts) != 2 or not parts[0].isdecimal() or int(parts[0]) >= len(chunks):
        return
    source = chunks[int(parts[0])]
    if parts[1] == ANSWER:
        chosen_chunk.go(source)
        selection.redraw()
    elif parts[1].isdecimal() and int(parts[1]) < len(chunks):
        target = chunks[int(parts[1])]
        chosen_chunk.go(source if target == selected else target)
        selection.redraw()


def draw_ways(panels: Sequence[Panel], links: Links) -> None:
    """The chain by every way, each on a scale of its own."""
    key = keys.of("influence_ways")
    data_figure(
        ways_beside(panels, n_chunks=len(links.chunks), selected=links.place),
        key=key,
        on_select=lambda: _clicked(key, links.chunks["chunk_id"].tolist(), links.selected),
        selection_mode="points",
    )
    st.caption(
        "The same pairs, each method in its own unit and on its own scale of the study (see its matrix), so that"
        " patterns compare and colours do not. Dotted: the selected chunk. All fall with distance, so that panels look"
        " alike even where the methods agree on nothing else; the page Influence has what remains at equal distance."
    )


def draw_links(links: Links) -> None:
    """The strongest links of the selected chunk to either side, and what it does in all."""
    st.caption(in_words(links))
    pairs = links.pairs[links.pairs["value"].notna()]
    for title, own, other in (
        ("This chunk influences", "source", "target"),
        ("Influenced by", "target", "source"),
    ):
        rows = pairs[pairs[f"{own}_chunk_id"] == links.selected]
        strongest = rows.iloc[np.argsort(-rows["value"].abs().to_numpy(float), kind="stable")[:_LISTED]]
        st.markdown(f"**{title}** · {len(strongest)} of {len(rows)} chunks")
        if strongest.empty:
            continue
        texts = links.chunks.set_index("chunk_id")["text"]
        ids = strongest[f"{other}_chunk_id"]
        go_table(
            pd.DataFrame(
                {
                    "chunk_id": ids.tolist(),
                    "chunk_index": strongest[f"{other}_index"].tolist(),
                    "text": ids.map(texts).tolist(),
                }
            ),
            values_of(links, strongest),
            key=keys.of(f"influence_{own}_{links.selected}_{links.way.name}"),
            own=links.cot,
        )


def values_of(links: Links, rows: pd.DataFrame) -> dict[str, list[object]]:
    """The columns of a table of links: value, interval and p where the way has them, n, and whether it stands out."""
    found: dict[str, list[object]] = {links.way.value: [_rounded(value) for value in rows["value"]]}
    if rows["low"].notna().any():
        found["95 %"] = [interval(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)]
        found["p"] = [_rounded(p) for p in rows["p"]]
    if rows["n"].notna().any():
        found["n"] = [None if pd.isna(n) else int(n) for n in rows["n"]]
    if not rows["is_found"].all():
        found["stands out"] = ["yes" if one else "no" for one in rows["is_found"]]
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(f"{value:.3g}")


def in_words(links: Links) -> str:
    """What the selected chunk does in all, by the model that reads."""
    own = links.in_all[links.in_all["chunk_id"] == links.selected]
    if own.empty:
        return f"Chunk {links.place + 1} of {len(links.chunks)}, {links.of}."
    row, said = own.iloc[0], []
    if not pd.isna(row.out_influence):
        said.append(f"mean over the {count(row.n_later)} later chunks {number(row.out_influence)} nats")
    if not pd.isna(row.last_reader):
        said.append(f"the last that it moves by the chain's median pair is {count(row.last_reader)} away")
    if not pd.isna(row.in_influence):
        said.append(f"the {count(row.n_earlier)} earlier ones do {number(row.in_influence)} to it on average")
    moved = f"{number(row.answer_kl)} (n = {count(row.n_answer)} tokens)"
    said.append("what it does to the answer is unknown" if pd.isna(row.answer_kl) else f"the answer moves by {moved}")
    floor = "" if pd.isna(row.noise) else f" Noise floor {number(row.noise)} nats."
    return f"Chunk {links.place + 1} of {len(links.chunks)}, {links.reader}: {'; '.join(said)}.{floor}"


def told(links: Links, pairs: pd.DataFrame) -> list[str]:
    """What is said of each pair under the pointer."""
    limit = 70 if len(links.chunks) <= 100 else 30  # each text stands at every pair of its chunk
    texts = [for_plotly(text, limit=limit, width=70) for text in links.chunks["text"]]
    lines = []
    for row in pairs.itertuples():
        said = [
            f"<b>{row.source_index + 1} acts on {row.target_index + 1}: {number(row.value)} {links.unit}</b>",
            *([] if pd.isna(row.low) else [f"95 % {interval(row.low, row.high)}, p = {number(row.p)}"]),
            *([] if pd.isna(row.n) else [f"n = {int(row.n)} {links.way.counted}"]),
            *([row.by_model] if row.by_model else []),
            *([] if row.is_found else ["not told from noise"]),
            f"{row.source_index + 1}. {texts[row.source_index]}",
            f"{row.target_index + 1}. {texts[row.target_index]}",
        ]
        lines.append("<br>".join(said))
    return lines


def told_of_answers(answers: pd.DataFrame) -> list[str]:
    return [
        f"<b>{row.chunk_index + 1} acts on the answer: {number(row.value)} nats</b><br>n = {count(row.n_answer)} tokens"
        for row in answers.itertuples()
    ]
