"""The parts of the page Features on the chain: which text, which features, the heat maps, and what fires at the place
that is looked at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.token_text import token_text
from app.figures.chain_features import chain_heat
from app.figures.crosscoder import MODELS
from app.shared import (
    chosen_chain,
    chosen_chunk,
    chosen_dictionary,
    coded_chain,
    feature_rows,
    live,
    text_source,
    views,
)
from app.shared.chosen_chunk import ChosenChunk
from app.shared.clicks import marks, picked_row
from app.shared.feature_rows import suggested_names
from app.shared.text_source import TOKEN
from app.shared.views import Here
from app.shared.waiting import Reading, wait_for
from app.shell import keys, navigation, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import SWITCH, Field, declare
from app.shell.missing import Missing, PageEnds, command, say_and_end, there
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import one_line, show
from backend.cot.chunking import chunk_spans, token_spans
from backend.crosscoder import on_text
from backend.crosscoder.kinds import firing_of
from backend.crosscoder.label_suggestions import seen
from backend.crosscoder.on_text import NoFeatures, TextCodes
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.live.available import EMBEDDED, REASONERS, Choice
from backend.live.requests import Codes
from backend.live.service import Status
from backend.models.names import role_words
from backend.root import PRECOMPUTE
from backend.store.store import Store

_MOST_PLACES = 3000  # tokens drawn at a time
_MOST_HEADS = 160  # tokens that all stand at the head of their column
_CELLS = {"token": "tokens", "chunk": "chunks"}
_RANKS = {
    "lift": "lift: more often here than elsewhere",
    "mean": "mean f on this text",
    "distilled": "NRN, reasoner first",
    "base": "NRN, base first",
    "set": "a chosen set",
}
_COUNTS = ("10", "20", "30", "60")
CELLS = declare(Field("heat_cells", "cells of the heat map", _CELLS))
PROMPTED = declare(Field("heat_with_prompt", "switch of the prompt", SWITCH, "no"))
RANK = declare(Field("heat_order", "order of the features", _RANKS))
CHOSEN = declare(Field("heat_features", "features of the heat map", None, of="dictionary"))
ROWS = declare(Field("heat_rows", "rows of the heat map", _COUNTS, "20"))
_AT_MOST = 200  # rows of the table of what fires somewhere


@dataclass(frozen=True, eq=False)
class Shown:
    """A text with its codes. `where` is None for a typed one."""

    text: TextCodes
    where: ChosenChunk | None

    @property
    def key(self) -> str:
        """Tells texts apart in the keys of widgets."""
        return stable_id("t", *self.text.tokens) if self.where is None else self.where.cot


# Which text


def chosen_text(here: Here) -> Shown:
    """The chosen CoT with its codes, or the text that somebody typed, once it is read; and how much there is.

    Ends the page where there is nothing to show.
    """
    shown = _chosen_text(here.store, here.dictionary)
    counts(shown.text)
    return shown


def _chosen_text(store: Store, dictionary: pd.Series) -> Shown:
    with views.controls():
        is_typed, chain = text_source.choose_source(), st.container(width="content")
    if is_typed:
        return Shown(_typed(store, dictionary), None)
    with chain:
        where = chosen_chain.choose_in_drawer(store, chosen_chunk.here(store))
    return Shown(there(coded_chain.find(store, dictionary, where.cot)), where)


def _typed(store: Store, dictionary: pd.Series) -> TextCodes:
    """What was typed, encoded by the live worker. Until it is, says so and ends the page."""
    base, distilled = _models(store, dictionary)
    own = text_source.typed(
        store,
        label="Show its features",
        help=(
            "Both models then read the text as an answer to that problem. Without it the text begins with its own"
            " first token, of which nothing is known: it is an attention sink, and dictionaries never see it."
        ),
    )
    request = Codes(
        str(store.path),
        dictionary.dictionary_id,
        int(dictionary.layer),
        own.words,
        own.prompt,
        None if distilled is None else distilled.model,
    )
    status = _asked(base, request)
    if "codes" not in status.result:
        again = partial(_asked, base, request, again=True)
        wait_for(Reading(status, "Reading the text", "features_text", again, can_be_stopped=True))
    return _read(status.result, own.prompt, own.words)


def _models(store: Store, dictionary: pd.Series) -> tuple[Choice, Choice | None]:
    """The dictionary's models. Where one is not on this machine, says which, and ends the page."""
    here = {choice.model_id: choice for choice in live.steerable(store)}
    wanted = {dictionary.base_model_id: dictionary.base, dictionary.distilled_model_id: dictionary.distilled}
    for model_id, name in wanted.items():
        if isinstance(model_id, str) and model_id not in here:
            fetch = f"{PRECOMPUTE} model" if name in (EMBEDDED, *REASONERS) else command(store.path)
            say_and_end(
                Missing(
                    f"{one_line(str(name), 80)}, which this dictionary reads, is not on this machine with the weights"
                    " that it was made for, so no new text can be encoded. This command fetches what it needs:",
                    fetch,
                )
            )
    return here[dictionary.base_model_id], here.get(dictionary.distilled_model_id)


