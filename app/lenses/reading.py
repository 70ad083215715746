"""What the page Lenses reads: which text, by which model or models, under which lens; and what has come of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chosen_chain, chosen_stream, live, text_source
from app.shared.chosen_chunk import ChosenChunk
from app.shared.chosen_stream import MODEL
from app.shared.model_names import called, in_full
from app.shared.views import Here, chunks, controls, require
from app.shared.waiting import Reading, place_in_line, wait_for
from app.shell import keys, selection
from app.shell.fields import Field, declare
from app.shell.missing import Missing, PageEnds
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import one_line, show
from backend.cot.chunking import chunk_spans
from backend.errors import AnchorscopeError
from backend.ids import chunk_id, stable_id
from backend.lens.grid import CUTS, Cut, Grid, grid
from backend.lens.kinds import LENSES, LensKind
from backend.live.available import Choice
from backend.live.requests import MAX_CHOSEN, Chunk, LensMap, Text, UnderLens
from backend.live.service import Status
from backend.live.study_texts import text_of_cot
from backend.root import PRECOMPUTE
from backend.store.store import Store

LENS = declare(Field("lens", "lens", None))  # a kind of LENSES, or KIND:VARIANT of one that is fitted
CUT = declare(Field("lens_cut", "columns of the map", CUTS))
PAIR = declare(Field("lens_pair", "models of the map", ("one", "difference")))
FOLLOWED = declare(Field("lens_followed", "tokens that are followed", None))
_EVERY = 0.4  # seconds between two looks at a map that is on its way


@dataclass(frozen=True)
class Model:
    """A model that can read here, and what it is in the study."""

    choice: Choice
    role: str
    name: str  # what it is called


@dataclass(frozen=True)
class Asked:
    """What is to be read; two models where their difference is looked at, the base model first."""

    models: list[Model]
    texts: list[Text]  # one for each
    where: ChosenChunk | None  # None of a typed text
    lenses: list[UnderLens]  # one for each
    cut: Cut
    followed: tuple[str, ...]

    @property
    def kind(self) -> LensKind:
        return LENSES[self.lenses[-1].kind]

    def request(self, number: int) -> LensMap:
        return LensMap(self.texts[number], self.lenses[number], self.followed, means=self.cut.is_mean)

    @property
    def is_difference(self) -> bool:
        return len(self.models) > 1


@dataclass(frozen=True)
class Shown:
    """What has come of it so far."""

    asked: Asked
    statuses: list[Status]  # one for each model
    grids: list[Grid]
    quality: list[pd.DataFrame]  # of each model's lenses, by layer and kind of position

    @property
    def found(self) -> Mapping[str, Any]:
        """Of the last model: its text, and the words of its tokens."""
        return self.statuses[-1].result

    @property
    def words(self) -> dict[int, str]:
        """Of every top token, by id."""
        return {token: word for status in self.statuses for token, word in status.result.get("words", {}).items()}

    @property
    def key(self) -> str:
        return stable_id("l", *(status.ticket_id for status in self.statuses), self.asked.cut.name)


def a_model(here: Here) -> Missing | None:
    """A model on this machine that can read a text."""
    if here.once(_steerable):
        return None
    return Missing(
        "No model of this study is on this machine, so no text can be read under a lens. This command fetches the"
        " embedded one, with which any text can be read:",
        f"{PRECOMPUTE} model",
    )


def _steerable(here: Here) -> list[Choice]:
    return live.steerable(here.store)


def a_text(here: Here) -> Missing | None:
    """A text to read: one that was typed, or a chain of thought."""
    return None if text_source.is_typed() else chunks(here)


def asked(here: Here) -> Asked:
    """The controls of text, models, lens and columns."""
    store = here.store
    with controls(gap="medium"):
        chain = st.container(width="content")
        models = _choose_models(store)
        lenses = _choose_lens(store, models)
        door = more(text_source.TYPED, CUT, FOLLOWED)
    with door:
        is_typed = text_source.choose_source()
        cut = CUTS[selection.pick(CUT, "Columns", show=lambda name: CUTS[name].label, width=180)]
    if is_typed:
        own = text_source.typed(
            store,
            label="Read it",
            help="The model then reads the text as an answer to that problem. Without it the text stands alone.",
        )
        text = _of_words(own.prompt, own.words)
        with door:
            followed = _followed(None)
        return Asked(models, [text] * len(models), None, lenses, cut, followed)
    require(here, chunks)
    with chain:
        where = chosen_chain.choose_in_drawer(store, here.chunk)
    here.look_at(where)
    texts = [text_of_cot(store, where.chunk, model.choice.model_id) for model in models]
    truth = store.cot_to_read(where.cot)["ground_truth"].iloc[0]
    with door:
        followed = _followed(truth)
    return Asked(models, texts, where, lenses, cut, followed)


def _choose_lens(store: Store, models: list[Model]) -> list[UnderLens]:
    """The lens of each model: the logit lens, or one that every model of the map has a fit of."""
    fits = [_fits(store, model) for model in models]
    common = [name for name in fits[0] if all(name in own for own in fits)]
    names = [kind.name for kind in LENSES.values() if not kind.is_fitted] + common
    words = {name: _lens_words(name, fits[0].get(name)) for name in names}
    chosen = selection.pick(
        LENS,
        "Lens",
        names,
        show=lambda name: words.get(name, one_line(name, 40)),
        help="\n".join(f"- {kind.label}, {kind.formula}: {kind.words}" for kind in LENSES.values())
        + "\n\nOnes that are fitted are offered where the study has a fit for the model.",
        width=190,
    )
    kind = chosen.partition(":")[0]
    if not LENSES[kind].is_fitted:
        return [UnderLens(kind)] * len(models)
    return [UnderLens(kind, str(store.path), own[chosen]["lens_id"]) for own in fits]


def _fits(store: Store, model: Model) -> dict[str, dict[str, Any]]:
    """The study's fitted lenses of a model that can be read with, by KIND:VARIANT; those of other settings than the
    first of each also by their id.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in store.lenses(model.choice.model_id).to_dict("records"):
        if row["kind"] in LENSES and row["is_readable"]:
            name = f"{row['kind']}:{row['variant']}"
            found[f"{name}:{row['lens_id']}" if name in found else name] = row
    return found


