import json
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest

from backend.cot.chunking import chunk_spans
from backend.schema.tables import TABLES
from precompute.checked_json import MAX_FILE_BYTES, ImportFormatError
from precompute.importers.thought_anchors import METRICS, read_thought_anchors
from tests.shared_data import shared_folder

MODEL = "deepseek-r1-distill-tiny"
COT = "Tom has three apples.\n\nThen he buys four more apples.  3.\nSo he has seven apples now.\n"
CHUNKS = ["Tom has three apples.", "Then he buys four more apples.", "So he has seven apples now."]
SPANS = ["Tom has three apples.\n\n", "Then he buys four more apples.", "  3.\nSo he has seven apples now.\n"]


def labelled(**changes) -> list[dict]:
    entries = [
        {
            "chunk": chunk,
            "chunk_idx": i,
            "function_tags": ["active_computation", "unknown"],
            "accuracy": 0.5,
            "overdeterminedness": 0.25,
        }
        for i, chunk in zip((0, 1, 3), CHUNKS, strict=True)  # chunk 2, "3.", was filtered
    ]
    entries[1] |= changes
    return entries


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def rollout(**changes) -> dict:
    known = {
        "chunk_removed": CHUNKS[1],
        "prefix_without_chunk": "",
        "chunk_resampled": "He gets four.",
        "full_cot": "",
        "rollout": "He gets four. Seven. \\boxed{7}",
        "answer": "7",
        "is_correct": True,
    }
    return known | changes


def impact(source: int, targets: list[dict], **changes) -> list[dict]:
    return [{"source_chunk_idx": source, "target_impacts": targets} | changes]


@pytest.fixture
def folder(tmp_path) -> Path:
    """One problem folder with everything in it, in the published layout."""
    place = tmp_path / "published" / MODEL / "correct_base_solution" / "problem_7"
    write(
        place / "problem.json",
        {
            "problem": "How many?",
            "level": "Level 2",
            "gt_solution": "3 + 4 = 7",
            "gt_answer": "7",
            "nickname": "Apples",
        },
    )
    base = {
        "prompt": "How many?<think>\n",
        "solution": f"{COT}</think>\n\nSeven.",
        "full_cot": "",
        "answer": "7",
        "is_correct": True,
    }
    write(place / "base_solution.json", base)
    write(place / "chunks_labeled.json", labelled())
    write(place / "chunks_resampled.json", {"0": ["Tom has apples.", ""], "1": ["He gets four."], "3": []})
    impacts = [{"target_chunk_idx": 1, "importance_score": -0.5}, {"target_chunk_idx": 3, "importance_score": None}]
    write(
        place / "step_importance.json",
        [{"source_chunk_idx": 0, "source_chunk_text": CHUNKS[0], "target_impacts": impacts}],
    )
    return place


def top(folder: Path) -> Path:
    return folder.parents[2]


def test_every_row_has_the_columns_types_and_unique_key_of_its_table(folder):
    write(folder / "chunk_1" / "solutions.json", [rollout()])
    for name, rows in read_thought_anchors(top(folder)).tables.items():
        assert rows, name
        assert all(set(row) == set(TABLES[name].columns) for row in rows)
        assert pa.Table.from_pylist(rows, schema=TABLES[name].arrow).num_rows == len(rows)
        assert len({tuple(row[column] for column in TABLES[name].key) for row in rows}) == len(rows)


@pytest.mark.parametrize("up", [0, 1, 2, 3])
def test_top_model_case_and_problem_folder_give_the_same_rows(folder, up):
    given = [folder, *folder.parents][up]
    assert read_thought_anchors(given).tables == read_thought_anchors(top(folder)).tables


def test_a_temperature_folder_between_model_and_case_changes_no_row(folder):
    before = read_thought_anchors(top(folder)).tables
    model = top(folder) / MODEL
    (model / "temperature_0.6_top_p_0.95").mkdir()
    (model / "correct_base_solution").rename(model / "temperature_0.6_top_p_0.95" / "correct_base_solution")
    assert read_thought_anchors(top(folder)).tables == before


def test_problem_and_cot_are_kept_as_published(folder):
    tables = read_thought_anchors(folder).tables
    (problem,), (cot,), (model,) = tables["problems"], tables["cots"], tables["models"]
    assert (problem["source_key"], problem["level"], problem["answer"]) == ("problem_7", 2, "7")
    assert (cot["text"], cot["after_text"], cot["sample"]) == (COT, "\n\nSeven.", 0)
    assert (cot["answer"], cot["answer_source"], cot["is_correct"], cot["grader"]) == (
        "7",
        "published",
        True,
        "published",
    )
    assert (model["name"], model["role"], model["revision"]) == (MODEL, "distilled", None)


