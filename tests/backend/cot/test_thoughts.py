"""Thoughts are found by their tags, and a response is taken apart at them without losing a letter."""

import pytest

from backend.cot.thoughts import TAGS, closing_tag, left_open, response_of, split_response, thought_in, told_before

EVERY = pytest.mark.parametrize("tags", TAGS, ids=lambda tags: tags.open)


@EVERY
def test_a_text_is_inside_a_thought_between_its_tags(tags):
    assert thought_in(f"<assistant>{tags.open}\nSo") == ("open", tags)
    assert thought_in(f"<assistant>{tags.open}\n\n{tags.close}\n\n") == ("closed", tags)
    assert thought_in("<assistant>") == ("none", None)
    assert left_open(f"{tags.open}\nSo 7.", tags.close) and not left_open(f"{tags.open}\nSo 7.{tags.close}", tags.close)


def test_a_closing_tag_alone_closes():
    """DeepSeek V3.1 without thinking: its generation prompt is <｜Assistant｜></think>."""
    assert thought_in("<｜Assistant｜></think>") == ("closed", TAGS[0])


def test_inside_a_thought_other_tags_are_words():
    assert thought_in("<think>\nWhat do <reasoning> and </reasoning> mean?") == ("open", TAGS[0])


@EVERY
def test_a_template_tells_its_model_to_think_by_naming_both_tags_in_order(tags):
    told = tags.told or f"Put your thoughts between {tags.open} and {tags.close}."
    assert told_before(f"<system>{told}<user>") == tags
    assert told_before(f"<system>{tags.close} ends what nobody began.<user>") is None


@pytest.mark.parametrize(
    ("prompt", "response", "closing"),
    [
        ("<user>7?<assistant><think>\n", "So 7.</think>7", "</think>"),
        ("<user>7?<assistant><think>\n", "Does <reasoning> help?", "</think>"),
        ("<user>7?<assistant>", "[THINK]So 7.[/THINK]7", "[/THINK]"),
        ("<user>7?<assistant>", "So 7.</think>7", "</think>"),
        ("<user>7?<assistant>", "So 7.", None),
        ("<user>Begin with <think>. 7?<assistant>", "So 7.", None),
        ("<user>7?<assistant>", "Here are my reasoning steps: 3 + 4 = 7.", None),  # words that anybody may write
    ],
)
def test_the_closing_tag_is_that_of_the_prompt_or_else_of_the_first_tag_in_the_response(prompt, response, closing):
    assert closing_tag(response, prompt) == closing


@pytest.mark.parametrize(
    ("response", "closing", "parts"),
    [
        ("Hm.\n</think>\n\nSeven.", "</think>", ("Hm.\n", "\n\nSeven.")),
        ("Hm. Seven.", "</think>", ("Hm. Seven.", None)),
        ("Hm. Seven.", None, ("Hm. Seven.", None)),
        ("Hm.</think>", "</think>", ("Hm.", "")),
        ("Hm.<|end_of_thought|>\n7", "<|end_of_thought|>", ("Hm.", "\n7")),
        ("", "</think>", ("", None)),
    ],
)
def test_a_response_is_its_thinking_and_what_follows(response, closing, parts):
    assert split_response(response, closing) == parts
    assert response_of(*parts, closing) == response
