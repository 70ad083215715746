"""The curve of a training shows every step that is known, and a mean whose window is stated."""

import numpy as np
import pandas as pd
import pytest

from app.figures.training import training_curve, window
from backend.statistics.smoothing import running_mean


def metrics(loss, rate=()) -> pd.DataFrame:
    """Steps of 100 tokens, as `Queries.training_metrics` gives them."""
    rows = [("learning_rate", step, 100 * step, value) for step, value in enumerate(rate, start=1)]
    rows += [("loss", step, 100 * step, value) for step, value in enumerate(loss, start=1)]
    return pd.DataFrame(rows, columns=["metric", "step", "tokens", "value"])


def test_the_running_mean_is_over_the_steps_around_and_over_fewer_at_the_ends():
    values = np.random.default_rng(0).exponential(1.0, 50)
    plain = [np.mean(values[max(0, k - 3) : k + 4]) for k in range(50)]
    assert running_mean(values, 7) == pytest.approx(plain, rel=1e-12)
    assert running_mean(values, 1) == pytest.approx(values)


def test_an_unknown_value_takes_no_part_in_the_mean():
    assert running_mean(np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan]), 3) == pytest.approx(
        [1, 2, 3, 3, np.nan, np.nan], nan_ok=True
    )


def test_the_window_is_an_odd_twentieth_of_the_training():
    assert [window(n) for n in (1, 39, 60, 430, 10_000)] == [1, 1, 3, 21, 501]


def test_the_curve_holds_every_known_step_and_counts_the_unknown():
    loss = [2.0 / step for step in range(1, 61)]
    loss[4] = np.nan
    raw, mean = training_curve(metrics(loss), unit="nats").data
    assert list(raw.x) == list(mean.x) == list(range(100, 6100, 100)) and list(raw.customdata) == list(range(1, 61))
    assert np.asarray(raw.y) == pytest.approx(np.array(loss), nan_ok=True) and not raw.connectgaps
    assert raw.name == "each step (n = 59, 1 unknown)" and raw.opacity < 0.5
    assert np.asarray(mean.y) == pytest.approx(running_mean(np.array(loss), 3))
    assert mean.name == "mean of the 3 steps around (fewer at the ends)" and mean.opacity is None


def test_the_order_of_the_rows_does_not_matter():
    rows = metrics([3.0, 2.0, 1.0], [0.1, 0.2, 0.3])
    assert training_curve(rows.sample(frac=1, random_state=1), unit="nats") == training_curve(rows, unit="nats")


def test_axes_are_titled_with_their_units_and_the_learning_rate_has_a_panel_of_its_own():
    figure = training_curve(metrics([3.0, 2.0, 1.0], [0.1, 0.2, 0.3]), unit="nats per completion token")
    assert figure.layout.yaxis.title.text == "loss (nats per<br>completion token)"
    assert figure.layout.xaxis2.title.text == "tokens seen (without padding)"
    assert figure.layout.yaxis2.title.text == "learning<br>rate"
    (rate,) = (trace for trace in figure.data if trace.yaxis == "y2")
    assert list(rate.y) == [0.1, 0.2, 0.3] and list(rate.x) == [100, 200, 300]
    alone = training_curve(metrics([3.0, 2.0, 1.0]), unit="nats")
    assert (
        alone.layout.xaxis.title.text == "tokens seen (without padding)"
        and len(alone.data) == 1
        and alone.data[0].opacity is None
    )


def test_without_a_known_loss_the_figure_says_so():
    for nothing in (metrics([]), metrics([np.nan]), metrics([], [0.1])):
        assert "No loss" in training_curve(nothing, unit="nats").layout.annotations[0].text
