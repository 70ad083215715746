"""Accuracies stand beside the share without an answer, and what was forced at the cap can be held against what was
given.
"""

from contextlib import closing

import pandas as pd
import pytest

from app.chains_of_thought.accuracy import importance_choice, measured, said
from app.figures.chunk_metrics import Beside, accuracy_and_importance, with_and_without
from app.shared.answer_shares import answered, part_of
from app.shell.vocabulary import metric
from backend.importance.with_and_without import moves
from backend.statistics.intervals import wilson
from backend.store.store import Store
from tests import small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    """`study, chunk`: two of the chunk's eight rollouts were cut; one of these was made to answer."""
    folder = small_study.make(tmp_path_factory.mktemp("capped") / "small")
    return folder, small_study.add_capped(folder)


def on(opened, capped, panel: str, **link: str) -> str:
    study, chunk = capped
    test = opened("chains_of_thought", study, study="small", chunk=chunk, chunk_panel=panel, **link)
    assert not test.exception, test.exception
    return words(test) + "\n".join(table.value.to_string() for table in test.dataframe)


def test_the_metrics_of_a_chunk_say_what_became_of_its_rollouts_answers(opened, capped):
    said = on(opened, capped, "metrics")
    assert "From before this chunk: 8 rollouts: 25% (2) without an answer, 12% (1) forced at the cap." in said
    assert "From before the next one: 6 rollouts: 17% (1) without an answer, none forced at the cap." in said


def test_the_base_accuracy_stands_with_its_n_and_the_share_without_an_answer(opened, capped):
    said = on(opened, capped, "metrics")
    assert "2 of 2 (100%) judged CoTs, 95 % [0.1, 0.9]; 2 CoTs: 50% (1) without an answer, none forced" in said


def test_rollouts_say_which_answers_were_forced_at_the_cap(opened, capped):
    said = on(opened, capped, "rollouts")
    assert "forced at the cap" in said and "answer is" in said


def test_with_and_without_stand_side_by_side_and_over_the_study(opened, capped):
    said = on(opened, capped, "forced_at_cap", metric="counterfactual_accuracy:all")
    assert (
        "without" in said
        and "metrics are the same both ways" in said
        and "chunks move" in said
        and "Spearman's ρ" in said
    )


def test_a_study_without_any_says_so_and_one_that_waits_says_what_to_run(opened, whole, capped):
    assert "none was made to answer" in words(
        opened("chains_of_thought", whole, study="small", chunk_panel="forced_at_cap")
    )


def test_the_threshold_of_anchors_is_in_the_link_and_decides_how_many_there_are(opened, capped):
    none = on(opened, capped, "accuracy", anchor_threshold="50")
    every = on(opened, capped, "accuracy", anchor_threshold="0")
    assert "This chain: 0 of" in none and "This chain: 0 of" not in every
    assert "Base accuracy of the problem: 2 of 2 (100%) judged CoTs" in none


def test_the_overview_has_the_share_without_an_answer_beside_each_accuracy(opened, capped):
    test = opened("overview", capped[0], study="small")
    table = next(t.value for t in test.dataframe if "no answer" in t.value)
    assert set(table["no answer"].str.contains("of")) == {True}
    said = words(test)
    assert "resampled rollouts: " in said and "were cut by the token cap" in said
    row = Store(capped[0]).rollout_answers().iloc[0]
    assert row.n_capped_without <= row.n_capped and f"{row.n_capped - row.n_capped_without} of them after" in said
    counts = Store(capped[0]).counts().iloc[0]
    kinds = Store(capped[0]).frame("SELECT kind, count(*) AS n FROM rollouts GROUP BY kind").set_index("kind")["n"]
    assert counts["forced_rollouts"] == kinds.get("forced", 0)


# The numbers and the figures


def rows_of(accuracy, importance) -> tuple[pd.DataFrame, ...]:
    chunks = pd.DataFrame({"chunk_id": ["a", "b", "c"], "chunk_index": [0, 1, 2], "text": ["x", "y", "z"]})
    frames = (
        pd.DataFrame({"value": values, "ci_low": values, "ci_high": values, "n": 10}, dtype=float)
        for values in (accuracy, importance)
    )
    return chunks, *frames


