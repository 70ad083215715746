"""A loop written out by hand, whose answer follows from its latents by arithmetic."""

from dataclasses import dataclass

import torch

from backend.latent.loop import State

DIGIT = 10  # the token id of the number 0


@dataclass
class Layer:
    keys: torch.Tensor  # (n, 2): what was fed last
    values: torch.Tensor  # (n, 2): the question's step


@dataclass
class Fed:
    """In the place of a cache."""

    n_tokens: int
    layers: list[Layer]

    def get_seq_length(self) -> int:
        return self.n_tokens


class PlantedLoop:
    """The question q starts with h = 2 (q, 0); z = h / 2; feeding z gives h = 2 (z + (q, 0)). So latent i is i (q, 0),
    and the answer is the number that the first coordinate of what was fed last comes to.
    """

    def start(self, questions):
        step = torch.stack([questions[:, 0].float(), torch.zeros(len(questions))], 1)
        return State(Fed(2, [Layer(torch.zeros_like(step), step)]), 2 * step, 0)

    def next_z(self, state):
        return self.project(state.h, state.n_latents + 1)

    def project(self, h, step):
        return h / 2

    def feed(self, state, z):
        step = state.cache.layers[0].values
        return State(Fed(state.cache.n_tokens + 1, [Layer(z, step)]), 2 * (z + step), state.n_latents + 1)

    def answer(self, state, max_tokens):
        return [(DIGIT + round(float(x)),) for x in state.cache.layers[0].keys[:, 0]]
