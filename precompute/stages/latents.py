"""Models that think in latents, asked the study's problems with every number of latents up to theirs.

A unit is one model on a block of problems. It stores the answer after each number of latents, and the latents.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.ids import stable_id
from backend.latent import asked as asking
from backend.latent.problems import LatentProblem
from precompute import latent_models
from precompute.estimates import Estimate, Quantities
from precompute.latent_models import Drawn, blocks, drawn
from precompute.study import Latent, NamedLatent
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel

NAME, UNIT = "latents", "block of problems"
RULE = 1  # of what is run and stored: raise it when it changes
PROBLEMS, BLOCK = "problems", 100  # the unit of the problems, and problems a block
_SECONDS = 0.002  # a problem of a small model, all numbers of latents together


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit
    model: NamedLatent
    problems: tuple[LatentProblem, ...]
    latent: Latent


def units(context: Context) -> list[Unit]:
    """One unit of the problems, and one a model and block of them."""
    wanted = context.study.latent
    if wanted is None:
        return []
    asked = wanted.model_dump(include={"task", "steps", "problems", "means_from"})
    inputs = {**wanted.model_dump(include={"latents", "max_tokens"}), "grader": asking.RULE}
    return [Unit(PROBLEMS, {**asked, "seed": context.study.seed})] + [
        Unit(name, {**inputs, "problems": [problem.problem_id for problem in block]})
        for name, (_, block) in _asked(context).items()
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.latent
    if wanted is None:
        return None
    asked = (wanted.problems + wanted.means_from) * len(wanted.models)
    line = of.line(NAME, 1 + -(-asked // BLOCK), gigabytes=asked * 5e-6, seconds=asked * _SECONDS)
    return latent_models.known_for_small(line, wanted)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.its_latent
    by_id = {unit.unit_id: unit for unit in units}
    if (unit := by_id.get(PROBLEMS)) is not None:
        yield Finished(unit, _problem_rows(drawn(wanted, study.seed), wanted.task), {"seed": study.seed})
    tasks = [Task((name,), *asked, wanted) for name, asked in _asked(context).items() if name in by_id]
    for name, tables in context.run(run, tasks):
        yield Finished(by_id[name], tables, {"model_id": name.split(".")[0], "dtype": "float32"})


def run(_: None, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker."""
    from backend.latent.runs import runs

    model = latent_models.loaded(task.model)
    rows: dict[str, list[dict[str, Any]]] = {"latent_runs": [], "latents": []}
    for ran in runs(model, task.problems, latent_models.n_latents(model, task.latent), task.latent.max_tokens):
        problem = task.problems[ran.place]
        for n, tokens in enumerate(ran.answers):
            answer = asking.answer_of(model, tokens)
            rows["latent_runs"].append(
                {
                    "run_id": stable_id("r", model.model_id, problem.problem_id, n, task.latent.max_tokens),
                    "model_id": model.model_id,
                    "problem_id": problem.problem_id,
                    "n_latents": n,
                    "token_ids": list(tokens),
                    "text": model.tokenizer.decode(list(tokens)),
                    "answer": answer,
                    "is_correct": asking.is_right(answer, problem.answer),
                    "finish": "cap" if len(tokens) >= task.latent.max_tokens else "eos",
                }
            )
        rows["latents"] += [
            {
                "latent_id": stable_id("z", model.model_id, problem.problem_id, step),
                "model_id": model.model_id,
                "problem_id": problem.problem_id,
                "step": step,
                "h": h.tolist(),
                "z": ran.z[step - 1].tolist() if step else None,
            }
            for step, h in enumerate(ran.h)
        ]
    yield task.makes[0], {"models": [_model_row(model)], "latent_models": [_latent_model_row(model)], **rows}


def _asked(context: Context) -> dict[str, tuple[NamedLatent, tuple[LatentProblem, ...]]]:
    """By unit: the model and its problems."""
    problems = drawn(context.study.its_latent, context.study.seed)
    return {
        f"{model_id}.{number}": (model, block)
        for model_id, model in latent_models.by_id(context.study).items()
        for number, block in enumerate(blocks([*problems.scored, *problems.others], BLOCK))
    }


def _problem_rows(problems: Drawn, task: str) -> dict[str, list[dict[str, Any]]]:
    every = [(problem, True) for problem in problems.scored] + [(problem, False) for problem in problems.others]
    return {
        "problems": [
            {
                "problem_id": problem.problem_id,
                "source": task,
                "source_key": problem.problem_id,
                "level": problem.n_steps,
                "question": problem.question,
                "answer": problem.answer,
                "solution": "\n".join(problem.intermediates),
                "difficulty": None,
            }
            for problem, _ in every
        ],
        "latent_problems": [
            {
                "problem_id": problem.problem_id,
                "place": place,
                "is_scored": scored,
                "intermediates": list(problem.intermediates),
                "operands": list(problem.operands),
                "has_distractor": problem.has_distractor,
            }
            for place, (problem, scored) in enumerate(every)
        ],
    }


def _model_row(model: "LatentModel") -> dict[str, Any]:
    return {
        "model_id": model.model_id,
        "name": model.name,
        "role": "latent",
        "revision": model.revision,
        "dtype": "float32",
        "family": model.model.config.model_type,
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "vocab_size": int(model.model.config.vocab_size),
    }


def _latent_model_row(model: "LatentModel") -> dict[str, Any]:
    return {
        "model_id": model.model_id,
        "layout": model.layout,
        "sibling": model.sibling,
        "training_seed": model.facts.get("seed"),
        "task": model.facts.get("task"),
        "n_latents": 0 if model.sibling == "none" else model.n_latents,
        "n_weights": sum(parameter.numel() for parameter in model.model.parameters()),
        "facts": json.dumps(model.facts, sort_keys=True),
    }
