"""The ablation figure with features of the frozen-decoder twin in the place of the dictionary's: what zeroing does
along directions that were not learned.

Beside every choice of features of `ablations` and `firing_ablations` stand N_SETS sets of as many features of the twin,
of those that fire, each of the 20 nearest in frequency on the study's CoTs: matched as the random features of the
dictionary itself are. The same models are asked about the same targets; codes are the twin's of the same CoTs, and
CoTs take the sets in turn. Each set's own effect is kept: from them comes the band in which one more such set would lie
(`backend.statistics.intervals.prediction`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.crosscoder.null_kinds import TWIN
from precompute.estimates import Estimate, Quantities
from precompute.recording import all_cores
from precompute.stages import ablations, firing_ablations, null_evidence, null_pairs
from precompute.stages import codes as codes_stage
from precompute.stages.ablations import N_SETS, Arm, Asked, Ranking, known, set_of
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.ablations import Changes, CodedText

NAME, UNIT = "twin_ablations", "model and category"
RULE = 1  # of matching, sets and intervals: raise it when they change
TABLE = "twin_ablations"


def twins(context: Context) -> dict[str, null_pairs.Null]:
    """The frozen decoder of each dictionary that has one."""
    nulls = null_evidence.nulls_of(context)
    return {null.row["dictionary_id"]: null for null in nulls if null.kind == TWIN}


def units(context: Context) -> list[Unit]:
    """Those of the ablations, of dictionaries with a twin."""
    found = twins(context)
    return [
        Unit(unit.unit_id, {**unit.inputs, "twin": found[name].null_id})
        for unit in (ablations.units(context) if found else [])
        if (name := unit.unit_id.split(".")[1]) in found
    ]


def estimate(of: Quantities) -> Estimate | None:
    if not any(TWIN in one.nulls for one in of.study.crosscoder):
        return None
    return ablations.estimated(of, NAME, (len(ablations.PERCENTS) + len(firing_ablations.PERCENTS)) // 2)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    from backend.crosscoder.ablations import top_features, top_firing

    rankings = {
        "all": Ranking("feature_ablations", ablations.PERCENTS, top_features),
        "firing": Ranking("firing_ablations", firing_ablations.PERCENTS, top_firing),
    }
    found, by_id = twins(context), {unit.unit_id: unit for unit in units}
    cots = {name: codes_stage.coded_cots(context, null.row) for name, null in found.items()}
    asked = {ranked: ablations.asked_by(context, by_id, cots, ranking) for ranked, ranking in rankings.items()}
    matched = {
        key: {ranked: _matched(context, found[key[0]], by_key[key].arms) for ranked, by_key in asked.items()}
        for key in asked["all"]
    }
    with all_cores(context.study):
        zeroed = {
            key: Asked(
                tuple(arm for arms in matched[key].values() for arm in arms),
                _coded(context, found[key[0]], own.cots, cots[key[0]]),
            )
            for key, own in asked["all"].items()
        }
    folders = {name: null.weights for name, null in found.items()}
    for name, changes in ablations.zeroed_in(context, by_id, zeroed, folders):
        _, dictionary_id, category = name.split(".")
        key = dictionary_id, category
        rows = [
            {"ranked": ranked, **row}
            for ranked, arms in (matched[key].items() if changes else ())
            for row in _rows(context, found[dictionary_id], zeroed[key], arms, changes, cots[dictionary_id])
        ]
        yield ablations.finished(context, by_id[name], TABLE, rows)


def _matched(context: Context, null: null_pairs.Null, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms with sets of the twin's features, and none of the dictionary's own. Arms without a feature, and those
    that have more than features of the twin fire, are left out.
    """
    from backend.crosscoder.trials import matched_features

    name = null.row["dictionary_id"]
    nulls = context.store.null_features(name)
    own = context.store.features(name)["frequency"].to_numpy(np.float64)
    twin = nulls.loc[nulls["null_id"] == null.null_id, "frequency"].to_numpy(np.float64)
    sets: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}
    for arm in arms:
        if 0 < len(arm.features) <= (twin > 0).sum() and arm.features not in sets:
            sets[arm.features] = tuple(matched_features(own, arm.features, N_SETS, twin=twin, seed=context.study.seed))
    return tuple(replace(arm, features=(), sets=sets[arm.features]) for arm in arms if arm.features in sets)


def _coded(
    context: Context, null: null_pairs.Null, texts: Sequence["CodedText"], cots: Mapping[str, Mapping[str, Any]]
) -> tuple["CodedText", ...]:
    """The same texts and targets, with the twin's codes."""
    if not texts:
        return ()
    dictionary = null_pairs.trained(null)
    recorder = codes_stage.recorder_of(context, null.row)
    shards = codes_stage.recorded(recorder, [cots[text.text_id] for text in texts])
    return tuple(
        replace(text, **codes_stage.codes_of(dictionary, codes_stage.activations_of(shards, cots[text.text_id])))
        for text in texts
    )


def _rows(
    context: Context,
    null: null_pairs.Null,
    asked: Asked,
    arms: Sequence[Arm],
    found: Mapping[str, "Changes"],
    cots: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Rows of twin_ablations for arms of one ranking, without what is the same in all of them."""
    from backend.crosscoder.ablations import MEASURES, clustered_mean

    ordered = [found[cot.text_id] for cot in asked.cots]
    problems = [cots[cot.text_id]["problem_id"] for cot in asked.cots]
    turns, counts = np.arange(len(ordered)) % N_SETS, np.array([len(cot.targets) for cot in asked.cots])
    nulls = context.store.null_features(null.row["dictionary_id"])
    twin = nulls.loc[nulls["null_id"] == null.null_id, "frequency"].to_numpy(np.float64)
    shared = {
        "null_id": null.null_id,
        "n_targets": int(counts.sum()),
        "n_cots": len(ordered),
        "n_problems": len(set(problems)),
        "seed": context.study.seed,
        "parameters": ablations.parameters_of(context, null.row),
    }
    rows = []
    for arm in arms:
        sets = [set_of(arm, number) for number in range(len(ordered))]
        at = [asked.zeroed(number).index(chosen) for number, chosen in enumerate(sets)]
        removed = float(np.mean([one.removed[place] for one, place in zip(ordered, at, strict=True)]))
        for measure, name in enumerate(MEASURES):
            sums = np.array([one.change[place, measure].sum() for one, place in zip(ordered, at, strict=True)])
            effect, interval = clustered_mean(sums, counts, [problems, turns.tolist()], seed=context.study.seed)
            of_sets = [sums[turns == turn].sum() / counts[turns == turn].sum() for turn in np.unique(turns)]
            rows.append(
                {
                    **shared,
                    "scheme": arm.scheme,
                    "nrn_above": arm.nrn_above,
                    "top_percent": arm.top_percent,
                    "measure": name,
                    "n_features": len(arm.sets[0]),
                    "effect": known(effect),
                    "ci_low": known(interval[0]),
                    "ci_high": known(interval[1]),
                    "set_effects": [float(one) for one in of_sets],
                    "frequency": float(np.mean([twin[list(chosen)].mean() for chosen in sets])),
                    "removed": removed,
                }
            )
    return rows
