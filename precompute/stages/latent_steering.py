"""Models that think in latents, steered by differences of their mean latents, by random vectors and by fitted ones.

A unit is one map: a model, a move (what is added where, `backend/latent/published.py`) and a coefficient; or the
vectors fitted to a model in one space. Its random vectors follow from the study's seed, the move and the coefficient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.latent import asked as asking
from backend.latent.maps import Setting, difference_map, fitted_map, moves_anything
from backend.latent.published import Move, moves_of
from precompute import latent_models
from precompute.estimates import Estimate, Quantities
from precompute.latent_models import drawn
from precompute.study import Latent, NamedLatent
from precompute.units import Context, Finished, Unit

NAME, UNIT = "latent_steering", "map"
RULE = 1  # of what is steered and counted: raise it when it changes
FITTED_SPACES = ("z", "h", "kv")  # of those that the study steers in
_SECONDS = 1.2e-4  # a steered answer of a small model, of the embedded one on one core
_FITTING = 35.0  # seconds of the vectors of one space, likewise
_BYTES = 1.2  # of a stored answer


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit
    model: NamedLatent
    setting: Setting
    move: Move
    coefficient: float | None  # None: vectors are fitted
    bounds: tuple[float, ...]


def units(context: Context) -> list[Unit]:
    wanted = context.study.latent
    if wanted is None:
        return []
    asked = wanted.model_dump(include={"task", "steps", "problems", "means_from", "max_tokens"})
    inputs = {**asked, "seed": context.study.seed, "grader": asking.RULE}
    return [
        Unit(
            name,
            {
                **inputs,
                "n_latents": n_latents,
                **({"random": wanted.random} if coefficient is not None else {"fitted": wanted.fitted}),
            },
        )
        for name, (_, n_latents, _, coefficient) in _maps(context).items()
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.latent
    if wanted is None:
        return None
    n_latents = wanted.latents or 6
    vectors = n_latents * (n_latents - 1) // 2 + wanted.random
    answers = wanted.problems * vectors * (2 * n_latents - 1)
    maps, fits = len(wanted.models) * len(_moves(wanted)), len(wanted.models) * len(_fitted_spaces(wanted))
    line = of.line(
        NAME,
        maps + fits,
        gigabytes=maps * answers * _BYTES * 1e-9,
        seconds=maps * answers * _SECONDS + fits * _FITTING,
    )
    return latent_models.known_for_small(line, wanted)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, wanted = context.study, context.study.its_latent
    by_id, problems = {unit.unit_id: unit for unit in units}, drawn(wanted, study.seed)
    tasks = []
    for name, (model, n_latents, move, coefficient) in _maps(context).items():
        if name in by_id:
            setting = Setting(problems.scored, problems.others, n_latents, wanted.max_tokens, wanted.random, study.seed)
            tasks.append(Task((name,), model, setting, move, coefficient, wanted.fitted))
    for name, rows in context.run(steer, tasks):
        about = {"model_id": name.split(".")[0], "dtype": "float32", "seed": study.seed}
        yield Finished(by_id[name], rows, about)


def steer(_: None, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker."""
    model = latent_models.loaded(task.model)
    if task.coefficient is None:
        rows = fitted_map(model, task.setting, task.move.space, task.bounds)
    else:
        rows = difference_map(model, task.setting, task.move, task.coefficient)
    yield task.makes[0], rows


def _maps(context: Context) -> dict[str, tuple[NamedLatent, int, Move, float | None]]:
    """By unit: the model, its latents, the move and the coefficient; None where vectors are fitted. Of models that were
    run and have latents; a move that can change nothing is left out.
    """
    wanted = context.study.its_latent
    facts = context.store.latent_models().set_index("model_id")
    found: dict[str, tuple[NamedLatent, int, Move, float | None]] = {}
    for model_id, model in latent_models.by_id(context.study).items():
        if model_id not in facts.index or facts.loc[model_id, "sibling"] == "none":
            continue
        own, sibling = facts.loc[model_id], str(facts.loc[model_id, "sibling"])
        n_latents = int(own["n_latents"]) if wanted.latents is None else wanted.latents
        asked: list[tuple[Move, float | None]] = [*_moves(wanted)]
        asked += [(Move(space, space), None) for space in _fitted_spaces(wanted)]
        for move, coefficient in asked:
            if moves_anything(sibling, move) and n_latents > 1:
                word = "fitted" if coefficient is None else f"{coefficient:g}"
                found[f"{model_id}.{move.name}.{word}"] = (model, n_latents, move, coefficient)
    return found


def _moves(wanted: Latent) -> list[tuple[Move, float]]:
    """Ours at the study's coefficients, and all that the published maps are views of at theirs."""
    ours = [(move, c) for move in moves_of(wanted.spaces, published=False) for c in wanted.coefficients]
    published = [(move, c) for move in moves_of(wanted.spaces, published=True) for c in wanted.published]
    kept = [(move, c) for move, c in published if move.vectors in ("h", "kv") or (move, c) in ours]
    return list(dict.fromkeys([*ours, *kept]))


def _fitted_spaces(wanted: Latent) -> list[str]:
    return [space for space in FITTED_SPACES if space in wanted.spaces and wanted.fitted]
