"""Words, colours and choices around the figures."""

import math
import re
import time
import tomllib
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from app.chains_of_thought.metric_table import metric_table
from app.components.reader import spans, strength
from app.shared import chunk_colours
from app.shared.chunk_colours import usual_choice
from app.shell import missing, progress, studies
from app.shell.numbers import number
from app.shell.progress import duration
from app.shell.theme import CATEGORY_COLOURS, CATEGORY_SYMBOLS
from app.shell.untrusted import for_plotly, one_line
from app.shell.vocabulary import METRICS, metric, metric_choice
from backend.cot.categories import CATEGORIES
from backend.root import ROOT
from backend.schema.tables import FILLED
from backend.store.progress import Progress
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_study

# Text


@pytest.mark.parametrize("text", ["<b>x</b>", "<a href='http://x'>y</a>", "$\\href{x}{y}$", "a & b", "<br>"])
def test_plotly_shows_the_characters_of_a_text_and_no_markup(text):
    shown = for_plotly(text)
    assert "<" not in shown.replace("<br>", "") or text == "<br>"
    assert "$" not in shown
    back = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&#36;", "$").replace("&amp;", "&")
    assert back == text


def test_a_long_text_is_cut_with_an_ellipsis_and_a_short_one_is_not():
    assert one_line("a  b\n\nc", 10) == "a b c"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


# The table of metrics


def importance_row(**values):
    row = {
        "metric": "counterfactual_importance_kl",
        "convention": "ta",
        "value": 0.5,
        "ci_low": 0.1,
        "ci_high": 0.9,
        "n": 5,
        "n_comparator": 9,
    }
    return row | {"is_last": False} | values


@pytest.mark.parametrize(
    ("row", "value", "note"),
    [
        (importance_row(), "0.5", ""),
        (importance_row(value=0.0), "0", ""),
        (
            importance_row(value=None, ci_low=None, ci_high=None, is_last=True, n_comparator=0),
            "unknown",
            "the last chunk",
        ),
        (importance_row(value=None, ci_low=None, ci_high=None, n=0), "unknown", "no dissimilar rollout"),
        (
            importance_row(value=None, ci_low=None, ci_high=None, n_comparator=0),
            "unknown",
            "no rollout at the next chunk",
        ),
        (
            importance_row(convention="published", ci_low=None, ci_high=None, n=None),
            "0.5",
            "published without an interval",
        ),
        (
            importance_row(metric="overdeterminedness", convention="all", ci_low=None, ci_high=None),
            "0.5",
            "no interval",
        ),
    ],
)
def test_an_unknown_metric_is_said_to_be_unknown_with_the_reason(row, value, note):
    shown = metric_table(pd.DataFrame([row])).iloc[0]
    assert shown["value"] == value
    assert (note in shown["note"]) if note else shown["note"] == ""


def test_a_metric_that_this_version_does_not_know_is_shown_under_its_name():
    assert metric("new_thing").label == "new_thing"
    assert metric_choice("counterfactual_importance_kl:fl") == "Counterfactual importance (KL, nats) · fl"


def test_the_usual_metric_is_the_one_that_small_samples_cannot_break_and_else_that_of_thought_anchors():
    stored = ["counterfactual_importance_jsd:jsd_numbers", "counterfactual_importance_jsd:jsd"]
    assert usual_choice(["counterfactual_importance_kl:ta", *stored]) == "counterfactual_importance_jsd:jsd"
    assert usual_choice(
        ["overdeterminedness:all", "counterfactual_importance_kl:published", "counterfactual_importance_kl:ta"]
    ).endswith(":ta")
    assert usual_choice(["overdeterminedness:all"]) == "overdeterminedness:all"


def test_a_number_keeps_zero_apart_from_unknown():
    assert (
        number(0.0) == "0"
        and number(math.nan) == "unknown"
        and number(None) == "unknown"
        and number(pd.NA) == "unknown"
    )


# The reader


