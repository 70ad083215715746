"""How probable a whole answer is when it is forced of a chain of thought that is cut, by layer, as a lens reads it.

1. The chain is cut at the beginnings of its chunks and at its end. At each cut the words that force an answer follow,
   as in forced rollouts (`forced_suffix`), and then the answer.
2. The answer is teacher-forced: its log-probability is the sum over its tokens, each read one token before it. It ends
   where its last token does: a longer answer that begins with it counts towards it.
3. Prompt and chain are read once. What follows a cut is short, and attends to the keys and values that were kept of the
   tokens before it; models that share no prefix read all of it again.

A model reads the chain in its own tokens, whoever wrote it. A token that straddles a cut belongs to the chunk in which
it starts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from backend.cot.chunking import token_spans
from backend.cot.prompts import forced_suffix
from backend.lens.lens import Lens, Readout
from backend.models.edits import Encoded, encode
from backend.models.residuals import record_residuals

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


@dataclass(frozen=True)
class Chain:
    """A chain of thought as text; `chunks` are character spans that tile `text`."""

    prompt: str
    text: str
    think_close: str | None
    chunks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class AnswerReading:
    """One answer at one cut, as one lens reads it at one layer. Log-probabilities in nats."""

    n_read: int  # chunks before the cut
    answer: str
    lens_id: str
    layer: int
    n_tokens: int
    logprob: float  # of the whole answer
    first_logprob: float  # of its first token


def answer_readings(
    loaded: "LoadedModel",
    chain: Chain,
    answers: Sequence[str],
    lenses: Mapping[str, tuple[Lens, Sequence[int]]],
) -> Iterator[AnswerReading]:
    """Every answer at every cut of the chain, by each of `lenses` (id → the lens, and the layers it reads)."""
    readout, tokenizer = Readout(loaded), loaded.tokenizer
    tokens, cuts = _cuts(tokenizer, chain)
    layers = sorted({layer for _, wanted in lenses.values() for layer in wanted})
    encoded = encode(loaded, tokens, layers=())
    for n_read, (n_tokens, n_characters) in enumerate(cuts):
        suffix = forced_suffix(chain.prompt + chain.text[:n_characters], chain.think_close)
        tokens_of = {answer: answer_tokens(tokenizer, suffix, answer) for answer in answers}
        known: dict[tuple[int, ...], dict[int, torch.Tensor]] = {}
        read: list[tuple[str, str, int, torch.Tensor]] = []
        for answer, (forcing, own) in sorted(tokens_of.items(), key=lambda item: -len(item[1][1])):
            before = (*forcing, *own[:-1])
            # What comes before a short answer's last token, often the forcing words alone, was read with a longer one.
            streams = next((found for longer, found in known.items() if longer[: len(before)] == before), None)
            if streams is None:
                streams = known[before] = _read(loaded, encoded, n_tokens, before, layers)
            for lens_id, (lens, wanted) in lenses.items():
                for layer in wanted:
                    stream = streams[layer][len(forcing) - 1 : len(before)]  # the token before each of the answer's
                    found = readout.log_probs(lens, stream, layer)
                    own_tokens = torch.tensor(own, device=found.device)[:, None]
                    read.append((answer, lens_id, layer, found.gather(-1, own_tokens)[:, 0]))
        sizes = [len(each) for *_, each in read]
        on_cpu = torch.cat([each for *_, each in read]).cpu().split(sizes)  # of a cut, at once
        for (answer, lens_id, layer, _), values in zip(read, on_cpu, strict=True):
            each = values.tolist()
            yield AnswerReading(n_read, answer, lens_id, layer, len(each), sum(each), each[0])


def answer_tokens(tokenizer: Any, suffix: str, answer: str) -> tuple[list[int], list[int]]:
    """Tokens of the forcing words, as forced rollouts have them, and those of the answer that come after them.

    Raises ValueError for an answer without tokens.
    """
    forcing, both = _ids(tokenizer, suffix), _ids(tokenizer, suffix + answer)
    n = len(forcing)
    # Where the last of the words and the answer's first make one token together, no forced rollout can write that one.
    own = both[n:] if both[:n] == forcing else _ids(tokenizer, answer)
    if not own:
        raise ValueError(f"the answer {answer!r} has no tokens, so it has no probability")
    return forcing, own


def _cuts(tokenizer: Any, chain: Chain) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of prompt and chain, and of each cut how many tokens, and characters of the chain, are before it."""
    encoded = tokenizer(chain.prompt + chain.text, add_special_tokens=False, return_offsets_mapping=True)
    spans = token_spans(chain.chunks, encoded["offset_mapping"], len(chain.prompt))
    starts = [(first, start) for (first, _), (start, _) in zip(spans, chain.chunks, strict=True)]
    return encoded["input_ids"], [*starts, (len(encoded["input_ids"]), len(chain.text))]


def _read(
    loaded: "LoadedModel", encoded: Encoded, n_tokens: int, continuation: Sequence[int], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """Residual streams of the continuation, by layer; of a chain that is cut before its first token it is all there
    is.
    """
    if n_tokens == 0:
        return record_residuals(loaded, continuation, layers)
    return encoded.continued(n_tokens, continuation, layers)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
