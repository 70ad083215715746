"""Plain runs: each problem with every number of latents, and the latents themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backend.latent.asked import batches

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel
    from backend.latent.problems import LatentProblem


@dataclass(frozen=True, eq=False)
class Ran:
    """One problem. Position i names how many latents were run; where answers without any were trained to begin
    otherwise than after the tokens that start the thinking, the answer at position 0 is such a one.
    """

    place: int  # among the problems
    answers: tuple[tuple[int, ...], ...]  # token ids, forced after 0, 1, … n_latents latents
    h: torch.Tensor  # (n_latents + 1, d_model), last hidden states after the final norm, positions 0 … n_latents
    z: torch.Tensor  # (n_latents, d_model), embeddings fed at latents 1 … n_latents


def runs(model: "LatentModel", problems: Sequence["LatentProblem"], n_latents: int, max_tokens: int) -> Iterator[Ran]:
    """Every problem, in batches of equal length."""
    for places, questions in batches(model, problems):
        state = model.start(questions)
        h, z = [state.h], []
        answers = [
            model.answer(state, max_tokens) if model.direct is None else model.answer_directly(questions, max_tokens)
        ]
        for _ in range(n_latents):
            z.append(model.next_z(state))
            state = model.feed(state, z[-1])
            h.append(state.h)
            answers.append(model.answer(state, max_tokens))
        for row, place in enumerate(places):
            own = torch.stack([one[row] for one in z]) if z else state.h.new_empty(0, model.d_model)
            yield Ran(place, tuple(one[row] for one in answers), torch.stack([one[row] for one in h]), own)