def test_the_reader_gets_every_chunk_and_no_strength_for_an_unknown_metric():
    chunks = pd.DataFrame(
        {
            "chunk_id": ["a", "b", "c"],
            "number": [1, 2, 3],
            "text": ["<b>x</b>", "y", "z"],
            "category": ["unknown"] * 3,
            "value": [-2.0, 1.0, np.nan],
        }
    )
    drawn = spans(chunks, METRICS["counterfactual_importance_accuracy"])
    assert [span["text"] for span in drawn] == ["<b>x</b>", "y", "z"]
    assert drawn[0]["strength"] > drawn[1]["strength"] > 0 and drawn[2]["strength"] is None
    assert "unknown" in drawn[2]["hint"]


def test_a_divergence_below_chance_is_drawn_as_that_and_not_as_strong():
    values = pd.DataFrame({"chunk_id": ["a", "b", "c", "d"], "number": range(4), "text": "x", "category": "unknown"})
    drawn = spans(values.assign(value=[-0.3, 0.1, 0.05, np.nan]), METRICS["counterfactual_importance_jsd"])
    assert [span["below"] for span in drawn] == [True, False, False, False]
    assert [span["strength"] for span in drawn] == [0, strength(0.1, 0.1), strength(0.05, 0.1), None]
    assert drawn[0]["hint"].endswith("-0.3")
    signed = spans(values.assign(value=[-0.3, 0.1, 0.05, np.nan]), METRICS["resampling_importance_accuracy"])
    assert not any(span["below"] for span in signed) and signed[0]["strength"] == strength(-0.3, 0.3)


def test_what_is_counted_as_unsure_is_what_has_a_mark(monkeypatch):
    rows = {"chunk_id": ["a", "b", "c"], "number": [1, 2, 3], "text": "x", "category": "unknown", "value": np.nan}
    chunks = pd.DataFrame(rows | {"is_unsure": [True, False, True], "score": [0.4, 0.9, 0.3]})
    said = []
    monkeypatch.setattr(chunk_colours.st, "caption", said.append)
    chunk_colours.legend(chunks)
    marked = [span["unsure"] for span in spans(chunks, None)]
    assert marked == [True, False, True] and said[0].startswith(f"Unsure: {sum(marked)} of 3, with a ?")


def test_strength_grows_with_the_size_of_the_value():
    assert strength(0.0, 2.0) < strength(1.0, 2.0) < strength(2.0, 2.0)
    assert strength(0.0, 0.0) == strength(0.0, 2.0)


# Colours


def test_every_category_has_a_colour_and_a_shape_of_its_own():
    named = [tag for tag in CATEGORIES if tag != "unknown"]
    assert set(CATEGORIES) <= set(CATEGORY_COLOURS)
    assert len({CATEGORY_COLOURS[tag] for tag in named}) == len(named) == len({CATEGORY_SYMBOLS[tag] for tag in named})


# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.mark.parametrize("vision", ["usual", "protanopia", "deuteranopia"])
def test_category_colours_differ_for_red_green_colour_blind_eyes(vision):
    seen = {tag: lab(VISIONS[vision] @ linear(CATEGORY_COLOURS[tag])) for tag in CATEGORIES}
    distance, pair = min((float(np.linalg.norm(seen[a] - seen[b])), (a, b)) for a, b in combinations(CATEGORIES, 2))
    assert distance > 15, (pair, distance)  # CIE76; about 2.3 is just noticeable


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089]), 1e-6, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Studies and commands


def test_studies_are_found_by_folder_by_collection_and_as_single_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "nowhere")
    inside = small_study.make_imported(tmp_path / "stores" / "one")
    single = tmp_path / "elsewhere" / "two.duckdb"
    single.parent.mkdir()
    single.write_bytes(Store(inside).generation.read_bytes())
    (tmp_path / "stores" / "not-a-study").mkdir()
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(single))
    assert list(studies.found()) == ["two", "one"]
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(tmp_path / "elsewhere"))
    assert list(studies.found()) == ["two", "one"]


def test_two_studies_of_one_name_are_both_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "nowhere")
    first, second = (small_study.make_imported(tmp_path / place / "same") for place in ("a", "b"))
    monkeypatch.setenv("ANCHORSCOPE_STORES", f"{first}:{second}")
    assert sorted(path.parent.name for path in studies.found().values()) == ["a", "b"]


