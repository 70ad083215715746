"""The share of a loss that is recovered: its limits, its weights, and an interval that knows about problems."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.loss_recovered import loss_recovered


def losses(spliced, *, problems=None, tokens=100, zeroed=6.0):
    n = len(spliced)
    return pd.DataFrame(
        {
            "problem_id": problems or [f"p{k}" for k in range(n)],
            "n_tokens": tokens,
            "loss": 1.0,
            "loss_spliced": spliced,
            "loss_zeroed": zeroed,
            "loss_averaged": 4.0,
        }
    )


@pytest.mark.parametrize(("spliced", "expected"), [(1.0, 1.0), (6.0, 0.0), (11.0, -1.0)])
def test_it_is_1_where_splicing_costs_nothing_and_0_where_it_costs_as_much_as_zeroing(spliced, expected):
    assert loss_recovered(losses([spliced] * 3)).value == pytest.approx(expected)


def test_against_the_mean_the_same_splice_recovers_less():
    rows = losses([2.0, 2.0])
    assert loss_recovered(rows).value == pytest.approx(0.8) and loss_recovered(
        rows, "loss_averaged"
    ).value == pytest.approx(2 / 3)


def test_longer_cots_count_more():
    assert loss_recovered(losses([1.0, 6.0], tokens=[300, 100])).value == pytest.approx(0.75)


def test_the_interval_resamples_problems_and_not_their_cots():
    spliced = np.random.default_rng(0).normal(2, 0.5, 12)
    apart = loss_recovered(losses(spliced, problems=[f"p{k:02d}" for k in range(12)]))
    together = loss_recovered(losses(np.repeat(spliced, 4), problems=[f"p{k // 4:02d}" for k in range(48)]))
    assert apart.interval.low < apart.value < apart.interval.high
    assert together.interval == pytest.approx(apart.interval) and (together.n_cots, together.n_problems) == (48, 12)


def test_one_problem_has_no_interval_and_nothing_measured_has_no_value():
    assert math.isnan(loss_recovered(losses([2.0])).interval.low)
    assert math.isnan(loss_recovered(losses([])).value) and math.isnan(loss_recovered(losses([1.0], zeroed=1.0)).value)
