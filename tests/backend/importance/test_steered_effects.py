import numpy as np
import pandas as pd
import pytest

from backend.importance.metrics import importance_of_cot
from backend.importance.steered_effects import ANSWERS_CHANGED, QUANTITIES, effects_of_chunk
from backend.statistics.intervals import wilson

N = 12


def samples(seed: int = 0, *, n: int = N, unknown: float = 0.1) -> pd.DataFrame:
    """Random answers of three arms from both starts."""
    rng = np.random.default_rng(seed)
    rows = []
    for start in ("before", "after"):
        for arm in ("base", "steered", "random"):
            for number in range(n):
                answer = None if rng.random() < unknown else str(rng.integers(3))
                rows.append(
                    {
                        "start": start,
                        "arm": arm,
                        "sample": number,
                        "answer": answer,
                        "cluster": answer,
                        "is_correct": None if answer is None else answer == "1",
                        "similarity": float(rng.random() * 0.5 + 0.5) if start == "before" else None,
                        "resampled_chunk": f"s{rng.integers(4)}" if start == "before" else None,
                    }
                )
    return pd.DataFrame(rows)


def effect(rows: pd.DataFrame, quantity: str, convention: str = "all", arm: str = "steered", **options) -> pd.Series:
    found = pd.DataFrame(effects_of_chunk(rows, seed=0, **{"n_bootstrap": 0} | options))
    return found[(found["quantity"] == quantity) & (found["convention"] == convention) & (found["arm"] == arm)].iloc[0]


def plain_importance(rows: pd.DataFrame, arm: str, metric: str, convention: str) -> float:
    """As the study's own importance would be, were these its rollouts before the chunk and before the next one."""
    own = rows[rows["arm"] == arm]
    told = own.assign(
        chunk_id=own["start"].map({"before": "i", "after": "j"}), kind="resample", answer_cluster=own["cluster"]
    )
    n_outcomes = rows["cluster"].nunique()
    found = importance_of_cot(told, ["i", "j"], n_bootstrap=0, seed=0, n_outcomes=n_outcomes, metrics=[metric])
    found = found.set_index(["chunk_id", "metric", "convention"])
    return found.loc[("i", metric, convention), "value"]


@pytest.mark.parametrize("seed", range(3))
def test_a_rescored_importance_is_that_of_the_arms_own_rollouts_less_that_of_the_unsteered_ones(seed):
    rows = samples(seed)
    rows["same_numbers"] = rows["resampled_chunk"].map({f"s{k}": k < 2 for k in range(4)})
    found = pd.DataFrame(effects_of_chunk(rows, n_bootstrap=0, seed=0))
    found = found[found["quantity"].map(lambda name: QUANTITIES[name].rescored)]
    of_jsd = found[found["quantity"].str.endswith("_jsd")]
    assert sorted(of_jsd["convention"]) == ["jsd"] * 4 + ["jsd_numbers"] * 2
    assert len(found) == 2 * (3 + 3 + 3 + 3 + 1 + 1 + 1 + 1)
    for row in found.itertuples():
        unsteered, steered = (plain_importance(rows, arm, row.quantity, row.convention) for arm in ("base", row.arm))
        assert (row.unsteered, row.steered) == (pytest.approx(unsteered), pytest.approx(steered))
        assert row.value == pytest.approx(steered - unsteered)


def test_the_share_of_changed_answers_is_counted_pair_by_pair_and_has_wilsons_interval():
    rows = samples()
    after = rows[rows["start"] == "after"].set_index(["arm", "sample"])["answer"]
    pairs = [(after["base", k], after["steered", k]) for k in range(N)]
    known = [(one, other) for one, other in pairs if isinstance(one, str) and isinstance(other, str)]
    changed = sum(one != other for one, other in known)
    found = effect(rows, ANSWERS_CHANGED)
    assert (found["value"], found["n"]) == (changed / len(known), len(known)) and 0 < changed < len(known) < N
    assert (found["ci_low"], found["ci_high"]) == wilson(changed, len(known))