def test_the_command_names_the_study_file_where_the_repository_has_one():
    quick = tomllib.loads(Path(ROOT, "studies", "quick.toml").read_text())["name"]
    assert (
        missing.command(studies.STORES / quick, "maps") == f"python -m precompute run studies/{quick}.toml --stage maps"
    )
    assert (
        missing.command(Path("/data/other"), "maps")
        == "python -m precompute run STUDY.toml --stage maps --store /data/other"
    )


def test_nothing_is_missing_from_a_whole_study_and_later_stages_from_a_young_one(tmp_path):
    whole = small_study.make(tmp_path / "whole" / "small")
    run = {stage for stage, _ in StudyFolder(whole).ledger().live}  # a stage that comes in has no rows there

    def left(study: Path) -> list[str]:
        stages = [item.command.split("--stage ")[1].split()[0] for item in missing.missing(Store(study))]
        return [stage for stage in stages if stage in run]

    assert left(whole) == []
    young = small_study.make(tmp_path / "young" / "small", rollouts=False, activations=False, steering=False)
    assert left(young) == ["rollouts", "activations", "sweep"]


def test_a_duration_reads_as_a_person_says_it():
    assert [duration(seconds) for seconds in (40, 720, 11_100)] == ["40 s", "12 min", "3 h 5 min"]


def test_an_answer_from_a_generation_is_remembered_for_that_generation_alone(tmp_path):
    from backend.store.publish import publish

    study = small_study.make(tmp_path / "small")
    before = studies.ask(studies.open_store(study).problem_index)
    with StudyFolder(study).writing("test") as writer:
        cot = SimpleNamespace(
            **studies.open_store(study).frame("SELECT * EXCLUDE (token_ids) FROM cots LIMIT 1").iloc[0].to_dict()
        )
        new = small_study.problem(50)
        row = vars(cot) | {"cot_id": "c_new", "problem_id": new["problem_id"], "token_ids": None, "seed": None}
        writer.add("late", "one", {"problems": [new], "cots": [row]})
        publish(writer)
    after = studies.ask(studies.open_store(study).problem_index)
    assert len(after) == len(before) + 1


def test_a_stage_that_is_done_for_some_says_how_many_are_left(tmp_path):
    store = Store(small_study.make(tmp_path / "whole" / "small"))
    all_of_it = store.progress()
    behind = all_of_it.assign(done=all_of_it["done"] // 2)
    store.progress = lambda: behind
    said = {item.command.split("--stage ")[1].split()[0]: item.what for item in missing.missing(store)}
    assert said["maps"] == "1 of 2 layers have no map." and said["activations"].startswith("23 of 45 chunks")
    assert {"rollouts", "sweep"}.isdisjoint(said), "a study file may ask for fewer chunks than there are"
    store.progress = lambda: behind.assign(done=0)
    assert [item.what for item in missing.missing(store)] == [
        FILLED[stage].none for stage in behind.loc[behind["wanted"] > 0, "stage"]
    ]


def test_every_stage_a_page_sends_people_to_exists():
    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "app").rglob("*.py"))
    named = set(re.findall(r'(?:command|undone)\([\w.]*path, "(\w+)"\)', sources)) | set(
        re.findall(r'FILLED\["(\w+)"\]', sources)
    )
    assert {"sweep", "crosscoder", "evidence", "training"} <= named <= set(FILLED)


@pytest.mark.parametrize(("tokens", "said"), [(0, True), (1, False)])
def test_a_run_without_a_token_yet_says_that_the_prompts_are_read_first(monkeypatch, tokens, said):
    shown = []
    monkeypatch.setattr(progress, "show", shown.append)
    monkeypatch.setattr(progress.st, "progress", lambda _: None)
    now = Progress("interventions", 0, 8, None, None, "running", time.time(), tokens=tokens, most_tokens=64)
    progress.bar(now)
    assert ("read the prompts" in shown[0]) is said and f"{tokens} of at most 64 tokens" in shown[0]
