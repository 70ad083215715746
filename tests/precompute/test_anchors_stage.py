"""Anchors of a tiny study are steered towards what its rollouts say, CoT by CoT, and nothing is done twice."""

import io
import shutil
from contextlib import closing

import pytest
from rich.console import Console

from backend.geometry.counterfactuals import (
    Anchor,
    Text,
    Wanted,
    alternatives,
    counterfactuals_cot,
    first_chunk_written,
)
from backend.geometry.direction_kinds import DirectionSpec, SpecError
from backend.geometry.direction_library import make_direction
from backend.geometry.directions import ANCHOR_METRIC
from backend.ids import rollout_id
from backend.models.loading import load_model
from backend.schema.tables import TABLES
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import activations, anchors, chunks, problems
from precompute.steered import spans
from precompute.study import Study
from precompute.units import Context, Finished, Unit
from tests.precompute.test_geometry_stages import Written

TOLD = ("Wait, no. ", "So we add them up. ", "So we add them up. ", "Hmm, let me see. ", "As before. ")
IMPORTANCE = (0.1, 0.4, 0.0, 0.3, None)  # by the chunk's number in its CoT


class Rollouts:
    """Five at every chunk: the last is similar to it. In the first CoT's second chunk only one is not."""

    NAME, UNIT = "rollouts", "study"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit("all", {})]

    @staticmethod
    def compute(context, units):
        rollouts, importance = [], []
        cots = [cot["cot_id"] for cot in context.store.tokenised_cots()]
        for cot, own in context.store.chunks_of(cots).items():
            for number, chunk in enumerate(own):
                near = 4 if (cot, number) == (cots[0], 1) else 1
                for sample, text in enumerate(TOLD):
                    rollouts.append(
                        dict.fromkeys(TABLES["rollouts"].columns)
                        | {
                            "rollout_id": rollout_id(chunk["chunk_id"], "resample", sample),
                            "chunk_id": chunk["chunk_id"],
                            "cot_id": cot,
                            "kind": "resample",
                            "sample": sample,
                            "seed": sample,
                            "text": f"{text}The answer is 5.",
                            "resampled_chunk": text.strip(),
                            "similarity": 0.9 if sample >= 5 - near else 0.3,
                        }
                    )
                importance.append(
                    dict.fromkeys(TABLES["importance"].columns)
                    | {
                        "chunk_id": chunk["chunk_id"],
                        "metric": ANCHOR_METRIC,
                        "convention": "fl",
                        "value": None if chunk is own[-1] else IMPORTANCE[number],
                        "n": 4,
                    }
                )
        yield Finished(units[0], {"rollouts": rollouts, "importance": importance})


STAGES = (problems, Written, chunks, activations, Rollouts, anchors)


def study_of(model: str, **keys) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "models": [{"name": model}],
            "problems": {"per_level": 1, "levels": [1, 2]},
            "activations": {"layers": [1]},
            "map": {"layers": [1]},
            "sweep": {"layers": [1], "kinds": ["per_chunk"], "positions": ["anchor"], "points": 5},
            "engine": {"workers": 1, "rows": 8},
            "anchors": {"cots": 2, "points": 3, "random": 2, "alternatives": 2} | keys,
        }
    )


def run(study: Study, folder: StudyFolder) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=STAGES, console=Console(file=said, width=200))
    return said.getvalue()


def test_anchors_with_enough_dissimilar_rollouts_take_part_each_with_a_chunk_of_its_own(store):
    rows = store.frame("SELECT *, k.cot_id, k.chunk_index FROM counterfactuals JOIN chunks k USING (chunk_id)")
    first = store.tokenised_cots()[0]["cot_id"]
    assert rows["cot_id"].nunique() == 2 and set(rows.loc[rows["is_anchor"], "chunk_index"]) <= {1, 3}
    assert not (rows["is_anchor"] & (rows["cot_id"] == first) & (rows["chunk_index"] == 1)).any()
    matched = rows[~rows["is_anchor"]].set_index("chunk_id")["matched_chunk_id"]
    assert set(matched) <= set(rows.loc[rows["is_anchor"], "chunk_id"]) and matched.is_unique
    assert (rows["importance"] >= 0.2).tolist() == rows["is_anchor"].tolist()
    assert set(rows["convention"]) == {"fl"} and set(rows["threshold"]) == {0.2}


