"""What a dictionary learns from, against loops over texts and tokens."""

import numpy as np
import pytest

from backend.crosscoder.shards import ShardError, Shards, Text, record
from backend.crosscoder.training_data import CONVENTIONS, PUBLISHED_TOKENS, Response

PROMPT = "Question: how many? "
TEXTS = {  # id: problem, what stands after the prompt
    "a1": ("p1", "First, 3 apples. " * 12),
    "b1": ("p2", "Wait, it is 42. " * 9),
    "a2": ("p1", "So 6 * 7 = 42."),
    "none": ("p3", ""),
}


@pytest.fixture(scope="module")
def shards(tiny, tmp_path_factory) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    texts = [Text(name, PROMPT + words) for name, (_, words) in TEXTS.items()]
    list(record([tiny("llama"), tiny("qwen2")], texts, {1: folder}, dtype="float32", tokens_a_shard=60))
    return Shards(folder)


@pytest.fixture(scope="module")
def responses(tiny) -> list[Response]:
    n_prompt = len(tiny("llama").tokenizer(PROMPT, add_special_tokens=False)["input_ids"])
    return [Response(name, problem, n_prompt) for name, (problem, _) in TEXTS.items()]


def test_whole_texts_are_every_token_under_one_scale_a_model(shards):
    learned = CONVENTIONS["whole_texts"].learned(shards, [])
    assert learned.rows.tolist() == list(range(len(shards))) and np.array_equal(learned.scale, shards.scale())
    some = np.array([0, 7, 50])
    expected = shards.activations(some) * shards.scale().astype(np.float32)[:, None]
    assert np.array_equal(learned.scaled(shards, some), expected) and learned.facts == {}


def test_as_published_is_the_first_50_tokens_of_each_response_scaled_problem_by_problem(shards, responses):
    learned = CONVENTIONS["as_published"].learned(shards, responses)
    assert PUBLISHED_TOKENS == 50
    of_problem: dict[str, list[int]] = {}
    for response in responses:
        for row in range(len(shards)):
            text, place, _ = shards.tokens(np.array([row]))[0]
            if shards.texts()[text] == response.text_id and 0 <= place - response.first < 50:
                of_problem.setdefault(response.problem, []).append(row)
    assert learned.rows.tolist() == sorted(row for rows in of_problem.values() for row in rows)
    assert set(of_problem) == {"p1", "p2"} and len(of_problem["p1"]) > 50  # two responses, one of them cut
    scaled = learned.scaled(shards, np.arange(len(learned.rows)))
    for rows in of_problem.values():
        own = scaled[np.isin(learned.rows, rows)]
        assert np.linalg.norm(own, axis=2).mean(0) == pytest.approx([8.0, 8.0], rel=1e-5)  # √64
        raw = shards.activations(np.array(rows))
        ratio = own / raw
        assert ratio.std((0, 2)) == pytest.approx([0, 0], abs=1e-5)  # one factor a problem and model
    norms = np.linalg.norm(shards.activations(learned.rows), axis=2).mean(0)
    assert learned.scale == pytest.approx(8 / norms, rel=1e-6)
    facts = learned.facts
    assert (facts["n_problems"], facts["response_tokens"]) == (2, 50)
    apart = facts["problem_factors_over_scale"]
    assert all(low < 1 < high for low, high in zip(apart["least"], apart["most"], strict=True))


def test_batches_of_chosen_rows_are_of_those_alone(shards, responses):
    learned = CONVENTIONS["as_published"].learned(shards, responses)
    n = len(learned.rows)
    seen = [next(shards.batches(n, 1, n=n)) for _ in range(1)]
    assert np.array_equal(seen[0], np.arange(n))
    with pytest.raises(ShardError, match=f"{n} tokens, fewer than one batch of {n + 1}"):
        next(shards.batches(n + 1, 1, n=n))


def test_without_a_response_nothing_can_be_learned_as_published(shards, responses):
    with pytest.raises(ShardError, match="no token of a response"):
        CONVENTIONS["as_published"].learned(shards, responses[-1:])
