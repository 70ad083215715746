"""The mean over classes at each layer."""

import numpy as np
import pandas as pd
import pytest

from backend.feature_geometry.parallelogram_layers import over_classes


def rows(ratios, *, layer=1, role="base"):
    return pd.DataFrame({"layer": layer, "role": role, "loss": ratios, "null": 1.0, "ratio": ratios})


def test_ratios_have_their_geometric_mean_between_the_ends_of_their_interval():
    (found,) = over_classes(rows([0.25, 0.5, 1.0])).to_dict("records")
    assert found["ratio"] == pytest.approx(0.5) and found["loss"] == pytest.approx(1.75 / 3) and found["n"] == 3
    assert 0.25 <= found["ratio_low"] < 0.5 < found["ratio_high"] <= 1 and found["loss_low"] < found["loss"]


def test_classes_that_are_all_alike_leave_no_doubt_and_one_class_leaves_all():
    (found,) = over_classes(rows([0.5, 0.5])).to_dict("records")
    assert found["ratio_low"] == found["ratio_high"] == pytest.approx(0.5)
    (alone,) = over_classes(rows([0.5])).to_dict("records")
    assert np.isnan(alone["ratio_low"]) and alone["ratio"] == pytest.approx(0.5)


def test_a_class_without_a_ratio_takes_no_part_and_each_layer_and_model_has_a_row():
    found = over_classes(
        pd.concat([rows([0.5, None, 0.5]), rows([0.8, 0.8], layer=2), rows([0.9, 0.9], role="distilled")])
    )
    assert list(zip(found["layer"], found["role"], found["n"], strict=True)) == [
        (1, "base", 2), (1, "distilled", 2), (2, "base", 2),
    ]  # fmt: skip
