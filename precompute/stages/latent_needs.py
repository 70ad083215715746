"""Latents replaced, one at a time and all together, and what the model then answers.

A unit is one model on a block of scored problems. What takes the place of their latents comes from the study's other
problems, which every worker runs once for each model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from backend.ids import stable_id
from backend.latent import asked as asking
from backend.latent.problems import LatentProblem
from precompute import latent_models
from precompute.estimates import Estimate, Quantities
from precompute.latent_models import blocks, drawn
from precompute.study import Latent, NamedLatent
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.latent.needs import Other

NAME, UNIT = "latent_needs", "block of problems"
RULE = 1  # of what is replaced and stored: raise it when it changes
BLOCK = 100  # problems
_SECONDS = 0.0015  # a problem of a small model, for each answer


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit
    model: NamedLatent
    problems: tuple[LatentProblem, ...]
    others: tuple[LatentProblem, ...]
    latent: Latent
    seed: int


def units(context: Context) -> list[Unit]:
    return [] if context.study.latent is None else [unit for unit, _ in _asked(context)]


def _asked(context: Context) -> list[tuple[Unit, Task]]:
    study, wanted = context.study, context.study.its_latent
    problems = drawn(wanted, study.seed)
    inputs = {
        **wanted.model_dump(include={"latents", "max_tokens", "needs"}),
        "grader": asking.RULE,
        "seed": study.seed,
        "others": stable_id("o", *[problem.problem_id for problem in problems.others]),
    }
    found = []
    for model_id, model in latent_models.by_id(study).items():
        for number, block in enumerate(blocks(problems.scored, BLOCK)):
            unit = Unit(f"{model_id}.{number}", {**inputs, "problems": [problem.problem_id for problem in block]})
            found.append((unit, Task((unit.unit_id,), model, block, problems.others, wanted, study.seed)))
    return found


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.latent
    if wanted is None:
        return None
    n_latents = 6 if wanted.latents is None else wanted.latents
    answers = 2 + len(wanted.needs.places) * len(wanted.needs.after) * 3 * (n_latents + 1)
    n = len(wanted.models) * wanted.problems
    line = of.line(
        NAME,
        len(wanted.models) * -(-wanted.problems // BLOCK),
        gigabytes=n * answers * 3e-8,
        seconds=n * answers * _SECONDS,
    )
    return latent_models.known_for_small(line, wanted)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    by_id = {unit.unit_id: unit for unit in units}
    tasks = [task for unit, task in _asked(context) if unit.unit_id in by_id]
    for name, tables in context.run(run, tasks):
        yield Finished(by_id[name], tables, {"model_id": name.split(".")[0], "dtype": "float32"})


def run(_: None, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker."""
    from backend.latent.needs import Asked, answers

    model, wanted = latent_models.loaded(task.model), task.latent
    n_latents = latent_models.n_latents(model, wanted)
    asked = Asked(n_latents, wanted.max_tokens, wanted.needs.places, wanted.needs.after, task.seed)
    others = _others(task.model, task.others, n_latents, wanted.max_tokens) if n_latents else ()
    rows = []
    for found in answers(model, task.problems, others, asked):
        row = asdict(found)
        del row["is_known"]  # where it is not, is_correct is NULL
        what = (found.replacement, found.step, found.place, found.after)
        rows.append(
            {"need_id": stable_id("n", model.model_id, found.problem_id, *what), "model_id": model.model_id} | row
        )
    yield task.makes[0], {"latent_needs": rows}


@lru_cache(maxsize=1)
def _others(
    model: NamedLatent, problems: tuple[LatentProblem, ...], n_latents: int, max_tokens: int
) -> "tuple[Other, ...]":
    """Once a process, for the model that it works on."""
    from backend.latent.needs import run_others

    return tuple(run_others(latent_models.loaded(model), problems, n_latents, max_tokens))
