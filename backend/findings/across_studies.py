"""A study as one point among others: few numbers a model, each with its interval, n and null, to be drawn by the
model's size, its seed, or its step of training.

1. Mean NRN: over the features that fire of a dictionary of two models, the one nearest half depth, under the distilled
   one. The interval draws features anew; shared features have 0.5.
2. Parallelogram ratio: geometric mean over classes of word pairs of loss over that of shuffled pairs, in one space:
   centred words where the study has them, fewest components, the layer nearest half depth. 1 is what shuffled pairs
   have.
3. Cosine tail: share of pairs of directions with |cosine| above 0.1: of a dictionary's rows, or else of the first kind
   of rows that the study has at the layer nearest half depth. The null is the mean over the sets drawn in its stead.
4. Steepness and importance: rank correlation within CoTs of swept steepness along the chunk's own direction, or else
   the first that was swept, with the first headline importance; the null is what permutation gives.
5. Accuracy: mean over problems, under the prompt of most problems; the interval draws problems anew.

What a study does not have is unknown, and is there as a row that says so. Two studies differ in more than what stands
on an axis: problems, prompts, layers and texts too; `where` says what each number is of.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from backend.feature_geometry.parallelogram_layers import over_classes
from backend.importance.conventions import CONVENTIONS
from backend.importance.metric_registry import METRICS
from backend.models.names import short_names
from backend.statistics.intervals import bootstrap_mean
from backend.store.store import Store

QUANTITIES = {  # as an axis has them
    "nrn": "mean NRN, L2",
    "parallelogram": "parallelogram loss / that of shuffled pairs",
    "tail": "share of pairs with |cosine| above 0.1",
    "association": "ρ within CoTs, steepness and importance",
    "accuracy": "accuracy",
}
AXES = {"size": "parameters", "seed": "seed of the study", "step": "step of training"}
_CLEANING, _MARK, _KIND, _POSITION = "centred", "0.1", "per_chunk", "anchor"
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)\s?([BbMm])(?![A-Za-z0-9])")
_STEP = re.compile(r"(?:checkpoint|global_step|step)[-_]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Point:
    """One quantity of one model in one study; None where it is unknown."""

    study: str
    model: str
    role: str
    quantity: str
    value: float | None = None
    low: float | None = None  # 95 % interval
    high: float | None = None
    n: int | None = None
    of: str = ""  # what n counts
    null_low: float | None = None  # what chance alone gives; equal to null_high where it is one number
    null_high: float | None = None
    where: str = ""  # layer, space, pair: what it is of
    size: float | None = None  # parameters of the model
    size_from: str = ""  # its name, or its shape
    seed: int | None = None
    step: int | None = None


def points(store: Store, study: str) -> list[Point]:
    """Every quantity of every model of the study that any is known of; unknown ones too."""
    models = store.whole_table("models").to_pandas().sort_values(["name", "model_id"], ignore_index=True)
    short, seeds = short_names(models), store.seeds()
    measured = [
        *_nrn(store, models),
        *_parallelograms(store, models),
        *_tails(store, models),
        *_steepness(store, models),
    ]
    measured += _accuracies(store)
    found = []
    for row in models.to_dict("records"):
        own = {one["quantity"]: one for one in measured if one["model_id"] == row["model_id"]}
        size, size_from = size_of(row)
        whose = Point(
            study,
            short[row["model_id"]],
            row["role"],
            "",
            size=size,
            size_from=size_from,
            seed=seeds[0] if len(seeds) == 1 else None,
            step=step_of(row),
        )
        for quantity in QUANTITIES if own else ():
            known = {name: _plain(value) for name, value in own.get(quantity, {}).items() if name != "model_id"}
            found.append(replace(whose, **{"quantity": quantity, **known}))
    return found


def frame_of(found: list[Point]) -> pd.DataFrame:
    return pd.DataFrame([asdict(one) for one in found], columns=list(Point.__dataclass_fields__))


def size_of(model: dict[str, Any]) -> tuple[float | None, str]:
    """Parameters of a row of `models`, and what says so: the last number with B or M of its name, or about as many as a
    transformer of its shape has (12·L·d² + V·d).
    """
    if said := _SIZE.findall(str(model["name"])):
        number, letter = said[-1]
        return float(number) * (1e9 if letter in "Bb" else 1e6), "its name"
    shape = [model["n_layers"], model["d_model"], model["vocab_size"]]
    if any(pd.isna(one) for one in shape):
        return None, ""
    n_layers, d_model, vocabulary = map(int, shape)
    return float(12 * n_layers * d_model**2 + vocabulary * d_model), "its shape, about"


def step_of(model: dict[str, Any]) -> int | None:
    """The step that a checkpoint's name or revision says (`checkpoint-500`, `step1000`)."""
    for text in (model["revision"], model["name"]):
        if isinstance(text, str) and (said := _STEP.findall(text)):
            return int(said[-1])
    return None