def test_the_rows_are_the_librarys_for_what_dissimilar_rollouts_wrote(store, study):
    loaded, by_id = load_model(study.models[0].name), {cot["cot_id"]: cot for cot in store.tokenised_cots()}
    chunk = store.frame("SELECT chunk_id FROM counterfactuals WHERE is_anchor ORDER BY chunk_id LIMIT 1")["chunk_id"][0]
    own = store.chunks_of([chunk.rpartition("_")[0]])[chunk.rpartition("_")[0]]
    cot, where = by_id[own[0]["cot_id"]], spans(own)
    start = next(row["char_start"] for row in own if row["chunk_id"] == chunk)
    written = [first_chunk_written({"text": f"{told}The answer is 5."}, "") for told in TOLD[:4]]
    texts = {text: written.count(text) for text in written}
    read = alternatives(loaded.tokenizer, cot["prompt"] + cot["text"][:start], texts)
    assert store.frame("SELECT max(n_answer) AS n FROM anchor_steering")["n"][0] > 0
    expected = counterfactuals_cot(
        loaded,
        Text(tuple(cot["token_ids"]), where, cot["n_prompt_tokens"], None),
        [Anchor(chunk, where[chunk], read, everywhere=True)],
        Wanted((1,), (-1.0, -0.5, 0.0), 2, 2, seed=3),
    )
    found = store.frame("SELECT * FROM anchor_steering WHERE chunk_id = $c", c=chunk)
    key = ["arm", "number", "place", "beta"]
    stored = found.set_index(key)["kl_rest"].to_dict()
    assert len(found) == len(expected.anchor_steering)
    for row in expected.anchor_steering:
        kl = stored[tuple(row[name] for name in key)]
        assert (row["kl_rest"] is None and kl != kl) or kl == pytest.approx(row["kl_rest"], rel=1e-3, abs=1e-9)


def test_directions_that_are_steered_along_are_stored(store):
    unknown = store.frame("SELECT direction_id FROM anchor_steering EXCEPT SELECT direction_id FROM directions")
    assert unknown.empty
    assert store.frame("SELECT count(*) AS n FROM anchor_attention")["n"][0] > 0


def test_a_finished_study_does_nothing_and_another_number_of_cots_only_what_it_adds(study, folder, tmp_path):
    copy = StudyFolder(shutil.copytree(folder.path, tmp_path / "tiny"))
    assert run(study, copy).count("all done") == len(STAGES)
    more = study_of(study.models[0].name, cots=3)
    assert run(more, copy).count("all done") == len(STAGES) - 1
    with closing(Store(copy.path)) as store:
        assert len(anchors.units(Context(more, "r", store, print))) == 3
        one = [unit.key for unit in anchors.units(Context(study, "r", store, print))]
        assert set(one) <= {unit.key for unit in anchors.units(Context(more, "r", store, print))}


def test_the_plan_has_its_line_where_the_study_asks_for_it(study, folder):
    (line,) = [line for line in plan_study(study, folder)[0] if line.stage == "anchors"]
    assert line.tokens > 0 and line.done == 2
    without = study.model_copy(update={"anchors": None})
    assert "anchors" not in {line.stage for line in plan_study(without, folder)[0]}
    assert anchors.units(Context(without, "r", Store(folder.path), print)) == []


def test_a_direction_to_the_counterfactuals_is_made_by_hand_as_the_study_made_it(store):
    row = store.frame("SELECT * FROM counterfactuals ORDER BY chunk_id").iloc[0]
    made = make_direction(store, DirectionSpec("counterfactual", row["model_id"], 1, chunk_id=row["chunk_id"]))
    assert (made.direction_id, made.norm) == (row["direction_id"], pytest.approx(row["norm"], rel=1e-6))
    with pytest.raises(SpecError, match="no direction from chunk c_none to its counterfactuals at layer 1"):
        make_direction(store, DirectionSpec("counterfactual", row["model_id"], 1, chunk_id="c_none"))
