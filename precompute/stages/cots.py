"""Chains of thought: k samples a problem, model and prompt, a forced answer where none was given, judged, with the
accuracy of the three.

The CoT's tokens are those of one tokenisation of prompt + CoT; chunks, rollouts and activations all count in them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.cot.answers import Judge, extract_answer, grader
from backend.cot.prompts import BOXED, Asked, Prompt, asked, forced_suffix
from backend.cot.thoughts import closing_tag, split_response
from backend.ids import seed_for, stable_id
from backend.models.continuation import continuation_text
from backend.models.loaded import LoadedModel
from backend.statistics.intervals import wilson
from precompute import models
from precompute.estimates import TEXT, Estimate, Quantities
from precompute.study import Sampling
from precompute.units import Context, Finished, Unit

NAME, UNIT = "cots", "problem under a prompt"
RULE = 1  # of sampling and judging: raise it when it changes

_PROBLEMS_A_TASK = 512  # the batch refills from within a task: small tasks leave it half empty at their ends
CANDIDATE = (0.2, 0.8)  # accuracy of a problem worth studying (Dawes 2025)


@dataclass(frozen=True)
class Task:
    """What a worker is asked: `samples` CoTs for each problem.

    Seeds are made from `seed`, problem, sample number and prompt.
    """

    makes: tuple[str, ...]  # a unit a problem
    questions: tuple[tuple[str, str], ...]  # (problem_id, question)
    prompt: Prompt
    sampling: Sampling
    seed: int
    rows: int
    role: str
    dtype: str  # of the study's model, which is its identity; that of the sampling may be another


@dataclass(frozen=True)
class Written:
    """One problem's CoTs as the model wrote them."""

    problem_id: str
    model: Mapping[str, Any]  # a row of table models
    dtype: str  # in which it sampled
    prompt: Mapping[str, Any]  # a row of table prompts
    cots: tuple[Mapping[str, Any], ...]


def units(context: Context) -> list[Unit]:
    """One unit a model, prompt and problem. The usual prompt has no name in its units: studies had no other once."""
    study = context.study
    if study.problems is None:
        return []
    inputs = {"seed": study.seed, "sampling": study.sampling.inputs}
    return [
        Unit(
            ".".join([model_id, problem["problem_id"], *_name_of(prompt)]),
            {**inputs, "role": model.role, "prompt": prompt.wording, **prompt.settings},
        )
        for model_id, model in models.by_id(study).items()
        for prompt in study.prompts_of(model)
        for problem in context.store.study_problems()
    ]


def _name_of(prompt: Prompt) -> tuple[str, ...]:
    """What the prompt's name adds to ids and seeds."""
    return () if prompt.name == BOXED.name else (prompt.name,)