def test_published_chunks_tile_the_cot_with_their_own_boundaries(folder):
    chunks = read_thought_anchors(folder).tables["chunks"]
    assert [chunk["text"] for chunk in chunks] == SPANS
    assert [chunk["chunk_index"] for chunk in chunks] == [0, 1, 2]
    assert all(COT[chunk["char_start"] : chunk["char_end"]] == chunk["text"] for chunk in chunks)


def test_a_trailing_sentence_that_the_list_dropped_goes_to_the_last_chunk_with_a_warning(folder):
    write(
        folder / "base_solution.json", {"prompt": "", "solution": COT + "And so on", "answer": "7", "is_correct": True}
    )
    study = read_thought_anchors(folder)
    assert study.tables["chunks"][-1]["text"].endswith("And so on")
    assert any("7 characters of the CoT follow the last chunk" in warning for warning in study.warnings)


def test_a_metric_that_is_missing_or_unknown_gives_no_row_and_zero_stays_zero(folder):
    write(
        folder / "chunks_labeled.json",
        labelled(accuracy=None, overdeterminedness=float("nan"), forced_importance_kl=0.0),
    )
    tables = read_thought_anchors(folder).tables
    of_second = {
        row["metric"]: row for row in tables["importance"] if row["chunk_id"] == tables["chunks"][1]["chunk_id"]
    }
    assert {metric: row["value"] for metric, row in of_second.items()} == {"forced_importance_kl": 0.0}
    assert of_second["forced_importance_kl"]["convention"] == "published"
    assert of_second["forced_importance_kl"]["ci_low"] is None


def test_tags_keep_their_order_and_an_unknown_tag_is_a_warning(folder):
    write(folder / "chunks_labeled.json", labelled(function_tags=["self_checking", "daydreaming", "plan_generation"]))
    study = read_thought_anchors(folder)
    second = study.tables["chunks"][1]["chunk_id"]
    tags = [(row["rank"], row["category"]) for row in study.tables["categories"] if row["chunk_id"] == second]
    assert tags == [(0, "self_checking"), (1, "plan_generation")]
    assert any("'daydreaming' is none of the nine tags" in warning for warning in study.warnings)


def test_resampled_sentences_are_rollouts_without_text(folder):
    rollouts = read_thought_anchors(folder).tables["rollouts"]
    assert [(r["sample"], r["resampled_chunk"], r["text"], r["answer"], r["is_correct"]) for r in rollouts] == [
        (0, "Tom has apples.", None, None, None),
        (1, "", None, None, None),
        (0, "He gets four.", None, None, None),
    ]


def test_raw_rollouts_take_the_place_of_the_resampled_sentences(folder):
    raw = [rollout(), {"error": "timeout"}, rollout(answer="", is_correct=False)]
    write(folder / "chunk_1" / "solutions.json", raw)
    write(folder / "chunk_2" / "solutions.json", [rollout()])
    study = read_thought_anchors(folder)
    second = study.tables["chunks"][1]["chunk_id"]
    rows = [r for r in study.tables["rollouts"] if r["chunk_id"] == second]
    assert [(r["sample"], r["answer"], r["is_correct"], r["grader"]) for r in rows] == [
        (0, "7", True, "published"),
        (2, None, None, None),
    ]
    assert rows[0]["text"] == raw[0]["rollout"]
    assert any("1 of 3 rollouts failed" in warning for warning in study.warnings)
    assert any("the rollouts of chunks 2 are left out" in warning for warning in study.warnings)


def test_forced_answers_belong_to_the_cot_of_the_folder_without_the_suffix(folder):
    forced = folder.parent.parent / "correct_base_solution_forced_answer" / folder.name
    write(forced / "chunk_1" / "solutions.json", [rollout(answer="8", is_correct=False)])
    for given in (folder, top(folder)):
        rows = [r for r in read_thought_anchors(given).tables["rollouts"] if r["kind"] == "forced"]
        assert [(r["answer"], r["is_correct"], r["resampled_chunk"]) for r in rows] == [("8", False, None)]
    with pytest.raises(ImportFormatError, match="has forced answers for the CoT in"):
        read_thought_anchors(forced)