def _nrn(store: Store, models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    rows = store.nrn_of_features()
    for model_id, own in rows.groupby("model_id"):
        own = half_deep(own, model_id, models)
        first = own[own["dictionary_id"] == own["dictionary_id"].iloc[0]]
        low, high = bootstrap_mean(first["nrn_l2"].to_numpy(float), n_bootstrap=200)
        yield {
            "quantity": "nrn",
            "model_id": model_id,
            "value": first["nrn_l2"].mean(),
            "low": low,
            "high": high,
            "n": len(first),
            "of": "features that fire",
            "null_low": 0.5,
            "null_high": 0.5,
            "where": f"layer {first['layer'].iloc[0]}, dictionary {first['dictionary_id'].iloc[0]}",
        }


def _parallelograms(store: Store, models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    rows = store.parallelogram_ratios()
    for model_id, own in rows.groupby("model_id"):
        own = own[own["cleaning"] == (_CLEANING if (own["cleaning"] == _CLEANING).any() else own["cleaning"].min())]
        own = own[own["fitted_on"] == own["fitted_on"].min()]
        own = own[own["components"] == own["components"].min()]
        own = half_deep(own, model_id, models)
        for row in over_classes(own.assign(role="")).itertuples():
            yield {
                "quantity": "parallelogram",
                "model_id": model_id,
                "value": row.ratio,
                "low": row.ratio_low,
                "high": row.ratio_high,
                "n": row.n,
                "of": "classes of word pairs",
                "null_low": 1.0,
                "null_high": 1.0,
                "where": f"{own['cleaning'].iloc[0]} words, layer {row.layer}",
            }


def _tails(store: Store, models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    rows = store.tail_shares(_MARK)
    named = models.drop_duplicates("name").set_index("name")["model_id"]
    rows["model_id"] = rows["model_id"].fillna(rows["model"].map(named))  # of a published dictionary
    for model_id, own in rows.groupby("model_id"):
        own = own[own["kind"] == ("dictionary" if (own["kind"] == "dictionary").any() else own["kind"].min())]
        own = own[own["subset"] == ("live" if (own["subset"] == "live").any() else "all")]
        for row in half_deep(own, model_id, models).head(1).to_dict("records"):
            layer = "" if pd.isna(row["layer"]) else f", layer {int(row['layer'])}"
            yield {
                "quantity": "tail",
                "model_id": model_id,
                "value": row["share"],
                "low": row["ci_low"],
                "high": row["ci_high"],
                "n": row["n"],
                "of": "directions",
                "null_low": row["null"],
                "null_high": row["null"],
                "where": f"rows of {row['kind']}, {row['subset']}{layer}",
            }


def _steepness(store: Store, models: pd.DataFrame) -> Iterator[dict[str, Any]]:
    rows = store.steepness_pairs()
    headlines = [name for name, metric in METRICS.items() if metric.is_headline]
    for model_id, own in rows.groupby("model_id"):
        metric = next((name for name in headlines if (own["metric"] == name).any()), own["metric"].min())
        own = own[own["metric"] == metric]
        convention = next((name for name in CONVENTIONS if (own["convention"] == name).any()), own["convention"].min())
        own = own[own["convention"] == convention]
        own = own[own["kind"] == (_KIND if (own["kind"] == _KIND).any() else own["kind"].min())]
        own = own[own["position"] == (_POSITION if (own["position"] == _POSITION).any() else own["position"].min())]
        for row in half_deep(own, model_id, models).head(1).to_dict("records"):
            yield {
                "quantity": "association",
                "model_id": model_id,
                "value": row["within"],
                "low": row["within_low"],
                "high": row["within_high"],
                "n": row["n"],
                "of": "chunks",
                "null_low": row["within_null_low"],
                "null_high": row["within_null_high"],
                "where": f"{row['kind']}, layer {row['layer']}, {row['position']}; {metric}, {convention}",
            }


def _accuracies(store: Store) -> Iterator[dict[str, Any]]:
    rows = store.accuracy_of_problems()
    for model_id, own in rows.groupby("model_id"):
        prompt = own["prompt_name"].value_counts().sort_index().idxmax()
        own = own[own["prompt_name"] == prompt]
        low, high = bootstrap_mean(own["accuracy"].to_numpy(float))
        yield {
            "quantity": "accuracy",
            "model_id": model_id,
            "value": own["accuracy"].mean(),
            "low": low,
            "high": high,
            "n": len(own),
            "of": "problems",
            "where": f"prompt {prompt}",
        }


def half_deep(rows: pd.DataFrame, model_id: Any, models: pd.DataFrame) -> pd.DataFrame:
    """The rows of the layer nearest half depth; of an unknown depth, of the middle one of the layers there are."""
    if rows["layer"].isna().all():
        return rows
    depth = models.loc[models["model_id"] == model_id, "n_layers"]
    layers = sorted(rows["layer"].dropna().unique())
    half = (layers[(len(layers) - 1) // 2]) if depth.empty or depth.isna().all() else float(depth.iloc[0]) / 2 - 1
    return rows[rows["layer"] == min(layers, key=lambda layer: abs(layer - half))]


def _plain(value: Any) -> Any:
    """Python's own number, or None for what is not known."""
    if isinstance(value, str):
        return value
    return None if value is None or pd.isna(value) else value.item() if hasattr(value, "item") else value