def estimate(of: Quantities) -> Estimate:
    tokens = of.n_cots * of.lengths.cot
    asked = tokens + of.n_cots / of.study.sampling.samples * of.lengths.prompt
    return of.line(
        NAME,
        of.n_cots / of.study.sampling.samples,
        tokens=asked,
        by="sampling",
        steps=of.steps(tokens, of.study.n_asked * of.study.engine.workers),
        gigabytes=tokens * TEXT,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    problems = {problem["problem_id"]: problem for problem in context.store.study_problems()}
    pending: dict[tuple[str, str], dict[str, Unit]] = defaultdict(dict)
    for unit in units:
        model_id, problem_id, *named = unit.unit_id.split(".")
        pending[model_id, named[0] if named else BOXED.name][problem_id] = unit
    with Judge() as judge:
        for (model_id, name), by_problem in pending.items():
            model = models.by_id(study)[model_id]
            prompt = next(prompt for prompt in study.prompts_of(model) if prompt.name == name)
            tasks = [
                Task(
                    tuple(by_problem[problem].unit_id for problem in share),
                    tuple((problem, problems[problem]["question"]) for problem in share),
                    prompt,
                    study.sampling,
                    study.seed,
                    study.engine.rows,
                    model.role,
                    model.dtype,
                )
                for share in shares(list(by_problem), context.engine.workers, _PROBLEMS_A_TASK)
            ]
            for _, written in context.run(write_cots, tasks, model=models.sampling_spec(study, model)):
                problem = written.problem_id
                yield _judged(by_problem[problem], written, problems[problem], judge, context.run_id)


def shares(items: list[Any], workers: int, largest: int) -> list[list[Any]]:
    """Items dealt out in turn, into at least `workers` shares of at most `largest` items; none is empty."""
    n = max(min(workers, len(items)), -(-len(items) // largest))
    return [items[start::n] for start in range(n)]


def write_cots(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Written]]:
    """Runs in a worker: each problem's CoTs as soon as all of them are finished."""
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    tokenizer, sampling = loaded.tokenizer, task.sampling
    prompts = {name: asked(tokenizer, question, task.prompt) for name, question in task.questions}
    sequences = {name: encode(tokenizer, prompt.text) for name, prompt in prompts.items()}
    own, model = _name_of(task.prompt), models.model_row(loaded, task.role, dtype=task.dtype)
    units = {name: unit_id for (name, _), unit_id in zip(task.questions, task.makes, strict=True)}
    requests = [
        SampleRequest(
            f"{name}.{number}", name, len(sequences[name]), seed_for(task.seed, model["model_id"], name, number, *own)
        )
        for name in prompts
        for number in range(sampling.samples)
    ]
    seeds = {request.request_id: request.seed for request in requests}
    parameters = SamplingParameters(sampling.temperature, sampling.top_p, sampling.max_new_tokens)
    done: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for drawn in sample(loaded, sequences, requests, parameters, rows=task.rows):
        name, number = drawn.request_id.split(".")
        prompt = prompts[name]
        response = continuation_text(tokenizer, sequences[name], drawn.token_ids, tag=prompt.closing)
        done[name].append(
            {
                "sample": int(number),
                "seed": seeds[drawn.request_id],
                "prompt": prompt.text,
                "response": response,
                "finish": drawn.finish,
                "think_close": prompt.closing or closing_tag(response),
            }
        )
        if len(done[name]) == sampling.samples:
            cots = sorted(done.pop(name), key=lambda cot: cot["sample"])
            row = _prompt_row(task.prompt, model["model_id"], prompt)
            made = tuple(_with_answers(loaded, task, cots))
            yield units[name], Written(name, model, loaded.dtype, row, made)


def _prompt_row(prompt: Prompt, model_id: str, made: Asked) -> dict[str, Any]:
    """A row of table prompts, from the prompt and one of the texts that were made of it."""
    return {
        "prompt_name": prompt.name,
        "model_id": model_id,
        "text": prompt.text,
        "system": prompt.system,
        "worked": prompt.worked and made.closing is None,
        "manner": made.manner,
        "settings": json.dumps(prompt.settings),
        "wording": json.dumps(prompt.wording, ensure_ascii=False),
    }


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a prompt that already holds its special tokens as text."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _with_answers(loaded: LoadedModel, task: Task, cots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The CoTs split into thinking and answer; those without an answer are made to give one."""
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    tokenizer, sampling = loaded.tokenizer, task.sampling
    for cot in cots:
        cot["text"], cot["after_text"] = split_response(cot["response"], cot["think_close"])
        cot["token_ids"] = encode(tokenizer, cot["prompt"] + cot["text"])
        cot["n_prompt_tokens"] = len(encode(tokenizer, cot["prompt"]))
        cot["answer"], cot["answer_source"] = extract_answer(cot["response"]), "given"
    silent = [cot for cot in cots if cot["answer"] is None]
    suffixes = {str(cot["sample"]): forced_suffix(cot["prompt"] + cot["text"], cot["think_close"]) for cot in silent}
    sequences = {
        str(cot["sample"]): [*cot["token_ids"], *encode(tokenizer, suffixes[str(cot["sample"])])] for cot in silent
    }
    requests = [
        SampleRequest(
            str(cot["sample"]), str(cot["sample"]), len(sequences[str(cot["sample"])]), seed_for(cot["seed"], "forced")
        )
        for cot in silent
    ]
    parameters = SamplingParameters(sampling.temperature, sampling.top_p, sampling.forced_max_tokens)
    forced = {drawn.request_id: drawn for drawn in sample(loaded, sequences, requests, parameters, rows=task.rows)}
    for cot in silent:
        drawn = forced[str(cot["sample"])]
        written = suffixes[drawn.request_id] + continuation_text(
            tokenizer, sequences[drawn.request_id], drawn.token_ids
        )
        cot["answer"] = extract_answer(written)
        cot["answer_source"] = None if cot["answer"] is None else "forced"
    return cots


def _judged(unit: Unit, written: Written, problem: Mapping[str, Any], judge: Judge, run_id: str) -> Finished:
    verdicts = judge.judge([(cot["answer"], problem["answer"]) for cot in written.cots])
    model_id, prompt = written.model["model_id"], written.prompt["prompt_name"]
    named = () if prompt == BOXED.name else (prompt,)
    rows = [
        {
            "cot_id": stable_id("c", problem["problem_id"], model_id, cot["seed"], cot["text"], *named),
            "problem_id": problem["problem_id"],
            "model_id": model_id,
            "run_id": run_id,
            "prompt_name": prompt,
            "sample": cot["sample"],
            "seed": cot["seed"],
            "prompt": cot["prompt"],
            "think_close": cot["think_close"],
            "text": cot["text"],
            "after_text": cot["after_text"],
            "token_ids": cot["token_ids"],
            "n_prompt_tokens": cot["n_prompt_tokens"],
            "n_tokens": len(cot["token_ids"]) - cot["n_prompt_tokens"],
            "finish": cot["finish"],
            "answer": cot["answer"],
            "answer_source": cot["answer_source"],
            "is_correct": verdict,
            "grader": grader(),
        }
        for cot, verdict in zip(written.cots, verdicts, strict=True)
    ]
    known = [verdict for verdict in verdicts if verdict is not None]
    low, high = wilson(sum(known), len(known))
    accuracy = sum(known) / len(known) if known else None
    summary = {
        "problem_id": problem["problem_id"],
        "model_id": model_id,
        "prompt_name": prompt,
        "n": len(known),
        "n_correct": sum(known),
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "candidate": None if accuracy is None else CANDIDATE[0] <= accuracy <= CANDIDATE[1],
    }
    provenance = {
        "model_revision": written.model["revision"],
        "dtype": written.dtype,
        "seed": [cot["seed"] for cot in written.cots],
    }
    return Finished(
        unit,
        {"models": [written.model], "prompts": [written.prompt], "cots": rows, "problem_accuracy": [summary]},
        provenance,
    )
