import json
from pathlib import Path

import pyarrow as pa
import pytest

from backend.schema.tables import TABLES
from backend.statistics.intervals import wilson
from precompute.checked_json import ImportFormatError
from precompute.importers.seed_study import read_seed_study
from tests.shared_data import shared_folder

SUFFIX = "lab-R1-Tiny"
COT = (
    "Tom has three apples. Then he buys four more. So he now has"  # three chunks; the published splitter drops the last
)


def entry(**changes) -> dict:
    known = {
        "prompt": "How many?",
        "model_input_prompt": "User: How many?<think>\n",
        "raw_response": f"User: How many?<think>\n{COT} \n</think>\n\nSeven.",
        "cot": COT,
        "answer": " 7 ",
        "answers": ["7", "7", "8", "7"],
        "accuracy": 0.75,
        "gt_answer": "7",
        "gt_solution": "3 + 4 = 7",
        "counterfactual_accuracies": [0.5, 0.0],
        "counterfactual_importance_kl": [0.25, float("nan")],
        "overdeterminedness": [0.5, 0.5],
    }
    return known | changes


def vectors(**changes) -> dict:
    vector = {
        "prompt": "How many?",
        "anchor_idx": 1,
        "anchor_sentence": "Then he buys four more.",
        "layer": 3,
        "hidden_size": 2,
        "vector": [0.6, -0.8],
        "counterfactual_count": 4,
    }
    return {
        "model": "lab/R1-Tiny",
        "layer": 3,
        "vectors": [vector | changes],
        "mean_vector": [3.0, 4.0],
        "config": {"resamples": 10},
    }


def tags(n_chunks: int = 3) -> dict:
    return {
        "annotator_model": "judge-3b",
        "examples": [
            {
                "example_index": 0,
                "num_chunks": n_chunks,
                "categories": {"0": {"function_tags": ["problem_setup", "unknown"]}},
            }
        ],
    }


