"""Thinking tokens are those before the closing tag, answer tokens those after it, as counted token by token."""

import random

import pytest

from backend.cot.thinking_tokens import Spent, spent

OPENED = "Question? <think>\n"


def of(pieces, *, prompt=OPENED, before=""):
    return spent(lambda k: "".join(pieces[:k]), len(pieces), prompt=prompt, before=before)


@pytest.mark.parametrize(
    ("pieces", "prompt", "before", "expected"),
    [
        (["5", "-1", " is", " 4", "</", "think", ">", "4", "."], OPENED, "", Spent(4, 2, "closed")),
        (
            ["so", " 4", ".</", "think", ">\n", "4"],
            OPENED,
            "Wait",
            Spent(3, 1, "closed"),
        ),  # a token straddles either end
        (["</think>", "4"], OPENED, "All thought before.", Spent(0, 1, "closed")),
        (["ink>", "4"], OPENED, "thought</th", Spent(0, 1, "closed")),  # the tag began before the continuation
        (["4", " it is"], OPENED, "thought</think>", Spent(0, 2, "closed")),
        (["5", "-1", " is"], OPENED, "", Spent(3, 0, "open")),  # cut before the thought ended
        (["5", "-1", " is", " 4"], "Question?", "Step 1.", Spent(4, None, "untagged")),
        (["<think>", "hm", "</think>", "4"], "Question?", "", Spent(2, 1, "closed")),  # the model opens one itself
        (["hm", "[/THINK]", "4", "</think>", "4"], "Q [THINK]", "", Spent(1, 3, "closed")),  # its own tag alone closes
        ([], OPENED, "", Spent(0, 0, "open")),
    ],
)
def test_tokens_before_the_tag_think_and_those_after_it_answer(pieces, prompt, before, expected):
    assert of(pieces, prompt=prompt, before=before) == expected


def test_it_is_what_counting_token_by_token_gives():
    """A plain reference: the text cut into random tokens, each one counted by where it begins."""
    rng = random.Random(5)
    text = "Wait, 16 + 16 = 32. So it doubles.</think>The next is 64."
    cut, end = text.index("</think>"), text.index("</think>") + len("</think>")
    for _ in range(200):
        ends = sorted(rng.sample(range(1, len(text)), rng.randint(0, 20)))
        starts = [0, *ends]
        pieces = [text[a:b] for a, b in zip(starts, [*ends, len(text)], strict=True)]
        found = of(pieces)
        assert found.thinking == sum(start < cut for start in starts)
        assert found.answer == sum(start >= end for start in starts)


def test_a_character_of_several_tokens_that_ends_the_thought_is_part_of_it():
    """Decoded halfway it is a replacement character."""
    pieces = ["ok", b"\xf0\x9f", b"\x98\x80", "</think>", "4"]

    def written(k):
        return b"".join(one if isinstance(one, bytes) else one.encode() for one in pieces[:k]).decode(errors="replace")

    assert spent(written, 5, prompt=OPENED, before="") == Spent(3, 1, "closed")
