"""What sampled tokens write, special tokens left out but those that close a thought."""

import pytest

from backend.models.continuation import continuation_text
from backend.models.loading import load_tokenizer


@pytest.mark.parametrize(
    ("tag", "written"),
    [
        (None, "Hm. So42"),
        ("</think>", "Hm. So42"),  # no special token is part of it
        (
            "<|endoftext|><|im_start|>So",
            "Hm.<|endoftext|><|im_start|> So42",
        ),  # as gpt-oss writes </think>: of special tokens
    ],
)
def test_special_tokens_that_close_a_thought_are_shown_and_others_are_not(tiny_folder, tag, written):
    tokenizer = load_tokenizer(str(tiny_folder("llama")))
    prefix, sampled = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("<|im_start|>Think.", "Hm.<|endoftext|><|im_start|> So42<|im_end|>")
    )
    assert continuation_text(tokenizer, prefix, sampled, tag=tag) == written