def write(folder: Path, data=None, categories=None, steering=None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in (
        ("generated_data_annotated_", data),
        ("chunk_categories_", categories),
        ("steering_vectors_", steering),
    ):
        if content is not None:
            (folder / f"{name}{SUFFIX}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "seed", [entry()], tags(), vectors())


def test_every_row_has_the_columns_and_types_of_its_table(folder):
    study = read_seed_study(folder)
    assert study.warnings == []
    for name, rows in study.tables.items():
        assert rows, name
        assert all(set(row) == set(TABLES[name].columns) for row in rows)
        assert pa.Table.from_pylist(rows, schema=TABLES[name].arrow).num_rows == len(rows)


def test_the_cot_is_the_text_between_the_think_tags(folder):
    (cot,) = read_seed_study(folder).tables["cots"]
    assert (cot["text"], cot["after_text"]) == (f"{COT} \n", "\n\nSeven.")
    assert (cot["answer"], cot["answer_source"], cot["is_correct"]) == ("7", "published", None)


def test_values_belong_to_chunks_by_number_and_the_dropped_last_chunk_has_none(folder):
    tables = read_seed_study(folder).tables
    ids = [chunk["chunk_id"] for chunk in tables["chunks"]]
    assert len(ids) == 3
    values = {(row["metric"], row["chunk_id"]): row["value"] for row in tables["importance"]}
    assert values == {
        ("counterfactual_accuracy", ids[0]): 0.5,
        ("counterfactual_accuracy", ids[1]): 0.0,
        ("counterfactual_importance_kl", ids[0]): 0.25,  # NaN is unknown, not 0
        ("overdeterminedness", ids[0]): 0.5,
        ("overdeterminedness", ids[1]): 0.5,
    }


def test_another_number_of_values_is_a_warning_and_no_row(tmp_path):
    study = read_seed_study(write(tmp_path / "seed", [entry(overdeterminedness=[0.5] * 7)], tags(), vectors()))
    assert not [row for row in study.tables["importance"] if row["metric"] == "overdeterminedness"]
    assert any("overdeterminedness: 7 values for 3 chunks; left out" in warning for warning in study.warnings)


def test_tags_for_another_cot_are_left_out_with_a_warning(tmp_path):
    study = read_seed_study(write(tmp_path / "seed", [entry()], tags(n_chunks=9), vectors()))
    assert study.tables["categories"] == []
    assert any("1 of 1 examples have another number of chunks" in warning for warning in study.warnings)


def test_tags_name_their_annotator_and_keep_their_order(folder):
    rows = read_seed_study(folder).tables["categories"]
    assert [(row["source"], row["rank"], row["category"]) for row in rows] == [
        ("published (judge-3b)", 0, "problem_setup"),
        ("published (judge-3b)", 1, "unknown"),
    ]


def test_a_vector_belongs_to_the_chunk_that_prompt_index_and_sentence_name(folder):
    tables = read_seed_study(folder).tables
    anchor, mean = tables["directions"]
    assert (anchor["chunk_id"], anchor["kind"], anchor["layer"], anchor["norm"]) == (
        tables["chunks"][1]["chunk_id"],
        "file",
        3,
        None,
    )
    assert anchor["vector"] == pytest.approx([0.6, -0.8])
    assert (mean["chunk_id"], mean["norm"], mean["vector"]) == (None, 5.0, [0.6, 0.8])
    assert json.loads(anchor["parameters"])["counterfactual_count"] == 4


@pytest.mark.parametrize(
    "changes", [{"anchor_idx": 0}, {"anchor_idx": 99}, {"anchor_sentence": "Another one."}, {"prompt": "How much?"}]
)
def test_a_vector_of_another_cot_has_no_chunk_and_a_warning(tmp_path, changes):
    study = read_seed_study(write(tmp_path / "seed", [entry()], tags(), vectors(**changes)))
    assert study.tables["directions"][0]["chunk_id"] is None
    assert any("imported without its chunk" in warning for warning in study.warnings)


def test_accuracy_over_the_published_answers_has_wilsons_interval(folder):
    (row,) = read_seed_study(folder).tables["problem_accuracy"]
    assert (row["n"], row["n_correct"], row["accuracy"], row["candidate"]) == (4, 3, 0.75, True)
    assert (row["ci_low"], row["ci_high"]) == tuple(wilson(3, 4))


def test_missing_optional_files_are_named(tmp_path):
    study = read_seed_study(write(tmp_path / "seed", [entry()]))
    assert [warning.split(" is missing")[0].rsplit("/", 1)[-1] for warning in study.warnings] == [
        f"chunk_categories_{SUFFIX}.json",
        f"steering_vectors_{SUFFIX}.json",
    ]
    assert study.tables["models"][0]["name"] == SUFFIX


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data": '[{"prompt": '}, r"generated_data_annotated_.*line 1, column"),
        ({"data": []}, "lists no CoT"),
        (
            {"data": [entry(), entry()]},
            r"at \[1\]\.prompt: expected every problem once, found the prompt of \[0\] again",
        ),
        ({"data": [entry(cot=" ")]}, r"at \[0\]\.cot: expected a chain of thought"),
        ({"data": [{k: v for k, v in entry().items() if k != "cot"}]}, r"at \[0\]: expected the key 'cot'"),
        ({"data": [entry(accuracy=0.7)]}, r"at \[0\]\.accuracy: expected a share of 4 answers"),
        (
            {"data": [entry(overdeterminedness=["a", "b"])]},
            r"at \[0\]\.overdeterminedness\[0\]: expected a finite number",
        ),
        ({"steering": vectors(vector=[1.0])}, r"at vectors\[0\]\.vector: expected 2 known numbers, found 1"),
        ({"steering": vectors(vector=[0.0, 0.0])}, r"expected a direction, found a vector of zeros"),
        ({"steering": vectors() | {"model": "lab/other"}}, r"at model: expected the model of the file's name"),
        ({"steering": vectors() | {"vectors": vectors()["vectors"] * 2}}, r"expected every vector once"),
        (
            {"categories": {"examples": tags()["examples"] * 2}},
            r"example_index: expected every example once, found 0 again",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_place_and_what_was_expected(tmp_path, files, message):
    with pytest.raises(ImportFormatError, match=message):
        read_seed_study(write(tmp_path / "seed", **({"data": [entry()]} | files)))


def test_no_annotated_file_or_two_are_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportFormatError, match=r"has 0 files generated_data_annotated_\*\.json"):
        read_seed_study(tmp_path / "empty")
    (folder / "generated_data_annotated_other.json").write_text("[]")
    with pytest.raises(ImportFormatError, match="has 2 files"):
        read_seed_study(folder)


def test_the_published_study_keeps_what_is_known_and_warns_about_the_rest():
    study = read_seed_study(shared_folder("seed_study"))
    tables = study.tables
    assert (len(tables["cots"]), len(tables["directions"])) == (8, 3)
    assert tables["models"][0]["name"] == "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    assert {row["metric"] for row in tables["importance"]} == {
        "counterfactual_accuracy",
        "counterfactual_importance_kl",
        "different_trajectories_fraction",
        "overdeterminedness",
    }
    assert len(study.warnings) == 3  # tags of 50 other CoTs, and two vectors of sentences that these CoTs do not hold


def test_the_published_anchor_sentences_lie_at_their_index():
    folder = shared_folder("seed_study")
    chunks: dict[str, list[str]] = {}
    for row in read_seed_study(folder).tables["chunks"]:
        chunks.setdefault(row["cot_id"], []).append(row["text"].strip())
    data = json.loads(next(folder.glob("generated_data_annotated_*.json")).read_text())
    for published, ours in zip(data, chunks.values(), strict=True):
        assert ours[published["thought_anchor_idx"]] == published["thought_anchor_sentence"]