def _lens_words(name: str, row: Mapping[str, Any] | None) -> str:
    kind, *rest = name.split(":")
    if row is None:
        return LENSES[kind].label
    of = "" if row["variant"] == "all" else f", {one_line(row['variant'], 30)}"
    tokens = "" if pd.isna(row["n_tokens"]) else f", {int(row['n_tokens']):,} tokens"
    other = f" (earlier settings: {row['n_layers']} layers{tokens})" if len(rest) > 1 else ""
    return LENSES[kind].label + of + ("" if row["is_whole"] else ", named tokens") + other


def _choose_models(store: Store) -> list[Model]:
    """The model that reads, or both of a pair: the one chosen for every page where it is here."""
    roles = dict(store.models()[["model_id", "role"]].itertuples(index=False))
    here = {
        choice.model_id: Model(choice, str(roles.get(choice.model_id, "model")), called(store, choice.model_id))
        for choice in live.steerable(store)
    }
    wanted = chosen_stream.chosen(store)
    chosen = wanted.model if wanted is not None and wanted.model in here else next(iter(here))
    pair = [next((model for model in here.values() if model.role == role), None) for role in ("base", "distilled")]
    both = [model for model in pair if model is not None]
    options = {model_id: model.name for model_id, model in here.items()}
    is_pair = len(both) == 2
    if is_pair:
        options["difference"] = " − ".join(model.name for model in both[::-1])
    now = "difference" if is_pair and selection.checked(PAIR) == "difference" else chosen

    def take(value: str) -> None:
        selection.choose({PAIR: "difference"} if value == "difference" else {PAIR: "one", MODEL: value})

    selection.offer(
        "lens_model", "Model", list(options), now, take, show=options.__getitem__, width=290, help=in_full(store, here)
    )
    return both if now == "difference" else [here[now]]


def _of_words(prompt: str, words: str) -> Text:
    """A text cut into chunks here."""
    name = stable_id("c", "typed", prompt, words, None)
    spans = enumerate(chunk_spans(words))
    return Text(prompt, words, tuple(Chunk(chunk_id(name, number), *span) for number, span in spans))


