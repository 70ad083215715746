"""How needed and specific latents are, from planted answers."""

import math

import pandas as pd
import pytest

from backend.latent.need_kinds import MEAN, PLAIN, SWAP, WITHOUT, ZERO
from backend.latent.needed import GROUPS, correlation, effects, grouped, needing
from backend.statistics.intervals import wilson
from backend.statistics.paired import mcnemar


def row(problem, replacement, right, *, step=None, donors=None):
    place, after = (None, None) if replacement in (PLAIN, WITHOUT) else ("whole", "recomputed")
    return {
        "problem_id": f"p{problem}",
        "replacement": replacement,
        "step": step,
        "place": place,
        "after": after,
        "is_correct": right,
        "is_donors": donors,
    }


@pytest.fixture
def planted():
    """Ten problems, two latents. Plainly 8 are right, without latents 2 of these and one other. Without latent 1 three
    are lost, and a swap of it moves five of the eight that have donors; latent 2 does nothing. All latents together
    move all.
    """
    rows = []
    for k in range(10):
        rows += [row(k, PLAIN, k < 8), row(k, WITHOUT, k in (0, 1, 9))]
        donor = k < 8
        for step, lost, moved in ((1, k < 3, k < 5), (2, False, False), (None, True, True)):
            rows.append(row(k, MEAN, k < 8 and not lost, step=step, donors=k == 7 if donor else None))
            rows.append(row(k, ZERO, None, step=step))
            swapped = moved if donor else None
            rows.append(row(k, SWAP, None if swapped is None else k < 8 and not moved, step=step, donors=swapped))
    return pd.DataFrame(rows)


def test_each_problem_is_in_one_group_by_its_answers_with_and_without_latents(planted):
    groups = grouped(planted)
    assert [groups[f"p{k}"] for k in (0, 1, 2, 7, 8, 9)] == [
        "does without",
        "does without",
        "needs",
        "needs",
        "never",
        "harmed",
    ]
    found = needing(groups)
    assert found.counts == {"needs": 6, "does without": 2, "harmed": 1, "never": 1}
    assert set(found.counts) == {*GROUPS} - {"all"} and sum(found.counts.values()) == found.n == 10
    assert (found.share, found.interval) == (0.6, wilson(6, 10))
    assert (found.share_of_right, found.interval_of_right) == (6 / 8, wilson(6, 8))


def test_needed_is_what_is_lost_of_the_right_answers_problem_by_problem(planted):
    one, two, every = effects(planted, replacement=MEAN, place="whole", after="recomputed")
    assert [effect.step for effect in (one, two, every)] == [1, 2, None]
    plain = [k < 8 for k in range(10)]
    assert one.needed == mcnemar(plain, [3 <= k < 8 for k in range(10)]) and one.needed.difference == -0.3
    assert two.needed.difference == 0 and two.needed.p == 1
    assert every.needed.difference == -0.8
    assert (one.right, one.right_interval) == (0.5, wilson(5, 10))


def test_specific_is_what_becomes_the_donors_beyond_what_does_under_the_mean(planted):
    one, two, every = effects(planted, replacement=MEAN, place="whole", after="recomputed")
    assert (one.donors, one.donors_interval, one.donors_by_mean) == (5 / 8, wilson(5, 8), 1 / 8)
    assert one.specific.difference == pytest.approx(4 / 8) and one.specific.n == 8 and one.specific.n_left_out == 2
    assert two.specific.difference == pytest.approx(-1 / 8)
    assert every.donors == 1


def test_what_could_not_be_put_there_is_unknown_and_not_a_loss(planted):
    for effect in effects(planted, replacement=ZERO, place="whole", after="recomputed"):
        assert effect.needed.n == 0 and math.isnan(effect.needed.difference) and math.isnan(effect.right)


def test_of_one_group_only_its_problems_count(planted):
    own = planted[planted["problem_id"].map(grouped(planted)) == "needs"]
    one, *_ = effects(own, replacement=MEAN, place="whole", after="recomputed")
    assert one.needed.n == 6 and one.needed.difference == pytest.approx(-1 / 6)


def test_a_model_without_latents_needs_none(planted):
    own = planted[planted["replacement"] == WITHOUT]
    found = needing(grouped(own))
    assert found.counts == {"needs": 0, "does without": 3, "harmed": 0, "never": 7} and found.share_of_right == 0
    assert [effect.step for effect in effects(own, replacement=MEAN, place="whole", after="recomputed")] == []


def test_the_correlation_is_over_single_latents_and_unknown_below_three(planted):
    found = list(effects(planted, replacement=MEAN, place="whole", after="recomputed"))
    r, n = correlation(found)
    assert math.isnan(r) and n == 2
    r, n = correlation([*found, *found[:1]])
    assert n == 3 and r == pytest.approx(1)
