"""What a run of a latent model leaves at every layer: residual streams, keys and values, attention.

Streams, keys and values are those of the loop itself, with hooks on a copy that shares its weights. Attention is
computed in one more pass over the whole text, question and latents together, by our own causal softmax: the functions
that models use do not give their weights away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from backend.latent.asked import batches, question_ids
from backend.latent.kinds import LatentError
from backend.latent.question_parts import SPLITS, in_order, parts_of
from backend.models.attention import NOTED, Noted, attending
from backend.models.families import shares_prefix
from backend.models.layers import layers_of, private_copy
from backend.models.residuals import recording

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel, State
    from backend.latent.problems import LatentProblem


@dataclass(frozen=True, eq=False)
class Recorded:
    """Of n problems. Position i names how many latents were run: 0 is the last token before the first."""

    streams: torch.Tensor  # (n, n_latents + 1, n_layers, d_model): outputs of the blocks, before the final norm
    h: torch.Tensor  # (n, n_latents + 1, d_model): the last of them after it
    z: torch.Tensor  # (n, n_latents, d_model): embeddings of latents 1 … n_latents
    keys: torch.Tensor  # (n, n_latents + 1, n_layers, n_key_heads, d_head), turned by their positions
    values: torch.Tensor  # likewise
    first: torch.Tensor  # (n,): place in the text of position 0

    @property
    def n_latents(self) -> int:
        return self.z.shape[1]


@torch.no_grad()
def record(model: "LatentModel", questions: torch.Tensor, n_latents: int) -> Recorded:
    """Of questions (n, n_tokens) of equal length."""
    own = replace(model, model=private_copy(model.model))
    blocks = layers_of(own.model).blocks
    streams, h, z = [], [], []
    with recording(blocks, range(len(blocks))) as residuals:

        def keep(state: "State") -> None:
            streams.append(torch.stack([residuals[layer][:, -1] for layer in range(len(blocks))], 1))
            h.append(state.h)

        state = own.start(questions)
        keep(state)
        for _ in range(n_latents):
            z.append(own.next_z(state))
            state = own.feed(state, z[-1])
            keep(state)
    first = questions.shape[1] + len(model.before) - 1
    kept = [layer for layer in state.cache.layers]
    return Recorded(
        torch.stack(streams, 1),
        torch.stack(h, 1),
        torch.stack(z, 1) if z else h[0].new_empty(len(questions), 0, model.d_model),
        torch.stack([layer.keys[:, :, first:].transpose(1, 2) for layer in kept], 2),
        torch.stack([layer.values[:, :, first:].transpose(1, 2) for layer in kept], 2),
        torch.full((len(questions),), first),
    )


def record_all(model: "LatentModel", problems: Sequence["LatentProblem"], n_latents: int) -> Recorded:
    """Of problems whose questions may differ in length, in their order."""
    order, parts = [], []
    for places, questions in batches(model, problems):
        order += places
        parts.append(record(model, questions, n_latents))
    back = torch.tensor(order).argsort()
    return Recorded(*(torch.cat([getattr(part, one.name) for part in parts])[back] for one in fields(Recorded)))


@torch.inference_mode()
def attention(model: "LatentModel", questions: torch.Tensor, n_latents: int) -> torch.Tensor:
    """(n, n_layers, n_heads, n_latents + 1, n_tokens): how position i attends to every token up to itself; a row sums
    to 1. The last n_latents tokens are the latents. Raises LatentError for a family that attends otherwise.
    """
    if not shares_prefix(model.model.config, questions.shape[1] + len(model.before) + n_latents):
        raise LatentError(
            f"{model.name} is of the family {model.model.config.model_type}, whose attention is no plain causal one"
            " over the whole text, so that its weights are not known here."
        )
    before = torch.tensor([model.before], device=questions.device).expand(len(questions), -1)
    embedded = model.model.get_input_embeddings()(torch.cat([questions, before], 1))
    whole = torch.cat([embedded, record(model, questions, n_latents).z], 1)
    own = private_copy(model.model, config=attending(model.model.config, NOTED))
    noted = Noted(n_latents + 1)
    own.base_model(inputs_embeds=whole, use_cache=False, noted=noted)
    return torch.stack([noted.by_layer[layer] for layer in range(model.n_layers)], 1)


@dataclass(frozen=True, eq=False)
class Looked:
    """The attention of n problems to parts of the text."""

    parts: tuple[str, ...]  # as they stand in a text
    share: torch.Tensor  # (n, n_layers, n_heads, n_latents + 1, n_parts): of what position i pays; a row sums to 1


def attention_by_part(
    model: "LatentModel", problems: Sequence["LatentProblem"], n_latents: int, at_once: int = 64
) -> dict[str, Looked]:
    """By name in SPLITS."""
    of = {split: [_parts(model, split, problem, n_latents) for problem in problems] for split in SPLITS}
    names = {split: in_order({part for parts in own for part in parts}, n_latents) for split, own in of.items()}
    found: dict[str, dict[int, torch.Tensor]] = {split: {} for split in SPLITS}
    for places, questions in batches(model, problems, at_once):
        weights = attention(model, questions, n_latents)
        for row, place in enumerate(places):
            for split, own in of.items():
                at = torch.tensor([names[split].index(part) for part in own[place]])
                share = weights.new_zeros(*weights.shape[1:-1], len(names[split]))
                found[split][place] = share.index_add_(-1, at, weights[row])
    return {
        split: Looked(tuple(names[split]), torch.stack([own[place] for place in range(len(problems))]))
        for split, own in found.items()
    }


def _parts(model: "LatentModel", split: str, problem: "LatentProblem", n_latents: int) -> list[str]:
    texts = [str(model.tokenizer.decode([token])) for token in question_ids(model, problem.question)]
    return parts_of(SPLITS[split], texts, len(model.before), n_latents)
