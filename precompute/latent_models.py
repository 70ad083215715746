"""The models of [latent], and the problems that they are asked: shared by the stages of latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from backend.ids import seed_for
from backend.latent.known_tasks import TASKS
from backend.latent.problems import LatentProblem
from precompute.estimates import Estimate
from precompute.study import Latent, NamedLatent, Study

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel


@dataclass(frozen=True)
class Drawn:
    """`scored` are asked and counted; `others` are those that means, vectors and lenses are made from."""

    scored: tuple[LatentProblem, ...]
    others: tuple[LatentProblem, ...]


@lru_cache(maxsize=4)
def drawn(wanted: Latent, seed: int) -> Drawn:
    """The study's problems, of combinations that no training of ours saw; no problem is in both."""
    n = wanted.problems + wanted.means_from
    found = TASKS[wanted.task].problems(n, steps=wanted.steps, seed=seed_for("latent problems", seed), held_out=True)
    return Drawn(tuple(found[: wanted.problems]), tuple(found[wanted.problems :]))


@lru_cache(maxsize=64)
def model_id(model: NamedLatent) -> str:
    """The id that rows bear, found without loading the weights."""
    from backend.latent.loading import identify

    return identify(model.name, model.revision, model.unsaid)


def by_id(study: Study) -> Mapping[str, NamedLatent]:
    return {model_id(model): model for model in (study.latent.models if study.latent else ())}


@lru_cache(maxsize=2)
def loaded(model: NamedLatent) -> "LatentModel":
    """Once a process."""
    from backend.latent.loading import load_latent

    return load_latent(model.name, model.revision, model.unsaid)


def n_latents(model: "LatentModel", wanted: Latent) -> int:
    """That are run: what the study asks for, else what the model was trained with; none of one that has none."""
    return 0 if model.sibling == "none" else model.n_latents if wanted.latents is None else wanted.latents


def known_for_small(line: Estimate, wanted: Latent) -> Estimate:
    """An estimate whose seconds are those of models as small as ours: unknown where another one is named."""
    from backend.latent.loading import is_ours

    return (
        line
        if all(is_ours(model.name) for model in wanted.models)
        else replace(line, cpu_seconds=None, on_cards=dict.fromkeys(line.on_cards))
    )


def blocks(problems: Sequence[LatentProblem], size: int) -> list[tuple[LatentProblem, ...]]:
    """Problems in their order, so many at a time."""
    return [tuple(problems[first : first + size]) for first in range(0, len(problems), size)]
