"""What target words lose in each model of the pair when features are zeroed that the distilled model has more of: the
ablation figure.

`backend.crosscoder.ablations` says how. Both models are asked about the same targets, with the same sets of features.
Here k is of all features, to the letter of the source; the stage firing_ablations takes k of those that fire there.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.cot.reasoning import TARGETS, target_tokens
from backend.models.loaded import LoadedModel
from backend.store.dictionaries import folder_of
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import codes as codes_stage
from precompute.stages import crosscoder as crosscoder_stage
from precompute.stages.cots import shares
from precompute.study import Crosscoder
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.ablations import Changes, CodedText

NAME, UNIT = "ablations", "model and category"
RULE = 1  # of targets, features, sets and intervals: raise it when they change
PERCENTS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
SCHEMES = ("reasoning", "before_reasoning")
N_SETS = 8  # of random features
_COTS_A_TASK = 8


@dataclass(frozen=True)
class Arm:
    """One choice of features, and the random sets that stand in their place for the control; no sets where there are no
    features.
    """

    scheme: str
    nrn_above: float
    top_percent: float
    features: tuple[int, ...]
    sets: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Ranking:
    """Of what features the most frequent k % are taken."""

    table: str
    percents: tuple[float, ...]
    choose: Callable[..., tuple[int, ...]]  # `backend.crosscoder.ablations.top_features`, or one like it


@dataclass(frozen=True)
class Asked:
    """The target tokens of one category, in CoTs in order of their ids, and all that is zeroed there."""

    arms: tuple[Arm, ...]
    cots: tuple["CodedText", ...]

    def zeroed(self, number: int) -> list[tuple[int, ...]]:
        """Different sets of features that are zeroed in CoT `number`: those of the arms, and one of the control's of
        each.
        """
        return list(
            dict.fromkeys(chosen for arm in self.arms for chosen in (arm.features, set_of(arm, number)) if chosen)
        )


@dataclass(frozen=True)
class Task:
    unit_id: str  # what it makes a part of, for each CoT
    dictionary: Path  # its folder
    model: int  # its number in the dictionary
    layer: int
    cots: tuple[tuple["CodedText", list[tuple[int, ...]]], ...]  # and what is zeroed in each

    @property
    def makes(self) -> tuple[str, ...]:
        return tuple(f"{self.unit_id}/{cot.text_id}" for cot, _ in self.cots)


def units(context: Context) -> list[Unit]:
    """One unit a model of the pair and category, once the features are measured."""
    result: list[Unit] = []
    for row in codes_stage.dictionaries(context):
        wanted = crosscoder_stage.wanted_of(context, row)
        if (
            not wanted.ablation_nrn
            or row["distilled_model_id"] is None
            or context.store.features(row["dictionary_id"]).empty
        ):
            continue
        inputs = {
            "layer": row["layer"],
            "cots": list(codes_stage.coded_cots(context, row)),
            "nrn": wanted.ablation_nrn,
            "targets": wanted.ablation_targets,
            "seed": context.study.seed,
        }
        result += [
            Unit(f"{model_id}.{row['dictionary_id']}.{category}", inputs)
            for category in TARGETS
            for model_id in codes_stage.models_of(row)
        ]
    return result


_FOUND = 0.6  # of the targets that are looked for, assumed


def estimate(of: Quantities) -> Estimate | None:
    return estimated(of, NAME, len(PERCENTS))


def estimated(of: Quantities, stage: str, n_percents: int) -> Estimate | None:
    """What `stage` costs, which zeroes features at so many k."""
    n_models, tokens = len(of.study.pair), 0.0
    asked = [wanted for wanted in of.study.crosscoder if wanted.ablation_nrn]
    if n_models != 2 or not asked:
        return None
    for wanted in asked:
        texts = n_models * len(TARGETS) * min(of.n_cots, wanted.ablation_targets / 2)  # with two targets each
        zeroed = 2 * len(wanted.ablation_nrn) * len(SCHEMES) * n_percents  # sets of features, with the control's
        tokens += _FOUND * texts * of.read / max(of.n_cots, 1) * (1 + zeroed * (1 - of.depth(wanted.layer)))
    return of.line(stage, len(asked) * n_models * len(TARGETS), tokens=tokens, by="forward", gigabytes=0)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    from backend.crosscoder.ablations import top_features

    return computed(context, units, Ranking("feature_ablations", PERCENTS, top_features))


def computed(context: Context, units: Sequence[Unit], ranking: Ranking) -> Iterator[Finished]:
    """Rows of the ranking's table for each unit."""
    rows = {row["dictionary_id"]: row for row in codes_stage.dictionaries(context)}
    cots = {name: codes_stage.coded_cots(context, row) for name, row in rows.items()}
    by_id = {unit.unit_id: unit for unit in units}
    asked = asked_by(context, by_id, cots, ranking)
    folders = {name: folder_of(context.store.path) / name for name in rows}
    for name, found in zeroed_in(context, by_id, asked, folders):
        _, dictionary_id, category = name.split(".")
        here = asked[dictionary_id, category]
        result = _rows(context, rows[dictionary_id], here, found, cots[dictionary_id]) if here.cots else []
        yield finished(context, by_id[name], ranking.table, result)


