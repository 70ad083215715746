import numpy as np
import pandas as pd

from backend.statistics.permutation import shuffled


def frame():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(60) < 0.2, np.nan, rng.random(60))
    return pd.DataFrame({"x": rng.random(60), "y": y, "cot_id": rng.permutation(np.repeat(["a", "b", "c"], 20))})


def test_a_shuffle_keeps_each_cots_importances_and_changes_their_places():
    before, after = frame(), shuffled(frame(), seed=0)
    for cot, rows in after.groupby("cot_id"):
        assert sorted(rows["y"].dropna()) == sorted(before.loc[before["cot_id"] == cot, "y"].dropna())
    assert (after["y"] != before["y"]).sum() > 40
    assert after.drop(columns="y").equals(before.drop(columns="y"))


def test_unknown_importances_stay_where_they_are():
    assert (shuffled(frame(), seed=0)["y"].isna() == frame()["y"].isna()).all()


def test_the_seed_decides():
    assert shuffled(frame(), seed=1).equals(shuffled(frame(), seed=1))
    assert not shuffled(frame(), seed=1).equals(shuffled(frame(), seed=2))
