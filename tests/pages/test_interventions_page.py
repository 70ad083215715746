"""The Interventions page without a browser: asking, the published surprises, a run followed to its end, stopped ones,
and bad links.
"""

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from app.interventions import running
from app.shared import live
from backend.store.intervention_queries import Interventions
from backend.store.progress import Progress, read_progress, write_progress
from precompute.export import export_duckdb
from precompute.stages import interventions as stage
from tests import intervened_study
from tests.pages.conftest import ROOT, words

SELECTED = {"study": "small", "solved": "2", "source": "numbers", "numbers": "1 2"}
pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[str, str]:
    return intervened_study.make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def made(pair, tmp_path_factory) -> Path:
    return intervened_study.make(tmp_path_factory.mktemp("made") / "small", pair)


@pytest.fixture
def study(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "small")


@pytest.fixture
def started(monkeypatch) -> list[Path]:
    """Studies for which the page has started the command, which is not run here."""
    found: list[Path] = []
    monkeypatch.setattr(running, "start", found.append)
    return found


def done(study: Path) -> None:
    stage.run_asked(study, Console(file=io.StringIO()), threads=1)


def table_with(test, column: str):
    return next(frame.value for frame in test.dataframe if column in frame.value.columns)


def tables_with(test, column: str) -> list:
    return [frame.value for frame in test.dataframe if column in frame.value.columns]


def test_a_rule_chooses_features_and_the_page_says_what_will_be_done(opened, study, started):
    test = opened("interventions", study, study="small", beyond="0.2", top="3", change="zero")
    assert not test.exception
    assert table_with(test, "fires on")["feature"].tolist() == [3, 4, 5]
    assert all(words.startswith("Wait · ") for words in table_with(test, "fires on")["promotes in reasoner"])
    said = words(test)
    assert "3 of the 8 that fire and lie beyond it" in said
    assert (
        "Zero 3 features, the error kept: 2 models × 4 arms" in said and "× 4 problems × 1 sample = 32 samples." in said
    )
    test.button(key="run_intervention").click().run()
    asked = Interventions(study).asked().iloc[0]
    assert started == [study] and (asked.operation, list(asked.features), asked.keep_error) == ("zero", [3, 4, 5], True)
    assert asked.chosen_by == "the 3 most frequent features with NRN (L1) above 0.2"
    assert test.session_state["selection"]["interventions"] == asked.intervention_id
    assert table_with(test, "units done")["units done"].tolist() == ["0 of 32"] and "32 units" in words(test)


def test_a_surprise_is_one_click_and_shows_what_the_reconstruction_does_alone(opened, study, started):
    test = opened("interventions", study, **SELECTED)
    test.button(key="surprise_1.5").click().run()
    rows = Interventions(study).asked()
    assert sorted(zip(rows["factor"], rows["keep_error"], strict=True)) == [
        (1, False),
        (1, True),
        (1.5, False),
        (1.5, True),
    ]
    assert len(started) == 1 and stage.n_left(study) == (32, 32)
    done(study)
    test.run()
    assert not test.exception
    said = words(test)
    assert "4 changes on 2 problems" in said and "Replacing the residual stream by the reconstruction alone" in said
    arms = tables_with(test, "same text as unedited")
    assert len(arms) == 2
    for table in arms:
        same = table.set_index("arm")["same text as unedited"]
        assert same["×1, error kept"] == "2 of 2" and same["unedited"] == ""
    compared = tables_with(test, "difference in solved")[0].set_index("compared")
    assert compared.loc["×1, replaced − reconstruction alone", "difference in solved"] == "+0.0%"
    again = opened("interventions", study, **test.session_state["selection"])
    assert "4 changes on 2 problems" in words(again)
    test.button(key="surprise_0.5").click().run()
    assert len(Interventions(study).asked()) == 6 and stage.n_left(study) == (16, 48)  # the controls and ×1 are there


def test_the_controls_band_stands_beside_the_effect_and_without_a_twin_the_line_to_add(opened, study, started):
    test = opened("interventions", study, change="zero", random_sets="2", **SELECTED)
    test.button(key="run_intervention").click().run()
    done(study)
    test.run()
    assert not test.exception
    bands = tables_with(test, "band of one more set")
    assert [frame["control"].tolist() for frame in bands] == [["random features"]] * 2
    assert "the band of the controls" in words(test) and "was read from a file" in " ".join(i.value for i in test.info)
    intervened_study.add_twin(study, intervened_study.weights(64))
    test = opened("interventions", study, change="zero", random_sets="2", **SELECTED)
    assert "asked for before the twin was trained" in words(test)
    assert "random features, features of the frozen-decoder twin" in words(test) and "× 5 arms" in words(test)
    test.button(key="run_intervention").click().run()
    done(study)
    test.run()
    assert not test.exception and not test.info
    bands = tables_with(test, "band of one more set")
    assert [len(frame) for frame in bands] == [2, 2]
    assert bands[0]["control"].tolist()[1] == "features of the frozen-decoder twin" and set(bands[0]["sets"]) <= {1, 2}
    assert any("frozen-decoder twin" in one for one in tables_with(test, "compared")[0]["compared"])