def test_a_folder_without_step_importance_imports_with_a_warning_that_names_it(folder):
    (folder / "step_importance.json").unlink()
    study = read_thought_anchors(folder)
    assert study.tables["step_importance"] == []
    assert [w for w in study.warnings if str(folder / "step_importance.json") in w and "missing" in w]


def test_step_importance_without_a_value_is_left_out(folder):
    tables = read_thought_anchors(folder).tables
    ids = [chunk["chunk_id"] for chunk in tables["chunks"]]
    assert tables["step_importance"] == [
        {"source_chunk_id": ids[0], "target_chunk_id": ids[1], "convention": "published", "value": -0.5}
    ]


def test_step_importance_by_suppression_stands_beside_under_its_own_convention(folder):
    """Of a target with one source the publisher's 0 says nothing; another 0 is a value."""
    scores = {0: {1: 0.0, 3: 1.25}, 1: {3: 0.0}}
    write(
        folder / "step_importance_supp.json",
        [
            {
                "source_chunk_idx": source,
                "source_chunk_text": CHUNKS[source],
                "target_impacts": [
                    {"target_chunk_idx": target, "importance_score": score} for target, score in own.items()
                ],
            }
            for source, own in scores.items()
        ],
    )
    tables = read_thought_anchors(folder).tables
    ids = [chunk["chunk_id"] for chunk in tables["chunks"]]
    found = {
        (row["convention"], ids.index(row["source_chunk_id"]), ids.index(row["target_chunk_id"])): row["value"]
        for row in tables["step_importance"]
    }
    own = "published_suppression"
    assert found == {("published", 0, 1): -0.5, (own, 0, 2): 1.25, (own, 1, 2): 0.0}


def test_a_chunk_list_without_labels_imports_with_a_warning(folder):
    (folder / "chunks_labeled.json").unlink()
    write(folder / "chunks.json", {"source_text": "", "solution_text": "", "chunks": [*CHUNKS[:2], "3.", CHUNKS[2]]})
    (folder / "chunks_resampled.json").unlink()
    (folder / "step_importance.json").unlink()
    study = read_thought_anchors(folder)
    assert len(study.tables["chunks"]) == 4
    assert study.tables["importance"] == study.tables["categories"] == []
    assert any("without tags and metrics" in warning for warning in study.warnings)


@pytest.mark.parametrize(
    ("gt_answer", "level", "kept"),
    [
        (27, 4, ("27", 4)),
        (27.0, "4", ("27", 4)),
        (6.5, "Level 4", ("6.5", 4)),
        (None, None, (None, None)),
        ("", "Level ?", (None, None)),
    ],
)
def test_answers_and_levels_may_be_numbers_and_none_is_unknown(folder, gt_answer, level, kept):
    write(folder / "problem.json", {"problem": "How many?", "level": level, "gt_answer": gt_answer})
    base = json.loads((folder / "base_solution.json").read_text())
    (folder / "base_solution.json").write_text(
        "\ufeff" + json.dumps(base | {"answer": 7}), encoding="utf-8"
    )  # as Windows saves it
    tables = read_thought_anchors(top(folder)).tables
    assert (tables["problems"][0]["answer"], tables["problems"][0]["level"]) == kept
    assert tables["cots"][0]["answer"] == "7" and tables["cots"][0]["is_correct"] is True


