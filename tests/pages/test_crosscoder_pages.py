"""The pages about features: on a study with a crosscoder, with an autoencoder, with a dictionary in training, and with
none.
"""

import json
import shutil
from types import SimpleNamespace

import duckdb
import pandas as pd
import pytest
import streamlit as st

from app.crosscoder import charts
from app.feature import side_by_side
from app.shared import chosen_dictionary
from app.shared.feature_filters import COLUMNS, Between, parse
from app.shell.untrusted import for_markdown
from backend.crosscoder import label_suggestions
from backend.crosscoder.extremes import extremes
from backend.store.labels import add_label, history
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_dictionary, small_study
from tests.pages.conftest import words
from tests.small_dictionary import N_FEATURES, SILENT

PAGES = ("crosscoder", "feature")
ALL_PAGES = (*PAGES, "features_on_chain", "categories")
_EARLY = {"rollouts": False, "activations": False, "steering": False}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("features") / "small", **_EARLY)
    small_dictionary.add(folder)
    return folder


@pytest.fixture(scope="module")
def name(study):
    return Store(study).dictionaries()["dictionary_id"][0]


@pytest.fixture
def named(study, name):
    """Feature 1 has a label while the test runs."""
    add_label(study, name, 1, "<b>Wait</b>, a label", "Ada")
    yield study
    (study / "labels.jsonl").unlink()


def add_autoencoder(folder):
    """A dictionary of the study's one model: what compares two models is NULL."""
    store = Store(folder)
    model, cots, chunks = store.models()["model_id"][0], store.tokenised_cots(), store.whole_table("chunks").to_pylist()
    store.close()
    unknown = {
        name: None for name, column in COLUMNS.items() if column.compares and not name.startswith(("share", "nrn_rms"))
    }
    unknown |= dict.fromkeys(("norm_distilled_l1", "norm_distilled_l2"))
    row = {
        "dictionary_id": "one",
        "kind": "jumprelu",
        "base_model_id": model,
        "distilled_model_id": None,
        "layer": 5,
        "n_features": N_FEATURES,
        "d_model": 16,
        "k": None,
        "scale": [1.0],
        "source": "gemma-scope",
        "training_id": None,
        "n_tokens": None,
        "sha256": "0" * 64,
        "parameters": "{}",
    }
    tables = {
        "dictionaries": [row],
        "features": [small_dictionary._feature("one", k) | unknown for k in range(N_FEATURES)],
        "cot_codes": [small_dictionary._codes("one", cot) for cot in cots],
        "feature_examples": [
            row | {"contribution_distilled": None} for row in small_dictionary._examples("one", 1, cots[:2], chunks)
        ],
        "feature_logits": [
            {
                "dictionary_id": "one",
                "feature": 1,
                "model_id": model,
                "side": "top",
                "rank": 0,
                "token_id": 0,
                "token": " Wait",
                "effect": 1.0,
            }
        ],
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("crosscoder", "all", tables)
        publish(writer)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("autoencoder") / "small", **_EARLY)
    add_autoencoder(folder)
    return folder


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """The dictionary is being trained: 30 steps are done."""
    folder = small_study.make(tmp_path_factory.mktemp("training") / "small", **_EARLY)
    runs, metrics = small_dictionary._training()
    with StudyFolder(folder).writing("test") as writer:
        writer.add("crosscoder", "all", {"training_runs": runs, "training_metrics": metrics})
        publish(writer)
    return folder


