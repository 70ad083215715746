"""What a lens says at each layer and position of some problems: top token, entropy, and what it makes of followed
tokens.

1. A lens carries the streams of a layer to the coordinates of the last block's output; the model's own final norm and
   head follow, once. The last layer of every lens is the model itself.
2. A word is followed in the spellings that it has at the beginning of a line and after a space: its log-probability is
   that of either, its rank that of the better one. A word of several tokens is known by the first of each spelling.
3. Followed are the answer, the results on the way to it, named words, and two controls: the answer of another problem,
   and a number of the question that is no result. Where the first is as likely as the own answer, the lens knows that
   numbers come, and not which; where the second is, it knows what was read, and not what came of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from backend.latent.lenses import Z_LAYER
from backend.lens.lens import Readout

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel
    from backend.latent.problems import LatentProblem
    from backend.latent.recording import Recorded

_AT_ONCE = 1 << 24  # logits that are held at once
_NONE = -1  # in place of a token


@dataclass(frozen=True, eq=False)
class Reading:
    """Of n problems at one layer under one lens, at n_steps positions; what is unknown is NaN."""

    token: np.ndarray  # (n, n_steps): id of the likeliest token, or of the nearest one
    probability: np.ndarray  # (n, n_steps), of that token
    cosine: np.ndarray  # (n, n_steps), with the nearest embedding
    entropy: np.ndarray  # (n, n_steps), nats
    rank: np.ndarray  # (n, n_followed, n_steps): 1 + how many tokens are more likely; 0 where nothing is followed
    log_prob: np.ndarray  # (n, n_followed, n_steps), nats
    numbers: np.ndarray  # (n, n_steps, n_numbers): probability of each number of the vocabulary


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A model's tokens as readings use them."""

    model: "LatentModel"

    def spellings(self, word: str) -> tuple[int, ...]:
        """First tokens of the word at the beginning of a line and after a space; empty where it has none."""
        found = (self._first(text) for text in (word, f" {word}"))
        return tuple(dict.fromkeys(token for token in found if token is not None))

    def _first(self, text: str) -> int | None:
        unknown = getattr(self.model.tokenizer, "unk_token_id", None)
        ids = self.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        seen = (token for token in ids if self.model.tokenizer.decode([token]).strip())
        token = next(seen, None)
        return None if token == unknown else token

    def text(self, token: int) -> str:
        return str(self.model.tokenizer.decode([token]))

    def numbers(self) -> dict[int, list[int]]:
        """Tokens by the whole number that they are; a number of more than one token has none of its own."""
        found: dict[int, list[int]] = {}
        for token in range(self.model.model.get_input_embeddings().weight.shape[0]):
            text = self.text(token).strip()
            if text.isascii() and text.isdecimal() and str(int(text)) == text:
                found.setdefault(int(text), []).append(token)
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Followed:
    """The words that are followed through one problem; a control that it does not have is None."""

    answer: str
    other: str | None  # the answer of another problem, no number of this one
    operand: str | None  # the first number of the question that is no result
    intermediates: tuple[str, ...]  # without the last one, which is the answer
    named: tuple[str, ...]

    @property
    def words(self) -> tuple[str | None, ...]:
        return (self.answer, self.other, self.operand, *self.intermediates, *self.named)


def followed(problems: Sequence["LatentProblem"], named: Sequence[str]) -> list[Followed]:
    """Of each problem; `other` is the answer of the next problem whose answer is no number of its own."""
    found = []
    for place, problem in enumerate(problems):
        own = {problem.answer, *problem.intermediates, *problem.operands}
        later = (problems[(place + step) % len(problems)].answer for step in range(1, len(problems)))
        other = next((answer for answer in later if answer not in own), None)
        operand = next((number for number in problem.operands if number not in problem.intermediates), None)
        found.append(Followed(problem.answer, other, operand, problem.intermediates[:-1], tuple(named)))
    return found