def finished(context: Context, unit: Unit, table: str, rows: Sequence[Mapping[str, Any]]) -> Finished:
    """The unit with its rows, which lack what its name says."""
    model_id, dictionary_id, category = unit.unit_id.split(".")
    keys = {"dictionary_id": dictionary_id, "model_id": model_id, "category": category}
    model = models.by_id(context.study)[model_id]
    provenance = {"model_id": model_id, "dtype": model.dtype, "seed": context.study.seed} if rows else {}
    return Finished(unit, {table: [keys | dict(one) for one in rows]}, provenance)


def zeroed_in(
    context: Context,
    names: Iterable[str],
    asked: Mapping[tuple[str, str], Asked],
    folders: Mapping[str, Path],
) -> Iterator[tuple[str, dict[str, "Changes"]]]:
    """For each unit by its name, as soon as it is whole, what zeroing did in each of its CoTs; `folders` are those of
    the weights, by dictionary.
    """
    rows = {row["dictionary_id"]: row for row in codes_stage.dictionaries(context)}
    by_model: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_model[name.split(".")[0]].append(name)
    for model_id, own in by_model.items():
        tasks = []
        for name in own:
            _, dictionary_id, category = name.split(".")
            if not (here := asked[dictionary_id, category]).cots:
                yield name, {}
                continue
            row = rows[dictionary_id]
            number = codes_stage.models_of(row).index(model_id)
            pairs = [(cot, here.zeroed(turn)) for turn, cot in enumerate(here.cots)]
            tasks += [
                Task(name, folders[dictionary_id], number, row["layer"], tuple(share))
                for share in shares(pairs, context.engine.workers, _COTS_A_TASK)
            ]
        found: dict[str, dict[str, Changes]] = {name: {} for name in own}
        model = models.by_id(context.study)[model_id]
        for part, changes in context.run(measure, tasks, model=models.spec(context.study, model)):
            name, cot_id = part.split("/")
            found[name][cot_id] = changes
            _, dictionary_id, category = name.split(".")
            if len(found[name]) == len(asked[dictionary_id, category].cots):
                yield name, found.pop(name)


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, "Changes"]]:
    """Runs in a worker: what zeroing does in each CoT."""
    from backend.crosscoder.ablations import target_changes
    from backend.crosscoder.files import load

    dictionary = load(task.dictionary)
    for part, (cot, sets) in zip(task.makes, task.cots, strict=True):
        yield part, target_changes(loaded, dictionary, task.model, task.layer, cot, sets)


def asked_by(
    context: Context,
    names: Iterable[str],
    cots: Mapping[str, Mapping[str, Mapping[str, Any]]],
    ranking: Ranking,
) -> dict[tuple[str, str], Asked]:
    """By dictionary and category, of the units of these names."""
    from backend.crosscoder.ablations import CodedText, drawn_targets

    wanted, result = {tuple(name.split(".")[1:]) for name in names}, {}
    for dictionary_id in sorted({name for name, _ in wanted}):
        n_targets = _wanted(context, dictionary_id).ablation_targets
        targets_of = {
            cot_id: target_tokens(
                context.store.token_texts(dictionary_id, cot_id), cot["n_prompt_tokens"], cot["prompt"], cot["text"]
            )
            for cot_id, cot in cots[dictionary_id].items()
        }
        for category in (category for name, category in sorted(wanted) if name == dictionary_id):
            targets = {cot_id: found[category] for cot_id, found in targets_of.items()}
            drawn = drawn_targets(targets, n_targets, seed=context.study.seed)
            coded = tuple(
                CodedText(
                    cot_id,
                    tuple(cots[dictionary_id][cot_id]["token_ids"]),
                    own,
                    *context.store.codes(dictionary_id, cot_id),
                )
                for cot_id, own in sorted(drawn.items())
            )
            arms = _arms(context, dictionary_id, category, ranking) if coded else ()
            result[dictionary_id, category] = Asked(arms, coded)
    return result