def test_a_study_of_before_opens_and_its_interventions_are_shown(opened, study, started, tmp_path):
    test = opened("interventions", study, change="zero", **SELECTED)
    test.button(key="run_intervention").click().run()
    old = shutil.copytree(study, tmp_path / "old" / "small")  # nobody has it open
    generation = old / "generations" / (old / "CURRENT").read_text().strip()
    with duckdb.connect(str(generation)) as connection:
        for table in ("null_categories", "null_peaks", "twin_ablations"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE feature_intervention_arms DROP COLUMN null_id")
        connection.execute("UPDATE about SET value = '14' WHERE name = 'schema_version'")
    test = opened("interventions", old, study="small")
    assert not test.exception and len(table_with(test, "units done")) == 1


def test_texts_stand_side_by_side_and_what_is_there_is_not_done_again(opened, study, started):
    test = opened("interventions", study, change="scale", factor="0.5", n="2", **SELECTED)
    test.button(key="run_intervention").click().run()
    done(study)
    test.run()
    texts = [code.value for code in test.code]
    found = Interventions(study).samples(Interventions(study).arms()["arm_id"])
    assert len(texts) == 3 and set(texts) <= set(found["text"])
    assert (
        "Right answer" in words(test)
        and "all of which" not in words(test)
        and "32 of which are there already" in words(test)
    )
    test.number_input(key="text_sample_0").set_value(1).run()
    assert [code.value for code in test.code] != texts
    assert "sign flips of each problem's mean difference" in words(test)


def test_selected_and_typed_features_are_taken_and_mistakes_are_said(opened, study, started):
    test = opened("interventions", study, study="small", feature="7", pinned="2")
    assert table_with(test, "fires on")["feature"].tolist() == [2, 7]
    for numbers, said in [
        ("1, 99", "Feature 99 does not exist"),
        ("one", "no feature number"),
        ("", "Type the numbers"),
    ]:
        test = opened("interventions", study, study="small", source="numbers", numbers=numbers)
        assert said in words(test) and test.button(key="run_intervention").disabled and not test.exception
    assert not started and Interventions(study).asked().empty


@pytest.mark.parametrize(
    "selection",
    [
        {"beyond": "nan"},
        {"beyond": "7"},
        {"change": "erase"},
        {"asked": "i0.i1"},
        {"factor": "inf"},
        {"source": "heaven"},
        {"solved": "-1"},
        {"error": "x"},
        {"added": "x", "change": "steer"},
        {"feature": "99", "source": "selected"},
    ],
)
def test_a_link_that_makes_no_sense_is_read_as_far_as_it_does(opened, study, started, selection):
    test = opened("interventions", study, study="small", **selection)
    assert not test.exception and test.title[0].value == "Interventions" and not started


def test_a_stopped_run_can_be_gone_on_with_and_a_failed_one_says_why(opened, study, started):
    test = opened("interventions", study, change="zero", **SELECTED)
    test.button(key="run_intervention").click().run()
    room = Interventions(study).room
    assert [button.key for button in test.button if "interventions" in (button.key or "")] == ["continue_interventions"]
    test.button(key="continue_interventions").click().run()
    assert started == [study, study]
    with room.writing("test"):
        test.run()
        assert "Starting" in next(element.proto.text for element in test.get("progress"))
        write_progress(room.path, Progress("interventions", 1, 4, None, None, "running", time.time()).by_this_process())
        assert "1 of 4" in words(test.run())
        test.button(key="stop_interventions").click().run()
        assert (room.path / stage.STOP).exists()
    done(study)  # takes the wish away and works
    assert read_progress(room.path).state == "finished" and "left to do" not in words(test.run())


def test_the_command_is_started_beside_the_dashboard_and_its_last_words_are_shown(opened, study, monkeypatch):
    monkeypatch.setattr(running, "PYTHON", ["/bin/false"])
    running.start(study)
    process = running._started()[study]
    assert process.wait() != 0 and not running.is_running(study)
    assert process.args[-2:] == ["interventions", str(study.resolve())]
    test = opened("interventions", study, change="zero", **SELECTED)
    monkeypatch.setattr(running, "start", lambda path: None)
    test.button(key="run_intervention").click().run()
    (Interventions(study).room.path / running.LOG).write_text("error: there is no room left\n")
    test.run()
    assert "error: there is no room left" in [code.value for code in test.code]


def test_a_portable_study_is_intervened_on_too_and_without_its_models_the_page_says_so(
    opened, study, tmp_path, started, monkeypatch
):
    export_duckdb(study, tmp_path / "one.duckdb")
    test = opened("interventions", tmp_path / "one.duckdb", **(SELECTED | {"study": "one", "change": "zero"}))
    test.button(key="run_intervention").click().run()
    assert stage.n_left(tmp_path / "one.duckdb") == (16, 16) and started == [tmp_path / "one.duckdb"]
    monkeypatch.setattr(live, "choices", lambda models, device: [])
    test = opened("interventions", study, **SELECTED)
    assert "are not on this machine" in words(test) and test.button(key="run_intervention").disabled


def test_a_study_without_a_dictionary_says_how_to_get_one(opened, whole):
    test = opened("interventions", whole)
    assert "no dictionary of activations" in words(test) and not test.exception


def test_the_page_costs_no_torch(study):
    script = (
        "import gc, sys; gc.disable(); from streamlit.testing.v1 import AppTest; from tests import had_once;"
        " had_once.prepare()\n"
        f"test = AppTest.from_file({str(ROOT / 'app' / 'main.py')!r}, default_timeout=60).run()\n"
        "test.switch_page('../pages/interventions.py').run(); assert not test.exception\n"
        "assert 'run_intervention' in [button.key for button in test.button]\n"
        "assert not {'torch', 'transformers', 'sklearn', 'math_verify'} & set(sys.modules)\n"
    )
    environment = {"ANCHORSCOPE_STORES": str(study), "ANCHORSCOPE_DEMO": "", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
