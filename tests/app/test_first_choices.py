"""What pages open on has something to show: a specific feature, an axis that the values allow."""

import numpy as np
import pandas as pd
import pytest

from app.feature.side_by_side import most_specific
from app.steepness.one_pair import usual_scale

DICTIONARY = pd.Series({"n_judged": 1000})


def features(*rows: tuple[int, float, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["feature", "frequency", "top_category_lift"]).astype(
        {"top_category_lift": float}
    )


def test_the_feature_of_the_largest_lift_comes_first():
    assert most_specific(features((0, 0.1, 2.0), (1, 0.2, 9.0), (2, 0.01, None)), DICTIONARY) == 1


def test_one_that_fires_on_more_than_half_of_the_tokens_or_on_few_is_never_first():
    rows = features((0, 0.9, 50.0), (1, 0.001, 90.0), (2, 0.3, 1.5))
    assert most_specific(rows, DICTIONARY) == 2


def test_without_a_lift_the_rarest_that_has_examples_comes_first():
    assert most_specific(features((0, 0.4, None), (1, 0.02, None), (2, 0.0, None)), DICTIONARY) == 1


def test_a_dictionary_of_which_nothing_fires_opens_on_its_first_feature():
    assert most_specific(features((0, 0.0, None), (1, 0.0, None)), DICTIONARY) == 0


@pytest.mark.parametrize(
    ("x", "scale"),
    [
        (np.geomspace(1e-4, 1, 50), "log"),
        (np.linspace(1, 2, 50), "linear"),  # less than a factor of ten
        (np.linspace(-1, 1, 50), "linear"),  # half of them have no place
        (np.append(np.geomspace(1e-4, 1, 50), [0.0, np.nan]), "log"),  # 1 in 51 is left out, and counted
        ([], "linear"),
        ([np.nan, 0.0], "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_the_values_allow_and_ask_for_it(x, scale):
    assert usual_scale(pd.Series(x, dtype=float)) == scale