BROKEN = [
    (
        "problem.json",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        r"problem\.json is a pointer of Git LFS",
    ),
    ("problem.json", '{"problem": "How many?",', r"problem\.json, line 1, column \d+: expected JSON"),
    (
        "problem.json",
        {"problem": "How many?"},
        r"problem\.json, at the top: expected the key 'gt_answer', found 'problem'",
    ),
    ("problem.json", '{"problem": "a", "problem": "b"}', r"problem\.json: the key 'problem' comes twice"),
    ("problem.json", "[" * 100_000, r"problem\.json cannot be read|expected JSON"),
    (
        "problem.json",
        {"problem": "How \ud800many?", "gt_answer": "7"},
        r"at problem: expected a text of Unicode characters",
    ),
    ("base_solution.json", [], r"base_solution\.json, at the top: expected an object"),
    (
        "base_solution.json",
        {"prompt": "", "solution": COT, "is_correct": 1, "answer": "7"},
        r"is_correct: expected true or false",
    ),
    ("chunks_labeled.json", {}, r"chunks_labeled\.json, at the top: expected a list, found dict"),
    ("chunks_labeled.json", [], r"chunks_labeled\.json lists no chunk"),
    ("chunks_labeled.json", labelled(chunk_idx="1"), r"at \[1\]\.chunk_idx: expected a whole number, found str '1'"),
    (
        "chunks_labeled.json",
        labelled(chunk_idx=0),
        r"at \[1\]: expected chunk_idx to rise from 0, found 0, which comes twice",
    ),
    (
        "chunks_labeled.json",
        labelled(chunk="Then he sells them all."),
        r"at \[1\]: expected chunk_idx 1 to be in the CoT .*buys.*sells",
    ),
    ("chunks_labeled.json", labelled(chunk=""), r"at \[1\]: expected chunk_idx 1"),
    (
        "chunks_labeled.json",
        labelled(accuracy="high"),
        r"at \[1\]\.accuracy: expected a finite number, found str 'high'",
    ),
    ("chunks_labeled.json", labelled(accuracy=float("inf")), r"at \[1\]\.accuracy: expected a finite number"),
    ("chunks_labeled.json", labelled(function_tags="unknown"), r"at \[1\]\.function_tags: expected a list"),
    ("chunks_resampled.json", {"2": ["a"]}, r"at 2: expected a chunk_idx of the chunk list"),
    ("chunks_resampled.json", {"1": [3]}, r"at 1\[0\]: expected a text, found int 3"),
    ("step_importance.json", impact(9, []), r"at \[0\]\.source_chunk_idx: expected a chunk_idx"),
    ("step_importance.json", impact(1, [{"target_chunk_idx": 0}]), r"expected a chunk_idx of the chunk list after 1"),
    ("step_importance.json", impact(0, [{"target_chunk_idx": 1, "importance_score": 1}] * 2), r"1 again"),
    ("step_importance.json", impact(0, [], source_chunk_text="Another CoT."), r"expected the text of chunk_idx 0"),
    ("step_importance_supp.json", impact(9, []), r"step_importance_supp\.json, at \[0\]\.source_chunk_idx: expected"),
    (
        "step_importance_supp.json",
        impact(0, [{"target_chunk_idx": 1, "importance_score": "high"}]),
        r"supp\.json, at \[0\]\.target_impacts\[0\]\.importance_score: expected a finite number, found str 'high'",
    ),
    (
        "chunk_1/solutions.json",
        [rollout(chunk_removed="Another chunk.")],
        r"chunk_removed: expected the text of the chunk its folder",
    ),
    ("chunk_1/solutions.json", [{"answer": "7"}], r"solutions\.json, at \[0\]: expected the key 'rollout'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_named_with_its_place_and_what_was_expected(folder, name, content, message):
    write(folder / name, content)
    with pytest.raises(ImportFormatError, match=message):
        read_thought_anchors(top(folder))


@pytest.mark.parametrize("name", ["problem.json", "base_solution.json", "chunks_labeled.json"])
def test_a_needed_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ImportFormatError, match=r"is missing"):
        read_thought_anchors(top(folder))


def test_a_file_too_large_is_not_read(folder):
    with (folder / "problem.json").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ImportFormatError, match=r"are read\. Is it the right file"):
        read_thought_anchors(folder)


def test_the_same_cot_twice_is_refused(folder):
    again = top(folder) / MODEL / "incorrect_base_solution" / folder.name
    for name in ("problem.json", "base_solution.json", "chunks_labeled.json"):
        write(again / name, (folder / name).read_text())
    with pytest.raises(ImportFormatError, match="holds the same CoT as"):
        read_thought_anchors(top(folder))


def test_one_problem_number_with_two_questions_is_refused(folder):
    other = top(folder) / MODEL / "incorrect_base_solution" / folder.name
    for name in ("base_solution.json", "chunks_labeled.json"):
        write(other / name, (folder / name).read_text())
    write(other / "problem.json", {"problem": "How much?", "gt_answer": "7"})
    with pytest.raises(ImportFormatError, match="ask different questions"):
        read_thought_anchors(top(folder))


def scenario_folder(folder, case="yes_base_solution"):
    """As published: `contains_blackmail` stands where a problem has its answer."""
    place = top(folder) / MODEL / case / "scenario_1"
    for name in ("chunks_labeled.json", "chunks_resampled.json", "step_importance.json"):
        write(place / name, (folder / name).read_text())
    write(
        place / "scenario.json",
        {"scenario_id": 1, "email_content": "<email>", "system_prompt": "You are", "nickname": "Emails"},
    )
    write(
        place / "base_solution.json",
        {"prompt": "You are <think>\n", "solution": COT, "full_cot": "", "contains_blackmail": True},
    )
    return place


