"""The loop of a latent model: the question, k latents, the answer.

1. The question and the tokens that start the thinking are read; h₀ is the last hidden state, after the final norm.
2. zᵢ, made of hᵢ₋₁, is fed as latent i (i = 1…k), and hᵢ is the last hidden state there.
3. The tokens that start the answer are fed, and the answer is what is most probable, token by token.

Position i names how many latents were run: position 0 is the last token before the first latent. Rows of one state have
questions of equal length, so that nothing is padded and no row depends on another.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from backend.ids import stable_id
from backend.latent.kinds import LatentError

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel


@dataclass
class State:
    """Some rows after a number of latents. `feed` appends to the cache in place: a branch copies it first."""

    cache: "DynamicCache"
    h: torch.Tensor  # (n, d_model), the last hidden state, after the final norm
    n_latents: int  # that were fed


class LatentLoop(Protocol):
    """What everything here asks of a latent model."""

    def start(self, questions: torch.Tensor) -> State:
        """Reads questions (n, n_tokens), token ids, and what starts the thinking."""
        ...

    def next_z(self, state: State) -> torch.Tensor:
        """The embedding (n, d_model) of the next latent, as the model makes it."""
        ...

    def feed(self, state: State, z: torch.Tensor) -> State:
        """The state after one more latent, `z` (n, d_model). The old one is used up."""
        ...

    def answer(self, state: State, max_tokens: int) -> list[tuple[int, ...]]:
        """The greedy answer of each row, without the end; the state stays as it is."""
        ...


@dataclass(frozen=True, eq=False)
class LatentModel:
    """A latent model in memory, with what identifies it (`loading.py` makes one); it is a LatentLoop."""

    model: "PreTrainedModel"  # float32, in eval mode, no gradients
    tokenizer: Any  # encodes and decodes text; its ids are the model's
    projection: torch.nn.Module | None  # h → z; None: h itself is fed
    thoughts: torch.Tensor | None  # (n_latents, d_model): of a pause sibling, fed whatever h is
    before: tuple[int, ...]  # token ids after the question; the last one stands at position 0
    after: tuple[int, ...]  # token ids that start the answer
    end: int  # token id that ends it
    n_latents: int  # that it was trained with, at most
    n_answer_tokens: int  # token ids below it may stand in an answer
    name: str
    revision: str
    layout: str  # of the files it came from
    sibling: str = "latent"  # in SIBLINGS
    facts: dict[str, Any] = field(default_factory=dict)  # of its training, for the card
    direct: tuple[int, ...] | None = None  # token ids after the question that start an answer without any thinking,
    # where that was trained with others than `before` and `after`

    @property
    def model_id(self) -> str:
        return stable_id("m", self.name, self.revision, "float32")

    @property
    def d_model(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def n_layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @torch.inference_mode()
    def start(self, questions: torch.Tensor) -> State:
        from transformers import DynamicCache

        before = torch.tensor([self.before], dtype=torch.long, device=questions.device).expand(len(questions), -1)
        state = State(DynamicCache(), questions.new_empty(0), 0)
        state.h = self._forward(state.cache, input_ids=torch.cat([questions, before], 1))
        return state

    @torch.inference_mode()
    def answer_directly(self, questions: torch.Tensor, max_tokens: int) -> list[tuple[int, ...]]:
        """The greedy answer to each question (n, n_tokens) without latents, as the model was trained to give it."""
        if self.direct is None:
            return self.answer(self.start(questions), max_tokens)
        without = replace(self, before=self.direct[:-1], after=self.direct[-1:])
        return without.answer(without.start(questions), max_tokens)

    @torch.inference_mode()
    def next_z(self, state: State) -> torch.Tensor:
        if self.sibling == "none":
            raise LatentError(f"{self.name} has no latents; run it with none.")
        return self.project(state.h, state.n_latents + 1)

    @torch.inference_mode()
    def project(self, h: torch.Tensor, step: int) -> torch.Tensor:
        """z of latent `step`, from hidden states (n, d_model) at the position before it."""
        if self.thoughts is not None:
            return self.thoughts[step - 1].expand(len(h), -1)
        return h if self.projection is None else self.projection(h)

    @torch.inference_mode()
    def feed(self, state: State, z: torch.Tensor) -> State:
        h = self._forward(state.cache, inputs_embeds=z[:, None])
        return State(state.cache, h, state.n_latents + 1)

    @torch.inference_mode()
    def answer(self, state: State, max_tokens: int) -> list[tuple[int, ...]]:
        cache = branch(state).cache
        tokens = torch.tensor([self.after], device=state.h.device).expand(len(state.h), -1)
        written: list[torch.Tensor] = []
        ended = torch.zeros(len(state.h), dtype=torch.bool, device=state.h.device)
        for _ in range(max_tokens):
            h = self._forward(cache, input_ids=tokens)
            found = self.model.get_output_embeddings()(h)[:, : self.n_answer_tokens].argmax(-1)
            found = torch.where(ended, self.end, found)
            written.append(found)
            ended = ended | (found == self.end)
            if ended.all():
                break
            tokens = found[:, None]
        return [tuple(_until(row, self.end)) for row in torch.stack(written, 1).tolist()] if written else []

    def _forward(self, cache: "DynamicCache", **inputs: torch.Tensor) -> torch.Tensor:
        """The last hidden states (n, d_model), after the final norm; the cache grows."""
        found = self.model.base_model(**inputs, past_key_values=cache, use_cache=True)
        return found.last_hidden_state[:, -1]


def branch(state: State, rows: torch.Tensor | None = None) -> State:
    """A copy that goes its own way; `rows` picks and repeats rows. transformers appends to a cache that it is given, in
    place, also where it is told not to use one.
    """
    cache = copy.deepcopy(state.cache)
    if rows is not None:
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
    return State(cache, state.h if rows is None else state.h[rows], state.n_latents)


def run(loop: LatentLoop, questions: torch.Tensor, n_latents: int) -> State:
    """The state after so many latents of the model's own."""
    state = loop.start(questions)
    for _ in range(n_latents):
        state = loop.feed(state, loop.next_z(state))
    return state


def _until(tokens: Sequence[int], end: int) -> list[int]:
    return list(tokens[: tokens.index(end)]) if end in tokens else list(tokens)
