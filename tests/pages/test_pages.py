"""Every page in every state of a study: it shows what is there,
or says what is missing and the command that makes it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.store.progress import Progress, write_progress
from backend.store.store import Store
from tests import small_study
from tests.pages.conftest import PAGES, ROOT, words

PAGE_FILES = sorted((ROOT / "pages").glob("*.py"))


@pytest.mark.parametrize("which", PAGES)
def test_a_page_shows_a_whole_study_without_an_error(opened, whole, which):
    test = opened(which, whole)
    assert not test.exception
    assert ("python -m precompute" in words(test)) == (which == "findings")  # which says what the study never asked for


@pytest.mark.parametrize("which", PAGES)
def test_without_a_study_a_page_says_how_to_make_the_first_one(opened, which):
    test = opened(which)
    assert not test.exception
    assert "python -m precompute run studies/quick.toml" in words(test)


@pytest.mark.parametrize(
    ("which", "stage"),
    [
        ("findings", "rollouts"),
        ("overview", "rollouts"),
        ("chains_of_thought", "rollouts"),
        ("latent_map", "activations"),
        ("steepness", "activations"),
    ],
)
def test_while_a_study_is_being_made_a_page_names_the_stage_that_is_missing(opened, running, which, stage):
    test = opened(which, running)
    assert not test.exception
    assert f"python -m precompute run STUDY.toml --stage {stage} --store {running}" in words(test)


@pytest.mark.parametrize("which", ["findings", "overview", "latent_map", "steepness"])
def test_a_study_imported_without_tokens_is_not_sent_to_a_stage_that_cannot_help(opened, imported, which):
    test = opened(which, imported)
    assert not test.exception
    assert "imported as text" in words(test)
    assert "--stage" not in words(test)


def test_an_imported_chain_of_thought_reads_with_its_published_values(opened, imported):
    test = opened("chains_of_thought", imported)
    assert not test.exception
    assert "published" in words(test)


@pytest.mark.parametrize("which", PAGES)
@pytest.mark.parametrize(("version", "advice"), [(0, "python -m precompute publish"), (99, "Update Anchorscope")])
def test_a_store_of_another_schema_is_refused_with_what_to_do(opened, of_schema, which, version, advice):
    test = opened(which, of_schema(version))
    assert not test.exception
    assert f"schema version {version}" in words(test) and advice in words(test)


def test_a_study_that_is_not_published_yet_says_so_and_shows_its_progress(opened, tmp_path):
    study = tmp_path / "young"
    study.mkdir()
    (study / "manifest.jsonl").write_text("")
    write_progress(study, Progress("cots", 3, 12, 0.5, 18.0, "running", time.time()))
    said = words(opened("overview", study))
    assert "No results at" in said
    assert "cots: 3 of 12 units" in said and "0.5 units/s" in said and "18 s left" in said


def test_the_overview_says_how_a_model_was_trained_where_the_study_knows(opened, tmp_path, imported):
    assert "How the models were trained" not in words(opened("overview", imported))
    study = small_study.make_imported(tmp_path / "trained")
    small_study.add_training(study)
    test = opened("overview", study)
    assert not test.exception
    said = words(test)
    assert "How the models were trained" in said
    assert (
        "embedded:Tiny: trained as a low-rank adapter (LoRA) from embedded:Base ![pixel](http://tracker.invalid/p.png)"
        in said
    )
    assert (
        "4,000 examples · 60 steps · 120,000 tokens seen · 2,442,240 weights that learned · 3 h 5 min · begun"
        " 2026-01-02 03:04" in said
    )
    assert "rank 16 · learning rate 0.001 at its highest · seed 20000" in said
    assert not any("tracker.invalid" in str(element.value) for element in test.markdown)
    record = json.loads(test.code[-1].value)
    assert "<img src=x" in record["parameters"]["recipe"]["note"] and record["commit"] is None


def test_a_link_opens_the_chunk_it_names_on_every_page(opened, whole):
    chunk = (
        Store(whole)
        .frame("SELECT chunk_id, chunk_index FROM chunks WHERE chunk_index = 3 ORDER BY chunk_id LIMIT 1")
        .iloc[0]
    )
    for which in ("chains_of_thought", "latent_map", "steepness"):
        test = opened(which, whole, study="small", chunk=chunk.chunk_id)
        assert "Chunk 4" in words(test)
        assert test.query_params["chunk"] == chunk.chunk_id or test.query_params["chunk"] == [chunk.chunk_id]


def test_ids_the_study_does_not_have_are_ignored_and_noted(opened, whole):
    test = opened(
        "chains_of_thought",
        whole,
        study="small",
        chunk="c1'; DROP TABLE chunks; --",
        panel="nonsense",
        cot="../../etc/passwd",
    )
    assert not test.exception
    assert "it was ignored" in words(test)
    assert "DROP TABLE" not in words(test) and "DROP" not in str(dict(test.query_params))


def test_it_opens_on_the_most_important_chunk_whose_interval_is_known(opened, whole):
    best = Store(whole).frame(
        "SELECT chunk_id FROM importance WHERE metric = 'counterfactual_importance_kl' AND convention = 'ta' AND ci_low"
        " IS NOT NULL ORDER BY value DESC LIMIT 1"
    )["chunk_id"][0]
    test = opened("chains_of_thought", whole)
    assert str(dict(test.query_params)).count(best) == 1


def test_the_selection_survives_a_change_of_page(opened, whole):
    chunk = Store(whole).frame("SELECT chunk_id FROM chunks WHERE chunk_index = 2 ORDER BY chunk_id DESC LIMIT 1")[
        "chunk_id"
    ][0]
    test = opened("chains_of_thought", whole, study="small", chunk=chunk)
    test.switch_page("../pages/latent_map.py").run()
    test.switch_page("../pages/chains_of_thought.py").run()
    assert "Chunk 3 of" in words(test)


def test_choosing_another_problem_opens_one_of_its_chains_of_thought(opened, whole):
    test = opened("chains_of_thought", whole)
    other = next(
        option
        for option in Store(whole).problem_index()["problem_id"]
        if option != test.session_state["selection"]["problem"]
    )
    test.selectbox(key="pick_problem").set_value(other).run()
    cot = test.session_state["selection"]["cot"]
    assert not test.exception
    assert Store(whole).cot(cot)["problem_id"][0] == other


def test_a_filter_leaves_only_the_chains_of_thought_that_pass(opened, whole):
    test = opened("chains_of_thought", whole)
    test.selectbox(key="pick_answer_verdict").set_value("correct").run()
    assert not test.exception
    assert bool(Store(whole).cot(test.session_state["selection"]["cot"])["is_correct"][0])


@pytest.mark.parametrize("panel", ["metrics", "rollouts", "steering", "neighbours", "influence"])
def test_every_part_of_the_panel_shows_the_chunk(opened, whole, panel):
    assert not opened("chains_of_thought", whole, study="small", panel=panel).exception


def test_the_open_chunk_says_what_its_value_compares_and_why_it_is_unknown_without_a_pointer(opened, whole):
    last = Store(whole).frame(
        "SELECT i.chunk_id AS id FROM importance i JOIN chunks k USING (chunk_id) WHERE i.metric ="
        " 'counterfactual_importance_kl' AND i.convention = 'ta' AND i.value IS NULL ORDER BY k.chunk_index DESC, id"
        " LIMIT 1"
    )["id"][0]
    said = words(
        opened("chains_of_thought", whole, study="small", chunk=last, colour="counterfactual_importance_kl:ta")
    ).replace("\\", "")
    assert (
        "dissimilar rollouts at i ‖ rollouts at i+1" in said
        and "Unknown:" in said
        and "no rollouts start after it" in said
    )


def test_an_imported_chain_of_thought_shows_which_sentences_it_influences(opened, whole):
    source = Store(whole).frame("SELECT source_chunk_id AS id FROM step_importance ORDER BY id LIMIT 1")["id"][0]
    said = words(opened("chains_of_thought", whole, study="small", chunk=source, panel="influence"))
    assert "This chunk influences" in said


@pytest.mark.parametrize("choice", [{"map": "pca_3d"}, {"map": "pca_2d", "colour": "metric"}, {"highlight": "wrong"}])
def test_the_map_has_every_method_and_colour(opened, whole, choice):
    test = opened("latent_map", whole, study="small", **choice)
    assert not test.exception
    assert "trustworthiness 0.90" in words(test) and "n = 45 chunks" in words(test)


@pytest.mark.parametrize(
    "choice", [{"kind": "random"}, {"scale": "log", "intervals": "yes"}, {"metric": "overdeterminedness:all"}]
)
def test_steepness_has_every_direction_scale_and_metric(opened, whole, choice):
    assert not opened("steepness", whole, study="small", **choice).exception


def test_pages_are_thin():
    for file in PAGE_FILES:
        source = file.read_text(encoding="utf-8")
        assert len(source.splitlines()) < 80, file
        assert "SELECT" not in source, file


def test_no_page_costs_a_model_to_import(whole):
    pages = (*PAGES[1:], "crosscoder", "feature", "interventions")
    script = (
        "import gc, sys; gc.disable(); from streamlit.testing.v1 import AppTest; from tests import had_once;"
        " had_once.prepare()\ntest ="
        f" AppTest.from_file({str(ROOT / 'app' / 'main.py')!r}, default_timeout=60).run()\nfor page in {pages!r}:"
        " test.switch_page(f'../pages/{page}.py').run(); assert not test.exception\nheavy = {'torch', 'umap',"
        " 'transformers', 'sentence_transformers', 'sklearn', 'math_verify'} & set(sys.modules)\nassert not heavy,"
        " heavy\n"
    )
    environment = {"ANCHORSCOPE_STORES": str(whole), "ANCHORSCOPE_DEMO": "", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_configuration_keeps_to_this_machine():
    import tomllib

    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert set(config["server"]["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert config["client"]["showErrorDetails"] == "none" and config["client"]["showErrorLinks"] is False
    assert config["browser"]["gatherUsageStats"] is False


def test_sql_lives_in_the_backend_alone():
    for file in Path(ROOT / "app").rglob("*.py"):
        assert "SELECT " not in file.read_text(encoding="utf-8"), file
