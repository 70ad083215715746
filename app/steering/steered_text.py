"""What is being steered: a stored chain of thought, or a text somebody typed, with the chunk that was chosen in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chunk_colours, typed_text
from app.shared.chosen_chunk import CHUNK, ChosenChunk
from app.shared.chosen_stream import MODEL
from app.shell import selection
from app.shell.fields import Field, declare
from backend.cot.chunking import chunk_spans
from backend.cot.prompts import BOXED, Prompt, usual
from backend.ids import chunk_id, stable_id
from backend.live.available import Choice
from backend.live.requests import Chunk, Posed, Text
from backend.live.study_texts import text_of_cot
from backend.store.experiments import Experiments
from backend.store.store import Store

OWN = declare(Field("own_text", "typed text", ("yes",), of="cot"))
QUESTION = declare(Field("own_question", "typed question", None, of="own_text"))
WRITTEN = declare(Field("own_chain", "typed chain of thought", None, of="own_text"))
TRUTH = declare(Field("own_answer", "typed answer", None, of="own_text"))
SPELT = declare(Field("own_prompt", "prompt of the typed text", None, of="own_text"))
RUN = declare(Field("run", "run", None, of="chunk"))
AGAINST = declare(Field("second_run", "second run", None, of="chunk"))
_PROMPT = "typed_prompt"  # in the session, of a run that was opened by its link: the prompt of the text it was on


@dataclass(frozen=True)
class Subject:
    """`chunks` has a row a chunk, as the reader shows it; the chunk is None where a typed question has no chain of
    thought yet.
    """

    text: Text
    chunks: pd.DataFrame
    chunk: str | None
    title: str
    cot: str | None = None  # None for a typed text
    truth: str | None = None
    written_by: str | None = None
    writer_id: str | None = None

    @property
    def number(self) -> int | None:
        """1-based number of the chunk."""
        return (
            None
            if self.chunk is None
            else int(self.chunks.loc[self.chunks["chunk_id"] == self.chunk, "number"].iloc[0])
        )

    @property
    def chunk_text(self) -> str:
        return "" if self.chunk is None else str(self.chunks.loc[self.chunks["chunk_id"] == self.chunk, "text"].iloc[0])

    @property
    def name(self) -> str:
        """The chunk as a sentence calls it."""
        return "the answer's first token" if self.chunk is None else f"chunk {self.number}"


def chosen(store: Store, where: ChosenChunk | None, choice: Choice) -> Subject:
    """The chosen CoT, or the typed text where no place in the study is given.

    A CoT's tokens are kept where the live model is the one that wrote or read it; else the live model tokenises.
    """
    if where is None:
        own = what_was_typed()
        under = usual(store.prompts().to_dict("records"), [choice.model_id])[choice.model_id]
        return of_words(
            own.prompt, own.text, question=own.question, truth=own.truth, chunk=selection.get(CHUNK), under=under
        )
    cot = store.cot_to_read(where.cot).iloc[0]
    tags = selection.checked(chunk_colours.TAGS, store.tag_sources()) or ""
    table = chunk_colours.chunks(store, where.cot, tags, None, None)
    text = text_of_cot(store, where.chunk, choice.model_id)
    return Subject(text, table, where.chunk, cot.question, where.cot, cot.ground_truth, cot.written_by, cot.model_id)


def of_words(
    prompt: str, text: str, *, question: str | None, truth: str | None, chunk: str | None, under: Prompt = BOXED
) -> Subject:
    """A text cut into chunks here.

    `prompt` is empty where the model's own prompt for `question` is meant, `under` the study's for it.
    """
    name = stable_id("c", "typed", prompt, text, question)
    spans = chunk_spans(text)
    ids = [chunk_id(name, number) for number in range(len(spans))]
    table = pd.DataFrame(
        {
            "chunk_id": ids,
            "number": range(1, len(ids) + 1),
            "text": [text[start:end] for start, end in spans],
            "category": ["untagged"] * len(ids),
            "value": pd.Series([float("nan")] * len(ids), dtype=float),
        }
    )
    chunks = tuple(Chunk(name, *span) for name, span in zip(ids, spans, strict=True))
    chosen = chunk if chunk in ids else ids[-1] if ids else None
    asked = question if question is None or under == BOXED else Posed(question, under)
    return Subject(
        Text(prompt, text, chunks, question=asked if not prompt else None),
        table,
        chosen,
        question or "A text of your own",
        truth=truth,
    )


def with_prompt(subject: Subject, prompt: str) -> Subject:
    """The same with its prompt spelt out, once the model has said how it words the question."""
    return replace(subject, text=replace(subject.text, prompt=prompt, question=None))


@dataclass(frozen=True)
class Typed:
    """A text of one's own. `prompt` is empty where the model words the question itself."""

    question: str | None
    text: str
    truth: str | None
    prompt: str = ""


def type_in(
    question: str | None, text: str, truth: str | None, *, model: str | None = None, prompt: str | None = None
) -> None:
    """Make this the text that is steered; by `model`, where one is given, so that it does not depend on whose text was
    steered before; after `prompt`, where it is spelt out.
    """
    selection.choose({OWN: None, RUN: None, AGAINST: None})
    typed = {QUESTION: question, WRITTEN: text, TRUTH: truth, SPELT: prompt}
    selection.choose(
        {OWN: "yes"}
        | {field: typed_text.value(words) for field, words in typed.items()}
        | ({MODEL: model} if model else {})
    )


def continue_with(words: str) -> None:
    """Make what a model wrote after the typed text part of it."""
    own = what_was_typed()
    type_in(own.question, own.text + words, own.truth, prompt=own.prompt or None)


def what_was_typed() -> Typed:
    """The text that was typed; of a run's text that is in no link, what the run has of it."""
    if not _is_in_link() and (restored := st.session_state.get(_PROMPT)) is not None:
        return restored
    texts = (typed_text.read(field) for field in (QUESTION, WRITTEN, TRUTH, SPELT))
    question, text, truth, prompt = texts
    return Typed(question, text or "", truth, prompt or "")


def _is_in_link() -> bool:
    """Whether the selection has a typed text; one that it names and nobody here has is forgotten, and noted."""
    return any([typed_text.read(field) is not None for field in (QUESTION, WRITTEN, SPELT)])


def is_typed(study: Path) -> bool:
    """Whether a typed text is steered.

    A link brings it along, and a link to a run on it in any case.
    """
    if selection.get(OWN) is None:
        st.session_state.pop(_PROMPT, None)
        return False
    if not _is_in_link() and _PROMPT not in st.session_state:
        row = Experiments(study).get(selection.get(RUN) or "")
        if row is None or row["cot_id"] is not None:
            selection.forget_unknown(OWN)
            return False
        take_from(row)
    return True


def take_from(run: Mapping[str, Any]) -> None:
    """Have a kept run's text steered where the selection does not have it: it was on a typed one that no link has."""
    if run["cot_id"] is None:
        st.session_state[_PROMPT] = Typed(None, run["text"], None, run["prompt"])
