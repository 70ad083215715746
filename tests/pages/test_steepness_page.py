"""The page of evidence: one pair, all pairs, the metrics, and geometry side by side, in every state of a study."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import duckdb
import pandas as pd
import pytest

from app.shared import live
from app.shared.geometry_columns import place_in_words
from app.shell import vocabulary
from app.steepness import all_curves, all_pairs, anchors, fitted_curve, local_geometry, one_pair, resample_now
from app.steepness.course_words import course_in_words
from app.steepness.views import PARTS
from backend.evidence.curve_bands import Drawn, Parameter
from backend.live.service import Status
from backend.schema.tables import TABLES
from backend.store.experiments import Experiments
from backend.store.store import Store, generation_of
from tests import small_study
from tests.pages.conftest import words

VIEWS = tuple(PARTS)
PAIR = {"geometry_column": "fisher_steepness", "direction": "random", "metric": "counterfactual_importance_kl:ta"}


@pytest.fixture(scope="module")
def without_geometry(tmp_path_factory):
    """A study made before there was any exact geometry: its new tables are empty."""
    return small_study.make(tmp_path_factory.mktemp("old") / "small", geometry=False)


def page(opened, study, **selection):
    test = opened("steepness", study, study="small", **selection)
    assert not test.exception, test.exception
    return test


def table(test, column: str) -> pd.DataFrame:
    """The table that has such a column."""
    return next(frame.value for frame in test.dataframe if column in frame.value)


LEAD = "ρ within CoTs, 95 % over problems"


def evidence_of(test) -> dict[str, str]:
    shown = table(test, "all chunks")
    return dict(zip(shown["quantity"], shown["all chunks"], strict=True))


def turned(test, **selection) -> str:
    """What the page says when it is run again with this selected too."""
    test.session_state["selection"].update(selection)
    test.run()
    assert not test.exception, test.exception
    return words(test)


# Every view in every state


def test_every_view_shows_a_whole_study(opened, whole):
    test = page(opened, whole)
    for view in VIEWS:
        said = turned(test, steepness_part=view)
        assert (
            "python -m precompute" not in said
            and "ignored" not in said
            and test.query_params["steepness_part"] in (view, [view])
        )


def test_without_exact_geometry_a_view_shows_what_is_there_and_names_the_stage_for_the_rest(opened, without_geometry):
    test = page(opened, without_geometry)
    assert "Computed here" in words(test) and evidence_of(test)["q over all pairs"] == "unknown"
    assert evidence_of(test)["held fixed"].startswith("chunk length")
    stages = {
        "pair": None,
        "metrics": None,
        "curves": None,
        "pairs": "evidence",
        "geometry": "geometry",
        "anchors": "anchors",
    }
    for view, stage in (stages | {"random": "random_steps"}).items():
        said = turned(test, steepness_part=view)
        assert (f"--stage {stage}" in said) if stage else ("--stage" not in said)


def test_a_study_in_the_making_and_an_imported_one_open_at_every_view(opened, running, imported):
    young = page(opened, running)
    for view in VIEWS:
        assert "python -m precompute" in turned(young, steepness_part=view)
    published = page(opened, imported, view="pairs")
    turned(published, steepness_part="metrics")
    assert "imported as text" in turned(published, steepness_part="geometry")


# One pair


def test_every_sort_of_column_has_its_scatter(opened, whole):
    test = page(opened, whole)
    for x, axis in (
        ("isotropic_steepness", "Isotropic steepness"),
        ("curvature", "Curvature"),
        ("participation_ratio", "Participation"),
        ("different_trajectories_fraction", "Different trajectories"),
    ):
        assert axis in turned(test, geometry_column=x) and evidence_of(test)[LEAD] != "unknown [unknown]"


def test_links_of_before_open_what_they_named(opened, whole):
    swept = Store(whole).steepness_choices().iloc[0]
    old = {
        "swept": f"{swept.model_id}:{swept.layer}:rms",
        "kind": "random",
        "position": "chunk",
        "metric": "overdeterminedness:all",
        "scale": "log",
        "intervals": "yes",
    }
    test = page(opened, whole, **old)
    named = {
        "model": swept.model_id,
        "layer": str(swept.layer),
        "unit": "rms",
        "direction": "random",
        "position": "chunk",
        "geometry_axis": "log",
        "metric": "overdeterminedness:all",
        "importance_intervals": "yes",
    }
    assert named.items() <= test.session_state["selection"].items() and not {"swept", "kind"} & set(
        test.session_state["selection"]
    )
    assert "Overdeterminedness" in words(test) and "ignored" not in words(test)


def test_a_layer_stays_chosen_where_a_column_is_not_had_at_it_and_what_stands_in_for_it_is_said(opened, whole):
    test = page(opened, whole, column="curvature", direction="random", position="chunk")
    layer = next(box for box in test.selectbox if box.label == "Residual stream of")
    assert layer.value.endswith(":15")  # the swept one
    layer.set_value("layer 5").run()
    assert "Shown" not in words(test)
    said = turned(test, geometry_column="fisher_steepness")
    assert "Not here: layer 5. Shown: layer 15." in said and "ignored" not in said
    chosen = test.session_state["selection"]
    assert (chosen["layer"], chosen["direction"], chosen["position"]) == ("5", "random", "chunk")
    assert "Shown" not in turned(test, geometry_column="curvature")


def test_evidence_that_is_stored_is_read_and_not_computed(opened, whole, monkeypatch):
    monkeypatch.setattr(one_pair, "evidence_of", None)
    test = page(opened, whole, **PAIR)
    shown = evidence_of(test)
    assert shown[LEAD] == "−0.60 [−0.75, −0.45]" and shown["q over all pairs"] == "0.003"
    assert shown["Spearman ρ over all chunks, 95 % over problems"] == "0.30 [0.15, 0.45], the other way"
    assert shown["would be found (ρ within CoTs: share)"] == "−0.15: 30%, −0.25: 93%, −0.40: 100%"
    assert "which runs the other way" in words(test)
    assert "Computed here" not in words(test)
    curves = table(test, "curve")
    assert (curves["AIC − least"].str.endswith("best")).sum() == 1 and "A/(x + x₀) + c" in set(curves["curve"])


def test_shuffling_says_so_takes_a_new_seed_each_time_and_can_be_undone(opened, whole):
    test = page(opened, whole, **PAIR)
    for seed in (1, 2):
        test.button(key="shuffle").click().run()
        assert f"Shuffled, seed {seed}: ρ within CoTs =" in words(test) and "Measured: −0.60" in words(test)
    test.button(key="unshuffle").click().run()
    assert "Shuffled" not in words(test)


def test_the_selected_chunk_has_its_exact_geometry_beside_it(opened, whole):
    chunk = Store(whole).frame(
        "SELECT chunk_id FROM local_geometry WHERE eigenvalues IS NOT NULL ORDER BY chunk_id LIMIT 1"
    )["chunk_id"][0]
    test = page(opened, whole, chunk=chunk)
    rows = dict(table(test, "value").to_numpy())
    assert "±" in rows["isotropic steepness tr(G)/2d"] and "±" in rows["participation ratio of G"]
    assert (
        "curvature" in rows
        and len(table(test, "pure square")) == 4
        and "Half the leading eigenvalues of G" in words(test)
    )


# All pairs


def test_the_answer_is_given_in_words_with_numbers_and_the_rule_of_multiple_testing(opened, whole):
    test = page(opened, whole, view="pairs")
    said = words(test)
    assert "is inversely related to steepness in 1 of 3 pairs; 1 of 3 are beyond chance (q ≤ 0.05)" in said
    assert (
        "within CoTs ρ = −0.60 [−0.75, −0.45], Fisher steepness" in said
        and "over all chunks ρ = 0.30, the other way" in said
    )
    assert "Fisher steepness" in said and "layer 15" in said and "by chance [−0.30, 0.30]" in said
    assert "Benjamini and Hochberg" in said and "6 pairs on all chunks" in said
    assert "Different trajectories (share of rollouts): unknown here" in said
    for chosen, n in ({"pairs_among": "away_from_origin"}, 6), ({"pairs_among": "all", "pairs_law": "inverse"}, 1):
        turned(test, **chosen)
        assert len(table(test, "|ρ|")) == n


def pair_rows(**values) -> pd.DataFrame:
    usual = {
        "x": "steepness",
        "kind": "random",
        "model_id": "m",
        "layer": 3,
        "position": "anchor",
        "unit": "rms",
        "convention": "ta",
        "metric": "counterfactual_importance_kl",
        "subset": "all",
        "within": -0.1,
        "within_low": -0.3,
        "within_high": 0.1,
        "p": 0.5,
        "model": "ours",
        "shared": "",
        "q": 0.8,
        "within_null_low": -0.2,
        "within_null_high": 0.2,
        "verdict": "none",
        "n": 90,
        "n_problems": 8,
        "spearman": -0.1,
        "ci_low": -0.3,
        "ci_high": 0.1,
        "p_allowed": 0.01,
        "n_planted": 200,
        "planted_rho": [-0.25],
        "planted_found": [0.62],
        "planted_p": [0.04],
    }
    return pd.DataFrame([usual | dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)])


@pytest.mark.parametrize(
    ("rho", "q", "verdict", "said"),
    [
        (
            (-0.1, 0.05),
            (0.8, 0.9),
            ("none", "none"),
            "no association is claimed in any of 2 pairs with steepness; none is beyond what chance does",
        ),
        (
            (-0.4, 0.05),
            (0.01, 0.9),
            ("none", "none"),
            "1 of 2 are beyond chance (q ≤ 0.05), but fail another condition",
        ),
        (
            (0.4, 0.05),
            (0.01, 0.9),
            ("direct", "none"),
            "is not inversely related to steepness here: it rises with steepness in 1 of 2",
        ),
        ((0.4, -0.4), (0.01, 0.01), ("direct", "inverse"), "falls with steepness in 1 and rises with it in 1 of 2"),
    ],
)
def test_the_headline_claims_no_more_than_the_verdicts(rho, q, verdict, said):
    divergence, first, second = all_pairs.headline(pair_rows(within=rho, q=q, verdict=verdict))
    assert said in first and "unknown here" in second and "unknown here" in divergence  # none of it was tested
    worth = "An association of ρ = −0.25 within CoTs, planted in one of them, would have been claimed in 62% of cases."
    assert (worth in first) == (set(verdict) == {"none"})
    ways = {"inverse": "It falls", "direct": "It rises"}
    for way, how in ways.items():
        assert (f"{how} with steepness for ours: {vocabulary.studied_words('random')} (layer 3)." in first) == (
            way in verdict
        )


def test_choosing_a_row_opens_its_scatter(opened, whole):
    test = page(opened, whole, view="pairs")
    shown = next(frame for frame in test.dataframe if frame.key.startswith("pairs_"))
    assert shown.value["|ρ|"].is_monotonic_decreasing
    states = test._tree.get_widget_states()
    states.widgets.add(id=shown.proto.id, string_value='{"selection": {"rows": [0], "columns": [], "cells": []}}')
    test._run(states)
    assert not test.exception and "ignored" not in words(test)
    chosen = test.session_state["selection"]
    assert chosen["steepness_part"] == "pair" and {name: chosen[name] for name in PAIR} == PAIR
    assert evidence_of(test)["q over all pairs"] == "0.003"


def test_pairs_that_a_rule_of_before_judged_are_unknown_and_their_power_too():
    unjudged = pair_rows(x=["steepness"], within=[None], verdict=[None], q=[None], n_planted=[None], p_allowed=[None])
    table = all_pairs.pair_table(unjudged.assign(partial=None, covariates=None, n_cots=9))
    assert table["association"].tolist() == ["unknown"] and table[["ρ", "power", "detectable from"]].isna().all(
        axis=None
    )
    assert "unknown here" in all_pairs.headline(unjudged)[0]


def test_a_pair_is_named_by_what_it_has():
    rows = pair_rows(x=["steepness", "curvature"], kind=["random", "none"], position=["anchor", "none"])
    assert (
        place_in_words(rows.iloc[0]) == "direction: random directions (mean over them), layer 3, token before the chunk"
    )
    assert place_in_words(rows.iloc[1]) == "layer 3"


# Metrics, and resampling


def test_resampling_is_refused_with_the_reason_where_the_model_is_not_at_hand(opened, whole):
    test = page(opened, whole, view="metrics")
    assert test.button(key="resample").disabled
    assert any("can be drawn" in str(text.value) or "not on this machine" in str(text.value) for text in test.text)


LOOKS = [
    {
        "n_new": 0,
        "n": 6,
        "n_comparator": 8,
        "value": None,
        "low": None,
        "high": None,
        "half_width": None,
        "is_narrow": False,
    },
    {
        "n_new": 16,
        "n": 22,
        "n_comparator": 24,
        "value": 0.25,
        "low": 0.2,
        "high": 0.3,
        "half_width": 0.05,
        "is_narrow": True,
    },
]
SAMPLE = {
    "chunk_id": "c_x_0002",
    "similarity": None,
    "answer": None,
    "is_correct": None,
    "resampled_chunk": small_study.HOSTILE[0],
}


@pytest.fixture
def resampling(monkeypatch):
    """A service that knows one resampling, whose status the test sets."""
    known = SimpleNamespace(status=None, asked=0)
    fake = SimpleNamespace(status=lambda _: known.status, cancel=lambda _: None)
    monkeypatch.setattr(live, "service", lambda: fake)
    monkeypatch.setattr(live, "add_rollouts", lambda *_, again=False: setattr(known, "asked", known.asked + 1))
    monkeypatch.setattr(resample_now, "resample_request", lambda *_, **how: how["half_width"])
    monkeypatch.setattr(resample_now, "writer", lambda *_: SimpleNamespace(model_id="m"))
    return known


def status(state: str, **result) -> Status:
    return Status("x1", state, None, {"looks": LOOKS, "samples": [SAMPLE]} | result, (16, 128), None, None, 3.0)


def test_a_resampling_is_followed_and_its_interval_and_stop_are_told(opened, whole, resampling):
    test = page(opened, whole, view="metrics")
    test.button(key="resample").click()
    test.run()
    assert resampling.asked == 1
    resampling.status = status("running")
    test.run()
    assert (
        "With 16 new rollouts" in words(test)
        and test.button(key="resample_stop")
        and test.button(key="resample").disabled
    )
    resampling.status = status("finished", stopped="narrow")
    test.run()
    assert not test.exception
    assert resample_now.STOPPED["narrow"] in words(test) and "0.25, 95 % interval [0.2, 0.3], half-width 0.05" in words(
        test
    )
    assert "half of the 95 % interval is narrow enough" in words(test)
    resampling.status = status("stopped")
    test.run()
    assert "Stopped by you" in words(test)
    resampling.status = replace(status("failed"), error="The worker ended.")
    test.run()
    assert "The worker ended." in words(test) and "Stopped by you" not in words(test)
    test.button(key="resample").click().run()
    assert resampling.asked == 2


def test_a_jsd_converges_is_decided_and_can_be_resampled(opened, tmp_path, resampling):
    study = small_study.make(tmp_path / "small")
    chunk = small_study.add_divergence(study, [(0, 0.2, 0.001)])[0]
    test = page(opened, study, view="metrics", chunk=chunk)
    (chosen,) = [box for box in test.selectbox if box.label == "Importance"]
    assert chosen.value == "counterfactual_importance_jsd:jsd"
    assert "More than chance: permutation p = 0.001" in words(test) and "random orders" in words(test)
    assert "How it converges" not in words(test) and not test.button(key="resample").disabled
    last = LOOKS[-1] | {"p": 0.02, "n_all": 46, "n_without_answer": 0, "n_forced": 0, "n_from_earlier": 7}
    resampling.status = status("finished", stopped="narrow", looks=[*LOOKS[:-1], last])
    test.run()
    assert "Permutation p = 0.02, of this chunk alone." in words(test)
    assert "7 from before earlier chunks that write the chain up to here" in words(test)


def test_what_was_drawn_later_is_pooled_and_a_link_opens_it(opened, tmp_path, resampling):
    study = small_study.make(tmp_path / "small")
    with closing(Store(study)) as store:
        own = store.arrow("SELECT * FROM rollouts WHERE kind = 'resample' ORDER BY rollout_id LIMIT 1").to_pylist()[0]
    for number, (added_id, stopped) in enumerate((("xfirst", "most"), ("xsecond", "person"))):
        drawing = dict.fromkeys(TABLES["added"].columns) | {
            "added_id": added_id,
            "created_at": datetime(2026, 1, 2 + number, 3, 4),
            "chunk_id": own["chunk_id"],
            "cot_id": own["cot_id"],
            "metric": "counterfactual_importance_kl",
            "convention": "ta",
            "half_width": 0.1,
            "stopped": stopped,
            "n": 1,
            "seed": 11,
            "looks": json.dumps(LOOKS),
        }
        row = own | {"sample": 6 + number, "rollout_id": f"{own['chunk_id']}_r{6 + number:04d}", "added_id": added_id}
        Experiments(study).add_rollouts(drawing, [row])
    test = page(opened, study, view="metrics", chunk=own["chunk_id"], added_rollouts="xfirst")
    assert "Before this chunk: 6 of the study + 2 drawn later = 8 rollouts" in words(test)
    assert resample_now.STOPPED["most"] in words(test) and "The 1 new rollouts" in str(test.expander)
    newest = page(opened, study, view="metrics", chunk=own["chunk_id"])
    assert resample_now.STOPPED["person"] in words(newest)


def test_a_narrow_interval_of_rollouts_that_agree_says_why_it_does_not_stop():
    look = {"half_width": 0.0, "is_degenerate": True, "n": 20, "n_comparator": 24, "n_rarer": 2}
    why = resample_now.refusal(look, 0.1)
    assert "only 2 of 44 rollouts have another outcome" in why and "goes on to the maximal number" in why
    assert resample_now.refusal(look | {"is_degenerate": False}, 0.1) is None
    assert resample_now.refusal(look | {"half_width": 0.2}, 0.1) is None
    assert resample_now.refusal(look | {"half_width": None}, 0.1) is None


def test_a_metric_that_cannot_be_drawn_anew_says_why():
    assert "forced answers" in resample_now.why_not("forced_importance_kl", "ta")
    assert "every sentence" in resample_now.why_not("resilience", "all")
    assert "published" in resample_now.why_not("counterfactual_importance_kl", "published")
    assert resample_now.why_not("counterfactual_importance_kl", "ta") is None
    assert resample_now.why_not("counterfactual_importance_jsd", "jsd_numbers") is None


def test_convergence_looks_at_as_many_rollouts_as_both_sides_have():
    rollouts = pd.DataFrame({"chunk_id": ["a"] * 40 + ["b"] * 20})
    sizes = resample_now.sizes_of(rollouts, ("a", "b"), "a", "counterfactual_importance_kl")
    assert sizes[0] == 4 and sizes[-1] == 20 and list(sizes) == sorted(set(sizes))
    assert resample_now.sizes_of(rollouts, ("a", "b"), "a", "different_trajectories_fraction")[-1] == 40
    assert resample_now.sizes_of(rollouts, ("a", "b"), "b", "counterfactual_importance_kl") == ()


# The curve through a pair


def test_the_curve_is_chosen_in_the_link_and_says_its_parameters_and_what_the_selection_makes(opened, whole):
    test = page(opened, whole, **PAIR)
    assert list(table(test, "parameter")["parameter"]) == ["A", "x0", "c"]
    said = words(test)
    assert "Dawes 2025 reports an inverse relationship" in said and "draws of whole problems" in said
    assert "Why leaving out the corner proves nothing by itself" in said and len(table(test, "slope, 95 %")) == 3
    for curve, names in {
        "linear": ["intercept", "slope"],
        "theil_sen": ["intercept", "slope"],
        "constant": ["c"],
    }.items():
        turned(test, fitted_curve=curve)
        assert list(table(test, "parameter")["parameter"]) == names
    turned(test, fitted_curve="none")
    assert not [frame for frame in test.dataframe if "parameter" in frame.value]


def drawn_curve(low, high, curve="inverse", name="A") -> Drawn:
    return Drawn(curve, 40, 7, {name: Parameter((low + high) / 2, low, high)}, n_draws=200)


def test_what_the_curve_says_is_read_off_the_interval_of_the_parameter_that_bends_it():
    def said(*found):
        return fitted_curve.in_words({"all": found[0], "away_from_origin": found[-1]})

    assert said(drawn_curve(0.5, 2)).count("it falls") == 2
    assert said(drawn_curve(-2, -1)).count("it rises") == 2
    assert "neither falls nor rises for certain" in said(drawn_curve(-1, 1))
    assert said(drawn_curve(0.5, 2, "linear", "slope")).count("it rises") == 2
    assert "unknown" in said(drawn_curve(float("nan"), float("nan")))
    assert "not fitted, too few" in said(Drawn("inverse", 3, 1, note="too few"))
    assert "has no way to fall" in said(drawn_curve(0, 1, "constant", "c"))


# All curves


def test_every_curve_is_there_with_what_is_swept_and_what_is_not(opened, whole):
    test = page(opened, whole, steepness_part="curves")
    store = Store(whole)
    swept = store.frame("SELECT DISTINCT kind, position FROM kl_curves")
    said = words(test)
    n = store.frame("SELECT count(DISTINCT chunk_id) AS n FROM kl_curves WHERE layer = 15")["n"][0]
    assert f"{n} chunks of" in said and "Dawes 2025 (section 3) steers each chunk" in said
    assert "Not swept at this layer: kinds: along the manifold (local tangent)" in said
    assert len(set(swept["position"])) == 2 and "positions:" not in said
    assert "times (n =" in said and "Not swept here: along the manifold" in said
    assert "no place on a log axis" in said and "no place on a log axis" not in turned(test, kl_axis="linear")
    turned(test, position="chunk")


def test_ratios_are_said_at_the_largest_beta_and_one_kind_alone_has_none():
    rows = pd.DataFrame(
        {"kind": ["per_chunk"] * 2, "beta": [1.0, 10.0], "ratio": [9.0, 2.0], "low": [8.0, 1.5], "high": [10.0, 2.5]}
    ).assign(n=40, n_problems=7, n_left_out=3)
    said = all_curves.ratios_in_words(rows, "random")
    assert "at β = 10" in said and "2 [1.5, 2.5] times (n = 40 chunks of 7 problems, 3 left out)" in said
    assert "nothing to compare" in all_curves.ratios_in_words(rows.iloc[:0], "random")


# Random directions


def test_random_directions_are_of_every_chunk_and_what_is_at_the_floor_is_counted(opened, whole):
    test = page(opened, whole, steepness_part="random", position="anchor")
    steps = Store(whole).whole_table("random_steps").to_pandas()
    said, floored = words(test), int((steps["n_below_floor"] > 0).sum())
    assert f"Here: {len(steps)} chunks of" in said and f"over {len(steps)} chunks and 16 directions" in said
    assert f"{floored} whose smallest KL lies at or below the noise floor" in said and floored > 0
    assert "16 random directions come to" in said and "What G itself says" in said
    turned(test, steepness_part="pair", **PAIR)
    values = table(test, "value").set_index("quantity")["value"]
    assert "16 random directions" in values["anisotropy ratio at magnitude 1"]


def test_a_study_of_before_shows_the_few_chunks_of_the_exact_geometry(opened, whole):
    test = page(opened, whole, steepness_part="random", position="chunk")
    known = Store(whole).frame("SELECT * FROM local_geometry WHERE position = 'chunk' AND n_random IS NOT NULL")
    assert f"Here: {len(known)} chunks of" in words(test)


# Anchors before and after


def test_the_study_of_anchors_is_said_with_its_pairs_problems_and_intervals_beside_what_was_proposed(opened, whole):
    test = page(opened, whole, view="anchors")
    said = words(test)
    assert anchors.PROPOSED in said
    # of five anchors one has no match, and one a match without a direction
    assert "This study, 3 pairs of an anchor and a matched chunk (3 CoTs, 3 problems; 5 anchors were steered)" in said
    assert said.count("95 % interval of this factor") >= 8 and "Along any direction, just before every chunk" in said
    assert "KL on the rest of the CoT just before an anchor" in said
    assert "What becomes of the attention" not in said and "attention to an anchor is ×" in said
    assert "KL on the answer's tokens" in turned(test, anchor_readout="answer") and "shows nothing about it" in words(
        test
    )


def test_the_selected_chunk_is_shown_where_it_was_steered_and_another_where_not(opened, whole):
    store = Store(whole)
    rows = store.frame("SELECT chunk_id, is_anchor, norm FROM counterfactuals ORDER BY chunk_id")
    match = rows.loc[~rows["is_anchor"] & rows["norm"].notna(), "chunk_id"].iloc[0]
    test = page(opened, whole, view="anchors", chunk=match)
    assert "was not steered towards" not in words(test) and "at anchors alone" in words(test)
    lost = rows.loc[rows["norm"].isna(), "chunk_id"].iloc[0]
    assert "no direction to its counterfactuals: its vector is zero" in turned(test, chunk=lost)
    elsewhere = f"{match.rpartition('_')[0]}_0000"
    assert "was not steered towards its counterfactual; shown is one that was" in turned(test, chunk=elsewhere)
    assert "95 % interval of the" in words(test)


def test_a_store_from_before_there_were_steered_anchors_says_what_to_run(opened, tmp_path):
    study = small_study.make(tmp_path / "small")
    with duckdb.connect(str(generation_of(study))) as connection:
        for table in ("counterfactuals", "anchor_steering", "anchor_attention"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
    said = words(page(opened, study, view="anchors"))
    assert "Put a table [anchors] into the study file" in said and "--stage anchors" in said


# Side by side


def test_the_views_side_by_side_are_of_the_same_chunks(opened, whole):
    cot = Store(whole).frame("SELECT cot_id FROM before_after JOIN chunks USING (chunk_id) LIMIT 1")["cot_id"][0]
    test = page(opened, whole, view="anchors", cot=cot, kind="per_chunk")
    assert "log of KL on the answer" in words(test) and "KL(steered ‖ unsteered)" in words(test)
    store, place = Store(whole), {"model_id": small_study._MODEL, "layer": 15, "position": "anchor", "unit": "rms"}
    found = local_geometry.swept_and_fisher(store, place, "random")
    own = store.frame(
        "SELECT chunk_id, avg(fisher_steepness) AS f FROM fisher WHERE kind = 'random' AND position = 'anchor' GROUP BY"
        " chunk_id"
    ).set_index("chunk_id")["f"]
    assert len(found) == len(own) and found.set_index("chunk_id")["fisher_steepness"].to_dict() == pytest.approx(
        own.to_dict()
    )


def steered(kl_by_place) -> pd.DataFrame:
    """Rows of a CoT whose KL on the answer is `kl_by_place`, two directions that differ little, at β = ±1."""
    n = len(kl_by_place) - 1
    return pd.DataFrame(
        [
            {
                "chunk_id": f"c_{k:04d}",
                "direction_id": d,
                "side": side,
                "beta": beta,
                "noise_floor": None,
                "kl_answer": kl_by_place[k + (side == "after")] * (1 + 0.02 * number),
            }
            for k in range(n)
            for number, d in enumerate("abc")
            for side in ("before", "after")
            for beta in (-1.0, 1.0)
        ]
    )


def test_whether_the_answer_settles_gradually_or_in_a_step_is_said_with_its_place():
    def said(kl):
        return course_in_words(local_geometry.along(steered(kl)), "KL on the answer")

    sharp = said([1.0] * 6 + [0.01] * 6)
    assert (
        sharp.startswith("Sharp: log of KL on the answer changes in one step, -4.6 in size") and "at chunk 6" in sharp
    )
    assert said([2.0**-k for k in range(12)]).startswith("Gradual: log of KL on the answer changes by -0.69 a chunk")
    assert "4 are needed" in said([1.0, 0.5])
    own = steered([1.0] * 12).assign(
        direction_id=lambda rows: rows["chunk_id"]
    )  # a direction of each chunk's own tells nothing
    assert local_geometry.along(own).n_places == 0


def test_what_the_selected_chunk_lacks_is_one_click_away(opened, whole):
    """Of a study where some chunks have finite steps and some chains were steered before and after."""
    store = Store(whole)
    places = store.frame("SELECT * FROM local_geometry WHERE position = 'chunk' ORDER BY chunk_id")
    lacking = places[places["n_random"].isna()]
    test = page(opened, whole, view="random", position="chunk", chunk=lacking["chunk_id"].iloc[0])
    test.button(key="finite_steps_at").click().run()
    assert not test.exception and test.session_state["selection"]["chunk"] in set(
        places.loc[places["n_random"].notna(), "chunk_id"]
    )


def test_where_reader_and_writer_differ_the_page_says_whose_is_which(monkeypatch):
    said = []
    monkeypatch.setattr(one_pair, "show", said.append)
    monkeypatch.setattr(one_pair.studies, "ask", lambda _: pd.DataFrame({"reader": ["A"], "writer": ["B"]}))
    one_pair.whose(SimpleNamespace(read_by_others=None))
    assert said == ["Steepness is that of A, reading; importance that of B, which wrote the chains."]
