"""What is said beside chance is said by one rule, and many layers are answered for."""

import math

import pandas as pd

from backend.feature_geometry.verdicts import beyond, compared, judged


def test_an_interval_is_beyond_a_null_where_all_of_it_is():
    assert [beyond(low, low + 2, 10, 1) for low in (5, 9, 13)] == [-1, 0, 1]
    assert beyond(20, 21, math.nan, 1) == beyond(math.nan, 21, 0, 1) == 0


def curves(**of) -> pd.DataFrame:
    usual = {"curve": "months", "smooth_p": 0.001, "permuted_p": 0.001, "digits_p": None, "difference_low": 0.1}
    return pd.DataFrame([usual | of, usual | {"smooth_p": 0.02}, usual | {"smooth_p": 0.9}])


def test_a_circle_is_shown_beyond_every_null_over_all_rows_and_the_polynomial():
    assert judged(curves())["is_shown"].tolist() == [True, True, False], "adjusted: 0.003, 0.04, 0.9"
    assert judged(curves(digits_p=0.3))["is_shown"].tolist() == [False, False, False], (
        "0.02 is then one of three, times 3"
    )
    assert judged(curves(difference_low=-0.1))["is_shown"].tolist() == [False, True, False]
    assert judged(curves(difference_low=math.nan))["is_better"].tolist() == [False, True, True]
    assert judged(curves().iloc[:0]).empty


def test_each_set_answers_for_its_own_layers():
    other = curves().assign(curve="weekdays")
    assert judged(pd.concat([curves(), other], ignore_index=True))["adjusted"].tolist() == [0.003, 0.04, 0.9] * 2


def test_each_comparison_answers_for_its_own_rows():
    rows = pd.DataFrame({"comparison": ["matched", "matched", "unmatched"], "p": [0.02, 0.5, 0.02]})
    assert compared(rows)["adjusted"].tolist() == [0.04, 0.5, 0.02]
