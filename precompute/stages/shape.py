"""The shape of the clouds of activations, layer by layer: of all chunks, of each category's, and of tokens."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backend.ids import cot_of, seed_for
from backend.models.loaded import LoadedModel
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

NAME, UNIT = "shape", "cloud"
RULE = 2  # of what is measured: raise it when it changes
_TOKENS = "tokens"  # in the place of a unit's layer
_TOKENS_A_COT, _COTS_A_TASK = 20, 8


@dataclass(frozen=True)
class CloudTask:
    """One cloud of a unit, and what it is a part of (None: it is the whole)."""

    makes: tuple[str]
    points: np.ndarray
    problems: np.ndarray
    whole: tuple[np.ndarray, np.ndarray] | None
    n_draws: int
    seed: int


@dataclass(frozen=True)
class TokenTask:
    makes: tuple[str, ...]  # a part a CoT
    texts: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]  # token ids, and the positions that are kept
    layers: tuple[int, ...]


def units(context: Context) -> list[Unit]:
    """One unit a model and layer, and one a model for its tokens."""
    wanted = context.study.shape
    if wanted is None:
        return []
    chunks, tags = chunks_stage.newest(context), _tags(context)
    about = {"draws": wanted.draws, "seed": context.study.seed, "chunks": chunks}
    result = []
    for model_id in sorted(models.by_id(context.study)):
        layers = layers_of(context, model_id, wanted.layers)
        inputs = {**about, "activations": context.store.activation_digest(model_id)}
        result += [Unit(f"{model_id}.{layer}", {**inputs, "tags": tags}) for layer in layers]
        if wanted.tokens and layers:
            result.append(Unit(f"{model_id}.{_TOKENS}", {**inputs, "layers": layers, "tokens": wanted.tokens}))
    return result


def layers_of(context: Context, model_id: str, wanted: Sequence[int] | None) -> list[int]:
    """The layers asked for, or all, at which the model's activations are stored."""
    stored = context.store.activation_layers(model_id)
    return [layer for layer in stored if wanted is None or layer in wanted]


def _tags(context: Context) -> str:
    source = _source(context)
    return "" if source is None else context.store.tag_digest(source)


