"""Which chunk acts on which, asked of the live worker."""

import pytest

from backend.geometry.before_after import answer_span, tokens_read
from backend.influence.suppression import chunk_influences, influences
from backend.live.influence import influence
from backend.live.jobs import Reader
from backend.live.requests import Answered, Chunk, Influences, Text, experiment_id
from backend.live.service import merge

PROMPT = "What is 12 + 30? "
COT = "Let me think step by step. First, we need to add 12 and 30. Wait, that is 42. So we are done."
TEXT = Text(PROMPT, COT, (Chunk("a", 0, 26), Chunk("b", 26, 59), Chunk("c", 59, 77), Chunk("d", 77, len(COT))))
AFTER = Answered("42", "\nThe final answer is \\boxed{42}.", "</think>")


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


def test_its_rows_come_source_by_source_and_are_those_of_a_study(reader):
    result, seen = {}, []
    for kind, payload in influence(reader, Influences(TEXT, "layers 1-2", AFTER)):
        if kind == "part":
            merge(result, payload)
        else:
            seen.append((payload, len(result["rows"])))
    assert seen == [((1, 4), 3), ((2, 4), 5), ((3, 4), 6), ((4, 4), 6)]
    read = reader.read(TEXT)
    cot = {
        "prompt": PROMPT,
        "text": COT,
        "token_ids": read.token_ids,
        "answer": "42",
        "after_text": AFTER.after_text,
        "think_close": AFTER.think_close,
    }
    tokenizer = reader.loaded.tokenizer
    tokens, answer = tokens_read(tokenizer, cot), answer_span(tokenizer, cot)
    assert answer is not None
    whole = list(influences(reader.loaded, tokens, read.spans, answer, "layers 1-2"))
    assert result["rows"] == [row for one in whole for row in one.rows]
    assert result["chunks"] == chunk_influences(whole) and result["chunks"][0]["answer_kl"] > 0


def test_it_stops_between_two_chunks(reader):
    steps = influence(reader, Influences(TEXT))
    assert next(steps)[1]["rows"] == [] and len(next(steps)[1]["rows"]) == 3
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_a_text_without_an_answer_has_none(reader):
    parts = [payload for kind, payload in influence(reader, Influences(TEXT)) if kind == "part"]
    assert [row["answer_kl"] for row in parts[-1]["chunks"]] == [None] * 4
    assert experiment_id("m", Influences(TEXT)) != experiment_id("m", Influences(TEXT, "layers 0-1"))