def _asked(choice: Choice, request: Codes, *, again: bool = False) -> Status:
    try:
        status = live.service().status(live.look_up(choice, request, again=again))
        assert status is not None  # it was asked for on this line
        return status
    except AnchorscopeError as error:  # too many wait
        show(str(error))
        raise PageEnds from error


def _read(result: Mapping[str, Any], prompt: str, words: str) -> TextCodes:
    """What the worker found, cut into chunks here."""
    tokens, spans = result["tokens"], chunk_spans(words)
    offsets = list(pairwise(accumulate((len(token) for token in tokens), initial=0)))
    edges = token_spans(spans, offsets, len(prompt))
    chunks = pd.DataFrame(
        {
            "chunk_id": [f"typed_{k:04d}" for k in range(len(edges))],
            "number": np.arange(len(edges)) + 1,
            "token_start": [start for start, _ in edges],
            "token_end": [end for _, end in edges],
        }
    )
    codes = pd.DataFrame(
        {"position": result["positions"], "feature": result["features"], "code": result["codes"].astype(np.float64)}
    )
    return TextCodes(tokens, result["n_prompt"], codes, chunks[chunks["token_end"] > chunks["token_start"]])


# Which features


def chosen_features(here: Here) -> list[int]:
    """The features to draw, from the top, by controls; those that were opened or compared elsewhere are always among
    them.
    """
    dictionary, rows, text = here.dictionary, here.features, here.once(chosen_text).text
    compares = chosen_dictionary.compares(dictionary)
    options = [name for name in _RANKS if compares or name in ("lift", "mean", "set")]
    with views.controls():
        how = selection.pick(RANK, "Order features by", options, show=_RANKS.__getitem__, width=230)
        if how == "set":
            words = selection.get(CHOSEN) or ""
            st.text_input(
                "Features",
                max_chars=200,
                placeholder="12, 45, 99",
                width=300,
                **selection.following(
                    "chosen_features", words, lambda words: selection.choose({CHOSEN: words.strip() or None})
                ),
            )
        with here.once(_door):
            most, norm = int(selection.pick(ROWS, "Features shown", width=110)), "l1"
            if how not in ("lift", "mean", "set"):
                norm = selection.pick(
                    feature_rows.NORM,
                    "Decoder norm of NRN",
                    show=feature_rows.NORMS.__getitem__,
                    width=230,
                )
    if how == "set":
        try:
            found = on_text.named(words, int(dictionary.n_features))
        except NoFeatures as error:
            show(str(error))
            found = []
    elif how == "lift":
        found = on_text.specific(_lifts(dictionary, rows, here.once(chosen_text)), most)
        st.caption(
            "From the top: features that fire more often on this text than on the study's other tokens, of those that"
            f" fire on {on_text.LEAST_FIRED} or more of its tokens; then the rest by mean f."
        )
    else:
        nrn = rows.set_index("feature")[f"nrn_{norm}"].to_dict()
        found = on_text.ranked(on_text.summary(text), nrn, how, most)
    return list(dict.fromkeys((*chosen_dictionary.opened(dictionary), *found)))


