"""Nulls of the study's crosscoders: the same training on pairs of which it is known what there is to be found
(`backend.crosscoder.null_kinds` says which).

1. A null is trained by the settings of its crosscoder, from the same recorded tokens, in batches of the same order.
   Number 0 has the study's seed too; further numbers have their own.
2. It is measured on the study's CoTs exactly as the crosscoder is, with the same stand-in for the distilled model.
3. Its weights lie in scratch, `null-ID/`: whoever has the study has the rows, and need not have those.

A training that was stopped goes on from its checkpoint; one whose CoTs changed is measured anew, not trained anew.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from backend.crosscoder.null_kinds import NULL_KINDS, SHARE_PLANTED
from backend.ids import seed_for, stable_id
from backend.store.dictionaries import null_folder, put_whole
from precompute.estimates import Estimate, Quantities
from precompute.recording import all_cores
from precompute.stages import chunks as chunks_stage
from precompute.stages import codes as codes_stage
from precompute.stages import crosscoder as crosscoder_stage
from precompute.stages import features as features_stage
from precompute.study import Crosscoder
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.crosscoder.judge import Findings, ReadText
    from backend.crosscoder.null_pairs import Added, Planted
    from backend.crosscoder.shards import Shards
    from backend.crosscoder.train import Settings
    from backend.crosscoder.training_data import Learned

NAME, UNIT = "null_pairs", "training"
RULE = 1  # of what is put in a model's place, trained and measured: raise it when they change


@dataclass(frozen=True)
class Null:
    """One training beside a crosscoder."""

    plan: crosscoder_stage.Plan
    row: Mapping[str, Any]  # of dictionaries
    kind: str
    number: int

    @property
    def null_id(self) -> str:
        return stable_id("n", RULE, self.row["dictionary_id"], self.kind, self.number)

    @property
    def unit_id(self) -> str:
        return f"{self.row['dictionary_id']}.{self.kind}-{self.number}"

    @property
    def seed(self) -> int:
        own = self.plan.context.study.seed
        return seed_for("null", own, self.number) % 2**32 if self.number else own

    @property
    def weights(self) -> Path:
        return null_folder(self.plan.context.weights, self.null_id)

    @property
    def checkpoint(self) -> Path:
        return self.plan.context.scratch / f"training-{self.null_id}"

    @cached_property
    def recorded(self) -> "Shards":
        """What its crosscoder learned from; recorded again where scratch was emptied."""
        from backend.crosscoder.shards import Shards

        crosscoder_stage.ensure_recorded(self.plan)
        return Shards(self.plan.shards)

    @cached_property
    def planted(self) -> "Planted":
        from backend.crosscoder import null_pairs

        return null_pairs.planted(self.recorded, self._rows, self.seed)

    @cached_property
    def added(self) -> "Added | None":
        """What stands in the distilled model's place is base and this; None: the distilled model itself does."""
        from backend.crosscoder import null_pairs

        if NULL_KINDS[self.kind].frozen is not None:
            return None
        if self.kind == "planted":
            return self.planted.added
        return null_pairs.noise(self.recorded, self._rows, self.seed) if self.kind == "noise" else null_pairs.same()

    @cached_property
    def _rows(self) -> np.ndarray:
        return self.plan.learned(self.recorded).rows

    def seen(self, shards: "Shards") -> "Shards":
        """A recording of the pair, with this null's second model."""
        from backend.crosscoder.null_pairs import Twin

        return shards if self.added is None else Twin(shards.folder, self.added)


def nulls_of(context: Context) -> list[Null]:
    """Every null that the study asks for, of crosscoders that are trained; the pairs first."""
    found = []
    for plan in crosscoder_stage.trained_plans(context):
        row = next((row for row in codes_stage.dictionaries(context) if plan.made(row)), None)
        if row is not None:
            numbers = {kind: plan.wanted.null_seeds if NULL_KINDS[kind].is_pair else 1 for kind in plan.wanted.nulls}
            found += [Null(plan, row, kind, number) for kind, n in numbers.items() for number in range(n)]
    return found


def units(context: Context) -> list[Unit]:
    return units_of(context, nulls_of(context))


def units_of(context: Context, nulls: Sequence[Null]) -> list[Unit]:
    """One a null, of what the study's CoTs say of it."""
    result = []
    for null in nulls:
        if cots := list(codes_stage.coded_cots(context, null.row)):
            tags = stable_id("g", sorted(features_stage.first_tags(context).items()))
            inputs = {"cots": cots, "tags": tags, "chunks": chunks_stage.newest(context)}
            result.append(Unit(null.unit_id, inputs))
    return result


def n_trainings(wanted: Crosscoder) -> int:
    """Of all its nulls."""
    return sum(wanted.null_seeds if NULL_KINDS[kind].is_pair else 1 for kind in wanted.nulls)


_READ_SECONDS = 3.5  # of a training, to read activations and to be judged


