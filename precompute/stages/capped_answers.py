"""Answers forced of rollouts that the token cap cut before they gave one, as a chain of thought that gives none is made
to answer (stage `cots`).

A rollout without an answer takes no part in any accuracy or KL, and those that are cut are not like the others: they
are the long ones. What is forced goes on from the rollout itself: prompt, chain and rollout as they stand, then the
words that force. The sampled ids of a rollout are not stored, so that text is read as one, as every chain is;
`as_sampled` says whether that gives as many tokens as were sampled.

The rollouts stay as they are, and so do their units. A unit here is a CoT that has rollouts to force; imported ones,
whose model and seeds are unknown, are never forced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.cot.answers import Judge, extract_answer, grader
from backend.cot.prompts import forced_suffix
from backend.ids import seed_for
from backend.models.continuation import continuation_text
from backend.models.loaded import LoadedModel
from backend.store.answered import FORCED_AT_CAP
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages.cots import encode, shares
from precompute.study import Sampling
from precompute.units import Context, Finished, Unit

NAME, UNIT = "capped_answers", "CoT"
RULE = 1  # of forcing and judging: raise it when it changes

_COTS_A_TASK = 32
_SHARE_CAPPED = 0.02  # of rollouts, assumed for the plan: what the demo has


@dataclass(frozen=True)
class CappedRollout:
    """A rollout that was cut: what the model had read and written, and how many tokens that was."""

    rollout_id: str
    chunk_id: str
    seed: int  # the rollout's own
    text: str  # prompt, chain before the chunk, and rollout
    n_tokens: int  # of all of it, as sampled


@dataclass(frozen=True)
class CotTask:
    cot_id: str
    think_close: str | None
    truth: str
    rollouts: tuple[CappedRollout, ...]


@dataclass(frozen=True)
class Task:
    cots: tuple[CotTask, ...]
    sampling: Sampling
    rows: int

    @property
    def makes(self) -> tuple[str, ...]:
        """A unit a CoT."""
        return tuple(cot.cot_id for cot in self.cots)


def units(context: Context) -> list[Unit]:
    """CoTs of the study's models with rollouts to force; which these are, and what they say, is in the inputs."""
    of_study, sampling = models.by_id(context.study), dict(context.study.sampling.inputs)
    for longer in ("samples", "max_new_tokens"):  # shape what is forced only through what the rollouts say
        sampling.pop(longer)
    return [
        Unit(row["cot_id"], {"sampling": sampling, "rollouts": [row["n"], row["digest"]]})
        for row in context.store.capped_by_cot()
        if row["model_id"] in of_study
    ]


def estimate(of: Quantities) -> Estimate:
    rollouts = of.rolled_chunks * of.study.rollouts.n * _SHARE_CAPPED
    tokens = rollouts * (of.lengths.prompt + of.lengths.cot + of.study.sampling.forced_max_tokens)
    return of.line(NAME, of.done.get(NAME, 0), tokens=tokens, by="forward", gigabytes=rollouts * 1e-6)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, by_id = context.study, {unit.unit_id: unit for unit in units}
    by_model: dict[str, list[CotTask]] = {}
    for cot in context.store.capped_rollouts(list(by_id)):
        by_model.setdefault(cot["model_id"], []).append(_cot_task(cot))
    for model_id, asked in by_model.items():
        tasks = [
            Task(tuple(share), study.sampling, study.engine.rows)
            for share in shares(asked, context.engine.workers, _COTS_A_TASK)
        ]
        spec = models.sampling_spec(study, models.by_id(study)[model_id])
        for cot_id, rows in context.run(force, tasks, model=spec):
            yield Finished(by_id[cot_id], {"capped_answers": rows}, {"model_id": model_id, "dtype": spec.dtype})


def _cot_task(cot: Mapping[str, Any]) -> CotTask:
    rollouts = tuple(
        CappedRollout(
            row["rollout_id"],
            row["chunk_id"],
            row["seed"],
            cot["prompt"] + cot["text"][: row["char_start"]] + row["text"],
            row["token_start"] + row["n_tokens"],
        )
        for row in cot["rollouts"]
    )
    return CotTask(cot["cot_id"], cot["think_close"], cot["truth"], rollouts)


def force(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the rows of each CoT. All of a task's share a batch; each draws from a seed of its own."""
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    tokenizer, sampling = loaded.tokenizer, task.sampling
    reread, suffixes, sequences, requests = {}, {}, {}, []
    for cot in task.cots:
        for rollout in cot.rollouts:
            name = rollout.rollout_id
            reread[name] = encode(tokenizer, rollout.text)
            suffixes[name] = forced_suffix(rollout.text, cot.think_close)
            sequences[name] = [*reread[name], *encode(tokenizer, suffixes[name])]
            requests.append(SampleRequest(name, name, len(sequences[name]), seed_for(rollout.seed, "forced")))
    parameters = SamplingParameters(sampling.temperature, sampling.top_p, sampling.forced_max_tokens)
    written = {drawn.request_id: drawn for drawn in sample(loaded, sequences, requests, parameters, rows=task.rows)}
    with Judge() as judge:
        for cot in task.cots:
            said = {}
            for rollout in cot.rollouts:
                name = rollout.rollout_id
                said[name] = suffixes[name] + continuation_text(tokenizer, sequences[name], written[name].token_ids)
            answers = {name: extract_answer(text) for name, text in said.items()}
            verdicts = judge.judge([(answer, cot.truth) for answer in answers.values()])
            yield (
                cot.cot_id,
                [
                    {
                        "rollout_id": name,
                        "chunk_id": rollout.chunk_id,
                        "cot_id": cot.cot_id,
                        "seed": seed_for(rollout.seed, "forced"),
                        "text": said[name],
                        "answer": answers[name],
                        "answer_source": None if answers[name] is None else FORCED_AT_CAP,
                        "is_correct": verdict,
                        "grader": grader(),
                        "finish": written[name].finish,
                        "n_tokens": len(written[name].token_ids),
                        "as_sampled": len(reread[name]) == rollout.n_tokens,
                    }
                    for rollout, verdict in zip(cot.rollouts, verdicts, strict=True)
                    for name in [rollout.rollout_id]
                ],
            )
