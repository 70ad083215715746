from dataclasses import replace

import numpy as np
import pytest

from backend.cot.answers import extract_answer
from backend.cot.chunking import chunk_spans, token_spans
from backend.cot.prompts import FORCED_ANSWER
from backend.ids import chunk_id
from backend.importance.steered_rollouts import (
    AFTER,
    ARMS,
    BEFORE,
    STARTS,
    Along,
    SteeredChunk,
    Steering,
    continuations,
    judged,
)
from backend.models.sampling import SamplingParameters

PROMPT, TEXT = (
    "<|im_start|>What is 12 + 30? ",
    "Let me think step by step. First, we need to add 12 and 30. So the answer is \\boxed{42}.",
)
N = 3
SAMPLED = SamplingParameters(1.0, 1.0, 6)


def unit(seed: int, d_model: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(d_model)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture(scope="module")
def loaded(tiny):
    return tiny("llama")


@pytest.fixture(scope="module")
def chunks(loaded) -> list[SteeredChunk]:
    """The last two sentences."""
    found = loaded.tokenizer(PROMPT + TEXT, add_special_tokens=False, return_offsets_mapping=True)
    characters = chunk_spans(TEXT)
    tokens = token_spans(characters, found["offset_mapping"], len(PROMPT))
    ids = tuple(found["input_ids"])
    return [
        SteeredChunk(
            chunk_id("c1", k),
            "c1",
            PROMPT,
            TEXT,
            None,
            ids,
            "42",
            tokens[k],
            characters[k],
            Along(f"d{k}", unit(k, 64)),
        )
        for k in (1, 2)
    ]


@pytest.fixture(scope="module")
def steering() -> Steering:
    randoms = tuple(Along(f"r{k}", unit(10 + k, 64)) for k in range(2))
    return Steering(1, "chunk", "rms", 8.0, N, randoms, SAMPLED, 4, seed=5)


@pytest.fixture(scope="module")
def written(loaded, chunks, steering):
    return {chunk.chunk_id: rows for chunk, rows in continuations(loaded, chunks, steering)}


def texts(rows, arm: str, start: str = AFTER) -> list[str]:
    return [row["text"] for row in rows if row["arm"] == arm and row["start"] == start]


def test_every_arm_has_every_sample_from_both_starts_and_the_same_seeds(written):
    for rows in written.values():
        assert [(row["start"], row["arm"], row["sample"]) for row in rows] == [
            (start, arm, k) for start in STARTS for arm in ARMS for k in range(N)
        ]
        by_arm = [[row["seed"] for row in rows if row["arm"] == arm] for arm in ARMS]
        assert by_arm[0] == by_arm[1] == by_arm[2] and len(set(by_arm[0])) == 2 * N


def test_at_beta_0_all_arms_write_the_same_bit_for_bit(loaded, chunks, steering):
    for place in ("anchor", "chunk"):
        for _, rows in continuations(loaded, chunks[:1], replace(steering, n=2, beta=0.0, place=place)):
            for start in STARTS:
                base, steered, random = (texts(rows, arm, start) for arm in ARMS)
                assert base == steered == random


def test_steering_changes_what_is_written_and_not_what_the_base_arm_writes(loaded, chunks, steering, written):
    (rows,) = [rows for chunk, rows in continuations(loaded, chunks[:1], replace(steering, beta=-8.0))]
    before = written[chunks[0].chunk_id]
    for start in STARTS:
        assert texts(rows, "base", start) == texts(before, "base", start)
        assert texts(rows, "steered", start) != texts(before, "steered", start) != texts(before, "base", start)


def test_a_chunk_alone_writes_what_it_writes_beside_others_in_any_batch(loaded, chunks, steering, written):
    for chunk in chunks:
        ((_, rows),) = continuations(loaded, [chunk], steering, rows=16)
        assert rows == written[chunk.chunk_id]


def test_the_random_arm_takes_its_directions_in_turn_and_the_base_arm_none(written):
    for rows in written.values():
        along = {
            arm: [row["direction_id"] for row in rows if row["arm"] == arm and row["start"] == AFTER] for arm in ARMS
        }
        assert along["base"] == [None] * N and along["random"] == ["r0", "r1", "r0"] and len(set(along["steered"])) == 1


def test_the_base_arm_is_what_the_plain_sampler_writes_with_these_seeds(loaded, chunks, written):
    from backend.models.sampling import SampleRequest, sample

    chunk = chunks[0]
    cut = chunk.tokens[1]
    seeds = [row["seed"] for row in written[chunk.chunk_id] if row["arm"] == "base" and row["start"] == AFTER]
    wanted = [SampleRequest(str(k), "s", cut, seed) for k, seed in enumerate(seeds)]
    drawn = sample(loaded, {"s": chunk.token_ids[:cut]}, wanted, SAMPLED)
    plain = {one.request_id: len(one.token_ids) for one in drawn}
    own = [row["n_tokens"] for row in written[chunk.chunk_id] if row["arm"] == "base" and row["start"] == AFTER]
    assert [plain[str(k)] for k in range(N)] == own


class Same:
    """Judges by the letter."""

    def judge(self, pairs):
        return [None if one is None or other is None else one == other for one, other in pairs]


def alike(sentences):
    return np.tile([1.0, 0.0], (len(sentences), 1))


def test_answers_are_read_after_the_text_that_stands_before_and_sentences_compared_before_the_chunk_alone(chunks):
    told = {BEFORE: ["We add. It is \\boxed{42}.", "Hm.", ""], AFTER: ["It is \\boxed{7}.", "So", " No."]}
    rows = [
        {"start": start, "arm": "base", "sample": k, "text": said, "forced_text": None}
        for start in STARTS
        for k, said in enumerate(told[start])
    ]
    rows[4]["forced_text"] = ".\n\nSo it is \\boxed{9}"
    found = judged(chunks[0], rows, alike, Same())
    assert [row["answer"] for row in found] == ["42", None, None, "7", "9", None]
    assert [row["is_correct"] for row in found] == [True, None, None, False, False, None]
    assert [row["cluster"] for row in found] == ["42", None, None, "7", "9", None]
    assert [row["answer_source"] for row in found] == ["given", None, None, "given", "forced at the cap", None]
    assert [row["similarity"] is None for row in found] == [False, False, True, True, True, True]


def test_what_the_cap_cut_without_an_answer_is_made_to_answer_and_nothing_else_is(chunks, written):
    forced = 0
    for chunk in chunks:
        begins = dict(zip(STARTS, chunk.characters, strict=True))
        for row in written[chunk.chunk_id]:
            silent = extract_answer(TEXT[: begins[row["start"]]] + row["text"]) is None
            assert (row["forced_text"] is not None) == (row["finish"] == "cap" and silent)
            if row["forced_text"] is not None:
                assert row["forced_text"].lstrip().startswith(FORCED_ANSWER)
                forced += 1
    assert forced > N
