"""What is asked of features: it is refused where it makes no sense, its arms follow from it, and equal arms have equal
ids.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.trials import (
    MOST_FEATURES,
    Change,
    Sampling,
    Trial,
    Twin,
    by_rule,
    change_of,
    changes_of_arm,
    drawn_problems,
    matched_features,
    sampling_of,
    surprise,
    typed,
)
from backend.models.interventions import InterventionError
from backend.schema.tables import TABLES

FREQUENCY = np.linspace(0, 0.5, 40)
PAIR = ("mb", "md")


def trial(**other) -> Trial:
    return Trial(**{"dictionary_id": "w1", "change": Change("zero", (3, 11)), "problems": ("p1", "p2")} | other)


def ids(asked: Trial, models=PAIR) -> dict[tuple[str, str], str]:
    return {(row["model_id"], row["arm"]): row["arm_id"] for row in asked.arms(models, FREQUENCY)}


def test_a_trial_has_a_base_a_changed_a_reconstructed_and_a_random_arm_in_each_model():
    rows = trial(n_random=3).arms(PAIR, FREQUENCY)
    assert [(row["model_id"], row["arm"]) for row in rows] == [
        (m, a) for m in PAIR for a in ("base", "changed", "reconstruct", "random")
    ]
    assert len({row["arm_id"] for row in rows}) == 8 and all(
        set(row) == set(TABLES["feature_intervention_arms"].columns) for row in rows
    )
    sets = [json.loads(row["feature_sets"]) for row in rows]
    assert sets[:3] == [[], [[3, 11]], [[]]] and len(sets[3]) == 3 and sets[3] == sets[7]
    assert all(len(some) == 2 and not set(some) & {3, 11} for some in sets[3])
    assert set(trial().row()) == set(TABLES["feature_interventions"].columns)


def test_an_arm_has_the_id_of_all_that_shapes_its_samples_and_of_nothing_else():
    own = ids(trial())
    assert ids(trial(chosen_by="a hand", problems=("p9",))) == own
    other = ids(trial(change=Change("scale", (3, 11), factor=0.5)))
    shared = {key for key, name in own.items() if other[key] == name}
    assert shared == {(m, a) for m in PAIR for a in ("base", "reconstruct")}
    elsewhere = ids(trial(dictionary_id="w2"))
    assert {key for key, name in own.items() if elsewhere[key] == name} == {(m, "base") for m in PAIR}
    for changed in ({"seed": 2}, {"n_samples": 2}, {"sampling": Sampling(max_new_tokens=9)}):
        assert not set(ids(trial(**changed)).values()) & set(own.values()), changed
    assert ids(trial(n_random=2))["mb", "random"] != own["mb", "random"]
    changes = ({}, {"problems": ("p1",)}, {"n_random": 2}, {"seed": 2}, {"chosen_by": "rule"})
    names = [trial(**changed).intervention_id for changed in changes]
    assert len(set(names)) == 4 and names[0] == names[4]


def test_the_published_surprise_asks_for_the_factor_and_for_1_each_with_and_without_the_error():
    asked = surprise(trial(), 1.5)
    assert [(one.change.factor, one.change.keep_error) for one in asked] == [
        (1.5, True),
        (1.5, False),
        (1, True),
        (1, False),
    ]
    assert all(one.change.features == (3, 11) for one in asked)
    arms = [ids(one) for one in asked]
    assert [("md", "random") in own for own in arms] == [
        True,
        True,
        False,
        False,
    ]  # by 1 nothing changes: there is nothing to control
    both = [*asked, *surprise(trial(), 0.5)]
    assert len({name for one in both for name in ids(one).values()}) == 2 * (
        2 + 6 + 4
    )  # controls and the factor 1 are shared


def test_a_row_says_what_each_arm_is_under():
    asked = trial(change=Change("scale", (3, 11), factor=0.5, keep_error=False))
    change = change_of(asked.row())
    assert change == asked.change and change_of(trial().row()) == Change("zero", (3, 11))
    found = {row["arm"]: changes_of_arm(change, row["arm"], row["feature_sets"]) for row in asked.arms(PAIR, FREQUENCY)}
    assert (
        found["base"] == ()
        and found["changed"] == (change,)
        and [one.operation for one in found["reconstruct"]] == ["reconstruct"]
    )
    assert len(found["random"]) == 4 and all(replace(one, features=(3, 11)) == change for one in found["random"])
    alone = trial(change=Change("reconstruct", keep_error=False))
    assert [row["arm"] for row in alone.arms(("mb",), FREQUENCY)] == ["base", "reconstruct"]
    assert ids(alone)["mb", "reconstruct"] == ids(asked)["mb", "reconstruct"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"problems": ()}, "0 problems"),
        ({"problems": ("p1", "p1")}, "different"),
        ({"n_samples": 0}, "expected 1 to 64"),
        ({"n_random": 17}, "expected 0 to 16"),
        ({"seed": -1}, "seed is -1"),
        ({"change": Change("zero", tuple(range(MOST_FEATURES + 1)))}, "at most 512"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_was_expected(wrong, said):
    with pytest.raises(InterventionError, match=said):
        trial(**wrong)


def test_a_trial_that_the_dictionary_cannot_do_has_no_arms():
    with pytest.raises(InterventionError, match="Feature 40 does not exist: the dictionary has features 0 to 39"):
        trial(change=Change("zero", (40,))).arms(PAIR, FREQUENCY)
    with pytest.raises(InterventionError, match="of one"):
        trial(change=Change("patch", (3,))).arms(("mb",), FREQUENCY)
    with pytest.raises(InterventionError, match="1 to 2048 are possible"):
        Sampling(max_new_tokens=5000)
    with pytest.raises(InterventionError, match="Temperature nan"):
        Sampling(temperature=float("nan"))


# Choosing


def test_a_rule_takes_the_most_frequent_features_beyond_an_nrn():
    features = pd.DataFrame(
        {
            "feature": range(6),
            "frequency": [0.1, 0.4, 0.4, 0.0, None, 0.2],
            "nrn_l1": [0.9, 0.8, 0.8, 0.99, 0.99, 0.4],
            "nrn_l2": [0.1, 0.9, None, 0.9, 0.9, 0.9],
        }
    )
    assert by_rule(features, 2, above=0.7) == (1, 2) and by_rule(features, 9, above=0.7) == (1, 2, 0)
    assert by_rule(features, 9, above=0.7, norm="l2") == (1, 5) and by_rule(features, 9) == (1, 2, 5, 0)
    assert by_rule(features, 9, above=0.995) == ()


@pytest.mark.parametrize(
    ("words", "found"), [("3, 17;40-42", (3, 17, 40, 41, 42)), (" 5 5 4–6", (5, 4, 6)), ("", ()), ("9-7", ())]
)
def test_feature_numbers_are_read_as_people_write_them(words, found):
    assert typed(words) == found


@pytest.mark.parametrize("words", ["x", "-3", "3-", "1e3", "0-99999", "²", "12345678901"])
def test_what_is_no_feature_number_is_named(words):
    with pytest.raises(InterventionError, match=r"no feature number|At most 512"):
        typed(words)


def test_problems_are_drawn_evenly_over_levels_and_more_of_them_include_the_fewer():
    problems = pd.DataFrame({"problem_id": [f"p{k}" for k in range(12)], "level": [1] * 6 + [2] * 3 + [None] * 3})
    six = drawn_problems(problems, 6)
    levels = problems.set_index("problem_id")["level"]
    assert levels[list(six)].value_counts(dropna=False).tolist() == [2, 2, 2]
    assert drawn_problems(problems, 4) == six[:4] and set(drawn_problems(problems, 99)) == set(problems["problem_id"])
    assert drawn_problems(problems.sample(frac=1, random_state=1), 6) == six != drawn_problems(problems, 6, seed=1)


def test_samples_are_drawn_as_the_studys_cots_were():
    def runs(*parameters: str) -> pd.DataFrame:
        return pd.DataFrame({"parameters": list(parameters)})

    said = json.dumps({"sampling": {"temperature": 1, "top_p": 0.9, "max_new_tokens": 32768, "samples": 3}})
    assert sampling_of(runs("{}", "no JSON", said)) == Sampling(1.0, 0.9, 2048)
    assert sampling_of(runs("{}")) == sampling_of(runs()) == Sampling()
    lower = json.dumps({"sampling": {**json.loads(said)["sampling"], "dtype": "bfloat16"}})
    assert sampling_of(runs(lower)).dtype == "bfloat16"


def test_a_dtype_is_in_what_samples_depend_on_only_where_it_is_named():
    assert Sampling().inputs == {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 384}
    assert Sampling(dtype="bfloat16").inputs == {**Sampling().inputs, "dtype": "bfloat16"}


# Controls


def test_matched_features_are_others_that_fire_about_as_often():
    frequency = np.linspace(0, 1, 400) ** 3
    chosen = (10, 200, 390)
    sets = matched_features(frequency, chosen, 30, seed=1, nearest=8)
    assert (
        sets
        == matched_features(frequency, chosen, 30, seed=1, nearest=8)
        != matched_features(frequency, chosen, 30, seed=2, nearest=8)
    )
    assert len(set(sets)) > 20
    for some in sets:
        assert len(set(some)) == 3 and not set(some) & set(chosen)
        assert all(abs(near - own) <= 15 for near, own in zip(some, chosen, strict=True))
    half = matched_features(frequency, range(200), 2)
    assert all(set(some) == set(range(200, 400)) for some in half)
    with pytest.raises(InterventionError, match="not as many others"):
        matched_features(frequency, range(201), 1)
    with pytest.raises(InterventionError, match="Measure them first"):
        matched_features(np.full(400, np.nan), chosen, 1)


def test_another_prompt_or_setting_of_a_template_is_another_arm_and_the_usual_one_is_the_same():
    from dataclasses import replace

    from backend.cot.prompts import BOXED, BUILT_IN

    def ids(prompt):
        return tuple(row["arm_id"] for row in trial().arms(PAIR, FREQUENCY, dict.fromkeys(PAIR, prompt)))

    usual = tuple(row["arm_id"] for row in trial().arms(PAIR, FREQUENCY))
    others = [BUILT_IN["plain"], replace(BOXED, arguments=(("enable_thinking", False),)), replace(BOXED, thinks=True)]
    assert ids(BOXED) == usual and len({usual, *map(ids, others)}) == 4


def test_a_twin_stands_in_where_the_error_is_kept_and_changes_no_other_arm():
    twin = Twin("n1", np.linspace(0, 0.6, 30))

    def arms(asked: Trial, **more) -> dict:
        return {(row["model_id"], row["arm"]): row for row in asked.arms(PAIR, FREQUENCY, **more)}

    without, found = arms(trial()), arms(trial(), twin=twin)
    assert set(found) - set(without) == {(model, "twin") for model in PAIR}
    assert all(found[key] == row for key, row in without.items()) and {row["null_id"] for row in without.values()} == {
        None
    }
    (base, distilled) = (found[model, "twin"] for model in PAIR)
    assert base["feature_sets"] == distilled["feature_sets"] and base["arm_id"] != distilled["arm_id"]
    assert len(json.loads(base["feature_sets"])) == trial().n_random and base["null_id"] == "n1"
    other = arms(trial(), twin=replace(twin, null_id="n2"))["md", "twin"]
    assert other["feature_sets"] == distilled["feature_sets"] and other["arm_id"] != distilled["arm_id"]
    replaced = trial(change=Change("zero", (3, 11), keep_error=False))
    idle = trial(change=Change("scale", (3,), factor=1.0))
    silent = replace(twin, frequency=np.zeros(30))
    for asked, of in ((replaced, twin), (idle, twin), (trial(n_random=0), twin), (trial(), silent)):
        assert not any(arm == "twin" for _, arm in arms(asked, twin=of))


def test_features_of_a_twin_are_matched_among_those_that_fire_the_same_numbers_too():
    frequency = np.linspace(0, 1, 400) ** 3
    shares = np.where(np.arange(400) % 2, frequency, 0.0)
    sets = matched_features(frequency, (10, 200, 390), 30, twin=shares, nearest=8)
    assert all(shares[list(some)].all() and len(set(some)) == 3 for some in sets)
    assert all(abs(near - own) <= 20 for some in sets for near, own in zip(some, (10, 200, 390), strict=True))
    assert (
        matched_features(frequency, (11, 201), 2, twin=shares, nearest=1) == [(11, 201)] * 2
    )  # itself, if it is there
    with pytest.raises(InterventionError, match="only 2 of the twin fire"):
        matched_features(frequency, (1, 2, 3), 1, twin=np.array([0.1, 0.0, 0.2]))