def _followed(truth: str | None) -> tuple[str, ...]:
    """The tokens that are followed, with their control; at first the answer, and the word that checks begin with."""
    usual = "|".join([*([truth] if truth else []), "Wait", " Wait"])
    given = selection.get(FOLLOWED)
    if given is not None and len([word for word in given.split("|") if word]) > MAX_CHOSEN:
        selection.forget_unknown(FOLLOWED)
        given = None
    words = usual if given is None else given
    st.text_input(
        "Followed tokens, | between two",
        max_chars=200,
        help=(
            "Of each word its first token is followed: a number may be written digit by digit, so that the first token"
            " of 360 is 3. A space before a word is part of its token. #42 is the token with that number."
        ),
        **selection.following(
            "lens_followed", words, lambda said: selection.choose({FOLLOWED: said if said != usual else None})
        ),
    )
    return tuple(dict.fromkeys(word for word in words.split("|") if word))[:MAX_CHOSEN]


def read(here: Here) -> Shown:
    """What has come so far. Until there is a first picture, says so and ends the page."""
    require(here, a_model)
    wanted = here.once(asked)
    statuses = [_asked(wanted, number) for number in range(len(wanted.models))]
    for which, status in enumerate(statuses):
        if not _has_picture(status):
            doing = f"{one_line(wanted.models[which].name, 60)} is reading the text"
            again = partial(_asked, wanted, which, again=True)
            wait_for(Reading(status, doing, "lens", again, _has_picture))
    _refuse_two_texts(wanted, statuses)
    _watch(wanted, statuses)
    grids = [grid(status.result, wanted.cut) for status in statuses]
    quality = [here.store.lens_quality(model.choice.model_id) for model in wanted.models]
    return Shown(wanted, statuses, grids, quality)


def _refuse_two_texts(wanted: Asked, statuses: list[Status]) -> None:
    """Ends the page where the two models read other tokens, or count their tokens otherwise."""
    if len({tuple(status.result["token_ids"]) for status in statuses}) > 1:
        show(
            "The two models read this text as different tokens, so their maps have no common columns: choose one of"
            " them at a time."
        )
        raise PageEnds


def _asked(wanted: Asked, number: int, *, again: bool = False) -> Status:
    try:
        ticket = live.look_up(wanted.models[number].choice, wanted.request(number), again=again)
    except AnchorscopeError as error:  # too many wait
        show(str(error))
        raise PageEnds from error
    status = live.service().status(ticket)
    assert status is not None  # it was asked for on a line above
    return status


def _has_picture(status: Status) -> bool:
    return not status.error and bool({"first", "means"} & set(status.result))


def _watch(wanted: Asked, statuses: list[Status]) -> None:
    """How far the maps are; the page is drawn anew as rows of them come, where tokens are looked at, and at the end."""
    under_way = [status for status in statuses if not status.ended]
    if not under_way:
        return
    n_seen = _n_rows(statuses)

    def look() -> None:
        now = [live.service().status(status.ticket_id) for status in statuses]
        there = [status for status in now if status is not None]
        more = not wanted.cut.is_chunk and _n_rows(there) > n_seen
        if more or all(status.ended for status in there):
            selection.rerun()
        for status in there:
            if not status.ended:
                place_in_line(status, "The whole map, layer by layer")

    keys.fragment(look, run_every=_EVERY)()


def _n_rows(statuses: list[Status]) -> int:
    return sum(len(window["rows"]) for status in statuses for window in status.result.get("windows", {}).values())


def cost_lines(shown: Shown) -> None:
    """What each map took, beside the time of its matrix products alone."""
    for model, status in zip(shown.asked.models, shown.statuses, strict=True):
        first = (status.result.get("first") or status.result["means"])["seconds"]
        said = f"{one_line(model.name, 60)}: first picture after {number(first)} s"
        if cost := status.result.get("cost"):
            said += (
                f", whole map {number(cost['seconds'])} s: {cost['seconds'] / cost['floor_seconds']:.2f} × the"
                f" {number(cost['floor_seconds'])} s that its {cost['gflop']:,.1f} GFLOP of matrix products take"
                f" alone at {cost['gflop_a_second']:,.0f} GFLOP/s here"
            )
        show(f"{said}.")


def chunk_rows(shown: Shown) -> pd.DataFrame:
    """The chunks of the text: chunk_id, number, text, token_start, token_end."""
    text = shown.asked.texts[-1]
    spans = shown.found["spans"]
    return pd.DataFrame(
        [
            {
                "chunk_id": chunk.chunk_id,
                "number": at,
                "text": text.text[chunk.char_start : chunk.char_end],
                "token_start": spans[chunk.chunk_id][0],
                "token_end": spans[chunk.chunk_id][1],
            }
            for at, chunk in enumerate(text.chunks, start=1)
        ],
        columns=["chunk_id", "number", "text", "token_start", "token_end"],
    )