@pytest.mark.parametrize("case", ["yes_base_solution", "no_base_solution"])
def test_a_scenario_without_an_answer_comes_in_with_what_it_has(folder, case):
    tables = read_thought_anchors(scenario_folder(folder, case)).tables
    (problem,), (cot,) = tables["problems"], tables["cots"]
    assert (problem["question"], problem["answer"], problem["source_key"]) == ("<email>", None, "scenario_1")
    assert cot["answer"] is cot["is_correct"] is cot["grader"] is None and cot["text"] == COT
    assert [chunk["text"] for chunk in tables["chunks"]] == SPANS
    assert {len(tables[name]) for name in ("categories", "importance", "rollouts", "step_importance")} == {6, 3, 1}


def test_scenarios_stand_beside_problems_and_beside_one_another_with_other_words(folder):
    place = scenario_folder(folder)
    other = top(folder) / "other-model" / "yes_base_solution" / "scenario_1"
    for file in place.iterdir():
        write(other / file.name, file.read_text())
    write(other / "scenario.json", {"email_content": "<another email>"})
    assert len(read_thought_anchors(top(folder)).tables["cots"]) == 3


# Zeros that are no values


def with_zeros(place, **by_index):
    """The chunk list with every metric 0 but the accuracy, and `by_index` of the entries changed."""
    entries = [
        entry | dict.fromkeys((key for key in METRICS.values() if key != "accuracy"), 0.0) for entry in labelled()
    ]
    for entry in entries:
        entry |= {"different_trajectories_fraction": 0.3, "overdeterminedness": 0.1} | by_index.get(
            f"of_{entry['chunk_idx']}", {}
        )
    write(place / "chunks_labeled.json", entries)


def reasons(place, index):
    """Metric -> (value, written, reason's first words) of the chunk that is `index`-th in the list."""
    tables = read_thought_anchors(place).tables
    chunk = tables["chunks"][index]["chunk_id"]
    return {
        row["metric"]: (row["value"], row["written"], row["reason"])
        for row in tables["importance"]
        if row["chunk_id"] == chunk
    }


def test_what_the_last_chunk_is_compared_with_does_not_exist(folder):
    with_zeros(folder, of_3={"different_trajectories_fraction": 0.0, "overdeterminedness": 0.0})
    found = reasons(folder, 2)
    assert found.pop("counterfactual_accuracy") == (0.5, None, None)
    assert set(found.values()) == {(None, 0.0, "the last chunk: nothing comes after it")} and len(found) == 8


def test_without_a_dissimilar_rollout_only_counterfactual_importances_are_undefined(folder):
    with_zeros(folder, of_0={"different_trajectories_fraction": 0.0})
    found = reasons(folder, 0)
    undefined = {
        metric
        for metric, (value, _, reason) in found.items()
        if value is None and "no rollout of it is dissimilar" in reason
    }
    assert undefined == {"counterfactual_importance_kl", "counterfactual_importance_accuracy"}
    assert found["resampling_importance_kl"] == found["different_trajectories_fraction"] == (0.0, None, None)


def test_a_zero_that_was_computed_stays_zero(folder):
    with_zeros(folder)
    assert {found for metric, found in reasons(folder, 0).items() if metric not in ("counterfactual_accuracy",)} == {
        (0.0, None, None),
        (0.3, None, None),
        (0.1, None, None),
    }


def test_an_accuracy_is_not_compared_across_a_chunk_that_the_list_left_out(folder):
    with_zeros(folder)  # 0, 1, 3
    found = reasons(folder, 1)
    value, written, reason = found["resampling_importance_accuracy"]
    assert value is None and written == 0 and reason.startswith("chunk 2, which it would be compared with")
    assert found["resampling_importance_kl"] == (0.0, None, None)  # that code goes on to the next one there


def test_a_chunk_without_rollouts_has_no_zeros_where_others_have_rollouts(folder):
    with_zeros(folder)
    write(folder / "chunk_0" / "solutions.json", [rollout(chunk_removed="")])
    write(folder / "chunk_1" / "solutions.json", [])
    found = reasons(folder, 1)
    assert found["resampling_importance_kl"] == (None, 0.0, "no rollout of it was published")
    assert found["forced_importance_kl"] == (
        0.0,
        None,
        None,
    )  # forced answers are a sample of their own, of which no file is here
    assert reasons(folder, 0)["resampling_importance_kl"] == (0.0, None, None)


