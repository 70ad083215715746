"""How a latent model of our own learns: CODI's self-distillation (arXiv 2502.21074), one model as teacher and student.

1. The teacher reads the question, <bot>, the results of the steps, <ans>, the answer and <end>. Its loss is the cross
   entropy of everything after <bot>. In CODI it reads no <bot>; here it does, so that a result and the latent in its
   place stand at one position. So position 0 learns to say the first result; what latents hold nobody says.
2. The student reads the question, <bot>, k latents, <ans>, the answer and <end>. Its loss is the cross entropy of the
   answer and the end. Gradients go back through all latents.
3. At <ans> every hidden state of the student (embedding, layers, after the final norm) is drawn towards the teacher's,
   which stays: smooth L1, divided by the standard deviation of the teacher's over the batch, mean over the states.
4. The loss is student + γ · distance + teacher.

Rows of a batch have questions of one length and as many steps, so nothing is padded; the student goes on from the
teacher's keys and values of the question, which are its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from backend.latent.loop import LatentModel
from backend.latent.problems import LatentProblem

if TYPE_CHECKING:
    from transformers import DynamicCache


@dataclass(frozen=True)
class Batch:
    questions: torch.Tensor  # (n, n_tokens), token ids
    results: torch.Tensor  # (n, n_steps), token ids; the last one is the answer


@dataclass(frozen=True)
class Losses:
    """Nats a token, means over the batch; the distance is in standard deviations of the teacher's states."""

    teacher: torch.Tensor
    student: torch.Tensor
    distance: torch.Tensor

    def total(self, gamma: float) -> torch.Tensor:
        return self.student + gamma * self.distance + self.teacher


def batch_of(latent: LatentModel, problems: Sequence[LatentProblem]) -> Batch:
    questions = latent.tokenizer([problem.question for problem in problems], add_special_tokens=False)["input_ids"]
    results = [latent.tokenizer.convert_tokens_to_ids(list(problem.intermediates)) for problem in problems]
    return Batch(torch.tensor(questions), torch.tensor(results))


def weights(latent: LatentModel) -> dict[str, torch.Tensor]:
    """Everything that learns, by name."""
    found: dict[str, torch.Tensor] = {f"model.{key}": value for key, value in latent.model.named_parameters()}
    if latent.projection is not None:
        found |= {f"projection.{key}": value for key, value in latent.projection.named_parameters()}
    if latent.thoughts is not None:
        found["thoughts"] = latent.thoughts
    return found


def teacher_loss(latent: LatentModel, batch: Batch) -> torch.Tensor:
    return _teacher(latent, batch).loss


def losses(latent: LatentModel, batch: Batch, n_latents: int) -> Losses:
    """All three, of a student with so many latents."""
    teacher = _teacher(latent, batch)
    states, logits = _student(latent, teacher.question, batch, n_latents)
    targets = torch.stack([batch.results[:, -1], torch.full_like(batch.results[:, -1], latent.end)], 1)
    distances = [
        smooth_l1_loss(mine, theirs.detach()) / theirs.detach().std()
        for mine, theirs in zip(states, teacher.states, strict=True)
    ]
    student = cross_entropy(logits.flatten(0, 1), targets.flatten())
    return Losses(teacher.loss, student, torch.stack(distances).mean())


@dataclass(frozen=True)
class _Teacher:
    loss: torch.Tensor
    states: list[torch.Tensor]  # (n, d_model) each, at <ans>
    question: "DynamicCache"  # keys and values of the question


def _teacher(latent: LatentModel, batch: Batch) -> _Teacher:
    from transformers import DynamicCache

    n, n_question = batch.questions.shape
    before, after, end = (_constant(tokens, n) for tokens in (latent.before, latent.after, (latent.end,)))
    text = torch.cat([batch.questions, before, batch.results, after, batch.results[:, -1:], end], 1)
    cache = DynamicCache()
    found = latent.model.base_model(
        input_ids=text[:, :-1], past_key_values=cache, use_cache=True, output_hidden_states=True
    )
    first = n_question + len(latent.before)
    logits = latent.model.get_output_embeddings()(found.last_hidden_state[:, first - 1 :])
    loss = cross_entropy(logits.flatten(0, 1), text[:, first:].flatten())
    question = DynamicCache()
    for layer, kept in enumerate(cache.layers):
        question.update(kept.keys[:, :, :n_question], kept.values[:, :, :n_question], layer)
    return _Teacher(loss, [states[:, -2] for states in found.hidden_states], question)


def _student(
    latent: LatentModel, cache: "DynamicCache", batch: Batch, n_latents: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hidden states at <ans>, and logits (n, 2, vocabulary) of the answer and the end; the cache grows."""
    n, embed = len(batch.questions), latent.model.get_input_embeddings()
    started = embed(_constant(latent.before, n))
    if latent.projection is not None:
        h = _last_h(latent, cache, started)
        for _ in range(n_latents):
            h = _last_h(latent, cache, latent.projection(h)[:, None])
        fed = []
    elif latent.thoughts is not None:
        fed = [started, latent.thoughts[:n_latents].expand(n, -1, -1)]
    else:
        fed = [started]
    fed.append(embed(torch.cat([_constant(latent.after, n), batch.results[:, -1:]], 1)))
    found = latent.model.base_model(
        inputs_embeds=torch.cat(fed, 1), past_key_values=cache, use_cache=True, output_hidden_states=True
    )
    logits = latent.model.get_output_embeddings()(found.last_hidden_state[:, -2:])
    return [states[:, -2] for states in found.hidden_states], logits


def _last_h(latent: LatentModel, cache: "DynamicCache", embeddings: torch.Tensor) -> torch.Tensor:
    found = latent.model.base_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
    return found.last_hidden_state[:, -1]


def _constant(tokens: Sequence[int], n: int) -> torch.Tensor:
    return torch.tensor([list(tokens)]).expand(n, -1)
