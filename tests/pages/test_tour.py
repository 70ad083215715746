"""The tour: five steps, each reached by the selection alone, ending with a controlled result."""

from urllib.parse import parse_qs

import pytest

from app import views
from app.findings import tour
from app.shell import navigation
from app.shell.fields import FIELDS
from backend.findings.kinds import KINDS
from backend.store.store import Store
from backend.store.undone import Missing
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture
def found(whole):
    views.registered()
    store = Store(whole)
    yield tour.steps(store)
    store.close()


def press(test, key: str):
    return next(one for one in test.button if one.key == key).click().run()


def test_every_step_selects_what_its_page_takes(found):
    assert len(found) == 5 and found[0].page == "findings"
    for step in found:
        assert step.page in navigation.PAGES
        for name, value in step.chosen.items():
            assert FIELDS[name].allowed is None or FIELDS[name].takes(value), (name, value)
    assert len({step.chosen["chunk"] for step in found[1:]}) == 1


def test_the_experiment_is_that_of_the_run_that_it_speaks_of_its_start_included(found, whole):
    store = Store(whole)
    way, runs = KINDS["steering"].find(store).way, store.steered_answers()
    store.close()
    assert way.page == found[4].page and dict(way.chosen) == dict(found[4].chosen)
    named = {"pair_id": "steered_pair", "role": "steered_role", "start": "steered_from"}
    own = runs[[all(row[at] == way.chosen[name] for at, name in named.items()) for row in runs.to_dict("records")]]
    row, experiment = own.iloc[0], found[3].chosen
    assert (experiment["continue_from"], experiment["samples"]) == (row.start, str(row.n_samples))
    assert (experiment["layer"], float(experiment["beta"])) == (str(row.layer), row.beta)
    assert f"continued from {row.start} the chunk" in found[3].text and "Compare with your own run" in found[4].text


@pytest.mark.parametrize("start", ["before", "after"])
def test_either_start_of_one_pair_is_set(whole, start):
    store = Store(whole)
    row = store.steered_answers().query("start == @start and role == 'match'").iloc[0]
    at = {"steered_pair": row.pair_id, "steered_role": "match", "steered_from": start, "chunk": row.chunk_id}
    assert tour._push(store, at)["continue_from"] == start
    store.close()


def test_the_scale_that_anchors_were_chosen_by_is_said_where_the_page_shows_another(found):
    assert "were chosen by Counterfactual importance (KL, nats) · fl, from 0.2 on" in found[1].text


def test_a_step_is_shown_wherever_its_link_is_opened(opened, whole, found):
    for number, step in enumerate(found, start=1):
        test = opened(step.page, whole, study="small", tour=str(number), **step.chosen)
        assert not test.exception, (number, test.exception)
        assert f"Tour, step {number} of 5: {step.title}" in words(test) and step.text in words(test)
        assert test.session_state["selection"]["tour"] == str(number)
        ways = [one.proto.label for one in test.get("page_link")]
        assert "Where this step is" not in ways
    assert "Where this step is" in [
        one.proto.label for one in opened("overview", whole, study="small", tour="2").get("page_link")
    ]


def test_it_begins_on_the_findings_and_next_selects_the_next_step(opened, whole, found):
    test = press(opened("findings", whole, study="small"), "tour_begin")
    assert "Tour, step 1 of 5" in words(test) and not any(one.key == "tour_begin" for one in test.button)
    link = next(one.proto for one in test.get("page_link") if one.proto.label.startswith("Next: "))
    selected = {name: values[0] for name, values in parse_qs(link.query_string).items()}
    assert link.page.endswith("chains_of_thought") and {"tour": "2", **found[1].chosen}.items() <= selected.items()
    test = opened("chains_of_thought", whole, study="small", tour="2", **found[1].chosen)
    test = press(test, "tour_next")  # on the same page
    assert "Tour, step 3 of 5" in words(test) and test.session_state["selection"]["dock"] == "steering.metrics"
    test = press(test, "tour_end")
    assert "Tour, step" not in words(test) and "tour" not in test.session_state["selection"]


def test_the_last_step_says_the_result_with_its_numbers_and_control(found, whole):
    store = Store(whole)
    result = KINDS["steering"].find(store)
    store.close()
    assert result.statement in found[-1].text and result.control.partition(" Grey")[0] in found[-1].text
    assert "n = " in found[-1].text and "95 %" in found[-1].text


@pytest.mark.parametrize("state", ["running", "imported"])
def test_a_study_without_a_steered_run_says_what_makes_one(opened, request, state):
    study = request.getfixturevalue(state)
    store = Store(study)
    lacks = tour.steps(store)
    store.close()
    assert isinstance(lacks, Missing)
    assert lacks.what in words(press(opened("findings", study, study="small"), "tour_begin"))
    assert lacks.what in words(opened("chains_of_thought", study, study="small", tour="2"))


def test_a_study_of_before_and_a_step_that_is_none(opened, of_schema):
    test = opened("findings", of_schema(12), study="small", tour="9")
    assert not test.exception and "Tour, step 1 of 5" in words(test)
