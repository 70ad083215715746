"""What a store says of its dictionaries: each answer is that of the rows that were written, and the weights are those
of the row.
"""

import math
import shutil

import pytest

from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_dictionary, small_study
from tests.small_dictionary import N_FEATURES, SILENT, code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_study.make(
        tmp_path_factory.mktemp("stores") / "small", rollouts=False, activations=False, steering=False
    )


@pytest.fixture(scope="module")
def name(folder):
    return small_dictionary.add(folder)


@pytest.fixture(scope="module")
def store(folder, name):
    store = Store(folder)
    yield store
    store.close()


@pytest.fixture(scope="module")
def cot(store):
    return store.tokenised_cots()[1]


def test_a_dictionary_is_one_row_with_what_the_cots_say_of_it(store, name):
    (row,) = store.dictionaries().itertuples()
    assert (row.dictionary_id, row.layer, row.n_features, row.n_judged, row.base) == (
        name,
        5,
        N_FEATURES,
        400,
        "embedded:Tiny",
    )
    assert row.l0 == pytest.approx(
        sum(1 / (k + 2) for k in range(N_FEATURES) if k != SILENT)
    ) and row.dead_share == pytest.approx(1 / 6)
    assert (row.n_shared, row.n_base_only, row.n_distilled_only, row.n_suspect) == (2, 1, 1, 1)
    assert (row.variance_explained_base, row.variance_explained_distilled) == pytest.approx((0.8, 0.7))
    n = [10 + number for number in range(len(store.tokenised_cots()))]
    zeroed = sum((6 + number) * tokens for number, tokens in enumerate(n)) / sum(n)  # longer CoTs count more
    assert row.loss_zeroed_base == pytest.approx(zeroed)
    assert row.loss_recovered_distilled == pytest.approx((zeroed - 1.5) / (zeroed - 1.0))
    assert row.loss_recovered_from_mean_base == pytest.approx(2.5 / 3.0)


def test_trainings_of_dictionaries_and_of_models_are_told_apart(store, name):
    (run,) = store.dictionary_trainings().itertuples()
    assert (run.training_id, run.dictionary_id, run.n_steps) == ("tc", name, 30) and store.training_runs().empty
    assert len(store.training_metrics("tc")) == 6 * 30


def test_a_training_curve_is_made_of_means_over_runs_of_steps(store):
    curve, metrics = store.dictionary_training_curve("tc", n_points=10), store.training_metrics("tc")
    for metric, rows in curve.groupby("metric"):
        assert rows["step"].tolist() == list(range(3, 31, 3)) and set(rows["n_steps"]) == {3}
        values = metrics[metrics["metric"] == metric]["value"].to_numpy()
        assert rows["value"].to_numpy() == pytest.approx(values.reshape(10, 3).mean(1))
    assert store.dictionary_training_curve("nobody").empty


def test_spliced_losses_are_one_row_a_model_and_cot(store, name):
    rows = store.spliced_losses(name)
    assert (
        len(rows) == 2 * len(store.tokenised_cots()) == 2 * rows["cot_id"].nunique()
        and rows["problem_id"].notna().all()
    )


def test_the_reasoning_category_of_a_feature_has_the_largest_lift_above_1(folder, store, name, tmp_path):
    assert store.reasoning_categories(name).empty  # feature 1 fires on 20 % of them, and on a third of all tokens
    shutil.copytree(folder, copied := tmp_path / "small")
    with StudyFolder(copied).writing("test") as writer:
        rows = [
            {
                "dictionary_id": name,
                "feature": k,
                "scheme": scheme,
                "category": category,
                "n_tokens": 50,
                "n_fired": fired,
                "frequency": fired / 50,
                "mean_activation": 2.0,
            }
            for k, scheme, category, fired in (
                (0, "reasoning", "deductive", 40),
                (0, "reasoning", "contrastive", 35),
                (0, "before_reasoning", "deductive", 5),
                (2, "before_reasoning", "alternative", 50),
                (4, "reasoning", "deductive", 4),
            )
        ]
        writer.add("crosscoder", "more", {"feature_categories": rows})
        publish(writer)
    store = Store(copied)
    found = store.reasoning_categories(name).set_index("feature")
    store.close()
    assert found.index.tolist() == [0, 2]
    assert found.loc[0, "reasoning"] == "deductive" and found.loc[0, "reasoning_lift"] == pytest.approx(0.8 / 0.5)
    assert found.loc[2, "before_reasoning"] == "alternative" and found.loc[2, "before_reasoning_lift"] == pytest.approx(
        4
    )
    assert not isinstance(found.loc[0, "before_reasoning"], str) and not isinstance(found.loc[2, "reasoning"], str)


def test_features_are_all_there_and_unknown_is_nan(store, name):
    features = store.features(name)
    assert features["feature"].tolist() == list(range(N_FEATURES)) and math.isnan(features["nrn_l1"][SILENT])
    assert features["class"].tolist()[:5] == list(small_dictionary.CLASSES[:5]) and store.features("nobody").empty


def test_an_example_shows_its_window_token_by_token(store, name):
    examples = store.feature_examples(name, 2)
    assert examples["rank"].tolist() == [0, 1]
    for example in examples.itertuples():
        tokens = store.tokens_of_cot(name, example.cot_id).set_index("position")
        here = range(example.window_start, example.window_start + len(example.window_values))
        assert list(example.window_tokens) == tokens["token"][list(here)].tolist()
        assert list(example.window_values) == [pytest.approx(code(2, position)) for position in here]
        assert example.window_values[example.position - example.window_start] == pytest.approx(example.activation)
        assert tokens["chunk_id"][example.position] == example.chunk_id