def _source(context: Context) -> str | None:
    return next(iter(context.store.tag_sources()), None)


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.shape
    if wanted is None:
        return None
    n_layers = of.layers if wanted.layers is None else len(wanted.layers)
    n_models = max(len(of.study.models), 1)
    clouds = n_models * n_layers * (1 + bool(wanted.tokens))
    points = of.n_chunks / n_models
    known_problems = math.nan if of.n_problems is None else of.n_problems
    one = points * min(points, of.width) * of.width * (known_problems + 2 * wanted.draws)
    tokens = min(wanted.tokens / _TOKENS_A_COT, of.n_cots / n_models) * n_models * of.read / max(of.n_cots, 1)
    return of.line(
        NAME,
        n_models * (n_layers + bool(wanted.tokens)),
        tokens=tokens,
        by="forward" if wanted.tokens else None,
        gigabytes=clouds * 2e-5,
        seconds=clouds * (0.08 + one * 1.5e-10),
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    wanted, problem_of = context.study.its_shape, context.store.cot_verdicts().set_index("cot_id")["problem_id"]
    source = _source(context)
    tags = {} if source is None else context.store.first_tags(source)
    for unit in units:
        model_id, place = unit.unit_id.split(".")
        if place == _TOKENS:
            clouds = dict(_token_clouds(context, unit, problem_of))
        else:
            ids, vectors = context.store.activations(model_id, int(place))
            problems = problem_of.loc[[cot_of(chunk) for chunk in ids]].to_numpy()
            clouds = dict(_chunk_clouds(int(place), vectors, problems, [tags.get(chunk) for chunk in ids]))
        tasks = [
            CloudTask((f"{unit.unit_id}/{number}",), *cloud, wanted.draws, seed_for(context.study.seed, NAME, *of))
            for number, (of, cloud) in enumerate(clouds.items())
        ]
        found = dict(context.run(measure, tasks))
        rows = [
            {"model_id": model_id, "points": of[0], "layer": of[1], "category": of[2], **row}
            for of, task in zip(clouds, tasks, strict=True)
            for row in found[task.makes[0]]
        ]
        yield Finished(unit, {"shapes": rows}, {"model_id": model_id, "seed": context.study.seed})


_Points = tuple[np.ndarray, np.ndarray]


def _chunk_clouds(
    layer: int, vectors: np.ndarray, problems: np.ndarray, tags: Sequence[str | None]
) -> Iterator[tuple[tuple[str, int, str], tuple[np.ndarray, np.ndarray, _Points | None]]]:
    """All chunks with a finite activation, and those of each category."""
    from backend.feature_geometry.shape import ALL

    finite = np.isfinite(vectors).all(1)
    points, numbers = vectors[finite], pd.factorize(problems[finite])[0]
    of = np.array([tag or "" for tag in tags], object)[finite]
    yield ("chunks", layer, ALL), (points, numbers, None)
    for tag in sorted(set(of) - {""}):
        own = of == tag
        yield ("chunks", layer, tag), (points[own], numbers[own], (points, numbers))


def _token_clouds(
    context: Context, unit: Unit, problem_of: pd.Series
) -> Iterator[tuple[tuple[str, int, str], tuple[np.ndarray, np.ndarray, _Points | None]]]:
    """Tokens drawn from the CoTs that the model reads, at every layer."""
    from backend.feature_geometry.shape import ALL

    model_id, layers = unit.unit_id.split(".")[0], tuple(unit.inputs["layers"])
    model = models.by_id(context.study)[model_id]
    drawn = _drawn(context, model_id, unit.inputs["tokens"])
    names = {cot: f"{unit.unit_id}/{cot}" for cot in drawn}
    tasks = [
        TokenTask(tuple(names[cot] for cot in share), tuple(drawn[cot] for cot in share), layers)
        for share in shares(list(drawn), context.engine.workers, _COTS_A_TASK)
        if share
    ]
    found = dict(context.run(read, tasks, model=models.spec(context.study, model)))
    numbers = pd.factorize(np.repeat([problem_of[cot] for cot in drawn], [len(drawn[cot][1]) for cot in drawn]))[0]
    for layer in layers if drawn else ():
        points = np.concatenate([found[names[cot]][layer] for cot in drawn])
        yield (_TOKENS, layer, ALL), (points, numbers, None)


def _drawn(context: Context, model_id: str, n_tokens: int) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Token ids and positions, of CoTs in an order of the seed's, until there are enough positions."""
    read_ = [cot for cot in context.store.tokenised_cots() if models.reader_of(context.study, cot) == model_id]
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for cot in sorted(read_, key=lambda cot: seed_for(context.study.seed, NAME, cot["cot_id"])):
        left = n_tokens - sum(len(positions) for _, positions in found.values())
        own = np.arange(cot["n_prompt_tokens"], len(cot["token_ids"]))
        rng = np.random.default_rng(seed_for(context.study.seed, NAME, "positions", cot["cot_id"]))
        chosen = np.sort(rng.permutation(own)[: min(_TOKENS_A_COT, left)])
        if len(chosen):
            found[cot["cot_id"]] = (tuple(cot["token_ids"]), tuple(chosen.tolist()))
    return found


def read(loaded: LoadedModel, task: TokenTask) -> Iterator[tuple[str, Mapping[int, np.ndarray]]]:
    """Runs in a worker: one forward pass a CoT."""
    from backend.models.residuals import record_residuals

    for made, (token_ids, positions) in zip(task.makes, task.texts, strict=True):
        residuals = record_residuals(loaded, token_ids, task.layers)
        yield made, {layer: residual[list(positions)].cpu().numpy() for layer, residual in residuals.items()}


def measure(_: None, task: CloudTask) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the measured columns of each row."""
    from backend.feature_geometry.kept import kept
    from backend.feature_geometry.shape import Cloud, shape
    from backend.schema.tables import REAL, TABLES

    cloud = Cloud.of(task.points, task.problems)
    whole = None if task.whole is None else Cloud.of(*task.whole)
    reals = [name for name, (dtype, _) in TABLES["shapes"].columns.items() if dtype == REAL]
    rows = shape(cloud, n_draws=task.n_draws, seed=task.seed, whole=whole)
    yield task.makes[0], [row | {name: kept(row.get(name)) for name in reals} for row in rows]
