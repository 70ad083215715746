"""Does importance fall or rise with any geometry column? Every pair of a column and an importance metric, with all its
evidence.

A unit is a model and layer with all pairs there; NO_LAYER stands for the pairs of two importance metrics of the CoTs a
model wrote. Which importances are tested, and which are not because they would count a test twice: `paper` has the
outcomes of `ta`, and its accuracies; the accuracies of `fl` differ from those in the comparator alone. So `paper` is
left out, and `fl` where the metric is an accuracy. What was published is not set against a convention of another
direction or comparator. Testing many pairs is answered where they are read, over all pairs of the study
(`evidence.multiple.judged`). Each pair's power is measured on all chunks: N_PLANTED effects of each size are planted in
it, which takes about as long as its curves do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from backend.evidence.power import N_PLANTED
from backend.ids import seed_for
from backend.importance.conventions import comparable
from backend.importance.metric_registry import METRICS
from backend.schema.tables import TABLES
from backend.store.geometry_columns import IMPORTANCE, columns_of, rules
from backend.store.geometry_queries import COVARIATES
from precompute.estimates import Estimate, Quantities
from precompute.units import Context, Finished, Unit

NAME, UNIT = "evidence", "layer"
RULE = 3  # of the pairs and their evidence: raise it when they change
# For the estimate: columns that are paired; metrics with each of their conventions; a pair at one subset.
_COLUMNS_OF_G, _COLUMNS_OF_CLOUDS, _COLUMNS_OF_PATHS, _IMPORTANCES = 6, 5, 3, 16
_PAIR_SECONDS, _DRAW_SECONDS = 0.01, 5e-5  # of a pair, and of each draw and permutation of it


@dataclass(frozen=True)
class Pair:
    """One row of `associations` before there is any evidence."""

    makes: tuple[str]  # a part of the unit
    name: dict[str, Any]
    frame: pd.DataFrame  # x, y, cot_id, problem_id and the covariates of each chunk
    n_bootstrap: int
    n_permutations: int
    seed: int


def units(context: Context) -> list[Unit]:
    """One unit a model and layer with anything to compare; all rows it rests on are part of its inputs."""
    wanted = context.study.geometry
    if wanted is None or not tested(context):
        return []
    draws = {"n_bootstrap": wanted.n_bootstrap, "n_permutations": wanted.n_permutations, "n_planted": N_PLANTED}
    inputs = {**draws, "seed": context.study.seed, **rules()}
    columns = context.store.geometry_choices()
    streams = (
        columns[["model_id", "layer"]].drop_duplicates().sort_values(["model_id", "layer"]).itertuples(index=False)
    )
    return [
        Unit(f"{model_id}.{layer}", inputs | {"rows": context.store.evidence_digest(model_id, layer)})
        for model_id, layer in streams
    ]


def estimate(of: Quantities) -> Estimate | None:
    wanted, n_layers, n_models = of.study.geometry, len(of.study.geometry_layers), len(of.study.models)
    if wanted is None:
        return None
    columns = len(wanted.positions) * (3 * len(of.study.sweep.kinds) + _COLUMNS_OF_G) + _COLUMNS_OF_CLOUDS
    paths = of.study.paths
    of_paths = 0 if paths is None else _COLUMNS_OF_PATHS * (of.layers if paths.layers is None else len(paths.layers))
    rows = 2 * n_models * (n_layers * columns + of_paths) * _IMPORTANCES
    seconds = rows * (_PAIR_SECONDS + (wanted.n_bootstrap + wanted.n_permutations) * _DRAW_SECONDS)
    return of.line(NAME, n_models * (n_layers + 1), gigabytes=rows * 2e-6, seconds=seconds)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    for unit in units:
        pairs = _pairs(context, unit)
        found = dict(context.run(measure, pairs))
        rows = [row for pair in pairs for row in found[pair.makes[0]]]
        yield Finished(unit, {"associations": rows}, {"seed": context.study.seed})


def measure(_: None, pair: Pair) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the evidence on all chunks, and on those away from the origin."""
    from backend.evidence.pairs import evidence
    from backend.evidence.rows import row_of
    from backend.evidence.sample import SUBSETS

    covariates = [name for name in COVARIATES if name != pair.name["x"]]
    rows = []
    for subset in SUBSETS:
        found = evidence(
            pair.frame,
            n_bootstrap=pair.n_bootstrap,
            n_permutations=pair.n_permutations,
            seed=pair.seed,
            covariates=covariates,
            subset=subset,
            n_planted=N_PLANTED,
        )
        row = pair.name | row_of(found)
        rows.append({column: row[column] for column in TABLES["associations"].columns})
    yield pair.makes[0], rows


def tested(context: Context) -> list[tuple[str, str]]:
    """Importance metrics and conventions that take part, of those that are known for any chunk."""
    stored = context.store.importance_choices()
    return [
        (row.metric, row.convention)
        for row in stored.itertuples()
        if row.n_known
        and row.convention not in ("paper", "jsd_numbers")  # near to others that take part
        and not (row.convention == "fl" and row.metric in METRICS and METRICS[row.metric].is_accuracy)
    ]


def _pairs(context: Context, unit: Unit) -> list[Pair]:
    model_id, layer = unit.unit_id.split(".")
    columns = context.store.geometry_choices()
    here = columns[(columns["model_id"] == model_id) & (columns["layer"] == int(layer)) & (columns["n_known"] > 0)]
    wanted = context.study.its_geometry
    pairs: list[Pair] = []
    for column in here[["x", "kind", "model_id", "layer", "position", "unit"]].to_dict("records"):
        for metric, convention in tested(context):
            if (column["x"], column["kind"]) == (metric, convention):
                continue
            if column["x"] in columns_of(IMPORTANCE) and not comparable(column["kind"], convention):
                continue
            rows = context.store.geometry_and_importance(**column, source="", metric=metric, convention=convention)
            name = column | {"metric": metric, "convention": convention}
            frame = rows.rename(columns={"value": "y"})[["x", "y", "cot_id", "problem_id", *COVARIATES]]
            seed = seed_for(context.study.seed, NAME, *name.values())
            part = f"{unit.unit_id}/{len(pairs)}"
            pairs.append(Pair((part,), name, frame, wanted.n_bootstrap, wanted.n_permutations, seed))
    return pairs
