"""In what a word is read: the tokens that stand before it.

Models keep a few massive activations, thousands of times larger than the rest, at the first position of a text and at
some tokens that stand close behind it (Sun et al. 2024, arXiv:2402.17762). There, one direction holds nearly all that
words differ in, and the geometry measured is that direction's. So a word is read behind a short phrase (`phrase`).
Published code gives a word alone to the tokenizer (`alone`), which puts a token before it of some models (Gemma, Llama)
and none of others (Qwen, SmolLM2), whose word then stands at the first position itself.
"""

from typing import TYPE_CHECKING

from backend.errors import AnchorscopeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXTS = {  # by name: words
    "phrase": "behind “Here is a word:”",
    "bos": "behind the token that begins a text",
    "alone": "alone, as its tokenizer has it (as published code reads it)",
}
USUAL = "phrase"
_PHRASE = "Here is a word:"


class WordError(AnchorscopeError):
    """A word that cannot be read as one token, or a context that there is not."""


def before(tokenizer: "PreTrainedTokenizerBase", context: str) -> tuple[int, ...]:
    """Token ids that stand before a word."""
    match context:
        case "bos":
            return _first(tokenizer)
        case "alone":
            bare, whole = _ids(tokenizer, "a"), list(tokenizer("a")["input_ids"])
            return tuple(whole[: whole.index(bare[0])])
        case "phrase":
            return (*_first(tokenizer), *_ids(tokenizer, _PHRASE))
    raise WordError(f"A word is read {', '.join(CONTEXTS)}; there is no context {context!r}.")


def word_ids(tokenizer: "PreTrainedTokenizerBase", word: str, *, leading_space: bool) -> tuple[int, ...]:
    """Token ids of a word as it stands inside a text, or at its beginning."""
    return _ids(tokenizer, f" {word}" if leading_space else word)


def one_token(tokenizer: "PreTrainedTokenizerBase", word: str, *, leading_space: bool) -> int:
    """The token of a word. Raises WordError for a word of several."""
    found = word_ids(tokenizer, word, leading_space=leading_space)
    if len(found) != 1:
        pieces = " | ".join(tokenizer.decode([token]) for token in found[:8])
        where = "after a space" if leading_space else "at the beginning of a text"
        raise WordError(
            f"“{word}” is {len(found)} tokens of this model {where} ({pieces}); a word of one token is needed. Choose"
            " another word."
        )
    return found[0]


def vocabulary(tokenizer: "PreTrainedTokenizerBase", *, leading_space: bool) -> dict[int, str]:
    """The words that are one token, by its id: of two letters or more, of the Latin alphabet alone."""
    found = {}
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
        word = text[1:] if leading_space else text
        if word.isascii() and word.isalpha() and len(word) > 1 and text.startswith(" ") == leading_space:
            found[token] = word
    return found


def _first(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise WordError("The tokenizer has no token that begins or ends a text; read words alone or in a phrase.")
    return (int(first),)


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
