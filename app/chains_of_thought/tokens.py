"""Whether a model has read the selected chunk."""

from app.shared.views import Here


def has_tokens(here: Here) -> bool:
    """Whether the chunk's place among the tokens is known."""
    spans = here.store.chunk_spans(here.chunk.cot)
    return bool(spans.loc[spans["chunk_id"] == here.chunk.chunk, "token_start"].notna().any())
