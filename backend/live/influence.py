"""Which chunk acts on which in one CoT, for the live worker: attention to a chunk suppressed, chunk by chunk."""

from backend.geometry.before_after import BeforeAfterError, answer_span, tokens_read
from backend.influence.suppression import chunk_influences, influences
from backend.live.jobs import Read, Reader, Steps
from backend.live.requests import Influences


def influence(reader: Reader, request: Influences) -> Steps:
    """`rows` as those of the table `influences`, which come source by source in reading order, and in the end `chunks`,
    as those of `chunk_influences`; progress counts sources.
    """
    loaded, read = reader.loaded, reader.read(request.text)
    tokens, answer = _with_answer(reader, read, request)
    yield "part", {"model_id": loaded.model_id, "suppressed": request.suppressed, "rows": []}
    found = []
    for one in influences(loaded, tokens, read.spans, answer, request.suppressed):
        found.append(one)
        yield "part", {"rows": one.rows}
        yield "progress", (len(found), len(read.spans))
    yield "part", {"chunks": chunk_influences(found)}


def _with_answer(reader: Reader, read: Read, request: Influences) -> tuple[list[int], tuple[int, int] | None]:
    """The tokens, what follows the CoT among them, and the answer's span; None where its tokens are not known."""
    if request.answered is None:
        return list(read.token_ids), None
    cot = {
        "prompt": read.prompt,
        "text": read.text,
        "token_ids": read.token_ids,
        "answer": request.answered.answer,
        "after_text": request.answered.after_text,
        "think_close": request.answered.think_close,
    }
    try:
        return tokens_read(reader.loaded.tokenizer, cot), answer_span(reader.loaded.tokenizer, cot)
    except BeforeAfterError:  # a text as it was sampled, in other tokens than the tokenizer gives it
        return list(read.token_ids), None
