"""What the views of latents say in numbers."""

import pandas as pd

from app.latent_steps import attention, components, early, near_misses, parity, tuned


def test_parity_says_what_is_left_after_holm():
    row = {"panel": "latent", "role": "cell", "measure": "entropy", "n_problems": 50, "p_steps": 0.1, "n_divisions": 20}
    found = {"difference": 0.5, "ci_low": 0.4, "ci_high": 0.6, "p": 0.001}
    line = {"without_line": -0.3, "without_line_low": -0.4, "without_line_high": -0.2, "without_line_p": 0.02}
    none = {"without_line": 0.0, "without_line_low": -0.1, "without_line_high": 0.1, "without_line_p": 0.9}
    rows = pd.DataFrame([row | found | line, row | found | none | {"panel": "pause", "role": "answer"}])
    plain = parity.differences(rows, "plain")
    assert plain["difference"].tolist() == [0.5, 0.5] and plain["holm"].tolist() == [0.002, 0.002]
    frame = parity.differences(rows, "line")
    assert frame["holm"].tolist() == [0.04, 0.9] and frame["quantity"].tolist() == [
        "entropy of the reading",
        "the answer",
    ]
    said = parity.sentence(frame, "line")
    assert "latent: entropy of the reading lower at even ones by 0.3 [0.2, 0.4]" in said
    assert "pause: no difference is shown" in said


def test_tuned_lines_are_the_logit_lens_all_positions_and_each_alone():
    rows = pd.DataFrame(
        [
            {"variant": variant, "step": step, "layer": 0, "kl_logit": 2.0, "kl": kl, "ci_low": 0.0, "ci_high": 1.0}
            for variant, step, kl in (("all", 0, 0.5), ("all", 1, 0.6), ("0", 0, 0.3), ("0", 1, 9.0), ("1", 1, 0.4))
        ]
    ).assign(n_problems=10)
    found = tuned.lines(rows).groupby("series", sort=False)["value"].apply(list).to_dict()
    assert list(found.values()) == [[2.0, 2.0], [0.5, 0.6], [0.3, 0.4]]


def test_a_near_miss_is_claimed_where_it_exceeds_both_chances():
    row = {"panel": "latent", "kind": "twice", "step": 1, "share": 0.2, "chance_answers": 0.01, "n_problems": 40}
    row |= {"chance_readings": 0.02, "excess_answers": 0.19, "excess_readings": 0.18, "p_answers": 0.001}
    rows = pd.DataFrame([row | {"p_readings": 0.001}, row | {"step": 2, "p_readings": 0.5}])
    said = near_misses.sentence(rows)
    assert "1 of 2 kinds and latents exceed both" in said and "twice the answer at latent 1 (20.0 %" in said
    assert "0 of 1" in near_misses.sentence(rows.iloc[1:])


def test_early_answers_are_compared_pair_by_pair():
    runs = pd.DataFrame(
        [
            {"model_id": model, "problem_id": f"p{n}", "n_latents": k, "is_correct": right(n, k)}
            for model, right in (("l", lambda n, k: k == 1), ("p", lambda n, k: k == 1 and n < 5))
            for n in range(10)
            for k in (0, 1)
        ]
    )
    said = early.sentence(runs, {"l": "latent", "p": "pause"}, "l")
    assert "latent: 0.0 % [0.0 %, 27.8 %] with 0, 100.0 %" in said and "latent − pause: +50.0 points" in said


def test_variance_between_steps_is_told_as_a_share_of_what_components_hold():
    rows = pd.DataFrame({"panel": "pause", "captured": [0.5, 0.3], "between_steps": [1.0, 1.0]})
    assert "2 components hold 80 % of the variance" in components.sentence(rows)
    assert "100 % is between the means of steps" in components.sentence(rows)
    assert "unknown is between" in components.sentence(rows.assign(captured=float("nan")))


def test_attention_on_earlier_latents_leaves_out_the_latent_itself():
    shares = {"first token": 0.1, "words": 0.2, "numbers": 0.1, "start": 0.1, "1": 0.3, "2": 0.2}
    rows = pd.DataFrame(
        [{"panel": "latent", "step": 2, "part": part, "share": share} for part, share in shares.items()]
    )
    assert attention.sentence(rows) == "latent: at latent 2 30.0 % on earlier latents, 40.0 % on the question."