def _arms(context: Context, dictionary_id: str, category: str, ranking: Ranking) -> tuple[Arm, ...]:
    from backend.crosscoder.trials import matched_features

    features = context.store.features(dictionary_id)
    (row,) = (one for one in codes_stage.dictionaries(context) if one["dictionary_id"] == dictionary_id)
    nrn, overall = (features[name].to_numpy(dtype=np.float64) for name in (_nrn_of(row), "frequency"))
    sets: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {(): ()}
    arms = []
    for scheme in SCHEMES:
        rates = context.store.category_frequencies(dictionary_id, scheme)
        rates = rates[rates["category"] == category].set_index("feature").reindex(features["feature"])
        fires, strength = rates["frequency"].fillna(0).to_numpy(), rates["mean_activation"].to_numpy(dtype=np.float64)
        for above in _wanted(context, dictionary_id).ablation_nrn:
            for percent in ranking.percents:
                chosen = ranking.choose(fires, strength, nrn, above=above, percent=percent)
                if chosen not in sets:
                    sets[chosen] = tuple(matched_features(overall, chosen, N_SETS, seed=context.study.seed))
                arms.append(Arm(scheme, above, percent, chosen, sets[chosen]))
    return tuple(arms)


def _wanted(context: Context, dictionary_id: str) -> Crosscoder:
    (row,) = (one for one in codes_stage.dictionaries(context) if one["dictionary_id"] == dictionary_id)
    return crosscoder_stage.wanted_of(context, row)


def _nrn_of(row: Mapping[str, Any]) -> str:
    """The NRN that features are chosen by: of L1 norms, as published; of rms norms where the models' widths differ, for
    L1 leans to the wider one.
    """
    return "nrn_rms" if row["d_model"] is None else "nrn_l1"


def set_of(arm: Arm, number: int) -> tuple[int, ...]:
    """The random features of CoT `number`."""
    return arm.sets[number % N_SETS] if arm.sets else ()


def _rows(
    context: Context,
    row: Mapping[str, Any],
    asked: Asked,
    found: Mapping[str, "Changes"],
    cots: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Rows of the ranking's table, without what is the same in all of them."""
    from backend.crosscoder.ablations import MEASURES, clustered_mean

    ordered = [found[cot.text_id] for cot in asked.cots]
    problems = [cots[cot.text_id]["problem_id"] for cot in asked.cots]
    turns = [number % N_SETS for number in range(len(ordered))]
    counts = np.array([len(cot.targets) for cot in asked.cots])
    overall = context.store.features(row["dictionary_id"])["frequency"].to_numpy(dtype=np.float64)
    before = sum(changes.before.sum(1) for changes in ordered) / counts.sum()
    parameters = parameters_of(context, row)
    rows = []
    for arm in asked.arms:
        for control in ("features", "random"):
            sets = [arm.features if control == "features" else set_of(arm, number) for number in range(len(ordered))]
            where = [asked.zeroed(number).index(chosen) if chosen else None for number, chosen in enumerate(sets)]
            for measure, name in enumerate(MEASURES):
                effect, interval = math.nan, (math.nan, math.nan)
                if arm.features:
                    sums = np.array(
                        [changes.change[row, measure].sum() for changes, row in zip(ordered, where, strict=True)]
                    )
                    clusters = [problems] if control == "features" else [problems, turns]
                    effect, interval = clustered_mean(sums, counts, clusters, seed=context.study.seed)
                rows.append(
                    {
                        "scheme": arm.scheme,
                        "nrn_above": arm.nrn_above,
                        "top_percent": arm.top_percent,
                        "control": control,
                        "measure": name,
                        "n_features": len(arm.features),
                        "features": list(arm.features) if control == "features" else None,
                        "n_targets": int(counts.sum()),
                        "n_cots": len(ordered),
                        "n_problems": len(set(problems)),
                        "before": before[measure],
                        "effect": known(effect),
                        "ci_low": known(interval[0]),
                        "ci_high": known(interval[1]),
                        "frequency": float(np.mean([overall[list(chosen)].mean() for chosen in sets]))
                        if arm.features
                        else None,
                        "removed": float(np.mean([one.removed[at] for one, at in zip(ordered, where, strict=True)]))
                        if arm.features
                        else None,
                        "seed": context.study.seed,
                        "parameters": parameters,
                    }
                )
    return rows


def parameters_of(context: Context, row: Mapping[str, Any]) -> str:
    """All that shaped the rows of a dictionary, JSON."""
    from backend.crosscoder.ablations import MOST_A_COT, N_BOOTSTRAP

    facts = {
        "layer": row["layer"],
        "targets": crosscoder_stage.wanted_of(context, row).ablation_targets,
        "targets_of_a_cot": MOST_A_COT,
        "sets": N_SETS,
        "bootstrap": N_BOOTSTRAP,
    }
    return json.dumps(facts | ({"nrn": "rms"} if row["d_model"] is None else {}))


def known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