def test_logits_neighbours_histogram_and_categories_are_those_of_the_feature(store, name):
    logits = store.feature_logits(name, 1)
    assert len(logits) == 8 and logits[logits["side"] == "top"]["effect"].tolist() == [1.0, 0.75] * 2
    neighbours = store.feature_neighbours(name, 4)
    assert neighbours["neighbour"].tolist() == [5, 0] * 2 and neighbours["class"].tolist()[1] == "shared"
    fourth = store.features(name)["feature"][3]  # a NumPy integer
    assert (
        list(store.feature_histogram(name, fourth)["counts"][0]) == [3, 3]
        and store.feature_histogram(name, SILENT).empty
    )
    categories = store.feature_categories(name, 1)
    assert categories["scheme"].tolist() == ["before_reasoning", "function", "function", "reasoning"]
    frequencies = store.category_frequencies(name, "reasoning")
    assert frequencies["feature"].tolist() == [0, 1, 2, 3, 4] and frequencies["frequency"].tolist() == [
        0,
        0.2,
        0,
        0.2,
        0,
    ]


def test_codes_of_a_cot_are_those_of_its_tokens(store, name, cot):
    codes = store.codes_of_cot(name, cot["cot_id"])
    assert {(row.position, row.feature): row.code for row in codes.itertuples()} == {
        (position, k): code(k, position)
        for position in range(len(cot["token_ids"]))
        for k in range(N_FEATURES)
        if code(k, position)
    }
    shown = store.tokens_of_cot(name, cot["cot_id"])
    assert shown["position"].tolist() == list(range(len(cot["token_ids"])))
    assert shown["chunk_id"].isna().tolist() == [position < cot["n_prompt_tokens"] for position in shown["position"]]


def test_ablations_are_of_the_base_or_the_distilled_model(store, name):
    found = store.feature_ablations(name)
    assert set(zip(found["role"], found["model_id"], strict=True)) == {
        (role, store.dictionaries()[f"{role}_model_id"][0]) for role in ("base", "distilled")
    }
    assert found.groupby(["role", "scheme", "nrn_above", "top_percent", "control", "measure"]).size().eq(1).all()
    nothing = found[found["n_features"] == 0]
    assert (
        len(nothing) and nothing["effect"].isna().all() and found["effect"].notna().sum() == len(found) - len(nothing)
    )


def test_the_codes_that_stages_read_are_the_same(store, name, cot):
    positions, features, codes = store.codes(name, cot["cot_id"])
    shown = store.codes_of_cot(name, cot["cot_id"])
    assert positions.tolist() == shown["position"].tolist() and features.tolist() == shown["feature"].tolist()
    assert codes.tolist() == shown["code"].tolist()


# Several features


def together_by_hand(store, features):
    """Of each CoT, by `small_dictionary.code`: the tokens on which each feature fires, behind the prompt."""
    found = {}
    for cot in store.tokenised_cots():
        n_prompt = int(store.cot_to_read(cot["cot_id"])["n_prompt_tokens"][0])
        places = range(max(n_prompt, 1), len(cot["token_ids"]))
        found[cot["cot_id"]] = {k: [at for at in places if code(k, at)] for k in features}
    return found


def test_what_fires_together_is_counted_token_by_token(store, name):
    counts = store.fired_together(name, (0, 1, 4, SILENT))
    found = {(row.cot_id, row.feature, row.other): row.n_both for row in counts.itertuples()}
    expected = {
        (cot, a, b): len(set(fires[a]) & set(fires[b]))
        for cot, fires in together_by_hand(store, (0, 1, 4, SILENT)).items()
        for a in fires
        for b in fires
        if a <= b
    }
    assert found == {pair: n for pair, n in expected.items() if n} and max(found.values()) > 1


def test_a_signed_dictionarys_codes_count_above_its_threshold(store, name):
    counts = store.fired_together(name, (0, 1), above=3.0)
    norms = {0: 1.0, 1: 2.0}  # of both models' rows together
    for cot, fires in together_by_hand(store, (0, 1)).items():
        above = {k: {at for at in fires[k] if code(k, at) * norms[k] > 3} for k in fires}
        rows = counts[counts["cot_id"] == cot].set_index(["feature", "other"])["n_both"]
        assert rows.get((0, 0), 0) == len(above[0]) and rows.get((0, 1), 0) == len(above[0] & above[1])
        assert rows.get((1, 1), 0) == len(above[1])


def test_the_places_where_most_fire_come_first_one_of_each_chain_before_second_ones(store, name):
    features = (0, 1, 2)
    rows, fires = store.places_together(name, features, n=30), together_by_hand(store, features)
    largest = {k: max(code(k, at) for own in fires.values() for at in own[k]) for k in features}
    assert rows["n_features"].is_monotonic_decreasing
    for row in rows.itertuples():
        there = [k for k in features if row.position in fires[row.cot_id][k]]
        assert list(row.features) == there and row.n_features == len(there) > 1
        assert list(row.codes) == pytest.approx([code(k, row.position) for k in there])
        assert row.least == pytest.approx(min(code(k, row.position) / largest[k] for k in there))
        tokens = store.tokens_of_cot(name, row.cot_id)
        assert list(row.window_tokens) == tokens["token"][row.window_start : row.position + 6].tolist()
        assert tokens["chunk_id"][row.position] == row.chunk_id
    first = rows[rows["n_features"] == 3]["cot_id"].head(len(fires))
    assert first.is_unique and len(first) == sum(
        bool(set(own[0]) & set(own[1]) & set(own[2])) for own in fires.values()
    )
    assert len(store.places_together(name, features, n=3)) == 3 and store.places_together(name, (SILENT, 0)).empty
