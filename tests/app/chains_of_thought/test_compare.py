"""Two chains beside each other: where they part, and what differs from there."""

import numpy as np
import pandas as pd

from app.chains_of_thought.compare import of_chunks, parted, shared, side_by_side
from app.shell.vocabulary import metric


def chunks(*values: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"number": range(1, len(values) + 1), "text": [f"chunk {n}" for n in range(len(values))], "value": values}
    )


def test_chains_part_at_the_first_text_that_differs_spaces_aside():
    assert shared(["a", "b", "c"], ["a ", "\nb", "d", "c"]) == 2
    assert shared(["a"], ["b"]) == 0 and shared(["a"], ["a", "b"]) == 1 and shared([], ["a"]) == 0


def test_where_they_part_is_said():
    assert parted(0, 3, 4) == "They part at the first chunk."
    assert parted(1, 3, 4) == "The first 1 chunk is the same; they part at chunk 2."
    assert parted(3, 3, 3) == "All 3 chunks are the same."


def test_chunks_stand_in_their_order_and_what_is_unknown_has_no_difference():
    rows = side_by_side(chunks(0.5, np.nan, 0.25), chunks(0.25, 1.0))
    assert rows["difference"].tolist()[0] == 0.25 and rows["difference"].isna().tolist() == [False, True, True]
    assert rows["the other"].dropna().tolist() == ["chunk 0", "chunk 1"] and len(rows) == 3
    assert side_by_side(chunks(), chunks()).empty


def test_chunks_are_compared_by_metric_and_convention():
    columns = ["metric", "convention", "value"]
    own = pd.DataFrame([("m", "all", 1.0), ("n", "a", 2.0)], columns=columns)
    other = pd.DataFrame([("m", "all", 0.25), ("n", "b", 2.0)], columns=columns)
    both = of_chunks(own, other)
    assert [name.replace(metric("m").short, "m").replace(metric("n").short, "n") for name in both["metric"]] == [
        "m",
        "n · a",
        "n · b",
    ]
    assert both["difference"].tolist()[0] == 0.75 and both["difference"].isna().tolist() == [False, True, True]
