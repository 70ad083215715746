"""What the features of a crosscoder's nulls fire on, by the rules that its own features are told by: reasoning
categories of all nulls but the planted one, and of the frozen decoder what a suggested name is made of.

The nulls are those of `null_pairs`, with its weights. Where scratch was emptied since, they are trained again, which
gives the same.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from backend.crosscoder.null_kinds import TWIN
from precompute.estimates import Estimate, Quantities
from precompute.recording import all_cores, loaded_pair
from precompute.stages import features as features_stage
from precompute.stages import null_pairs
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.crosscoder.judge import Findings

NAME, UNIT = "null_evidence", "training"
RULE = 1  # of what is counted: raise it when it changes
_MOST_TOKENS = 5  # of a feature, as `DictionaryQueries.peak_tokens` has of the dictionary's own


def nulls_of(context: Context) -> list[null_pairs.Null]:
    """Those whose rows are there."""
    there = set(context.store.whole_table("null_dictionaries")["null_id"].to_pylist())
    return [null for null in null_pairs.nulls_of(context) if null.null_id in there and null.kind != "planted"]


def units(context: Context) -> list[Unit]:
    return null_pairs.units_of(context, nulls_of(context))


def estimate(of: Quantities) -> Estimate | None:
    n = sum(null_pairs.n_trainings(wanted) - ("planted" in wanted.nulls) for wanted in of.study.crosscoder)
    if not n:
        return None
    gigabytes = sum(one.n_features for one in of.study.crosscoder) * n * 1e-7
    return of.line(NAME, n, gigabytes=gigabytes, seconds=of.read * n * features_stage.TOKEN_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    todo = {unit.unit_id: unit for unit in units}
    with all_cores(context.study):
        for null in nulls_of(context):
            if null.unit_id not in todo:
                continue
            dictionary = null_pairs.trained(null)
            findings = null_pairs.measured(null, dictionary)
            tables: dict[str, pa.Table | list[dict[str, Any]]] = {"null_categories": _categories(null, findings)}
            if null.kind == TWIN:
                tables["null_peaks"] = _peaks(null, dictionary, findings)
            yield Finished(todo[null.unit_id], tables, {"seed": null.seed})


def _categories(null: null_pairs.Null, findings: "Findings") -> pa.Table:
    frame = features_stage.categories_frame(findings)
    frame = frame[(frame["scheme"] != "function") & (frame["n_fired"] > 0)]
    frame = frame[["feature", "scheme", "category", "n_tokens", "n_fired"]]
    return pa.Table.from_pandas(frame.assign(null_id=null.null_id), preserve_index=False)


def _peaks(null: null_pairs.Null, dictionary: "Dictionary", findings: "Findings") -> list[dict[str, Any]]:
    from backend.crosscoder.readout import promoted

    context, name = null.plan.context, null.row["dictionary_id"]
    strongest, live = findings.strongest, np.flatnonzero(findings.frequency).tolist()
    texts = {cot_id: context.store.token_texts(name, cot_id) for cot_id in strongest["text_id"].unique()}
    token = [texts[text][position] for text, position in zip(strongest["text_id"], strongest["position"], strict=True)]
    counts = strongest.assign(token=token).groupby(["feature", "token"]).size().rename("n").reset_index()
    counts = counts.sort_values(["feature", "n", "token"], ascending=[True, False, True])
    by_feature = {int(feature): own for feature, own in counts.groupby("feature")}
    if not live:
        return []
    loaded = loaded_pair(context.study, null.row["layer"])[1]
    top = promoted(dictionary.raw_rows(1)[live], loaded, _MOST_TOKENS).top
    return [
        {
            "null_id": null.null_id,
            "feature": feature,
            **_commonest(by_feature[feature]),
            "promoted": [loaded.tokenizer.decode([token]) for token in ids],
        }
        for feature, ids in zip(live, top, strict=True)
    ]


def _commonest(counts: pd.DataFrame) -> dict[str, Any]:
    first = counts.head(_MOST_TOKENS)
    return {"tokens": first["token"].tolist(), "counts": first["n"].tolist(), "n_examples": int(counts["n"].sum())}
