"""The selection between server and browser: what a slow browser still sends of the past is no choice; where a person
goes back is.
"""

import functools
import time

import pytest
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.testing.v1 import AppTest

from app.shared.chosen_chunk import CHUNK
from app.shell import selection


def page():
    import streamlit as st

    from app.shared.chosen_chunk import CHUNK
    from app.shared.sampled import SEED
    from app.shell import selection
    from app.steepness.one_pair import INTERVALS
    from app.steering import controls
    from app.steering.runs import START
    from app.steering.text_and_curve import WHAT

    selection.begin()
    chunk = selection.pick(CHUNK, "Chunk", ["first", "second"])
    selection.pick(START, "Continue from", show=lambda name: f"{name} the {chunk}")
    selection.pick(WHAT, "Run", ["stream", "continue"], widget=st.segmented_control)
    selection.pick_switch(INTERVALS, "Intervals")
    selection.pick_whole(SEED, "Seed", high=9)
    controls._magnitude(st.container(), "add", 64, 1.0, None)
    if st.button("Restore"):
        selection.choose(
            {CHUNK: "second", START: "after", WHAT: "continue", INTERVALS: "yes", SEED: "7", controls.BETA: "-3"}
        )
        selection.rerun()
    selection.publish()


@pytest.fixture
def test():
    return AppTest.from_function(page, default_timeout=60).run()


class Message:
    """What the browser would send now: every widget as it shows it, and the URL as it knows it."""

    def __init__(self, test: AppTest):
        self.states, self.url = test._tree.get_widget_states(), dict(test.query_params)

    def arrives(self, test: AppTest) -> AppTest:
        test.query_params = self.url
        test._run(self.states)
        assert not test.exception
        return test


def selected(test: AppTest) -> dict[str, str]:
    """The selection, which is also what the URL says."""
    chosen = dict(test.session_state["selection"])
    assert {name: value if isinstance(value, str) else value[0] for name, value in test.query_params.items()} == chosen
    return chosen


@pytest.fixture
def history(monkeypatch):
    """`history(test, url)`: the browser's Back or Forward button, which says of itself what it is."""

    def go(test: AppTest, url: dict[str, str]) -> AppTest:
        with monkeypatch.context() as patched:
            patched.setattr(
                "streamlit.testing.v1.local_script_runner.RerunData",
                functools.partial(RerunData, is_history_navigation=True),
            )
            test.query_params = url
            return test.run()

    return go


def test_a_slider_stays_where_it_was_moved_while_the_browser_is_still_told_of_it(test):
    test.slider[0].set_value(5.5).run()
    test.slider[0].set_value(6.0)
    late = Message(test)  # the slider at 6, the field beside it at 5.5
    test.run()
    assert selected(test)["beta"] == "6"
    assert selected(late.arrives(test))["beta"] == "6"
    assert (test.slider[0].value, test.number_input[1].value) == (6.0, 6.0)


def test_an_old_url_changes_nothing_however_late_it_comes(test):
    test.slider[0].set_value(5.5).run()
    old = dict(test.query_params)
    test.slider[0].set_value(6.0).run()
    time.sleep(1.1)
    test.query_params = old
    assert selected(test.run())["beta"] == "6"


def test_back_is_followed_however_soon_it_comes(test, history):
    test.slider[0].set_value(5.5).run()
    old = dict(test.query_params)
    test.slider[0].set_value(6.0).run()
    assert selected(history(test, old))["beta"] == "5.5"
    assert (test.slider[0].value, test.number_input[1].value) == (5.5, 5.5)
    assert selected(test.run())["beta"] == "5.5"


def test_what_was_restored_is_not_undone_by_what_the_widgets_showed_before(test):
    late = Message(test)
    test.button[0].click().run()
    restored = {
        "chunk": "second",
        "continue_from": "after",
        "run_kind": "continue",
        "importance_intervals": "yes",
        "seed": "7",
        "beta": "-3",
    }
    assert selected(test) == restored
    for _ in range(2):
        assert selected(late.arrives(test)) == restored
    assert test.selectbox[0].value == "second" and test.toggle[0].value is True and test.number_input[0].value == 7


