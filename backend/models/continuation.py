"""The text that sampled tokens add to a prefix."""

from collections.abc import Sequence
from typing import Any

_CONTEXT = (
    8  # tokens of the prefix that decide how the first sampled token is written (a leading space, a split character)
)


def continuation_text(tokenizer: Any, prefix: Sequence[int], sampled: Sequence[int], *, tag: str | None = None) -> str:
    """What `sampled` writes after `prefix`, special tokens left out but those that `tag`, which closes a thought, is
    made of.

    Decoding the sampled tokens alone would lose a leading space with sentencepiece tokenizers, so the end of the prefix
    is decoded with them and taken off again.
    """
    kept = _special_tokens_of(tokenizer, tag)
    if kept and (at := next((k for k, token in enumerate(sampled) if token in kept), None)) is not None:
        before, rest = list(sampled[:at]), sampled[at + 1 :]
        shown = tokenizer.decode([sampled[at]], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return (
            continuation_text(tokenizer, prefix, before)
            + shown
            + continuation_text(tokenizer, [*prefix[-_CONTEXT:], *before, sampled[at]], rest, tag=tag)
        )
    tail = list(prefix[-_CONTEXT:])
    alone = tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    together = tokenizer.decode([*tail, *sampled], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if together.startswith(alone):
        return together[len(alone) :]
    return tokenizer.decode(list(sampled), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _special_tokens_of(tokenizer: Any, tag: str | None) -> set[int]:
    """Special tokens that the tag is written with: gpt-oss closes a thought with four of them,
    most models with none."""
    if tag is None:
        return set()
    return set(tokenizer(tag, add_special_tokens=False)["input_ids"]) & set(tokenizer.all_special_ids)
