"""What the worker computes for a request, against the plain way of getting it."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.cot.answers import Judge
from backend.geometry.directions import per_chunk
from backend.geometry.sweep import sweep_chunk
from backend.live import jobs, requests
from backend.live.jobs import Reader, _Pieces, run
from backend.live.requests import (
    REWORDINGS,
    Chunk,
    Compared,
    Continue,
    ControlledDose,
    Curve,
    Dose,
    Open,
    RequestError,
    Sampling,
    Stream,
    Text,
    experiment_id,
)
from backend.live.service import merge
from backend.models.edits import encode
from backend.models.interventions import Intervention
from backend.models.residuals import chunk_activations, record_residuals
from backend.models.sampling import SharedRows

PROMPT = "What is 12 + 30? "
COT = "Let me think step by step. First, we need to add 12 and 30. Wait, that is 42. So the answer is 42."
CHUNKS = (Chunk("a", 0, 26), Chunk("b", 26, 59), Chunk("c", 59, 77), Chunk("d", 77, len(COT)))
TEXT = Text(PROMPT, COT, CHUNKS)


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


@pytest.fixture(scope="module")
def judge():
    with Judge() as made:
        yield made


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def push(beta: float, place: str = "onward", seed: int = 1) -> Intervention:
    return Intervention((1,), place, "add", unit(seed), beta)


def result_of(reader, request, judge=None) -> dict:
    result: dict = {}
    for kind, payload in run(reader, request, lambda: judge):
        if kind == "part":
            merge(result, payload)
    return result


def test_reading_a_text_finds_its_tokens_and_chunks(reader):
    found = result_of(reader, Open(TEXT, "b", (0, 2)))
    ids = reader.loaded.tokenizer(PROMPT + COT, add_special_tokens=False)["input_ids"]
    spans = found["spans"]
    assert found["n_tokens"] == len(ids) and spans["a"][0] == found["n_prompt"] and spans["d"][1] == len(ids)
    assert [spans[name][1] for name in "abc"] == [spans[name][0] for name in "bcd"]
    residual = record_residuals(reader.loaded, ids, [2])[2]
    expected = chunk_activations(residual, [spans["c"]]).mean[0].numpy()
    assert np.allclose(found["activations"][2]["c"], expected, atol=1e-6)
    assert 0 <= found["noise_floor"] < 1e-6


def test_the_logit_lens_of_the_last_layer_is_what_the_model_predicts(reader):
    found = result_of(reader, Open(TEXT, "b", floor=False))
    ids = torch.tensor([reader.loaded.tokenizer(PROMPT + COT, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        own = reader.loaded.model(ids).logits[0, found["span"][0] - 1].softmax(-1)
    assert [p for _, p in found["lens"][3]] == pytest.approx(own.topk(5).values.tolist(), abs=1e-6)


def test_the_tokens_a_text_was_sampled_as_are_kept(reader):
    odd = tuple(reader.loaded.tokenizer("12")["input_ids"]) * 20  # not how the tokenizer would cut any text
    found = result_of(reader, Open(Text("x", "y", (Chunk("a", 0, 1, 5, 9),), odd, 3), "a", floor=False))
    assert (found["n_tokens"], found["n_prompt"], found["span"]) == (len(odd), 3, (5, 9))


def test_tokens_without_a_word_on_where_chunks_lie_in_them_are_refused(reader):
    for chunks, n_prompt in (((Chunk("a", 0, 2, 1, 2),), None), ((Chunk("a", 0, 2),), 1)):
        with pytest.raises(RequestError, match="where each chunk's lie"):
            reader.read(Text("p ", "ab", chunks, (5, 6, 7), n_prompt))


def test_a_live_curve_equals_the_sweep_of_the_study(reader):
    betas = (-4.0, -1.0, 0.0, 2.0, 10.0)
    direction = per_chunk({"b": unit(4)}, model_id=reader.loaded.model_id, layer=1).made[0]
    ids = reader.loaded.tokenizer(PROMPT + COT, add_special_tokens=False)["input_ids"]
    span = result_of(reader, Open(TEXT, "b", floor=False))["span"]
    swept = sweep_chunk(
        reader.loaded, encode(reader.loaded, ids), "b", span, [direction], positions=["anchor", "chunk"], betas=betas
    )
    for row in swept.kl_curves:
        change = Intervention((1,), row["position"], "add", direction.vector, 1.0)
        found = result_of(reader, Curve(TEXT, "b", change, betas, (direction.vector, unit(9))))
        assert found["kl"] == pytest.approx(row["kl"], rel=1e-6, abs=1e-12) and found["kl"][2] == 0
        assert found["controls"][0] == found["kl"] and found["controls"][1] != found["kl"]


def test_sampling_both_arms_with_beta_zero_writes_every_text_twice(reader, judge):
    request = Continue(
        Compared(TEXT, "b", "before", push(0.0)),
        Sampling(temperature=1.0, max_new_tokens=12),
        5,
        n=4,
        truth="42",
        controls=(unit(2), unit(3)),
    )
    result = result_of(reader, request, judge)
    texts = {
        arm: [row["text"] for row in result["samples"] if row["arm"] == arm] for arm in ("base", "changed", "random")
    }
    assert texts["base"] == texts["changed"] == texts["random"] and len(set(texts["base"])) > 1
    assert [row["seed"] for row in result["samples"][:4]] == [row["seed"] for row in result["samples"][4:8]]


def test_a_push_changes_the_changed_arm_alone(reader, judge):
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    calm = result_of(reader, Continue(Compared(TEXT, "b", "before", push(0.0)), sampling, 5, n=4), judge)["samples"]
    pushed = result_of(
        reader, Continue(Compared(TEXT, "b", "before", push(9.0)), sampling, 5, n=4, answers=("42",)), judge
    )
    assert [row["text"] for row in pushed["samples"][:4]] == [row["text"] for row in calm[:4]]
    assert [row["text"] for row in pushed["samples"][4:]] != [row["text"] for row in calm[4:]]
    assert all(
        row["is_correct"] is None and row["grader"] is None for row in pushed["samples"]
    )  # no truth: nothing is judged
    assert pushed["clusters"]["42"] == "42"


def test_a_dose_has_the_same_random_numbers_at_every_beta(reader, judge):
    request = Dose(
        Compared(TEXT, "b", "after", push(1.0, "chunk")),
        Sampling(temperature=1.0, max_new_tokens=10),
        2,
        (0.0, 3.0),
        n=3,
    )
    result = result_of(reader, request, judge)
    assert result["betas"] == [0.0, 3.0] and result["kl"][0] == 0 < result["kl"][1]
    assert [(row["beta"], row["sample"]) for row in result["samples"]] == [
        (beta, k) for beta in (0.0, 3.0) for k in range(3)
    ]
    assert [row["seed"] for row in result["samples"][:3]] == [row["seed"] for row in result["samples"][3:]]


def test_thinking_tokens_of_samples_are_those_before_the_closing_tag_counted_one_by_one(reader, judge, monkeypatch):
    """The tiny model writes no tag: what it wrote now and then is taken for one."""
    asked = Compared(Text(PROMPT + "<think>\n", COT, CHUNKS), "b", "before", push(0.0))
    sampling = Sampling(temperature=1.0, max_new_tokens=20)
    plain = result_of(reader, Continue(asked, sampling, 5, n=4), judge)["samples"]
    assert {(row["n_thinking"], row["n_answer"], row["thought"]) for row in plain} <= {
        (row["n_tokens"], 0, "open") for row in plain
    }
    tag = plain[0]["text"][8:11]
    monkeypatch.setattr("backend.cot.thinking_tokens.closing_tag", lambda response, prompt: tag)
    rows = result_of(reader, Continue(asked, sampling, 5, n=4), judge)["samples"]
    assert [row["text"] for row in rows] == [row["text"] for row in plain] and rows[0]["thought"] == "closed"
    streamed = result_of(reader, Stream(asked, sampling, 5))["arms"]["base"]
    text = "".join(token["text"] for token in streamed["tokens"])
    begins = [len("".join(t["text"] for t in streamed["tokens"][:k])) for k in range(len(streamed["tokens"]))]
    if tag in text:
        assert streamed["spent"]["n_thinking"] == sum(begin < text.index(tag) for begin in begins)
    else:
        assert streamed["spent"] == {"n_thinking": len(begins), "n_answer": 0, "thought": "open"}


def test_a_text_without_tags_thinks_to_its_end(reader, judge):
    request = Continue(Compared(TEXT, "b", "before", push(0.0)), Sampling(max_new_tokens=6), 5, n=2)
    for row in result_of(reader, request, judge)["samples"]:
        assert (row["n_thinking"], row["n_answer"], row["thought"]) == (row["n_tokens"], None, "untagged")


def test_random_vectors_along_beta_share_the_random_numbers_and_are_each_what_a_dose_of_theirs_is(reader, judge):
    sampling, betas, compared = (
        Sampling(temperature=1.0, max_new_tokens=8),
        (0.0, 3.0),
        Compared(TEXT, "b", "before", push(1.0)),
    )
    found = result_of(reader, ControlledDose(compared, sampling, 2, betas, n=2, controls=(unit(5), unit(6))), judge)
    keys = [(row["arm"], row["beta"], row["sample"]) for row in found["samples"]]
    assert len(set(keys)) == len(keys) == 8
    for number, seed in enumerate((1, 5, 6)):
        alone = Dose(Compared(TEXT, "b", "before", push(1.0, seed=seed)), sampling, 2, betas, n=2)
        dose = result_of(reader, alone, judge)
        arm, first = ("random", 2 * (number - 1)) if number else ("changed", 0)
        texts = {
            row["sample"] - first: row["text"]
            for row in found["samples"]
            if row["arm"] == arm and row["beta"] == 3.0 and 0 <= row["sample"] - first < 2
        }
        assert [texts[k] for k in range(2)] == [row["text"] for row in dose["samples"] if row["beta"] == 3.0]
        assert (found["controls"][number - 1] if number else found["kl"]) == pytest.approx(dose["kl"], rel=1e-6)
    with pytest.raises(RequestError, match="β = 0"):
        ControlledDose(compared, sampling, 2, (1.0, 3.0))


@pytest.mark.parametrize("wording", [" First, we need to multiply 12 by 30.", ""])
def test_a_reworded_sentence_is_what_the_other_arm_goes_on_from(reader, wording):
    greedy = Sampling(temperature=0, max_new_tokens=8)
    found = result_of(reader, Stream(Compared(TEXT, "b", "after", None, wording), greedy, 1))
    plain = Text(PROMPT, COT[:26] + wording, (Chunk("z", 0, 26 + len(wording)),))
    alone = result_of(reader, Stream(Compared(plain, "z", "after", push(0.0)), greedy, 1))
    assert [t["id"] for t in found["arms"]["changed"]["tokens"]] == [t["id"] for t in alone["arms"]["base"]["tokens"]]
    assert any(token["kl"] > 0 for token in found["arms"]["changed"]["tokens"])


def test_the_same_sentence_again_writes_every_text_again_and_a_paraphrase_stands_beside_the_new_wording(reader, judge):
    own, new, other = COT[26:59], " First, we need to multiply 12 by 30.", " To start, 12 and 30 must be added."
    request = Continue(
        Compared(TEXT, "b", "after", None, new),
        Sampling(temperature=1.0, max_new_tokens=12),
        5,
        n=4,
        rewordings=(("same", own), ("paraphrase", other)),
    )
    rows = result_of(reader, request, judge)["samples"]
    texts = {arm: [row["text"] for row in rows if row["arm"] == arm] for arm in ("base", "changed", *REWORDINGS)}
    assert texts["same"] == texts["base"] and len({*texts["base"]}) > 1
    assert len({tuple(of) for of in texts.values()}) == 3
    alone = Continue(Compared(TEXT, "b", "after", None, other), request.sampling, 5, n=4)
    alone = result_of(reader, alone, judge)["samples"]
    assert [row["text"] for row in alone if row["arm"] == "changed"] == texts["paraphrase"]
    steered = result_of(reader, Continue(Compared(TEXT, "b", "after", push(0.0)), request.sampling, 5, n=4), judge)
    assert [row["text"] for row in steered["samples"][:4]] == texts["base"]


def test_the_same_sentence_again_has_the_tokens_it_was_sampled_as(reader):
    odd = tuple(reader.loaded.tokenizer("12")["input_ids"]) * 20  # not how the tokenizer would cut any text
    read = reader.read(Text("x", "y", (Chunk("a", 0, 1, 5, 9),), odd, 3))
    arm, so_far = jobs._reworded(reader, read, "a", "y")
    assert (arm.token_ids, so_far) == (odd[:9], "y")


@pytest.mark.parametrize("rewordings", [(("same", "a"), ("same", "b")), (("flipped", "a"),)])
def test_beside_a_new_wording_stand_its_controls_alone(rewordings):
    with pytest.raises(RequestError, match="same and paraphrase, once each"):
        Continue(Compared(TEXT, "b", "after", None, "x"), Sampling(), 1, rewordings=rewordings)
    with pytest.raises(RequestError, match="once each"):
        Continue(Compared(TEXT, "b", "after", push(1.0)), Sampling(), 1, rewordings=(("same", "a"),))


def test_a_field_that_came_in_later_is_no_part_of_the_id_of_a_run_without_it():
    one = Continue(Compared(TEXT, "b", "after", None, "x"), Sampling(), 1)
    assert "rewordings" not in requests._plain(one) and "answers" in requests._plain(one)
    assert experiment_id("m", one) != experiment_id("m", replace(one, rewordings=(("same", "a"),)))


def test_a_question_is_asked_in_the_models_own_words_and_written_to_from_the_end(reader):
    text = Text("", "", (), question="What is 5-1?")
    opened = result_of(reader, Open(text, None))
    assert (
        "What is 5-1?" in opened["prompt"]
        and opened["span"] == (opened["n_tokens"],) * 2
        and "noise_floor" not in opened
    )
    found = result_of(reader, Stream(Compared(text, None, "after", push(2.0)), Sampling(max_new_tokens=5), 1))
    assert found["arms"]["base"]["tokens"]
    with pytest.raises(RequestError, match="no tokens of its own"):
        result_of(
            reader, Curve(Text(PROMPT, "ab", (Chunk("a", 0, 0, 4, 4),), tuple(range(3, 12)), 4), "a", push(1.0), (1.0,))
        )


def test_pieces_join_to_the_text_whatever_the_tokens_split(reader):
    tokenizer = reader.loaded.tokenizer
    said = " Wait — 12 × 30 = 360 ✓ naïve 🙂 done. " * 3
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    pieces = _Pieces(tokenizer, tokenizer("So", add_special_tokens=False)["input_ids"])
    assert "".join(pieces.next(token) for token in ids) == said


def test_texts_read_lately_are_not_read_again(reader, monkeypatch):
    first = reader.read(TEXT)
    monkeypatch.setattr(reader, "_encoded", lambda text: pytest.fail("read again"))
    assert reader.read(TEXT) is first


def test_a_chunk_that_nothing_stands_before_is_refused_and_no_other_token_is_taken_for_its_anchor(reader):
    with pytest.raises(RequestError, match="no token before this chunk"):
        result_of(reader, Open(Text("", "Let me think.", (Chunk("a", 0, 13),)), "a"))


def test_others_come_in_between_the_encodings_of_a_runs_arms(reader, judge, monkeypatch):
    began, encode_one = [], SharedRows.encode
    monkeypatch.setattr(SharedRows, "encode", lambda *args: (began.append(args[1]), encode_one(*args))[1])
    request = Continue(
        Compared(TEXT, "b", "before", push(6.0)), Sampling(max_new_tokens=2), 3, n=4, controls=(unit(2), unit(3))
    )
    counts = []
    for _ in run(reader, request, lambda: judge):
        counts.append(len(began))
    assert max(counts) == 4 and max(np.diff(counts)) == 1


def test_a_judge_does_not_go_on_for_a_request_that_was_cancelled(reader):
    asked = []

    class Slow:
        def judge(self, pairs):
            asked.extend(pairs)
            time.sleep(0.1)
            return [None] * len(pairs)

    rows = [{"answer": f"{k}"} for k in range(100)]
    steps = jobs.judged(rows, "1", (), Slow)
    next(steps)
    steps.close()
    with jobs._JUDGING:  # the next one's turn, at once
        assert len(asked) < 10


def test_fewer_rows_are_written_at_a_time_where_each_may_grow_long(reader, monkeypatch):
    assert reader.rows(8) == 128
    row = 4 * 4 * 2 * 2 * 16 * 1024  # float32, layers, keys and values, heads, width, tokens
    monkeypatch.setattr(jobs, "_BATCH_BYTES", 40 * row)
    assert reader.rows(1024) == 32 and reader.rows(10**6) == 16


def test_a_typed_question_is_asked_under_the_prompt_it_is_posed_with(tiny):
    from backend.cot.prompts import BUILT_IN, cot_prompt
    from backend.live.jobs import Reader
    from backend.live.requests import Posed, Text

    reader, plain = Reader(tiny("llama")), BUILT_IN["plain"]
    read = {
        question: reader.read(Text("", "So", (), question=question)).prompt
        for question in ("3 + 4?", Posed("3 + 4?", plain))
    }
    assert list(read.values()) == [
        cot_prompt(reader.loaded.tokenizer, "3 + 4?"),
        cot_prompt(reader.loaded.tokenizer, "3 + 4?", plain),
    ]