def test_the_shift_is_a_kl_of_steered_from_unsteered_continuations_over_correct_and_wrong():
    rows = samples()
    counts = {
        arm: np.array([(own == verdict).sum() for verdict in (False, True)]) + 1.0
        for arm, own in rows[rows["start"] == "after"].groupby("arm")["is_correct"]
    }
    p, q = (counts[arm] / counts[arm].sum() for arm in ("steered", "base"))
    assert effect(rows, "outcome_shift_kl", "fl")["value"] == pytest.approx((p * np.log(p / q)).sum())
    judged = rows[rows["start"] == "after"].dropna(subset="is_correct").groupby("arm")["is_correct"]
    accuracy = judged.apply(lambda own: own.astype(float).mean())
    assert effect(rows, "outcome_shift_accuracy")["value"] == pytest.approx(accuracy["steered"] - accuracy["base"])


def test_a_shift_of_the_answers_has_the_interval_of_a_jsd_and_holds_it():
    """Every steered continuation answers what no unsteered one does: ln 2, less what the prior takes."""
    rows = samples(n=40, unknown=0)
    moved = (rows["arm"] == "steered") & (rows["start"] == "after")
    rows.loc[moved, ["answer", "cluster"]] = "9"
    found = effect(rows, "outcome_shift_jsd", "jsd", n_bootstrap=2)
    assert 0.45 < found["value"] < np.log(2) and found["ci_low"] < found["value"] < found["ci_high"] <= np.log(2)
    other = effect(rows, "outcome_shift_jsd", "jsd", arm="random", n_bootstrap=2)
    assert other["ci_low"] < 0 < other["ci_high"] and abs(other["value"]) < 0.1


def test_where_steering_changes_nothing_every_effect_is_exactly_none():
    rows = samples()
    base = rows[rows["arm"] == "base"]
    same = pd.concat([base.assign(arm=arm) for arm in ("base", "steered", "random")])
    found = pd.DataFrame(effects_of_chunk(same, n_bootstrap=20, seed=0))
    is_shift = found["quantity"] == "outcome_shift_jsd"
    # Nearer than chance would have them: its estimate is below 0, as a JSD's of equal shares is.
    assert (found.loc[is_shift, "value"] < 0).all() and (found.loc[is_shift, "ci_low"] < 0).all()
    found = found[~is_shift]
    assert (found["value"] == 0).all()
    bootstrapped = found[found["quantity"] != ANSWERS_CHANGED]
    assert (bootstrapped["ci_low"] == 0).all() and (bootstrapped["ci_high"] == 0).all()


def test_the_interval_narrows_as_samples_grow_and_holds_the_value():
    few, many = (
        effect(samples(n=n, unknown=0), "counterfactual_importance_accuracy", "paper", n_bootstrap=40)
        for n in (20, 160)
    )
    assert few["ci_low"] < few["value"] < few["ci_high"]
    assert many["ci_high"] - many["ci_low"] < 0.5 * (few["ci_high"] - few["ci_low"])


def test_what_no_sample_says_is_unknown_and_not_0():
    rows = samples()
    silent = rows.assign(**{name: rows[name].astype(object) for name in ("answer", "cluster", "is_correct")})
    silent.loc[silent["start"] == "after", ["answer", "cluster", "is_correct"]] = None
    found = pd.DataFrame(effects_of_chunk(silent, n_bootstrap=5, seed=0)).set_index("quantity")
    known = found.drop(
        index=["different_trajectories_fraction", "different_trajectories_fraction_numbers", "counterfactual_accuracy"]
    )  # of rollouts before it alone
    assert known[["value", "ci_low", "ci_high"]].isna().all(axis=None) and (known["n"] == 0).all()


def test_arms_of_other_samples_are_refused():
    rows = samples()
    with pytest.raises(ValueError, match="the same numbers"):
        effects_of_chunk(rows[(rows["arm"] != "random") | (rows["sample"] > 0)], seed=0)
