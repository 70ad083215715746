"""Pull-back cosines of sets of directions, beside their plain ones: the averaged metric of a layer, and the rows that
stand at the output of its block.

A unit is one set of rows at one model and layer. It stores counts by both cosines, of the rows and of drawn ones, and
the pairs that differ most.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.feature_geometry import pullback as pull
from backend.ids import seed_for, stable_id
from backend.models.loaded import LoadedModel
from backend.store.dictionaries import folder_with
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import pullback
from precompute.units import Context, Finished, Unit

NAME, UNIT = "interference", "set of directions"
RULE = 1  # of what is counted: raise it when it changes
PAIRS = 40  # of each relation that are kept
MOST_ROWS = 8192  # of a set; of more, so many are drawn
_SECONDS = 30  # a set of some thousand rows


@dataclass(frozen=True)
class Task:
    """One set of rows, and the metric of its layer."""

    makes: tuple[str, ...]  # a unit
    kind: str
    path: Path | None  # of a dictionary
    model: int  # which of the dictionary's models
    layer: int
    halves: Mapping[str, tuple[int, np.ndarray]]  # chunks and the sum of their metrics
    seed: int


def units(context: Context) -> list[Unit]:
    wanted = context.study.pullback
    if wanted is None:
        return []
    made = pullback.units(context)
    found = []
    for model_id in models.by_id(context.study):
        for layer in wanted.layers:
            place = f"{model_id}.{layer}."
            own = {unit.unit_id.removeprefix(place): unit.key for unit in made if unit.unit_id.startswith(place)}
            if not own or own.keys() != context.store.pullback_parts(model_id, layer):
                continue  # a part of the chunks is another metric than all of them
            inputs = {"metric": sorted(own.values()), "seed": context.study.seed}
            found += [Unit(place + name, inputs) for name in _sets(context, model_id, layer)]
    return found


def _sets(context: Context, model_id: str, layer: int) -> dict[str, tuple[str, Path | None, int]]:
    """By a kind's name or a dictionary's id: kind, the dictionary's files, and which of its models."""
    found: dict[str, tuple[str, Path | None, int]] = {kind: (kind, None, 0) for kind in context.study.its_pullback.sets}
    for dictionary_id, side in context.store.dictionaries_at(model_id, layer):
        found[dictionary_id] = ("dictionary", folder_with(context.store.path, dictionary_id), side)
    return found


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.pullback
    if wanted is None:
        return None
    n = len(of.study.models) * len(wanted.layers) * (len(wanted.sets) + 1)
    return of.line(NAME, n, gigabytes=n * 5e-5, seconds=n * _SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study = context.study
    by_id = {unit.unit_id: unit for unit in units}
    for model_id in sorted({unit.unit_id.split(".")[0] for unit in units}):
        model, tasks = models.by_id(study)[model_id], []
        for unit in units:
            of_model, layer, name = unit.unit_id.split(".")
            if of_model == model_id:
                place = _sets(context, model_id, int(layer))[name]
                halves = context.store.pullback_halves(model_id, int(layer))
                tasks.append(Task((unit.unit_id,), *place, int(layer), halves, study.seed))
        for unit_id, tables in context.run(measure, tasks, model=models.spec(study, model)):
            yield Finished(by_id[unit_id], tables, {"model_id": model_id, "dtype": model.dtype, "seed": study.seed})


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker."""
    from backend.feature_geometry import row_sets

    found = row_sets.rows(task.kind, row_sets.Source(loaded, task.layer, task.path, task.model))
    yield task.makes[0], compared(task, loaded.model_id, found)


def compared(task: Task, model_id: str, found: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables."""
    unit, kept = pull.unit_rows(found)
    if len(kept) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed_for(task.seed, NAME)).permutation(len(kept))[:MOST_ROWS])
        unit, kept = unit[chosen], kept[chosen]
    n_chunks = sum(n for n, _ in task.halves.values())
    metric = np.sum([total for _, total in task.halves.values()], axis=0) / n_chunks
    halves = [total / n for n, total in task.halves.values()]
    lines = pull.lines_of(metric, seed=task.seed)
    set_id = stable_id("g", task.makes[0], n_chunks, task.seed)
    row = {
        "set_id": set_id,
        "model_id": model_id,
        "layer": task.layer,
        "kind": task.kind,
        "dictionary_id": None if task.path is None else task.path.name,
        "n_rows": len(unit),
        "n_left_out": len(found) - len(unit),
        "n_chunks": n_chunks,
        "participation_ratio": float(np.trace(metric) ** 2 / (metric**2).sum()),
        "error_of_halves": _error(halves, metric),
        **vars(lines),
    }
    row["correlation_of_halves"], row["difference_of_halves"] = pull.between_halves(unit, halves, seed=task.seed)
    groups = {
        "rows": unit,
        "covariance": pull.alike_in_covariance(unit, seed=task.seed),
        "isotropic": pull.isotropic(len(unit), unit.shape[1], seed=task.seed + 1),
    }
    counts = {name: pull.counted(rows, metric, lines) for name, rows in groups.items()}
    hidden, apart = pull.strongest(unit, metric, lines, PAIRS)
    return {
        "pullback_sets": [row],
        "pullback_shares": [_shares(set_id, name, one) for name, one in counts.items()],
        "pullback_bins": [
            {"set_id": set_id, "drawn": name, "cosine_bin": int(x), "pullback_bin": int(y), "n": int(one.bins[x, y])}
            for name, one in counts.items()
            for x, y in zip(*one.bins.nonzero(), strict=True)
        ],
        "pullback_pairs": [
            _pair(set_id, relation, rank, pair, kept, images)
            for images in [[pull.images(unit, half)[0] for half in halves]]
            for relation, pairs in (("hidden", hidden), ("apart", apart))
            for rank, pair in enumerate(pairs, start=1)
        ],
    }


def _error(halves: Sequence[np.ndarray], metric: np.ndarray) -> float:
    """Of the mean of both, by their difference: ‖Ḡ_a − Ḡ_b‖ / 2‖Ḡ‖."""
    return float(np.linalg.norm(halves[0] - halves[1]) / (2 * np.linalg.norm(metric)))


def _shares(set_id: str, drawn: str, found: "pull.Counted") -> dict[str, Any]:
    row: dict[str, Any] = {
        "set_id": set_id,
        "drawn": drawn,
        "n_pairs": found.n_pairs,
        "n_duplicates": found.n_duplicates,
        "n_orthogonal": int(found.orthogonal.sum()) // 2,
        "n_alike": int(found.alike.sum()) // 2,
    }
    for name, part, whole in (
        ("hidden", found.hidden, found.orthogonal),
        ("apart", found.apart, found.alike),
    ):
        share = pull.share_of(part, whole)
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), map(_known, share), strict=True))
    return row


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _pair(
    set_id: str, relation: str, rank: int, pair: "pull.Pair", kept: np.ndarray, images: Sequence[np.ndarray]
) -> dict[str, Any]:
    by_half = [float(moved[pair.first] @ moved[pair.second]) for moved in images]
    return {
        "set_id": set_id,
        "relation": relation,
        "rank": rank,
        "first": int(kept[pair.first]),
        "second": int(kept[pair.second]),
        "cosine": pair.cosine,
        "pullback_cosine": pair.pullback,
        "nats": pair.nats,
        "by_half": by_half,
    }
