"""Integers, weekdays and months as the models hold them, each word read in its context: circles, helices, or curves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.feature_geometry.curve_sets import SETS, read_alike
from backend.ids import seed_for
from backend.models.loaded import LoadedModel
from backend.schema.tables import TABLES
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.units import Context, Finished, Unit

NAME, UNIT = "curves", "set of words"
RULE = 1  # of what is read and fitted: raise it when it changes
PLANTED, _N_PLANTED = 0.5, 40  # share of the variance in planted circles, and how many there are
_POWER_DRAWS = 39
_ALPHA = 0.05  # at which a circle is shown, adjusted for all layers and models
_TOKENS = 8  # of a word in its context, for the plan
_SECONDS_A_WORD, _SECONDS_A_PAIR = 2e-5, 4.7e-7  # of a draw, by words and by pairs of them
_DRAWS_A_PLANTED = 10  # that planting a circle costs beside its draws


_UNKNOWN_CURVE = dict.fromkeys(TABLES["curves"].columns)


@dataclass(frozen=True)
class Task:
    makes: tuple[str]
    curve: str
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """What a model made of a set: tokens of each word, its last token, and by layer the residual stream there."""

    n_tokens: tuple[int, ...]
    last: tuple[int, ...]
    is_split: bool
    points: dict[int, np.ndarray]


@dataclass(frozen=True)
class FitTask:
    makes: tuple[str]
    curve: str
    places: tuple[int, ...]
    points: np.ndarray
    dimensions: int
    n_draws: int
    seed: int
    is_split: bool


def units(context: Context) -> list[Unit]:
    """One unit a model and set."""
    wanted = context.study.curves
    if wanted is None:
        return []
    found = []
    for model_id in sorted(models.by_id(context.study)):
        if layers := _layers(context, model_id):
            inputs = {
                "layers": layers,
                "dimensions": wanted.dimensions,
                "draws": wanted.draws,
                "seed": context.study.seed,
            }
            found += [
                Unit(f"{model_id}.{name}", {**inputs, "words": SETS[name].words, "context": SETS[name].context})
                for name in wanted.sets
            ]
    return found


def _layers(context: Context, model_id: str) -> list[int]:
    """Those asked for; all that the model has, or those of its activations. None of a model that is not known yet."""
    wanted, facts = context.study.its_curves.layers, context.store.model_facts(model_id)
    if not facts:
        return []
    n_layers = facts["n_layers"]
    if wanted == "all":
        return list(range(n_layers))
    if wanted is None:
        return context.store.activation_layers(model_id)
    models.require_layers(wanted, n_layers, "curves.layers")
    return sorted(set(wanted))


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.curves
    if wanted is None:
        return None
    n_layers = of.layers if wanted.layers is None else of.all_layers if wanted.layers == "all" else len(wanted.layers)
    n_models, sizes = len(of.study.models), [len(SETS[name].words) for name in wanted.sets]
    n_words, draws = sum(sizes), n_layers * wanted.draws + _N_PLANTED * (_POWER_DRAWS + _DRAWS_A_PLANTED)
    seconds = n_models * draws * sum(_SECONDS_A_WORD * n + _SECONDS_A_PAIR * n**2 for n in sizes)
    return of.line(
        NAME,
        n_models * len(wanted.sets),
        tokens=n_models * n_words * _TOKENS,
        by="forward",
        gigabytes=n_models * n_layers * n_words * 1e-7,
        seconds=seconds,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    draws, n_tests = context.study.its_curves.draws, max((len(unit.inputs["layers"]) for unit in units), default=0)
    n_tests *= len(models.by_id(context.study))
    if n_tests / (draws + 1) > _ALPHA:
        context.warn(
            f"curves.draws is {draws}: with {n_tests} layers and models no circle can be shown, whatever the words are."
            f" Ask for {round(n_tests / _ALPHA)} or more, or for fewer layers."
        )
    for model_id in dict.fromkeys(unit.unit_id.split(".")[0] for unit in units):
        own = {unit.unit_id: unit for unit in units if unit.unit_id.split(".")[0] == model_id}
        model = models.by_id(context.study)[model_id]
        tasks = [Task((unit_id,), unit_id.split(".")[1], tuple(unit.inputs["layers"])) for unit_id, unit in own.items()]
        words = dict(context.run(read, tasks, model=models.spec(context.study, model)))
        for unit_id, unit in own.items():
            tables = _fitted(context, unit, words[unit_id])
            yield Finished(unit, tables, {"model_id": model_id, "dtype": model.dtype, "seed": context.study.seed})


def read(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Words]]:
    """Runs in a worker: one short forward pass a word."""
    from backend.models.residuals import record_residuals

    of = SETS[task.curve]
    texts = [f"{of.context} {word}" for word in of.words]
    encoded = [loaded.tokenizer(text, add_special_tokens=True, return_offsets_mapping=True) for text in texts]
    n_context = len(of.context)
    n_tokens = tuple(sum(end > n_context for _, end in one["offset_mapping"]) for one in encoded)
    residuals = [record_residuals(loaded, one["input_ids"], task.layers) for one in encoded]
    is_split = any(
        text[one["offset_mapping"][-1][0] : one["offset_mapping"][-1][1]].strip() != word
        for text, word, one in zip(texts, of.words, encoded, strict=True)
    )
    points = {layer: np.stack([one[layer][-1].cpu().numpy() for one in residuals]) for layer in task.layers}
    yield task.makes[0], Words(n_tokens, tuple(one["input_ids"][-1] for one in encoded), is_split, points)


def _fitted(context: Context, unit: Unit, words: Words) -> dict[str, list[dict[str, Any]]]:
    from backend.feature_geometry.curves import power

    model_id, name = unit.unit_id.split(".")
    of, alike = SETS[name], read_alike(SETS[name], words.n_tokens)
    about = {"model_id": model_id, "curve": name}
    card = {
        **dict.fromkeys(TABLES["curve_sets"].columns),
        **about,
        "context": of.context,
        "n": len(alike.places),
        "n_tokens": alike.n_tokens,
        "dropped": list(alike.dropped),
        "reason": alike.reason,
    }
    if alike.reason is not None:
        return {"curve_sets": [card]}
    card |= {"n_last": len({words.last[place] for place in alike.places}), "planted": PLANTED}
    card["power"] = power(
        of, len(alike.places), share=PLANTED, n_planted=_N_PLANTED, n_draws=_POWER_DRAWS, seed=context.study.seed
    )
    wanted, places = context.study.its_curves, list(alike.places)
    tasks = [
        FitTask(
            (f"{unit.unit_id}/{layer}",),
            name,
            alike.places,
            points[places],
            wanted.dimensions,
            wanted.draws,
            seed_for(context.study.seed, NAME, name, layer),
            words.is_split,
        )
        for layer, points in words.points.items()
    ]
    found = dict(context.run(fit, tasks))
    curves, points = [], []
    for layer, task in zip(words.points, tasks, strict=True):
        row, decoded = found[task.makes[0]]
        curves.append({**_UNKNOWN_CURVE, **about, "layer": layer, **row})
        points += [{**about, "layer": layer, **one} for one in decoded]
    return {"curve_sets": [card], "curves": curves, "curve_points": points}


def fit(_: None, task: FitTask) -> Iterator[tuple[str, tuple[dict[str, Any], list[dict[str, Any]]]]]:
    """Runs in a worker: the measured columns of a row of `curves`, and those of its points."""
    from backend.feature_geometry.curves import curve, in_plane
    from backend.feature_geometry.kept import kept

    of = SETS[task.curve]
    row = curve(
        task.points,
        task.places,
        of,
        dimensions=task.dimensions,
        n_draws=task.n_draws,
        seed=task.seed,
        is_split=task.is_split,
    )
    points = [
        {"period": period, "place": place, "word": of.words[place], "x": kept(float(x)), "y": kept(float(y))}
        for period, plane in in_plane(task.points, task.places, of, dimensions=task.dimensions).items()
        for place, (x, y) in zip(task.places, plane, strict=True)
    ]
    yield task.makes[0], ({name: kept(v) if isinstance(v, float) else v for name, v in row.items()}, points)