def estimate(of: Quantities) -> Estimate | None:
    n, operations = 0, 0.0
    for wanted in of.study.crosscoder:
        own = n_trainings(wanted)
        a_step = 2.0 * wanted.batch * len(of.study.pair) * of.width * wanted.n_features
        operations += own * wanted.n_steps * a_step
        n += own
    if not n:
        return None
    gigabytes = sum(one.n_features for one in of.study.crosscoder) * n * 1e-7
    return of.line(NAME, n, gigabytes=gigabytes, products={"dictionary": operations}, seconds=n * _READ_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    todo = {unit.unit_id: unit for unit in units}
    with all_cores(context.study):
        for null in nulls_of(context):
            if null.unit_id not in todo:
                continue
            dictionary = trained(null)
            findings = measured(null, dictionary)
            tables = {
                "null_dictionaries": [_row(null, dictionary, findings)],
                "null_features": _features(null, dictionary, findings),
            }
            if null.kind == "planted":
                tables["planted_directions"] = _planted(null, dictionary, findings)
            yield Finished(todo[null.unit_id], tables, {"seed": null.seed})


def trained(null: Null) -> "Dictionary":
    """Its weights: those in scratch, or trained now, which gives the same ones."""
    from backend.crosscoder.files import load, save

    if null.weights.is_dir():
        return load(null.weights)
    shards = null.seen(null.recorded)
    learned = null.plan.learned(shards)
    training = null.plan.training(_settings(null, shards), learned, shards, null.checkpoint)
    done, steps = training.trainer.done, null.plan.steps(shards)
    null.plan.context.say(
        f"null of {null.row['dictionary_id']}, {NULL_KINDS[null.kind].label}: {done:,} of {steps:,} steps"
    )
    training.until(steps)
    dictionary = crosscoder_stage.weights_of(training.trainer, learned, _facts(null, learned, training.run["seconds"]))
    put_whole(null.weights, lambda made: save(dictionary, made))
    training.forget()
    return load(null.weights)


def _settings(null: Null, shards: "Shards") -> "Settings":
    return replace(null.plan.settings(shards), seed=null.seed, frozen=NULL_KINDS[null.kind].frozen)


def _facts(null: Null, learned: "Learned", seconds: float) -> dict[str, Any]:
    return {
        "null": null.kind,
        "beside": null.row["dictionary_id"],
        "n_tokens": len(learned.rows),
        "seconds": round(seconds, 1),
    }


def measured(null: Null, dictionary: "Dictionary") -> "Findings":
    """On the study's CoTs, as `features` measures the crosscoder."""
    from backend.crosscoder.judge import judged

    return judged(dictionary, len(features_stage.SCHEMES), _read(null, dictionary))


def _read(null: Null, dictionary: "Dictionary") -> "Iterator[ReadText]":
    import torch
    from scipy.sparse import csr_array

    from backend.crosscoder.judge import ReadText, labelled

    context, row = null.plan.context, null.row
    cots = codes_stage.coded_cots(context, row)
    chunks, tags = context.store.chunks_of(list(cots)), features_stage.first_tags(context)
    shards = null.seen(codes_stage.recorded(codes_stage.recorder_of(context, row), list(cots.values())))
    for name, cot in cots.items():
        tokens = context.store.token_texts(row["dictionary_id"], name)
        members = features_stage.members_of(cot, tokens, chunks.get(name, []), tags)
        activations = codes_stage.activations_of(shards, cot)
        codes = dictionary.encode(torch.from_numpy(activations)).numpy()
        labels = labelled(len(tokens), members, len(features_stage.SCHEMES))
        yield ReadText(name, activations, csr_array(codes), features_stage.first_row(cot), labels)


def _row(null: Null, dictionary: "Dictionary", findings: "Findings") -> dict[str, Any]:
    return {
        "null_id": null.null_id,
        "dictionary_id": null.row["dictionary_id"],
        "null": null.kind,
        "number": null.number,
        "seed": null.seed,
        "n_features": dictionary.n_features,
        "n_tokens": dictionary.facts["n_tokens"],
        "n_judged": findings.n,
        "variance_explained_base": float(findings.variance_explained[0]),
        "variance_explained_distilled": float(findings.variance_explained[1]),
        "l0": float(findings.frequency.sum()),
        "dead_share": float((findings.frequency == 0).mean()),
        "parameters": json.dumps(dict(dictionary.facts)),
    }


def _features(null: Null, dictionary: "Dictionary", findings: "Findings") -> pa.Table:
    columns = ["feature", "nrn_l1", "nrn_l2", "nu_eps", "nu_r", "class", "frequency"]
    frame = features_stage.features_frame(dictionary, findings)
    frame = frame[[*columns, "top_category", "top_category_lift"]]
    peaks = _peak_shares(null, findings).reindex(frame["feature"]).to_numpy()
    return pa.Table.from_pandas(frame.assign(null_id=null.null_id, peak_share=peaks), preserve_index=False)


def _peak_shares(null: Null, findings: "Findings") -> pd.Series:
    """Of each live feature's strongest tokens, by the CoTs' ids, the share that is the commonest."""
    cots = codes_stage.coded_cots(null.plan.context, null.row)
    strongest = findings.strongest
    token = [
        cots[name]["token_ids"][position]
        for name, position in zip(strongest["text_id"], strongest["position"], strict=True)
    ]
    counts = strongest.assign(token=token).groupby(["feature", "token"]).size()
    return counts.groupby("feature").max() / counts.groupby("feature").sum()


def _planted(null: Null, dictionary: "Dictionary", findings: "Findings") -> list[dict[str, Any]]:
    """Each direction beside the live feature whose second row is nearest to it, by the size of the cosine's own sign:
    a feature adds its direction, and never takes it away.
    """
    planted, live = null.planted, np.flatnonzero(findings.frequency)
    rows = dictionary.raw_rows(1).double().numpy()[live]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0) @ planted.directions.T
    nearest = cosines.argmax(0) if len(live) else None
    return [
        {
            "null_id": null.null_id,
            "direction": number,
            "strength": float(planted.strength[number]),
            "share": SHARE_PLANTED,
            "feature": None if nearest is None else int(live[nearest[number]]),
            "cosine": None if nearest is None else float(cosines[nearest[number], number]),
        }
        for number in range(len(planted.strength))
    ]