def table(test, column):
    """The first table with such a column."""
    return next(frame.value for frame in test.dataframe if column in frame.value.columns)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A linear dictionary, trained as published, of models of unequal width, with codes of either sign."""
    folder = small_study.make(tmp_path_factory.mktemp("linear") / "small", **_EARLY)
    name = small_dictionary.add(folder)
    store = Store(folder)
    (row,), codes = store.whole_table("dictionaries").to_pylist(), store.whole_table("cot_codes").to_pylist()
    store.close()
    facts = {
        "fires": {"above": 3.0, "by_norms": True},
        "learns_from": "as_published",
        "n_tokens": 900,
        "n_problems": 3,
        "settings": {"k": 2, "penalty": 0.0},
        "problem_factors_over_scale": {"least": [0.9, 0.8], "most": [1.1, 1.3]},
    }
    row |= {"kind": "linear", "d_model": None, "parameters": json.dumps(facts)}
    for one in codes:
        one["codes"] = [
            -code if position % 2 else code for position, code in zip(one["positions"], one["codes"], strict=True)
        ]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("crosscoder", "linear", {"dictionaries": [row], "cot_codes": codes})
        publish(writer)
    return folder, name


@pytest.fixture(scope="module")
def with_nulls(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("nulls") / "small", **_EARLY)
    small_dictionary.add_nulls(folder, small_dictionary.add(folder))
    return folder


@pytest.fixture(scope="module")
def without_evidence(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("no evidence") / "small", **_EARLY)
    small_dictionary.add_nulls(folder, small_dictionary.add(folder), evidence=False)
    return folder


# Every state of a study


def test_without_a_null_pair_the_page_claims_nothing_and_gives_the_line(opened, study, autoencoder):
    test = opened("crosscoder", study)
    assert not test.exception and any("is not claimed" in one.value for one in test.info)
    assert not any("alone" in one.label for one in test.metric)
    assert any('nulls = ["same", "noise"' in one.value for one in test.code)
    assert not opened("crosscoder", autoencoder).info  # of one model there is none


def test_the_headline_counts_what_is_beyond_the_null_pairs_and_confirmed(opened, with_nulls):
    """Bands: same [0.49, 0.51], noise [0.4, 0.6]; the only confirmed features are the base only and the distilled only
    one of the small dictionary.
    """
    test = opened("crosscoder", with_nulls, nrn_norm="l2")
    assert not test.exception
    cards = {one.label: (one.value, one.delta) for one in test.metric}
    assert cards["of the base alone"] == ("1 of 5", "null pairs: 0, 0, 0 of as many trainings")
    assert cards["of the reasoner alone"][0] == "1 of 5"
    said = words(test)
    assert "outside [0.400, 0.600]" in said and "3 trainings, 15 live features" in said
    assert "held against its own band" in said  # of same there is one training
    beyond = table(test, "confirmed")
    assert beyond["of"].tolist()[:2] == ["this crosscoder"] * 2 and beyond["beyond"].tolist()[:2] == [1, 2]
    assert (beyond["confirmed"][2:] == 0).all()
    powers = table(test, "planted")
    assert powers["length"].tolist() == [1.0, 2.0] and powers["found"].tolist() == [0, 1]
    classes = table(test, "band of the null pairs")
    assert classes["features"].tolist() == [2, 1, 1, 1] or classes["class"].tolist()[1] == "shared"
    assert len(table(test, "median peak share")) == 5


def test_kinds_of_word_have_the_band_of_the_null_pairs_and_names_those_of_chance(opened, with_nulls):
    """Feature 0 of every null has a lift of 2 on self-reflection; of the dictionary none fires there often enough."""
    test = opened("categories", with_nulls, nrn_norm="l2")
    assert not test.exception and not test.info
    rows = table(test, "band of the null pairs").set_index(["kind of word", "quantity"])
    share = rows.loc[("self-reflection", "share of the features")]
    assert share["n of the null pairs"] == "3 of 15 (20.0%)" and share["by chance (frozen decoder)"] == "1 of 5 (20.0%)"
    assert share["beyond it"] == "" and share["n"].endswith(" of 5") and share["band of the null pairs"] != "unknown"
    assert rows.loc[("alternative", "mean lift"), "beyond it"] == "unknown"
    test = opened("crosscoder", with_nulls, crosscoder_part="chance")
    evidence = table(test, "frozen decoder").set_index("evidence")["frozen decoder"]
    assert evidence["one token is at least half of its strongest ones"].startswith("4 of 5: 80.0%")
    assert table(test, "feature of the twin")["suggested"].str.contains("promotes “but”").all()


def test_zeroing_is_held_against_the_twin(opened, with_nulls):
    """Band: sets of -0.25 and 0.25, t of 7 degrees; effects -0.5, -1 and -20."""
    test = opened("categories", with_nulls)
    rows = table(test, "band of the twin")
    assert set(rows.loc[rows["top %"] == "0.5", "beyond it"]) <= {"", "unknown"}
    assert set(rows.loc[rows["top %"] == "20", "beyond it"]) == {"yes"} and set(rows["sets"]) <= {"8", "–"}
    assert "Beyond the twin's band: base, self-reflection: 2 of 3 choices" in words(test)


@pytest.mark.parametrize("which", ("categories", "crosscoder"))
def test_without_evidence_of_nulls_a_page_says_what_to_run_and_without_nulls_what_to_add(
    opened, study, without_evidence, which
):
    part = {"crosscoder_part": "chance"} if which == "crosscoder" else {}
    test = opened(which, study, **part)
    assert not test.exception and any('nulls = ["same", "noise"' in one.value for one in test.code)
    test = opened(which, without_evidence, **part)
    assert not test.exception and "--stage null_evidence" in words(test) and not test.info
    if which == "categories":
        assert "--stage twin_ablations" in words(test)


@pytest.mark.parametrize("which", ("categories", "crosscoder"))
def test_a_store_of_before_there_was_evidence_of_nulls_opens(opened, with_nulls, tmp_path, which):
    folder = shutil.copytree(with_nulls, tmp_path / "small")
    generation = folder / "generations" / (folder / "CURRENT").read_text().strip()
    with duckdb.connect(str(generation)) as connection:
        for table in ("null_categories", "null_peaks", "twin_ablations"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE feature_intervention_arms DROP COLUMN null_id")
        connection.execute("UPDATE about SET value = '14' WHERE name = 'schema_version'")
    test = opened(which, folder, **({"crosscoder_part": "chance"} if which == "crosscoder" else {}))
    assert not test.exception and "--stage null_evidence" in words(test)


@pytest.mark.parametrize("which", ALL_PAGES)
def test_a_linear_dictionary_of_unequal_models_says_what_fires_and_what_was_learned(opened, linear, which):
    folder, _ = linear
    test = opened(which, folder, **({"crosscoder_part": "quality"} if which == "crosscoder" else {}))
    assert not test.exception
    said = words(test)
    assert "linear crosscoder" in said
    if which == "crosscoder":
        assert "no code is ever 0" in said and "exceeds 3" in said and "The models' widths differ" in said
        assert (
            "80.0% of the variance of the base and 70.0% of the variance of the reasoner is explained by all 6" in said
        )
        assert "without a penalty: any invertible mixing" in said
        assert "first 50 tokens of each response" in said and "0.9 to 1.1 and 0.8 to 1.3 times it" in said
    if which == "categories":
        assert "no code is ever 0" in said
    if which == "features_on_chain":
        assert "Empty cells do not fire" in said and "Colour: what feature k adds to a model" in said


def test_of_a_linear_dictionary_the_chain_shows_what_is_beyond_the_threshold(linear):
    """Feature k has codes of size 1 + k + position / 100 at every multiple of k + 2, and decoder norms 1 and k."""
    folder, name = linear
    store = Store(folder)
    cot = store.coded_cots(name)[0]
    every, firing = store.codes_of_cot(name, cot), store.codes_of_cot(name, cot, above=3.0)
    gate = every["code"].abs() * (1 + every["feature"])
    pd.testing.assert_frame_equal(firing, every[gate > 3.0].reset_index(drop=True))
    assert 0 < len(firing) < len(every) and (firing["code"] < 0).any()
    sizes = store.code_sizes(name, above=3.0)
    first = max(1, int(store.cot_to_read(cot)["n_prompt_tokens"].iloc[0]))
    own = firing[firing["position"] >= first].groupby("feature")["code"].agg(lambda code: code.abs().sum())
    found = sizes[sizes["cot_id"] == cot].set_index("feature")["total"]
    assert found.to_dict() == pytest.approx(own.to_dict())
    store.close()


def test_every_feature_that_fires_has_a_suggestion_with_its_evidence(study, name):
    store = Store(study)
    rows, examples = store.features(name), store.whole_table("feature_examples").to_pandas()
    peaks = store.peak_tokens(name, store.dictionaries()["distilled_model_id"][0])
    assert set(peaks["feature"]) == set(examples[examples["dictionary_id"] == name]["feature"])
    names = label_suggestions.names_of(peaks, rows)
    evidence = zip(peaks["feature"], peaks["n_examples"], strict=True)
    assert set(names) == set(peaks["feature"]) and all(f" of {n}" in names[feature] for feature, n in evidence)
    of_blanks = {"feature": [0], "tokens": [["\n", " "]], "counts": [[3, 2]], "n_examples": [6], "promoted": [None]}
    (said,) = label_suggestions.names_of(pd.DataFrame(of_blanks), rows).values()
    assert said.startswith("“↵” 3 of 6 · “␣” 2 of 6")
    store.close()


def test_the_two_ends_of_nrn_are_a_table_with_what_they_do(opened, study):
    test = opened("crosscoder", study, crosscoder_part="ends")
    ends = table(test, "end")
    assert set(ends["end"]) == {"reasoner end", "base end"} and ends["suggested"].str.contains(" of ").any()
    assert "Base end, n = " in words(test) and "Reasoner end, n = " in words(test)


def test_of_the_highest_nrn_those_that_fire_on_half_of_the_tokens_at_most_come_first():
    rows = pd.DataFrame(
        {
            "feature": [0, 1, 2],
            "class": ["distilled only", "distilled only", "shared"],
            "frequency": [0.9, 0.1, 0.3],
            "nrn_l1": [0.99, 0.9, 0.1],
        }
    )
    ends = extremes(rows, "nrn_l1", 2)
    assert ends["feature"].tolist() == [1, 0, 2]


def test_the_published_top_list_says_how_much_of_it_is_dense_and_stands_beside_the_specific_one(opened, study):
    test = opened("crosscoder", study, crosscoder_part="top")
    said = words(test)
    assert "Top 5 by mean activation over all problems" in said  # all that fire
    assert (
        "Here 5 of the 5 fire on more than 10% of tokens" in said and "5 are among the 5 that fire most often" in said
    )
    listed = table(test, "dense")
    assert listed["feature"].tolist() == [4, 3, 2, 1, 0] and set(listed["dense"]) == {"dense"}
    assert "Most specific to this problem" in said and "draws this problem's" in said
    by_category = opened("crosscoder", study, specific_to="self-reflection")  # opens the part in which it was chosen
    assert not by_category.exception and "Most specific to target words: self-reflection" in words(by_category)
    assert table(by_category, "lift")["feature"].tolist() == [1, 3]


@pytest.mark.parametrize("which", ALL_PAGES)
def test_a_page_shows_a_crosscoder_without_an_error(opened, study, which):
    test = opened(which, study)
    assert not test.exception
    said = words(test)
    to_run = [line for line in said.splitlines() if "python -m precompute" in line]
    assert "batchtopk crosscoder of Tiny and" in said
    assert all("--stage firing_ablations" in line for line in to_run)  # which no study of before has
    assert not any("tracker.invalid" in str(element.value) for element in (*test.markdown, *test.caption))


@pytest.mark.parametrize("which", ALL_PAGES)
def test_without_a_study_a_page_says_how_to_make_the_first_one(opened, which):
    assert "python -m precompute run studies/quick.toml" in words(opened(which))


@pytest.mark.parametrize("which", ALL_PAGES)
def test_without_a_dictionary_a_page_says_what_to_add_and_what_to_run(opened, whole, which):
    test = opened(which, whole)
    assert not test.exception
    assert "add a section [crosscoder]" in words(test) and "--stage crosscoder" in words(test)


@pytest.mark.parametrize("which", ALL_PAGES)
def test_a_study_of_texts_alone_is_told_that_it_needs_a_models_tokens(opened, imported, which):
    assert "imported as text" in words(opened(which, imported))


@pytest.mark.parametrize("which", ALL_PAGES)
@pytest.mark.parametrize(("version", "advice"), [(3, "python -m precompute publish"), (99, "Update Anchorscope")])
def test_a_store_of_another_schema_is_refused_with_what_to_do(opened, of_schema, which, version, advice):
    test = opened(which, of_schema(version))
    assert not test.exception
    assert f"schema version {version}" in words(test) and advice in words(test)


@pytest.mark.parametrize("which", PAGES)
def test_in_an_autoencoder_what_compares_two_models_is_unknown(opened, autoencoder, which):
    test = opened(which, autoencoder, study="small", feature="1")
    said_of_quality = words(opened("crosscoder", autoencoder, crosscoder_part="quality"))
    assert not test.exception
    assert "jumprelu autoencoder of Tiny, layer 5" in words(test)
    if which == "crosscoder":
        assert "NRN, latent scaling and classes compare two: here they are unknown" in words(test) and not test.metric
        assert not {"nrn_l1", "class", "nu_eps", "rdn_l2"} & set(table(test, "frequency").columns)
        assert "It has not been measured" in said_of_quality
        assert f"read from a file ({for_markdown('gemma-scope')})" in said_of_quality
    else:
        facts = dict(table(test, "what").to_numpy())
        assert (
            facts["NRN, latent scaling"] == "unknown: this dictionary reads one model"
            and facts["fires on"] == "unknown"
        )


def test_a_training_is_shown_while_it_goes_on(opened, training):
    test = opened("crosscoder", training)
    assert not test.exception
    said = words(test)
    assert "In training" in said and "step 30" in said and "3,000 tokens" in said
    assert "no dictionary of activations" in said and "--stage crosscoder" in said


# Crosscoder


def test_the_counts_stand_beside_their_rule_n_and_interval(opened, study):
    test = opened("crosscoder", study)
    counts = {metric.label: (metric.value, metric.delta) for metric in test.metric}
    assert counts["shared"] == ("2", "40.0% [11.8, 76.9]") and counts["reasoner only"][0] == "1"
    assert counts["class unknown"][0] == "0" and counts["never fire"] == ("1", "of 6 features")
    assert "NRN > 5/6, |ν^ε| < 0.2 and |ν^r| < 0.5" in words(test)
    beyond = table(test, "confirmed")
    assert beyond[beyond["NRN"] == "> 0.7"][["features", "confirmed", "share"]].to_numpy().tolist() == [[2, 1, "0.5"]]


def test_the_quality_of_each_model_has_its_n_and_interval_and_the_bars_what_was_measured(opened, study):
    test = opened("crosscoder", study, crosscoder_part="quality")
    bars = table(test, "wanted")
    assert len(bars) == 5 and set(bars["met"]) <= {"met", "missed", "unknown"}
    assert f"**{(bars['met'] == 'met').sum()} of 5 bars are met**" in words(test)
    rows = table(test, "variance explained")
    assert rows["role"].tolist() == ["base", "reasoner"] and rows["variance explained"].tolist() == ["0.8", "0.7"]
    assert rows["recovered, of mean"][0] == "0.833 [0.833, 0.833]" and rows["n"][0] == "60 tokens of 5 CoTs, 3 problems"
    assert "n = 400 tokens" in words(test) and "16.7% of 6 features fire on none" in words(test)


def test_the_table_leads_with_what_the_distilled_model_alone_has_and_unknown_comes_last(opened, study):
    rows = table(opened("crosscoder", study), "nrn_l1")
    assert rows["feature"].tolist() == [3, 4, 0, 1, 2, SILENT] and pd.isna(rows["nrn_l1"].iloc[-1])
    assert rows["top_category"][0] == "Self-checking"


def test_a_link_holds_the_filters_and_the_page_shows_them(opened, named):
    test = opened("crosscoder", named, study="small", filters="nrn_l1:0.3..0.6,class:shared,label:WAIT")
    assert table(test, "nrn_l1")["feature"].tolist() == [1] and "**1 of 6 features**" in words(test)
    assert table(test, "nrn_l1")["label"][0] == "<b>Wait</b>, a label"
    assert test.multiselect(key="filter_columns").value == ["nrn_l1", "class", "label"]
    test.text_input(key="filter_label").set_value("").run()
    assert table(test, "nrn_l1")["feature"].tolist() == [0, 1]
    test.number_input(key="filter_nrn_l1_high").set_value(0.47).run()
    assert table(test, "nrn_l1")["feature"].tolist() == [1]
    assert parse(test.session_state["selection"]["feature_filters"]) == {
        "nrn_l1": Between(0.3, 0.47),
        "class": ("shared",),
        "label": "",
    }
    test.button(key="clear_filters").click().run()
    assert len(table(test, "nrn_l1")) == N_FEATURES and "feature_filters" not in test.session_state["selection"]


def test_a_column_is_chosen_and_then_its_words(opened, study):
    test = opened("crosscoder", study)
    test.multiselect(key="filter_columns").set_value(["class", "frequency"]).run()
    assert not test.exception and len(table(test, "nrn_l1")) == N_FEATURES
    test.multiselect(key="filter_class").set_value(["suspect", "none"]).run()
    assert table(test, "nrn_l1")["feature"].tolist() == [4, SILENT]


@pytest.mark.parametrize("filters", ["nonsense", "nrn_l1:0..1,sha256:.."])
def test_filters_that_make_no_sense_are_ignored_and_noted(opened, study, filters):
    test = opened("crosscoder", study, study="small", filters=filters)
    assert not test.exception
    assert "(filters of the features)" in words(test) and len(table(test, "nrn_l1")) == N_FEATURES


@pytest.mark.parametrize(
    "choice", [{"norm": "l2", "scaling": "nu_r", "feature": "3"}, {"filters": "nrn_l1:0.49..0.495"}]
)
def test_the_charts_show_every_norm_and_scaling_and_nothing_at_all(opened, study, choice):
    assert not opened("crosscoder", study, study="small", **choice).exception


@pytest.fixture
def browser(monkeypatch):
    """`browser(box=…, points=…)`: the session after the browser has reported these of the chart `chart`."""

    def reports(**selection):
        session = {
            "selection": {},
            "selection_notes": [],
            "chart": SimpleNamespace(selection=SimpleNamespace(**selection)),
        }
        monkeypatch.setattr(st, "session_state", session)
        return session

    return reports


def test_a_brush_becomes_a_filter_and_the_chart_begins_anew(browser):
    session = browser(box=[{"x": [1.02, 0.91234567], "y": [0, 3]}], points=[])
    charts._brushed("chart", x="nrn_l1")
    assert (
        parse(session["selection"]["feature_filters"]) == {"nrn_l1": Between(0.912346, 1.0)}
        and session["feature_chart_turn"] == 1
    )
    session = browser(box=[{"x": [-3, -1], "y": [0, 3]}], points=[])
    charts._brushed("chart", x="frequency", logarithmic=True)
    assert parse(session["selection"]["feature_filters"]) == {"frequency": Between(0.001, 0.1)}


def test_a_box_of_the_scaling_chart_filters_by_both_and_a_click_selects(browser, study, name):
    dictionary = Store(study).dictionaries().iloc[0]
    session = browser(box=[{"x": [0.8, 1], "y": [0.9, 0.2]}], points=[{"customdata": 3}])
    charts._taken("chart", dictionary, x="nrn_l2", y="share_eps")
    bounds = {"nrn_l2": Between(0.8, 1.0), "share_eps": Between(0.2, 0.9)}
    assert parse(session["selection"]["feature_filters"]) == bounds
    session = browser(box=[], points=[{"x": 0.5}, {"customdata": [4]}])
    charts._taken("chart", dictionary, x="nrn_l2", y="share_eps")
    assert session["selection"] == {"feature": "4"} and "feature_clicked_on" in session
    for strange in (99, -1, True, "4", None):
        session = browser(box=[], points=[{"customdata": strange}])
        chosen_dictionary.choose_clicked("chart", dictionary)
        assert session["selection"] == {}


def test_a_feature_that_was_clicked_has_a_link_to_its_page_and_the_page_stays(opened, study):
    test = opened("crosscoder", study)
    assert "Open feature 2" not in [one.label for one in test.main.get("page_link")]
    test.session_state["selection"]["feature"] = "2"
    test.session_state["feature_clicked_on"] = "crosscoder"
    test.run()
    assert not test.exception and test.title[0].value == "Crosscoder"
    assert "Open feature 2" in [one.label for one in test.main.get("page_link")]


# Feature


def test_without_a_choice_it_opens_on_the_most_specific_feature(opened, study, name):
    """All that fire have the same lift; 4 is the rarest of them."""
    test = opened("feature", study)
    assert "## Feature 4" in words(test) and "Opened here: the most specific feature" in words(test)
    assert test.session_state["selection"] == {
        "study": "small",
        "dictionary": name,
        "feature": "4",
    }  # a link says all of it


def test_what_is_known_of_a_feature_has_its_n_and_unknown_its_reason(opened, study):
    facts = dict(table(opened("feature", study, study="small", feature="3"), "what").to_numpy())
    assert facts["class"] == "reasoner only" and facts["fires on"] == "20.000% of n = 400 tokens [16.374%, 24.197%]"
    silent = opened("feature", study, study="small", feature=str(SILENT))
    assert not silent.exception
    facts = dict(table(silent, "what").to_numpy())
    assert facts["class"] == "unknown: it never fires" and "[0.000%, 0.951%]" in facts["fires on"]
    assert "there is no example" in words(silent)


@pytest.mark.parametrize("value", ["6", "-1", "٣", "3; DROP TABLE features"])
def test_a_feature_that_the_dictionary_does_not_have_is_ignored_and_noted(opened, study, value):
    test = opened("feature", study, study="small", feature=value, compared_features=f"1|{value}")
    assert not test.exception
    assert "(feature, features compared); it was ignored" in words(test)
    assert test.session_state["selection"]["feature"] == "4"
    assert "compared_features" not in test.session_state["selection"]


def test_neighbours_are_those_of_each_models_rows(opened, study):
    test = opened("feature", study, study="small", feature="4", feature_part="near")
    near = [frame.value for frame in test.dataframe if "cosine" in frame.value.columns]
    assert [frame["feature"].tolist() for frame in near] == [[5, 0], [5, 0]] and near[0]["NRN, L1"].tolist() == [
        "unknown",
        "0.5",
    ]


@pytest.fixture
def fresh(study):
    """The study, whose labels are those of the test alone."""
    yield study
    (study / "labels.jsonl").unlink(missing_ok=True)


def test_a_label_is_kept_with_its_author_and_time_and_every_earlier_one_too(opened, fresh, name):
    test = opened("feature", fresh, study="small", feature="2")
    keep = next(button for button in test.button if button.label == "Keep")
    test.text_input(key=f"label_{name}_2").set_value("digits <b>")
    keep.click().run()
    assert not test.exception and "say who you are" in words(test) and history(fresh, name).empty
    test.text_input(key="author_0").set_value("Ada")
    next(button for button in test.button if button.label == "Keep").click().run()
    assert history(fresh, name)[["feature", "label", "author"]].to_numpy().tolist() == [[2, "digits <b>", "Ada"]]
    assert "Named by Ada, 20" in words(test) and "digits <b>" in words(test)
    test.text_input(key=f"label_{name}_2").set_value("")
    next(button for button in test.button if button.label == "Keep").click().run()
    assert "Taken back by Ada" in words(test) and table(test, "created_at")["label"].tolist() == ["", "digits <b>"]


def test_a_suggestion_fills_the_box_and_nothing_is_kept_before_somebody_does(opened, fresh, name):
    test = opened("feature", fresh, study="small", feature="1")
    assert "promotes “Wait”, “<script>" in words(test) and not [b for b in test.button if b.label.startswith("Ask")]
    test.button(key=f"take_label_{name}_1_1").click().run()
    assert test.text_input(key=f"label_{name}_1").value.startswith("promotes “Wait”") and history(fresh, name).empty


def test_a_chat_model_is_asked_only_where_one_is_configured_and_only_when_the_button_is_pressed(
    opened, fresh, name, monkeypatch
):
    monkeypatch.setenv("ANCHORSCOPE_CHAT_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("ANCHORSCOPE_CHAT_MODEL", "some-model")
    test = opened("feature", fresh, study="small", feature="1")
    test.button(key=f"ask_label_{name}_1").click().run()
    assert not test.exception and "some-model at http://127.0.0.1:1/v1 gave no label" in words(test)
    monkeypatch.setattr(label_suggestions, "from_chat", lambda chat, examples: f"words of doubt, {len(examples)} times")
    test.button(key=f"ask_label_{name}_1").click().run()
    assert "words of doubt, 2 times" in words(test) and history(fresh, name).empty
    monkeypatch.setenv("ANCHORSCOPE_CHAT_URL", "file:///etc/passwd")
    test.run()
    assert "an address that begins with http" in words(test) and "What is known of it" in words(test)


def test_an_example_leads_to_its_chunk(opened, study, name, monkeypatch):
    found = Store(study).feature_examples(name, 2)
    monkeypatch.setattr(side_by_side, "examples", lambda rows, on_read, **_: on_read(1))
    test = opened("feature", study, study="small", feature="2")
    assert not test.exception
    assert (
        test.session_state["selection"]["chunk"] == found["chunk_id"][1]
        and test.session_state["selection"]["feature"] == "2"
    )
    assert f"Chunk {int(found['chunk_index'][1]) + 1} of" in words(test)
