"""Two kept runs: number by number, each with its interval, and a difference only where both know it."""

import numpy as np

from app.shell.vocabulary import ARMS
from app.steering.compared_runs import along_beta, along_the_text, arms, effects, settings, texts


def stream(*kls: float | None, parted: int | None = 1) -> dict:
    tokens = [{"text": f" t{at}", "kl": kl} for at, kl in enumerate(kls)]
    return {"arms": {"changed": {"tokens": tokens}, "base": {"tokens": tokens[:1]}}, "first_divergence": parted}


def measured(value: float | None, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high}


def test_only_what_differs_in_how_they_were_made_is_told():
    rows = settings({"seed": "1", "β": "4", "place": None}, {"seed": "1", "β": "8", "place": "anchor"})
    assert rows["setting"].tolist() == ["β", "place"] and rows["the other"].tolist() == ["8", "anchor"]
    assert rows["this"].dropna().tolist() == ["4"]
    assert settings({"seed": "1"}, {"seed": "1"}).empty


def test_texts_are_compared_position_by_position():
    own, other = stream(0.5, 0.25), stream(0.125, None, 1.0, parted=None)
    rows = along_the_text(own["arms"], other["arms"])
    assert rows["token"].tolist() == [1, 2, 3] and rows["this wrote"].dropna().to_dict() == {0: "␣t0", 1: "␣t1"}
    assert rows["difference"].tolist()[0] == 0.375 and rows["difference"].isna().tolist() == [False, True, True]
    about = texts(own, other).set_index("quantity")
    assert about.loc["mean KL along the steered text, nats", "difference"] == 0.375 - 0.5625
    assert about.loc["tokens it is a mean over"].tolist() == [2, 2, 0]
    assert about.loc["they part at token", "this"] == 2 and np.isnan(about.loc["they part at token", "the other"])


def test_a_text_of_no_token_has_an_unknown_mean():
    about = texts(stream(), stream(1.0)).set_index("quantity")
    assert np.isnan(about.loc["mean KL along the steered text, nats", "difference"])


def test_arms_and_their_controls_stand_with_interval_and_n():
    own = {"changed": {"n": 8, "accuracy": measured(0.5, 0.25, 0.75)}, "random": {"n": 4, "accuracy": measured(None)}}
    other = {"changed": {"n": 16, "accuracy": measured(0.25, 0.125, 0.5)}}
    rows = arms(own, other, ARMS)
    assert rows["arm"].tolist() == [ARMS["changed"], ARMS["random"]] and rows["difference"].tolist()[0] == 0.25
    assert rows["95 %"].dropna().to_dict() == {0: "[0.25, 0.75]"} and rows["other's n"].tolist()[0] == 16
    assert np.isnan(rows["difference"][1]) and arms({}, {}, ARMS).empty


def test_comparisons_are_matched_by_both_arms_and_quantity():
    row = {"arm": "changed", "quantity": "accuracy", "n": 8, "difference": -0.5, "low": -0.75, "high": -0.25, "p": 0.01}
    other = {**row, "difference": -0.25, "low": None, "high": None, "p": None}
    both = effects([row], [other, {**other, "against": "random"}], ARMS)
    assert both["difference"].tolist()[0] == -0.25 and np.isnan(both["difference"][1]) and len(both) == 2
    assert both["95 %"].dropna().to_dict() == {0: "[-0.75, -0.25]"} and both["other's 95 %"].isna().all()


def test_doses_are_matched_by_beta():
    own = [{"beta": -1.0, "kl": 0.5, "accuracy": measured(0.5, 0, 1)}, {"beta": 0.0, "kl": 0.0}]
    other = [{"beta": 0.0, "kl": 0.25}, {"beta": -1.0, "kl": None, "accuracy": measured(0.25, 0, 0.5)}]
    rows = along_beta(own, other).set_index(["quantity", "β"])
    assert rows.loc[("KL, nats", 0.0), "difference"] == -0.25 and np.isnan(rows.loc[("KL, nats", -1.0), "difference"])
    assert rows.loc[("accuracy", -1.0), "other's 95 %"] == "[0, 0.5]"
