"""The workspace: one bar that every view obeys, a dock whose views stand in the link, undo and redo."""

import pytest

from app.chains_of_thought.views import DOCK, USUAL
from app.shared.dock import ARRANGEMENT
from app.shell import history, selection
from backend.store.store import Store
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "chains_of_thought"


def titles(test) -> list[str]:
    """What stands in the dock, in its order."""
    heads = {f"**{title}**" for title, _ in DOCK.values()}
    return [str(one.value).strip("*") for one in test.markdown if one.value in heads]


def titled(*names: str) -> list[str]:
    return [DOCK[name][0] for name in names]


def link(test) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in test.query_params.items()}


def labels(test) -> list[str]:
    return [one.label for one in test.main.get("selectbox")]


def test_the_dock_shows_what_the_link_names_in_its_order(opened, whole):
    assert titles(opened(PAGE, whole)) == titled(*USUAL)
    test = opened(PAGE, whole, dock="steering.rollouts.neighbours")
    assert not test.exception
    assert titles(test) == titled("steering", "rollouts", "neighbours")


def test_a_dock_of_what_there_is_not_is_noted_and_of_more_than_four_the_first_stand(opened, whole):
    test = opened(PAGE, whole, dock="nonsense")
    assert titles(test) == titled(*USUAL) and "it was ignored" in words(test)
    assert len(titles(opened(PAGE, whole, dock="metrics.rollouts.steering.accuracy.influence"))) == 4


@pytest.mark.parametrize("word", ["chunk_panel", "panel"])
def test_a_link_to_a_panel_of_before_opens_it_in_the_dock(opened, whole, word):
    test = opened(PAGE, whole, **{word: "steering"})
    assert titles(test) == titled("steering")
    assert link(test)["dock"] == "steering" and word not in link(test)


def test_a_view_that_is_picked_joins_the_dock_and_the_link(opened, whole):
    test = opened(PAGE, whole)
    pills = next(one for one in test.get("button_group") if one.label == "Views")
    pills.set_value([*USUAL, "steering"]).run()
    assert titles(test) == titled(*USUAL, "steering")
    assert link(test)["dock"] == ".".join((*USUAL, "steering"))


def test_what_stands_in_for_what_is_selected_is_said_at_the_top_of_a_docked_view(opened, whole):
    test = opened(PAGE, whole, dock="steering", layer="5")
    assert not test.exception
    said = [str(getattr(one, "value", "")) for one in test.main]
    below = [words for words in said[said.index("**KL curve**") + 1 :] if words]
    assert below[0].startswith("Not here: layer 5") and len(below) > 1, below


def test_what_the_bar_offers_no_view_offers_a_second_time(opened, everything):
    for names in (("metrics", "map", "scatter", "neighbours"), ("steering", "influence", "accuracy", "commitment")):
        test = opened(PAGE, everything, dock=".".join(names))
        assert not test.exception
        said = labels(test)
        for once in ("Metric", "Direction", "Model and layer", "Chain of thought", "Problem"):
            assert sum(label.startswith(once) for label in said) == 1, (once, said)
        assert not {"Residual stream of", "Steered", "Importance", "Strength of the colour"} & set(said)


def test_the_metric_of_the_bar_is_that_of_the_chain_and_of_the_views(opened, whole):
    test = opened(PAGE, whole)
    picker = next(one for one in test.selectbox if one.label == "Metric")
    other = next(
        value for value in Store(whole).importance_choices().itertuples() if value.metric == "counterfactual_accuracy"
    )
    picker.set_value(f"{other.metric}:{other.convention}").run()
    assert not test.exception
    assert link(test)["metric"] == f"{other.metric}:{other.convention}"
    assert any("accuracy" in str(one.value).lower() and "Chunk" not in str(one.value) for one in test.caption)


def test_a_study_that_was_not_steered_has_no_direction_in_its_bar(opened, running):
    test = opened(PAGE, running)
    assert not test.exception
    assert not {"Direction", "Metric"} & set(labels(test))


def test_undo_and_redo_walk_over_what_was_selected(opened, whole):
    test = opened(PAGE, whole)
    first = link(test)
    pills = next(one for one in test.get("button_group") if one.label == "Views")
    pills.set_value([*USUAL, "steering"]).run()
    second = link(test)
    assert first != second
    test.button("undo").click().run()
    assert link(test) == first and titles(test) == titled(*USUAL)
    assert test.button("undo").disabled
    test.button("redo").click().run()
    assert link(test) == second and test.button("redo").disabled
    test.button("undo").click().run()
    next(one for one in test.get("button_group") if one.label == "Views").set_value(["metrics"]).run()
    assert test.button("redo").disabled  # who goes another way has no way back


def test_two_views_stand_side_by_side_where_that_is_asked(opened, whole):
    assert not opened(PAGE, whole, **{ARRANGEMENT.name: "columns"}).exception


# The history


@pytest.fixture
def session(monkeypatch):
    state: dict = {}
    monkeypatch.setattr(history.st, "session_state", state)
    return state


def test_what_a_page_completes_is_no_step(session):
    history.note({})
    history.note({"study": "small", "chunk": "a"})
    assert not history.can_undo()
    history.note({"study": "small", "chunk": "b"})
    assert history.undo() == {"study": "small", "chunk": "a"} and not history.can_undo()
    history.note({"study": "small", "chunk": "a", "metric": "m"})  # completed on the way
    assert history.redo() == {"study": "small", "chunk": "b"}


def test_what_a_page_completes_after_a_step_back_leaves_the_way_forth(session):
    history.note({"study": "small", "chunk": "a"})
    history.note({"study": "small", "chunk": "b"})
    history.chosen()  # a run that was cut off
    history.undo()
    history.note({"study": "small", "chunk": "a", "metric": "m"})
    assert history.redo() == {"study": "small", "chunk": "b"}


def test_a_choice_whose_run_was_cut_off_is_what_undo_undoes(monkeypatch):
    state: dict = {}
    monkeypatch.setattr(selection.st, "session_state", state)  # the one that they all have
    history.note({})
    selection.choose(chunk="a")
    history.note(selection.values())
    selection.choose(chunk="b")
    selection.undo()
    assert selection.get("chunk") == "a"
    selection.redo()
    assert selection.get("chunk") == "b"


def test_a_choice_that_only_adds_is_a_step_and_the_steps_are_bounded(session):
    history.note({"chunk": "a"})
    history.chosen()
    history.note({"chunk": "a", "metric": "m"})
    assert history.can_undo()
    for number in range(2 * history.LONGEST):
        history.note({"chunk": str(number)})
    steps = 0
    while history.undo() is not None:
        steps += 1
    assert steps == history.LONGEST
