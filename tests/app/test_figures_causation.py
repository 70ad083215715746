import pandas as pd
import pytest

from app.figures.causation import differences, means, paired_effects


def effects() -> pd.DataFrame:
    rows = []
    for pair, values in {"a": (0.1, 0.5, 0.2, 0.2), "b": (0.3, 0.7, 0.1, 0.0), "c": (None, 0.4, 0.3, 0.3)}.items():
        for (role, arm), value in zip(
            [("match", "steered"), ("anchor", "steered"), ("match", "random"), ("anchor", "random")],
            values,
            strict=True,
        ):
            rows.append(
                {
                    "pair_id": pair,
                    "role": role,
                    "arm": arm,
                    "chunk_id": f"{pair}_{role}",
                    "number": 1,
                    "text": "<b>So</b>",
                    "value": value,
                    "ci_low": None,
                    "ci_high": None,
                }
            )
    return pd.DataFrame(rows)


def test_a_pair_is_a_line_from_match_to_anchor_and_the_mean_is_drawn_over_whole_pairs():
    figure = paired_effects(effects(), axis="share", selected="a_anchor")
    lines, marks, mean = figure.data[:3]
    assert list(lines.y) == [0.1, 0.5, None, 0.3, 0.7, None]
    assert list(mean.y) == pytest.approx([0.2, 0.6])
    assert sorted(marks.customdata) == ["a_anchor", "a_match", "b_anchor", "b_match"]
    assert figure.layout.xaxis.title.text == "steered: 2 pairs, 1 unknown"
    assert figure.layout.xaxis2.title.text == "random directions: 3 pairs"
    assert "&lt;b&gt;" in marks.text[0] and max(marks.marker.size) == 12


def test_differences_are_counted_by_arm_with_their_mean_and_what_is_unknown():
    rows = pd.DataFrame(
        {
            "pair_id": ["a", "b", "a", "b"],
            "anchor_id": ["a_1", "b_1", "a_1", "b_1"],
            "arm": ["steered", "steered", "random", "random"],
            "difference": [0.4, 0.2, -0.1, None],
        }
    )
    figure = differences(rows, axis="share")
    assert [list(bars.x) for bars in figure.data] == [[0.4, 0.2], [-0.1]]
    said = [note.text for note in figure.layout.annotations]
    assert said == ["steered: mean +0.30, 2 pairs", "random directions: mean −0.10, 1 pairs, 1 unknown"]


def test_every_known_contrast_has_a_mark_with_its_interval():
    rows = pd.DataFrame(
        {
            "name": ["x", "y"],
            "label": ["steered", "random"],
            "arm": ["steered", "random"],
            "value": [0.3, None],
            "low": [0.1, None],
            "high": [0.4, None],
            "n": [5, 0],
        }
    )
    figure = means(rows, axis="share")
    (marks,) = figure.data
    assert list(marks.x) == [0.3] and marks.error_x.array[0] == pytest.approx(0.1)
    assert marks.error_x.arrayminus[0] == pytest.approx(0.2)


def test_with_nothing_known_they_say_so():
    nothing = effects().assign(value=None)
    for figure in (
        paired_effects(nothing, axis="", selected=None),
        differences(pd.DataFrame({"pair_id": [], "anchor_id": [], "arm": [], "difference": []}), axis=""),
    ):
        assert "known" in figure.layout.annotations[0].text and not figure.data