class Reader:
    """Reads streams of one model; followed words and numbers are those of its vocabulary."""

    def __init__(self, model: "LatentModel", words: Sequence[Followed]) -> None:
        self._readout = Readout(model)
        self._table = model.model.get_input_embeddings().weight
        vocabulary = Vocabulary(model)
        self.numbers = vocabulary.numbers()
        self._followed = _tokens(vocabulary, words)

    def read(self, carried: torch.Tensor) -> Reading:
        """Of streams (n, n_steps, d_model) in the coordinates of the last block's output."""
        return self._in_parts(carried, self._of_streams)

    def nearest(self, vectors: torch.Tensor) -> Reading:
        """Of vectors (n, n_steps, d_model) beside the input embeddings."""
        return self._in_parts(vectors, self._of_vectors)

    @torch.no_grad()
    def likeliest(self, stream: torch.Tensor, n: int) -> tuple[list[int], list[float]]:
        """The n likeliest tokens of one stream (d_model,), with their probabilities."""
        found = self._readout.logits(stream[None])[0].double().softmax(-1).topk(n)
        return found.indices.tolist(), found.values.tolist()

    @torch.no_grad()
    def _in_parts(self, streams: torch.Tensor, read: Callable[[torch.Tensor, torch.Tensor], Reading]) -> Reading:
        at_once = max(1, _AT_ONCE // (len(self._table) * max(1, streams.shape[1])))
        parts = zip(streams.split(at_once), self._followed.split(at_once), strict=True)
        return joined([read(some, tokens) for some, tokens in parts])

    def _of_streams(self, streams: torch.Tensor, followed: torch.Tensor) -> Reading:
        log_p = self._readout.logits(streams).double().log_softmax(-1)
        p = log_p.exp()
        best, token = p.max(-1)
        at = [_at(log_p, tokens) for tokens in followed.unbind(1)]
        log_prob = [_log_sum(one) for one in at]
        numbers = [p[..., own].sum(-1) for own in self.numbers.values()]
        return Reading(
            token.numpy(),
            best.numpy(),
            np.full(token.shape, np.nan),
            torch.special.entr(p).sum(-1).numpy(),
            _ranks(log_p, at),
            _stacked(log_prob, 1, token.shape),
            _stacked(numbers, 2, token.shape),
        )

    def _of_vectors(self, vectors: torch.Tensor, followed: torch.Tensor) -> Reading:
        cosines = normalize(vectors, dim=-1) @ normalize(self._table, dim=-1).T
        best, token = cosines.max(-1)
        rank = _ranks(cosines, [_at(cosines, tokens) for tokens in followed.unbind(1)])
        unknown = np.full(token.shape, np.nan)
        numbers = np.full((*token.shape, len(self.numbers)), np.nan)
        return Reading(token.numpy(), unknown, best.numpy(), unknown, rank, np.full(rank.shape, np.nan), numbers)


def joined(parts: Sequence[Reading]) -> Reading:
    """The problems of all of them, one after the other."""
    return Reading(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Reading)))


def _tokens(vocabulary: Vocabulary, words: Sequence[Followed]) -> torch.Tensor:
    """(n, n_followed, 2): token ids of each followed word's spellings, _NONE where there is none."""
    known: dict[str | None, tuple[int, ...]] = {None: ()}
    for word in {word for one in words for word in one.words}:
        known[word] = () if word is None else vocabulary.spellings(word)
    table = torch.full((len(words), max((len(one.words) for one in words), default=0), 2), _NONE)
    for row, one in enumerate(words):
        for column, word in enumerate(one.words):
            for place, token in enumerate(known[word]):
                table[row, column, place] = token
    return table


def _at(scores: torch.Tensor, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Scores (n, n_steps) of each spelling of one word, tokens (n, n_spellings); −∞ where there is none."""
    found = []
    for own in tokens.unbind(-1):
        at = scores.gather(-1, own.clamp(min=0)[:, None, None].expand(*scores.shape[:2], 1))[..., 0]
        found.append(at.masked_fill((own == _NONE)[:, None], -torch.inf))
    return found


def _log_sum(at: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log-probability of any of the spellings; NaN of a word without any."""
    found = torch.stack(list(at)).logsumexp(0)
    return found.masked_fill(found == -torch.inf, torch.nan)


def _ranks(scores: torch.Tensor, at: Sequence[Sequence[torch.Tensor]]) -> np.ndarray:
    """(n, n_followed, n_steps), of each word's better spelling; 0 of a word without any."""
    best = [torch.stack(list(one)).amax(0) for one in at]
    ranks = [((scores > own[..., None]).sum(-1) + 1).masked_fill(own == -torch.inf, 0) for own in best]
    return _stacked(ranks, 1, scores.shape[:2])


def _stacked(parts: Sequence[torch.Tensor], dim: int, shape: Sequence[int]) -> np.ndarray:
    """Of parts (n, n_steps), stacked at `dim`."""
    empty = torch.empty(*shape[:dim], 0, *shape[dim:])
    return (torch.stack(list(parts), dim) if parts else empty).numpy()


def read_all(
    reader: Reader, recorded: "Recorded", maps: Mapping[str, Callable[[torch.Tensor, int], torch.Tensor]]
) -> dict[tuple[str, int], Reading]:
    """By lens of LATENT_LENSES and layer. `maps` carries streams (n, n_steps, d_model) of a layer, by the name of the
    fitted lens that does; the last layer, where every lens is the model, is read by the logit lens alone.
    """
    streams = recorded.streams
    last = streams.shape[2] - 1
    found = {}
    for layer in range(last + 1):
        own = streams[:, :, layer]
        found["logit", layer] = reader.read(own)
        found |= {(name, layer): reader.read(carry(own, layer)) for name, carry in maps.items() if layer < last}
        if recorded.n_latents:
            found["difference", layer] = reader.read(own[:, 1:] - own[:, :-1])
    found["embedding", last + 1] = reader.nearest(recorded.h)
    if recorded.n_latents:
        found["embedding", Z_LAYER] = reader.nearest(recorded.z)
    return found
