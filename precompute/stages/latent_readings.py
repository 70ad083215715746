"""What is in the latents of each model: lenses, odd and even steps, near misses, components, attention.

A unit is one model and one kind of rows (`PARTS`). Lenses and components are made from problems that are not scored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.latent.problems import LatentProblem
from precompute import latent_models
from precompute.estimates import Estimate, Quantities
from precompute.study import Latent, NamedLatent
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.latent.reading_rows import Material, Rows

NAME, UNIT = "latent_readings", "model and kind of reading"
RULE = 1  # of what is read and how it is counted: raise it when it changes
PARTS = ("lenses", "components", "attention")
_SECONDS = {"lenses": 0.03, "components": 0.003, "attention": 0.003}  # a problem of a small model


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit of each part
    model: NamedLatent
    scored: tuple[LatentProblem, ...]
    others: tuple[LatentProblem, ...]
    latent: Latent
    right: Mapping[int, tuple[bool | None, ...]]  # by the number of latents: whether each scored problem is answered so
    seed: int


def units(context: Context) -> list[Unit]:
    """One a model and part."""
    wanted = context.study.latent
    if wanted is None:
        return []
    drawn = latent_models.drawn(wanted, context.study.seed)
    inputs: dict[str, Any] = {
        "scored": [problem.problem_id for problem in drawn.scored],
        "others": [problem.problem_id for problem in drawn.others],
        **wanted.model_dump(include={"latents", "max_tokens"}),
        "seed": context.study.seed,
    }
    of_part = {"lenses": {"named": wanted.named}}
    return [
        Unit(f"{model_id}.{part}", inputs | of_part.get(part, {}))
        for model_id in latent_models.by_id(context.study)
        for part in PARTS
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.latent
    if wanted is None:
        return None
    problems = (wanted.problems + wanted.means_from) * len(wanted.models)
    line = of.line(
        NAME,
        len(wanted.models) * len(PARTS),
        gigabytes=wanted.problems * len(wanted.models) * 2e-5,
        seconds=problems * sum(_SECONDS.values()),
    )
    return latent_models.known_for_small(line, wanted)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.its_latent
    by_id = {unit.unit_id: unit for unit in units}
    drawn = latent_models.drawn(wanted, study.seed)
    tasks = []
    for model_id, model in latent_models.by_id(study).items():
        makes = tuple(name for part in PARTS if (name := f"{model_id}.{part}") in by_id)
        if makes:
            right = _right(context, model_id, drawn.scored)
            tasks.append(Task(makes, model, drawn.scored, drawn.others, wanted, right, study.seed))
    for name, tables in context.run(read, tasks):
        yield Finished(by_id[name], tables, {"model_id": name.split(".")[0], "dtype": "float32", "seed": study.seed})


def _right(context: Context, model_id: str, scored: Sequence[LatentProblem]) -> dict[int, tuple[bool | None, ...]]:
    """By the number of latents, whether the model's answer to each problem is right."""
    found: dict[int, dict[str, bool]] = {}
    for row in context.store.latent_correct(model_id).itertuples():
        found.setdefault(row.n_latents, {})[row.problem_id] = bool(row.is_correct)
    return {n: tuple(own.get(problem.problem_id) for problem in scored) for n, own in found.items()}


def read(_: None, task: Task) -> Iterator[tuple[str, "Rows"]]:
    """Runs in a worker."""
    from backend.latent import reading_rows

    rows: dict[str, Callable[[Material], Rows]] = {
        "lenses": reading_rows.lens_rows,
        "components": reading_rows.component_rows,
        "attention": reading_rows.attention_rows,
    }
    model = latent_models.loaded(task.model)
    n_latents = latent_models.n_latents(model, task.latent)
    unknown = (None,) * len(task.scored)
    of = reading_rows.material(
        model,
        (task.scored, task.others),
        n_latents,
        named=task.latent.named,
        subsets=reading_rows.subsets_of(task.right.get(0, unknown), task.right.get(n_latents, unknown)),
        seed=task.seed,
    )
    for name in task.makes:
        yield name, rows[name.rpartition(".")[2]](of)
