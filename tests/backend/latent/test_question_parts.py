"""Questions are cut into parts, and every token is of one."""

from backend.latent.question_parts import SPLITS, in_order, parts_of

TOKENS = ["The", "cat", "jumps", ",", "dives", ".", "It", "began", "on", "stair", "12", "."]


def test_a_clause_ends_with_its_sign():
    found = parts_of(SPLITS["clause"], TOKENS, 1, 2)
    assert found == ["first token", *["clause 1"] * 3, *["clause 2"] * 2, *["clause 3"] * 6, "start", "1", "2"]


def test_numbers_are_tokens_with_a_digit():
    found = parts_of(SPLITS["kind"], TOKENS, 1, 0)
    assert found == ["first token", *["words"] * 9, "numbers", "words", "start"]


def test_a_long_question_has_its_rest_in_the_last_clause():
    found = parts_of(SPLITS["clause"], ["a", ","] * 30, 1, 0)
    assert found[-2] == "clause 12" and len(set(found)) == 14


def test_parts_stand_in_the_order_of_the_text():
    parts = {"first token", "clause 10", "clause 2", "start", "1", "2"}
    assert in_order(parts, 2) == ["first token", "clause 2", "clause 10", "start", "1", "2"]
    assert in_order({"words", "numbers"}, 0) == ["first token", "numbers", "words", "start"]
