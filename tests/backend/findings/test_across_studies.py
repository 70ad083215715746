"""A study's few numbers are those of its tables, and what it does not have is unknown."""

from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from backend.findings.across_studies import QUANTITIES, frame_of, half_deep, points, size_of, step_of
from backend.store.store import Store
from tests import parallelogram_study, small_dictionary, small_study


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("stores") / "small")
    small_dictionary.add(folder)
    parallelogram_study.add_to_pair(folder)
    with closing(Store(folder)) as store:
        yield frame_of(points(store, "small")), store


def test_each_model_that_anything_is_known_of_has_every_quantity(rows):
    found, _ = rows
    assert all(set(own["quantity"]) == set(QUANTITIES) for _, own in found.groupby("model"))
    unknown = found[found["value"].isna()]
    assert (
        len(unknown) and unknown[["low", "high", "n", "null_low"]].isna().all(axis=None) and not unknown["where"].any()
    )


def test_nrn_is_the_mean_over_features_that_fire(rows):
    found, store = rows
    (one,) = found[(found["quantity"] == "nrn") & found["value"].notna()].to_dict("records")
    fires = store.frame("SELECT nrn_l2, dictionary_id FROM features WHERE frequency > 0 OR frequency IS NULL")
    by_dictionary = fires.groupby("dictionary_id")["nrn_l2"].agg(["mean", "count"])
    (named,) = [name for name in by_dictionary.index if name in one["where"]]
    assert np.isclose(by_dictionary["mean"][named], one["value"]) and by_dictionary["count"][named] == one["n"]
    assert one["low"] < one["value"] < one["high"] and one["null_low"] == one["null_high"] == 0.5


def test_a_parallelogram_ratio_is_the_geometric_mean_over_classes(rows):
    found, store = rows
    one = found[(found["quantity"] == "parallelogram") & found["value"].notna()].iloc[0]
    every = store.frame(
        "SELECT layer, cleaning, fitted_on, components, exp(avg(ln(ratio))) AS ratio FROM parallelograms WHERE ratio"
        " > 0 GROUP BY model_id, layer, cleaning, fitted_on, components"
    )
    assert np.isclose(every["ratio"], one["value"]).any() and one["null_low"] == 1


def test_an_association_is_a_stored_pair_with_its_null(rows):
    found, store = rows
    (one,) = found[(found["quantity"] == "association") & found["value"].notna()].to_dict("records")
    pair = store.frame("SELECT * FROM associations WHERE within = $within", within=one["value"]).iloc[0]
    assert (one["low"], one["null_high"], one["n"]) == (pair["within_low"], pair["within_null_high"], pair["n"])
    assert pair["x"] == "steepness" and pair["metric"] in one["where"]


def test_accuracy_is_a_mean_over_problems(rows):
    found, store = rows
    one = found[(found["quantity"] == "accuracy") & found["value"].notna()].iloc[0]
    accuracies = store.frame("SELECT accuracy FROM problem_accuracy WHERE accuracy IS NOT NULL")["accuracy"]
    assert one["value"] == pytest.approx(accuracies.mean()) and one["n"] == len(accuracies)


@pytest.mark.parametrize(
    ("name", "size"),
    [("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.5e9), ("org/Tiny-135M-Instruct", 135e6), ("Qwen2.5-7B", 7e9)],
)
def test_a_size_is_what_the_name_says(name, size):
    assert size_of({"name": name, "n_layers": 2, "d_model": 4, "vocab_size": 8}) == (size, "its name")


def test_a_size_without_a_name_is_about_that_of_its_shape_and_else_unknown():
    shape = {"name": "mine", "n_layers": 2, "d_model": 4, "vocab_size": 8}
    assert size_of(shape) == (12 * 2 * 16 + 32, "its shape, about")
    assert size_of(shape | {"n_layers": None}) == (None, "")


def test_a_step_is_that_of_the_checkpoint():
    assert step_of({"name": "runs/checkpoint-500", "revision": None}) == 500
    assert step_of({"name": "EleutherAI/pythia-70m", "revision": "step1000"}) == 1000
    assert step_of({"name": "m", "revision": "abc"}) is None


def test_of_several_layers_the_one_nearest_half_depth_speaks_for_the_model():
    models = pd.DataFrame({"model_id": ["m"], "n_layers": [30]})
    rows = pd.DataFrame({"layer": [29, 12, 24, 12], "value": [1, 2, 3, 4]})
    assert half_deep(rows, "m", models)["value"].tolist() == [2, 4]
    assert half_deep(rows, "unknown", models)["value"].tolist() == [3]  # the middle one of those there are