def _lifts(dictionary: pd.Series, rows: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """Lift of each feature of the text over the study's other tokens: of a CoT of the study its own are taken out."""
    found, frequency = on_text.summary(shown.text), rows.set_index("feature")["frequency"].fillna(0.0)
    n_judged = 0 if pd.isna(dictionary.n_judged) else int(dictionary.n_judged)
    n_own = shown.text.n_coded if shown.where is not None else 0
    own = found.set_index("feature")["n_fired"].reindex(frequency.index).fillna(0) if n_own else 0
    n_elsewhere = max(n_judged - n_own, 0)
    fired = (frequency * n_judged - own).clip(lower=0)
    return on_text.lifts(found, shown.text, fired / max(n_elsewhere, 1), n_elsewhere)


def named_rows(rows: pd.DataFrame, features: list[int], names: Mapping[int, str]) -> dict[int, str]:
    """What each feature is called on the figure: number, label or else the start of its suggested name, NRN."""
    known = rows.set_index("feature").reindex(features)
    return {
        row.Index: " · ".join(
            [
                str(row.Index),
                *([one_line(words, 24)] if (words := _called(row.label, names.get(row.Index))) else []),
                *([f"NRN {row.nrn_l1:.2f}"] if pd.notna(row.nrn_l1) else []),
            ]
        )
        for row in known.itertuples()
    }


def _called(label: object, suggestion: str | None) -> str:
    """A person's label; else of a suggestion the tokens that it begins with, with a question mark; else nothing."""
    return label if isinstance(label, str) else f"{suggestion.split(' · ')[0]}?" if suggestion else ""


# The heat maps


@dataclass(frozen=True)
class Cells:
    """What a cell of the heat map is, token or chunk, and whether the prompt's are drawn."""

    of: str
    with_prompt: bool


def _door(here: Here) -> DeltaGenerator:
    return more(ROWS, feature_rows.NORM, CELLS, PROMPTED)


def chosen_cells(here: Here) -> Cells:
    """The controls of the cells."""
    text = here.once(chosen_text).text
    with here.once(_door):
        cells = selection.pick(
            CELLS,
            "Cells are",
            show=_CELLS.__getitem__,
            widget=st.segmented_control,
            required=True,
        )
        with_prompt = False
        if cells == "token" and text.n_prompt > 1:
            with_prompt = selection.pick_switch(PROMPTED, "with the prompt")
    return Cells(cells, with_prompt)


def draw_heat(here: Here, store: Store) -> None:
    """A heat map for each model; a click goes to the token or the chunk."""
    shown, features = here.once(chosen_text), here.once(chosen_features)
    how, dictionary, rows, text = here.once(chosen_cells), here.dictionary, here.features, shown.text
    cells, with_prompt = how.of, how.with_prompt
    if not features:
        st.caption("No feature is chosen, or none fires on this text.")
        return
    token, marked = selected_token(text), marked_tokens(shown)
    if cells == "token":
        found, places = on_text.by_token(text, features, with_prompt=with_prompt), _window(shown, with_prompt)
        labels = {at: f"token {at}: {text.tokens[at]!r}" for at in places}
        if len(places) <= _MOST_HEADS:
            ticks, columns = {at: seen(text.tokens[at]) for at in places}, "tokens"
        else:
            ticks = {
                int(row.token_start): f"{row.number} {seen(text.tokens[int(row.token_start)])}"
                for row in text.chunks.itertuples()
                if row.token_start in places
            }
            columns = "tokens; heads: number and first token of each chunk"
        frame: range | None = range(token, token + 1) if token is not None else marked
        if len(places) < len(text.tokens) - (0 if with_prompt else text.n_prompt):
            st.caption(f"{len(places):,} of {len(text.tokens):,} tokens are drawn, around the place that is looked at.")
    else:
        found, places = on_text.by_chunk(text, features), range(1, len(text.chunks) + 1)
        labels = {row.number: f"chunk {row.number}: {_words(text, row)}" for row in text.chunks.itertuples()}
        ticks, columns = {at: str(at) for at in places if at == 1 or at % _stride(len(places)) == 0}, "chunks"
        numbers = text.chunks.loc[text.chunks["token_start"] == marked.start, "number"]
        frame = range(int(numbers.iloc[0]), int(numbers.iloc[0]) + 1) if len(numbers) and len(marked) else None
    norms = feature_rows.decoder_norms(dictionary, rows)
    key = keys.of(f"chain_heat_{cells}")
    data_figure(
        chain_heat(
            on_text.contributions(found, norms),
            rows=named_rows(rows, features, suggested_names(store, dictionary, rows)),
            panels={role: role_words(role) for role in norms},
            places=places,
            labels=labels,
            ticks=ticks,
            columns=columns,
            marked=frame if frame else None,
            selected=chosen_dictionary.feature(dictionary),
            view=shown.key,
        ),
        key=key,
        on_select=partial(_clicked, key, shown, dictionary),
        selection_mode="points",
        config={"scrollZoom": True},
    )
    st.caption(definition(dictionary, cells))


def definition(dictionary: pd.Series, cells: str) -> str:
    """What the colour is, in words."""
    roles = chosen_dictionary.roles(dictionary).values()
    scales = " and ".join(
        f"{role_words(role)} {scale:.3g}" for role, scale in zip(roles, dictionary.scale, strict=True)
    )
    mean = "" if cells == "token" else " f is its mean over the chunk's tokens."
    one_code = (
        " A crosscoder has one f for both models: a feature fires at the same places in both, and its two rows differ"
        " by the ratio of its decoder norms (RDN). Both maps share one colour scale."
        if chosen_dictionary.compares(dictionary)
        else ""
    )
    firing = firing_of(dictionary.kind, dictionary.parameters)
    signed = "" if firing is None else "; below 0: against the row"
    empty = "An empty cell is f = 0." if firing is None else f"{firing.words} Empty cells do not fire."
    return (
        "Colour: what feature k adds to a model, f_k · ‖W_dec,k‖₂ with that model's decoder row, in scaled units"
        f" (residual stream times {scales}){signed}.{mean}{one_code} {empty} Click a cell to go there; drag to move,"
        " scroll to zoom."
    )


def _window(shown: Shown, with_prompt: bool) -> range:
    """The tokens to draw: all, or so many around the place that is looked at."""
    whole = range(0 if with_prompt else shown.text.n_prompt, len(shown.text.tokens))
    if len(whole) <= _MOST_PLACES:
        return whole
    token, marked = selected_token(shown.text), marked_tokens(shown)
    start = min(
        max((marked.start if token is None else token) - _MOST_PLACES // 2, whole.start), whole.stop - _MOST_PLACES
    )
    return range(start, start + _MOST_PLACES)


def _stride(n: int) -> int:
    return next(stride for stride in (1, 5, 10, 50, 100, 500, 10**6) if n / stride <= 60)


class _Span(Protocol):
    """A row of `TextCodes.chunks`."""

    token_start: int
    token_end: int


def _words(text: TextCodes, chunk: _Span) -> str:
    return "".join(text.tokens[int(chunk.token_start) : int(chunk.token_end)])


def _clicked(key: str, shown: Shown, dictionary: pd.Series) -> None:
    """Go to the cell that was clicked on the chart `key`: its feature, and its token or chunk."""
    cell = next(iter(marks(key)), None)
    parts = cell.split(".") if isinstance(cell, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        return
    feature, at = map(int, parts)
    if feature >= dictionary.n_features:
        return
    selection.choose({chosen_dictionary.FEATURE: str(feature)})
    if key.endswith("token"):
        go_to_token(shown, at)
    else:
        go_to_chunk(shown, at)
    selection.redraw()


def go_to_token(shown: Shown, position: int) -> None:
    """Select a token, and its chunk where it is in a stored CoT."""
    if not 0 <= position < len(shown.text.tokens):
        return
    if shown.where is not None and (chunk := shown.text.chunk_at(position)):
        chosen_chunk.go(chunk)
    selection.choose({TOKEN: str(position)})


def go_to_chunk(shown: Shown, number: int) -> None:
    """Select a chunk by its number; of a typed text its first token, as its chunks are nowhere else."""
    row = shown.text.chunks[shown.text.chunks["number"] == number]
    if row.empty:
        return
    selection.choose({TOKEN: None})
    if shown.where is not None:
        chosen_chunk.go(str(row["chunk_id"].iloc[0]))
    else:
        selection.choose({TOKEN: str(int(row["token_start"].iloc[0]))})


# The place that is looked at


def selected_token(text: TextCodes) -> int | None:
    """The selection's token, where the text has it."""
    return text_source.token(len(text.tokens))


def marked_tokens(shown: Shown) -> range:
    """The tokens of the selected chunk: the token's own, else that of the selection."""
    token = selected_token(shown.text)
    chunk = shown.text.chunk_at(token) if token is not None else shown.where and shown.where.chunk
    row = shown.text.chunks[shown.text.chunks["chunk_id"] == chunk]
    return range(0) if row.empty else range(int(row["token_start"].iloc[0]), int(row["token_end"].iloc[0]))


def draw_looked_at(here: Here, store: Store) -> None:
    """The text tinted by one feature, and beside it what fires at the token or chunk that is looked at; of chunks, at
    the whole chunk.
    """
    shown, features = here.once(chosen_text), here.once(chosen_features)
    dictionary, rows, cells = here.dictionary, here.features, here.once(chosen_cells).of
    text, token, marked = shown.text, selected_token(shown.text), marked_tokens(shown)
    tint = chosen_dictionary.feature(dictionary, default=features[0] if features else None)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        of_tint = text.codes[text.codes["feature"] == tint]
        show("The text" if tint is None else f"The text, tinted by feature {named_rows(rows, [tint], {})[tint]}")
        around = _window(shown, with_prompt=True)
        token_text(
            text.tokens[around.start : around.stop],
            dict(zip(of_tint["position"].tolist(), of_tint["code"].tolist(), strict=True)),
            key=keys.of("chain_tokens"),
            colour=MODELS["distilled"],
            n_prompt=text.n_prompt,
            selected=token,
            marked=marked,
            on_token=lambda position: go_to_token(shown, position),
            first=around.start,
        )
        if shown.where is not None:
            st.page_link(
                navigation.link_to(navigation.CHAINS),
                label="Open in the workspace",
                icon=":material/segment:",
                query_params=selection.values(),
            )
    with right:
        if token is None and not len(marked):
            st.caption("Click a cell or a word: what fires there is listed here.")
        else:
            _firing(dictionary, rows, shown, None if cells == "chunk" and len(marked) else token, marked)


def _firing(dictionary: pd.Series, rows: pd.DataFrame, shown: Shown, token: int | None, marked: range) -> None:
    text = shown.text
    first, end = (marked.start, marked.stop) if token is None else (token, token + 1)
    found = on_text.firing_at(text, first, end)
    norms = feature_rows.decoder_norms(dictionary, rows)
    found = on_text.contributions(found, norms).merge(rows, on="feature", how="left").head(_AT_MOST)
    number_of = text.chunks.loc[text.chunks["token_start"] == marked.start, "number"]
    chunk = f"chunk {int(number_of.iloc[0])}" if len(number_of) and len(marked) else "the prompt"
    if token is None:
        show(f"What fires in {chunk}: f is the mean over its {end - first} tokens, n fired on how many of them")
    else:
        show(f"What fires at token {token}, {text.tokens[token]!r}, of {chunk}")
    if found.empty:
        st.caption("A text's first token has no codes." if token == 0 else "No feature fires here.")
        return
    columns: dict[str, pd.Series] = {"feature": found["feature"], "label": found["label"], "f": found["code"]}
    columns |= {f"adds to {role_words(role)}": found[role] for role in norms}
    columns |= {"n fired": found["n_fired"]} if token is None else {}
    if chosen_dictionary.compares(dictionary):
        columns |= {"NRN, L1": found["nrn_l1"], "class": found["class"].map(role_words, na_action="ignore")}
    columns |= {"fires on": found["frequency"]}
    words = ("feature", "label", "class", "n fired")
    numbers = {name: st.column_config.NumberColumn(format="%.3g") for name in columns if name not in words}
    table = pd.DataFrame(columns)
    key = keys.of(f"firing_{shown.key}_{first}_{end}")
    data_table(
        table,
        hide_index=True,
        height=400,
        row_height=28,
        key=key,
        selection_mode="single-row",
        on_select=_opener(key, table["feature"].tolist()),
        column_config=numbers,
    )
    st.caption("“Fires on”: share of the study's CoT tokens. Click a row to open the feature.")


def _opener(key: str, features: list[int]) -> Callable[[], None]:
    def go() -> None:
        if (picked := picked_row(key, len(features))) is not None:
            chosen_dictionary.choose_feature(features[picked])

    return go


def counts(text: TextCodes) -> None:
    """How much there is."""
    n = text.own["feature"].nunique()
    fired = len(text.own) / text.n_coded if text.n_coded else None
    show(f"{n:,} features fire on {text.n_coded:,} tokens of this text, {number(fired)} on a token in the mean")