def test_a_browser_that_missed_the_run_in_which_a_value_changed_is_told_of_it_by_the_next(test):
    test.button[0].click().run()
    test.run()  # what the browser hears is this run alone; it shows a widget that it does not know at its default
    chunk, start, _ = (box.options[box.proto.default] for box in test.selectbox)
    assert (chunk, start, test.button_group[0].proto.default[0]) == ("second", "after the second", 1)
    assert test.toggle[0].proto.default is True
    assert [box.proto.default for box in test.number_input] == [7.0, -3.0] and test.slider[0].proto.default == [-3.0]
    assert not any(
        element.proto.set_value for element in (*test.selectbox, *test.toggle, *test.number_input, *test.slider)
    )


def test_every_widget_still_chooses_after_it_was_restored_and_may_go_back_to_what_it_showed(test):
    test.button[0].click().run()
    test.selectbox[0].set_value("first").run()
    test.selectbox[1].set_value("before").run()
    test.toggle[0].set_value(False).run()
    test.number_input[0].set_value(1).run()
    test.number_input[1].set_value(4.0).run()
    found = selected(test)
    assert (found["chunk"], found["continue_from"], found["importance_intervals"], found["seed"], found["beta"]) == (
        "first",
        "before",
        "no",
        "1",
        "4",
    )
    assert test.slider[0].value == 4.0


def test_a_widget_moved_by_hand_stays_the_same_widget_and_keeps_the_focus(test):
    for value in (0.15, 0.2, 0.15 + 1e-17):
        before = test.slider[0].key
        assert test.slider[0].set_value(value).run().slider[0].key == before
    assert test.selectbox[0].set_value("second").run().selectbox[0].key == "pick_chunk"


def test_words_that_were_an_options_before_are_no_choice(test):
    test.selectbox[0].set_value("second")
    late = Message(test)  # says “before the first” where the options are now “… the second”
    test.run()
    assert test.selectbox[1].options == ["before the second", "after the second"]
    assert selected(late.arrives(test)) == {"chunk": "second"}


def test_the_slider_shows_the_same_beta_in_another_unit(test):
    test.slider[0].set_value(1.0).run()
    unit = next(box for box in test.selectbox if box.label == "β in")
    unit.set_value("norm").run()
    assert test.slider[0].value == 1.0 and test.slider[0].max == 1.0


def test_a_url_is_adopted_when_the_page_is_opened():
    opened = AppTest.from_function(page, default_timeout=60)
    opened.query_params["beta"] = "2.5"
    opened.query_params["chunk"] = "second"
    assert opened.run().slider[0].value == 2.5
    assert selected(opened) == {"chunk": "second", "beta": "2.5"}


def test_a_pair_of_widgets_that_show_one_value_agree_after_every_move_of_either(test):
    for widget, value in (
        ("slider", 1.0),
        ("slider", -2.5),
        ("number_input", 3.25),
        ("number_input", 20.0),
        ("slider", -10.0),
    ):
        getattr(test, widget)[-1].set_value(value)
        late = Message(test)
        test.run()
        assert selected(late.arrives(test))["beta"] == f"{value:g}"
        assert (test.slider[0].value, test.number_input[1].value) == (min(value, 10.0), value)


def alike():
    import streamlit as st

    from app.shell import selection
    from app.steering.controls import FROM

    selection.begin()
    selection.pick(FROM, "Of", ["m1:3", "m2:3", "m2:4"], show=lambda name: f"layer {name[-1]}")
    st.button("Again")
    selection.publish()


def test_options_worded_alike_are_numbered_and_stay_chosen():
    test = AppTest.from_function(alike, default_timeout=60)
    test.query_params["of"] = "m2:3"
    test.run()
    assert test.selectbox[0].options == ["layer 3 (1)", "layer 3 (2)", "layer 4"]
    test.button[0].click().run()
    assert selected(test) == {"vector_from": "m2:3"}


def test_nothing_to_choose_from_is_an_error_that_names_the_choice(monkeypatch):
    monkeypatch.setattr(selection, "get", lambda field: None)
    with pytest.raises(ValueError, match="nothing to choose from for chunk"):
        selection.in_force(CHUNK, [])