def test_a_chunk_without_forced_answers_has_no_forced_zeros(folder):
    with_zeros(folder)
    forced = folder.parent.with_name("correct_base_solution_forced_answer") / folder.name
    write(forced / "chunk_1" / "solutions.json", [rollout()])
    assert reasons(folder.parents[1], 0)["forced_importance_kl"] == (None, 0.0, "no forced answer of it was published")
    assert reasons(folder.parents[1], 1)["forced_importance_kl"] == (0.0, None, None)


def test_published_boundaries_do_not_follow_our_rules_of_cutting(folder, monkeypatch):
    monkeypatch.setattr("backend.cot.chunking.chunk_spans", lambda text: [(0, len(text))])
    assert [chunk["text"] for chunk in read_thought_anchors(folder).tables["chunks"]] == SPANS


def test_a_folder_in_another_layout_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportFormatError, match="holds no problem"):
        read_thought_anchors(tmp_path / "empty")
    with pytest.raises(ImportFormatError, match="is not a folder"):
        read_thought_anchors(tmp_path / "missing")
    folder.parent.rename(folder.parent.parent / "solutions")
    with pytest.raises(ImportFormatError, match=r"expected the layout MODEL/CASE/problem_N"):
        read_thought_anchors(top(folder))


@pytest.fixture(scope="module")
def published():
    return read_thought_anchors(shared_folder("thought_anchors"))


def test_the_twenty_published_cots_are_read_whole(published):
    counts = {name: len(rows) for name, rows in published.tables.items()}
    assert (counts["cots"], counts["problems"], counts["models"]) == (20, 8, 2)
    assert counts["chunks"] == counts["categories"] == 1970
    assert counts["importance"] == 1970 * len(METRICS)
    assert (
        sum("step_importance.json is missing" in warning for warning in published.warnings)
        == len(published.warnings)
        == 11
    )


def test_published_chunks_lie_where_our_own_splitter_puts_them(published):
    spans = defaultdict(list)
    for chunk in published.tables["chunks"]:
        spans[chunk["cot_id"]].append((chunk["char_start"], chunk["char_end"]))
    assert all(spans[cot["cot_id"]] == chunk_spans(cot["text"]) for cot in published.tables["cots"])


def test_published_values_are_in_the_rows_as_they_are_in_the_file(published):
    path = (
        shared_folder("thought_anchors")
        / "deepseek-r1-distill-llama-8b/correct_base_solution/problem_6998/chunks_labeled.json"
    )
    entry = json.loads(path.read_text())[6]
    chunk = next(row for row in published.tables["chunks"] if row["text"].strip() == entry["chunk"])
    values = {
        row["metric"]: row["value"] for row in published.tables["importance"] if row["chunk_id"] == chunk["chunk_id"]
    }
    assert None not in values.values() and values == {metric: entry[key] for metric, key in METRICS.items()}


def test_half_of_the_published_counterfactual_zeros_are_no_values(published):
    """Of 1,970 chunks 595 have a counterfactual KL of 0: 20 are last chunks, 286 have no dissimilar rollout,
    289 are 0."""
    rows = [row for row in published.tables["importance"] if row["metric"] == "counterfactual_importance_kl"]
    reasons = [row["reason"] for row in rows if row["value"] is None]
    assert len([r for r in reasons if r.startswith("the last chunk")]) == 20 and len(reasons) == 20 + 286
    assert sum(row["value"] == 0 for row in rows) == 289
    assert all(row["written"] == 0 for row in rows if row["value"] is None)


def test_different_trajectories_and_overdeterminedness_follow_from_the_resampled_sentences(published):
    """A check on the alignment: the published overdeterminedness is that of the sentences we attach to the chunk."""
    sentences = defaultdict(list)
    for row in published.tables["rollouts"]:
        sentences[row["chunk_id"]].append(row["resampled_chunk"])
    told = {
        row["chunk_id"]: row["value"] for row in published.tables["importance"] if row["metric"] == "overdeterminedness"
    }
    gaps = [
        abs(1 - len(set(found)) / len(found) - told[chunk])
        for chunk, found in sentences.items()
        if told[chunk] is not None
    ]
    assert sum(gap < 0.011 for gap in gaps) > 0.9 * len(gaps)
