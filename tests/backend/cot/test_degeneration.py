import json
import os
import random
import string
from pathlib import Path

import pytest

from backend.cot.degeneration import REFLECTION_MARKERS, compression_ratio, is_degenerate, reflection_words, repetition

SHARED = Path(os.environ.get("ANCHORSCOPE_SHARED") or Path(__file__).resolve().parents[3].parent / "shared")
TRACES = SHARED / "data" / "r1_traces" / "traces.jsonl"
SOLUTIONS = sorted((SHARED / "data" / "thought_anchors").glob("*/*/*/base_solution.json"))

PROSE = (
    "Tom buys three packs of lemons and each pack holds two of them, so he starts with six. He squeezes four into a"
    " jug. That leaves two, and his sister brings one more from the garden. In the end there are three lemons on the"
    " table."
)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("Wait, 2 + 2 is 4.", 1),
        ("WAIT! Hmm... But however, alternatively?", 5),
        ("Let me check. Let me double-check that.", 2),
        ("Let’s verify: hold\non", 2),
        ("The waiter rebuts; he is butter and actuality.", 0),
        ("Therefore x = 3. Thus y = 2.", 0),
        ("", 0),
    ],
)
def test_reflection_words_are_whole_words_and_a_phrase_counts_once(text, n):
    assert reflection_words(text) == n


def test_every_marker_counts_once_in_any_case():
    for marker in REFLECTION_MARKERS:
        assert reflection_words(f"so {marker} x") == reflection_words(f"So {marker.title()}, x") == 1, marker


def test_repetition_is_the_share_of_four_grams_that_occurred_before():
    assert repetition("a b c d e f g") == 0
    assert repetition("a b c d A, B: c d") == pytest.approx(1 / 5)  # abcd bcda cdab dabc abcd
    assert repetition("no " * 100) == pytest.approx(96 / 97)


def test_repetition_of_fewer_than_five_words_is_unknown():
    assert repetition("one two three four") is None
    assert repetition("?!" * 50) is None
    assert repetition("one two three four five") == 0


def test_compression_is_high_for_a_loop_and_about_one_for_noise():
    letters = random.Random(0).choices(string.printable, k=2000)
    assert compression_ratio("So we add 2. " * 150) > 20
    assert 1 < compression_ratio("".join(letters)) < 1.3
    assert compression_ratio("") is None
    assert compression_ratio("x") < 0.2  # the frame alone


@pytest.mark.parametrize("loop", ["So we add 2. ", "!", "7", "的确如此。", "wait ", PROSE[:160]])
@pytest.mark.parametrize("beginning", ["", PROSE])
def test_a_text_that_ends_in_a_loop_is_degenerate(loop, beginning):
    assert is_degenerate(beginning + loop * max(6, 250 // len(loop)))


def test_a_loop_that_the_text_left_is_forgiven():
    assert not is_degenerate(
        "So we add 2. " * 40 + PROSE + PROSE.replace("lemons", "oranges").replace("Tom", "Anna") + PROSE.upper()
    )


MATRIX = "[0*0 + 0*1 + 1*0, 0*(-1) + 0*0 + 1*0, 0*0 + 0*0 + 1*1],"


@pytest.mark.parametrize("text", ["", "4", r"\boxed{4}", "no no no", PROSE, ", ".join(map(str, range(60))), MATRIX])
def test_ordinary_and_short_texts_are_not_degenerate(text):
    assert not is_degenerate(text)


def real_chains():
    if not TRACES.exists() or not SOLUTIONS:
        pytest.skip(f"no real chains in {SHARED}")
    with TRACES.open() as lines:
        traces = [json.loads(line)["response"] for line in lines]
    return traces + [json.loads(path.read_text())["solution"] for path in SOLUTIONS]


def test_no_real_chain_is_degenerate_and_a_loop_planted_in_one_always_is():
    draw = random.Random(0)
    for chain in real_chains():
        assert not is_degenerate(chain)
        start, period, length = (
            draw.randrange(len(chain) - 130),
            draw.choice([1, 3, 10, 30, 60, 120]),
            draw.choice([250, 500, 1000]),
        )
        loop = chain[start : start + period]
        planted = chain[: draw.randrange(len(chain))] + (loop * length)[: max(length, 6 * period)]
        assert is_degenerate(planted), (loop, length)


def test_real_chains_reflect_about_twice_in_a_hundred_words():
    chains = real_chains()
    rate = sum(map(reflection_words, chains)) / sum(len(chain.split()) for chain in chains)
    assert 0.015 < rate < 0.03
