"""Chains beside each other: where they part, and what differs from there."""

import numpy as np
import pandas as pd

from app.chains_of_thought.compare import of_chunks, parted, several, shared, side_by_side
from app.shell.vocabulary import metric


def chunks(*values: float) -> pd.DataFrame:
    known = pd.Series(values, dtype="float64")
    texts = [f"chunk {n}" for n in range(len(values))]
    ends = {"ci_low": known - 1, "ci_high": known + 1}
    return pd.DataFrame({"number": range(1, len(values) + 1), "text": texts, "value": known, **ends})


def test_chains_part_at_the_first_text_that_differs_spaces_aside():
    assert shared(["a", "b", "c"], ["a ", "\nb", "d", "c"]) == 2
    assert shared(["a", "b"], ["a", "b"], ["a", "c"]) == 1  # the first place where any two part
    assert shared(["a"], ["b"]) == 0 and shared(["a"], ["a", "b"]) == 1 and shared([], ["a"]) == 0


def test_where_they_part_is_said():
    assert parted(0, 3, 4) == "They part at the first chunk."
    assert parted(1, 3, 4) == "The first 1 chunk is the same; they part at chunk 2."
    assert parted(3, 3, 3) == "All 3 chunks are the same."
    assert parted(3, 3, 3, 4) == "The first 3 chunks are the same; they part at chunk 4."


def test_chunks_stand_in_their_order_and_what_is_unknown_has_no_difference():
    rows = side_by_side(chunks(0.5, np.nan, 0.25), chunks(0.25, 1.0))
    assert rows["difference"].tolist()[0] == 0.25 and rows["difference"].isna().tolist() == [False, True, True]
    assert rows["the other"].dropna().tolist() == ["chunk 0", "chunk 1"] and len(rows) == 3
    assert rows["95 %"].dropna().to_dict() == {0: "[-0.5, 1.5]", 2: "[-0.75, 1.25]"}
    assert side_by_side(chunks(), chunks()).empty


def test_more_than_two_chains_stand_in_short_columns_each_less_the_first():
    rows = several([chunks(0.5, np.nan), chunks(0.25), chunks(0.5, 1.0, 2.0)])
    assert list(rows) == ["chunk", "this", "2nd", "3rd", "value", "this − 2nd", "this − 3rd"]
    assert rows["chunk"].tolist() == [1, 2, 3] and rows["this"].isna().tolist() == [False, False, True]
    assert rows["this − 2nd"].tolist()[0] == 0.25 and rows["this − 3rd"].isna().tolist() == [False, True, True]
    assert rows["this − 3rd"].tolist()[0] == 0 and several([chunks()] * 3).empty


def test_chunks_are_compared_by_metric_and_convention():
    columns = ["metric", "convention", "value", "ci_low", "ci_high", "n"]
    own = pd.DataFrame([("m", "all", 1.0, 0.5, 2.0, 9), ("n", "a", 2.0, None, None, None)], columns=columns)
    other = pd.DataFrame([("m", "all", 0.25, 0, 1, 8), ("n", "b", 2.0, 1, 3, 7)], columns=columns)
    both = of_chunks(own, other)
    assert [name.replace(metric("m").short, "m").replace(metric("n").short, "n") for name in both["metric"]] == [
        "m",
        "n · a",
        "n · b",
    ]
    assert both["difference"].tolist()[0] == 0.75 and both["difference"].isna().tolist() == [False, True, True]
    assert both["95 %"].dropna().to_dict() == {0: "[0.5, 2]"} and both["n"].dropna().to_dict() == {0: 9}
    assert both["pinned's n"].dropna().to_dict() == {0: 8, 2: 7}
