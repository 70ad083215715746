"""A study's chains of thought and questions, as the live worker reads them."""

from typing import TYPE_CHECKING, Any

from backend.cot.prompts import BOXED, Prompt
from backend.live.requests import Chunk, Posed, Text

if TYPE_CHECKING:
    from backend.store.store import Store


def text_of_cot(store: "Store", chunk_id: str, model_id: str) -> Text:
    """The chain of thought that the chunk is of. Its tokens come along where the model wrote it or read that chunk;
    else the live model tokenises.
    """
    cot = store.cot_to_read(store.chunk_place(chunk_id)["cot_id"].iloc[0]).iloc[0]
    is_reader = cot["model_id"] == model_id or len(store.activation_at(chunk_id, model_id)) > 0
    has_tokens = cot["token_ids"] is not None and is_reader
    chunks = tuple(_chunk(row, has_tokens) for row in store.chunk_spans(cot["cot_id"]).itertuples())
    if not has_tokens:
        return Text(cot["prompt"], cot["text"], chunks)
    tokens = tuple(int(token) for token in cot["token_ids"])
    return Text(cot["prompt"], cot["text"], chunks, tokens, int(cot["n_prompt_tokens"]))


def text_of_question(question: str, under: Prompt) -> Text:
    """A question without a chain of thought, which the model words as `under` has it."""
    return Text("", "", (), question=question if under == BOXED else Posed(question, under))


def _chunk(row: Any, has_tokens: bool) -> Chunk:
    tokens = (int(row.token_start), int(row.token_end)) if has_tokens else (None, None)
    return Chunk(row.chunk_id, int(row.char_start), int(row.char_end), *tokens)
