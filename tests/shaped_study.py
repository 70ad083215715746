"""Shape, curves and paths: of a tiny model's chains for the stages, and as rows of the small study for pages."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from backend.feature_geometry.curve_sets import SETS
from backend.feature_geometry.path_outcomes import COMPARISONS, MEASURES
from backend.feature_geometry.paths import paths
from backend.feature_geometry.shape import ALL
from backend.feature_geometry.shape import MEASURES as OF_CLOUDS
from backend.ids import cot_of
from backend.models.loaded import LoadedModel
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.models import model_row
from tests import lens_study

TOO_SMALL = "unknown"  # the category whose cloud is


def make(path: Path, loaded: LoadedModel) -> StudyFolder:
    """Chains of twelve problems, two each, of which every third is wrong: to be cut and read by the stages."""
    cots = [cot | {"is_correct": number % 3 > 0} for number, cot in enumerate(lens_study.chains(loaded))]
    problems = [
        lens_study.row("problems", problem_id=name) for name in dict.fromkeys(cot["problem_id"] for cot in cots)
    ]
    folder = StudyFolder(path)
    with folder.writing("test") as writer:
        writer.add("cots", "all", {"models": [model_row(loaded, "model")], "problems": problems, "cots": cots})
        publish(writer)
    return folder


def add(folder: Path) -> None:
    """Rows of every table that the parts of the page Geometry about shape, curves and paths read."""
    with closing(Store(folder)) as store:
        places = store.frame("SELECT DISTINCT model_id, layer FROM activations ORDER BY ALL").to_dict("records")
        tables = {name: [] for name in ("shapes", "curve_sets", "curves", "curve_points")}
        tables |= {name: [] for name in ("paths", "path_steps", "path_outcomes")}
        for place in places:
            tables["shapes"] += list(_shapes(place))
            tables["curves"] += [_curve(place, name) for name in SETS]
            tables["curve_points"] += _points(place)
            tables["path_outcomes"] += [_outcome(place, kind, name) for kind in COMPARISONS for name in MEASURES]
            for table, rows in _paths(store, **place).items():
                tables[table] += rows
        tables["curve_sets"] = [_set(model, name) for model in {place["model_id"] for place in places} for name in SETS]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("shape", "all", tables)
        publish(writer)


def _row(table: str, **known: Any) -> dict[str, Any]:
    return dict.fromkeys(TABLES[table].columns) | known


def _shapes(place: dict[str, Any]):
    for points, category in (("chunks", ALL), ("tokens", ALL), ("chunks", "self_checking"), ("chunks", TOO_SMALL)):
        for name in OF_CLOUDS:
            row = _row("shapes", **place, points=points, category=category, measure=name, n=30, n_problems=6)
            if category != TOO_SMALL:
                row |= {"value": 5.0, "low": 4.0, "high": 6.0, "isotropic": 90.0, "isotropic_sd": 1.0, "matched": 20.0}
                row |= {"matched_sd": 2.0}
            yield row | ({"any_category": 9.0, "any_category_sd": 0.5} if category == "self_checking" else {})


def _set(model_id: str, name: str) -> dict[str, Any]:
    n = len(SETS[name].words)
    known = {"n": n, "n_tokens": 1, "n_last": n, "dropped": [], "planted": 0.5, "power": 0.8}
    if name == "integers":
        known |= {"n": 90, "n_tokens": 2, "n_last": 10, "dropped": list(SETS[name].words[:10])}
    return _row("curve_sets", model_id=model_id, curve=name, context=SETS[name].context, **known)


def _curve(place: dict[str, Any], name: str) -> dict[str, Any]:
    known = dict.fromkeys((f"{null}_{part}" for null in ("smooth", "permuted") for part in ("median", "high")), 0.4)
    known |= {f"{fit}{end}": 0.7 for fit in ("fourier", "polynomial") for end in ("", "_low", "_high")}
    known |= {"difference": 0.2, "difference_low": 0.1, "difference_high": 0.3, "variance": 0.9, "autocorrelation": 0.6}
    p = {"smooth_p": 0.001, "permuted_p": 0.001} if name == "months" else {"smooth_p": 0.5, "permuted_p": 0.01}
    n = {"n": len(SETS[name].words), "n_parameters": 2, "dimensions": 6, "smooth_kind": "exponential, 6 dimensions"}
    return _row("curves", **place, curve=name, **known, **p, **n)


def _points(place: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        _row("curve_points", **place, curve=name, period=period, place=number, word=word, x=0.5, y=-0.5)
        for name, of in SETS.items()
        for period in of.periods[:2]
        for number, word in enumerate(of.words)
    ]


def _paths(store: Store, model_id: str, layer: int) -> dict[str, list[dict[str, Any]]]:
    ids, vectors = store.activations(model_id, layer)
    cots: dict[str, tuple[list[str], np.ndarray]] = {}
    for cot in dict.fromkeys(map(cot_of, ids)):
        own = [row for row, chunk in enumerate(ids) if cot_of(chunk) == cot]
        cots[cot] = ([ids[row] for row in own], vectors[own])
    return paths(cots, model_id=model_id, layer=layer, n_draws=5, seed=0)


def _outcome(place: dict[str, Any], comparison: str, measure: str) -> dict[str, Any]:
    row = _row("path_outcomes", **place, comparison=comparison, measure=measure, n_correct=0, n_wrong=0, n_strata=0)
    if comparison == "within_problem":
        return row
    row |= {"n_correct": 9, "n_wrong": 7, "n_strata": 3, "difference": 0.1, "low": 0.05, "high": 0.2, "sd": 0.3}
    p = 0.0001 if comparison == "unmatched" or measure == "curvature" else 0.4
    return row | {"p": p, "planted": [0.25, 0.5, 1.0], "power": [0.1, 0.4, 0.9]}