def test_anchors_are_the_chunks_at_or_above_the_threshold_and_unknown_is_none():
    rows = measured(*rows_of([0.2, 0.5, None], [0.2, 0.19, None]), 0.2)
    assert rows["is_anchor"].tolist() == [True, False, False] and rows["number"].tolist() == [1, 2, 3]
    words = said(rows, 0.2, pd.DataFrame())
    assert "1 of 2 chunks of known importance are anchors at 0.2 (chunk 1); 1 of 3 are unknown." in words
    assert "from 20% to 50% over 2 chunks. Base accuracy of the problem: unknown." in words


def test_an_accuracy_on_which_all_rollouts_agree_has_wilsons_interval_and_not_one_of_no_width():
    rows = measured(*rows_of([0.0, 0.5, None], [0.2, 0.1, None]), 0.2)
    assert rows["accuracy_high"][0] == pytest.approx(wilson(0, 10).high) and rows["accuracy_high"][0] > 0.2
    assert rows[["accuracy_low", "accuracy_high"]].iloc[2].isna().all()


def test_the_two_panels_share_the_chunks_and_draw_base_and_threshold_dashed():
    rows = measured(*rows_of([0.2, 0.5, None], [0.3, 0.1, None]), 0.2)
    figure = accuracy_and_importance(
        rows, metric("counterfactual_importance_kl"), Beside(0.4, "base accuracy 40 %", 0.2), selected="a"
    )
    assert [shape.y0 for shape in figure.layout.shapes] == [0.4, 0.2]
    accuracy, unknown = figure.data[0], figure.data[1]
    assert list(accuracy.y) == [0.2, 0.5] and list(unknown.customdata) == ["c"]
    assert list(figure.data[2].marker.symbol) == ["diamond", "circle"] and "1 of 3" in figure.data[-1].name


def test_the_importance_shown_is_the_chosen_one_else_that_of_anchors():
    choices = ["counterfactual_accuracy:all", "counterfactual_importance_kl:fl", "resampling_importance_kl:ta"]
    assert importance_choice(choices, "resampling_importance_kl:ta") == "resampling_importance_kl:ta"
    assert importance_choice(choices, "counterfactual_accuracy:all") == "counterfactual_importance_kl:fl"
    assert importance_choice(["counterfactual_accuracy:all"], None) is None


def test_moves_are_counted_among_chunks_known_both_ways():
    rows = pd.DataFrame(
        {
            "chunk_id": list("abcd"),
            "number": 1,
            "value": [1.0, 2.0, 3.0, 4.0],
            "without": [1.0, 2.5, 2.0, None],
            "differs": [False, True, True, True],
        }
    )
    found = moves(rows)
    assert (found.n, found.n_moved, found.n_gained, found.largest, found.chunk_id) == (3, 2, 1, 1.0, "c")
    assert found.rho == pytest.approx(0.5)
    figure = with_and_without(rows, metric("resampling_importance_kl"), selected=None)
    assert [len(trace.x) for trace in figure.data[1:]] == [1, 2] and "1 chunks lack" in figure.layout.xaxis.title.text


def test_where_nothing_was_forced_both_ways_are_the_same(whole):
    with closing(Store(whole)) as store:
        rows = store.with_and_without("counterfactual_importance_kl", "fl")
    assert moves(rows).n_moved == 0 and not rows["differs"].any() and moves(rows).chunk_id is None


def test_shares_are_said_with_their_numbers():
    assert answered(20, 3, 0, of="rollouts") == "20 rollouts: 15% (3) without an answer, none forced at the cap"
    assert answered(12184, 0, 1200, of="rollouts").startswith("12,184 rollouts: none without an answer, 10% (1,200)")
    assert part_of(3, 20) == "3 of 20 (15%)" and part_of(0, 0) == "none of 0"
