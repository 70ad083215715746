"""Figures about local geometry draw each chunk where it lies, beside the line of agreement, and count what has no
place.
"""

import numpy as np
import pandas as pd
import pytest

from app.figures.geometry import (
    before_and_after,
    eigenvalues,
    isotropic_against_random,
    on_and_off_manifold,
    swept_against_fisher,
)
from backend.statistics.changepoint import changepoint


def said(figure) -> str:
    return " ".join([figure.layout.title.text or "", *(note.text for note in figure.layout.annotations)])


def chunks(n: int = 6) -> pd.DataFrame:
    return pd.DataFrame({"chunk_id": [f"c_{k}" for k in range(n)], "number": range(1, n + 1), "text": ["<b>x</b>"] * n})


def marks(figure, name: str) -> dict[str, tuple[float, float]]:
    trace = next(trace for trace in figure.data if trace.name and trace.name.startswith(name))
    return {chunk: (x, y) for chunk, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)}


@pytest.fixture
def swept() -> pd.DataFrame:
    """Six curves; one swept steepness is unknown, one is 0, one lies below the floor."""
    fisher = np.array([1e-4, 2e-4, 4e-4, 1e-3, 3e-3, 1e-2])
    steepness = fisher * 0.8
    steepness[0], steepness[1] = np.nan, 0.0
    floored = pd.array([None, True, False, True, False, False], dtype="boolean")
    return chunks().assign(fisher_steepness=fisher, steepness=steepness, amplitude=fisher * 1.1, below_floor=floored)


def test_both_fits_of_a_sweep_are_set_against_the_exact_steepness(swept):
    figure = swept_against_fisher(swept, unit="rms", selected="c_4")
    assert marks(figure, "|a|") == {
        row.chunk_id: (row.fisher_steepness, row.steepness) for row in swept[2:].itertuples()
    }
    assert len(marks(figure, "pure square")) == 6
    assert "|a| of the quadratic: Spearman ρ = 1.000, median ratio 0.8, n = 4 · 2 unknown or 0" in said(figure)
    assert "pure square: Spearman ρ = 1.000, median ratio 1.1, n = 6" in said(
        figure
    ) and "hollow: 2 below the noise floor" in said(figure)
    assert list(figure.data[0].marker.symbol) == ["circle", "circle-open", "circle", "circle"]
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert "nats per β² (β in RMS of the residual stream)" in figure.layout.xaxis.title.text


def test_the_dashed_line_is_where_both_are_equal(swept):
    line = swept_against_fisher(swept, unit="rms", selected=None).data[-1]
    assert line.mode == "lines" and list(line.x) == list(line.y)


def test_the_trace_has_its_standard_error_beside_the_swept_random_directions():
    rows = chunks(4).assign(
        isotropic_steepness=[1.0, 2.0, np.nan, 4.0],
        isotropic_se=[0.1, 0.2, np.nan, 0.4],
        steepness=[1.1, 1.9, 3.0, 4.2],
        n_directions=[2, 2, 2, 1],
    )
    figure = isotropic_against_random(rows, unit="rms", selected=None)
    assert set(marks(figure, "chunks")) == {"c_0", "c_1", "c_3"}
    assert list(figure.data[0].error_x.array) == [0.1, 0.2, 0.4]
    assert "over 1 to 2 random directions" in figure.layout.yaxis.title.text and "1 unknown or 0" in said(figure)


def test_the_share_of_chunks_that_are_steeper_on_the_manifold_is_counted():
    rows = chunks(3).assign(on_manifold_steepness=[2.0, 1.0, np.nan], off_manifold_steepness=[1.0, 4.0, 1.0])
    assert "on-manifold is the steeper at 1 of 2 chunks" in said(on_and_off_manifold(rows, unit="rms", selected=None))


def test_eigenvalues_that_are_not_above_zero_are_counted():
    figure = eigenvalues([3.0, 1.0, 0.0], unit="rms")
    assert list(figure.data[0].y) == [1.5, 0.5] and "1 not above 0" in figure.layout.xaxis.title.text


@pytest.fixture
def sides() -> pd.DataFrame:
    """Five chunks: a step in "before" at the fourth; the last chunk has nothing after it."""
    rows = [
        {
            "chunk_id": f"c_{k}",
            "number": k + 1,
            "side": side,
            "kl_rest": None if k == 4 else value,
            "kl_answer": 0.0,
            "noise_floor": 1e-6,
        }
        for k in range(5)
        for side, value in (("before", 1.0 if k > 2 else 0.1), ("after", 0.05))
    ]
    return pd.DataFrame(rows).astype({"kl_rest": float})


def test_before_and_after_run_along_the_chain_and_what_is_unknown_is_counted(sides):
    step = changepoint([1, 2, 3, 4], [[0.1], [0.1], [0.1], [1.0]], n_permutations=19)
    figure = before_and_after(sides, measure="kl_rest", unit="rms", step=step, selected="c_1", n_chunks=5)
    before, after = figure.data[:2]
    assert list(before.x) == [1, 2, 3, 4] and list(before.y) == [0.1, 0.1, 0.1, 1.0] and list(after.y) == [0.05] * 4
    assert "n = 4 chunks of 5" in said(figure) and "2 unknown" in said(figure)
    assert sorted(line.x0 for line in figure.layout.shapes if line.x0 == line.x1) == [
        2,
        4,
    ]  # the chosen chunk, and the step


def test_a_direction_without_effect_takes_part_in_its_chunks_mean(sides):
    """Two directions at each chunk, one of which does nothing: the point is their mean, not that of the other alone."""
    both = pd.concat([sides, sides[sides["kl_rest"].notna()].assign(kl_rest=0.0)])
    figure = before_and_after(both, measure="kl_rest", unit="rms", step=None, selected=None)
    assert list(figure.data[1].y) == [0.025] * 4 and "0 points of exactly 0" in said(figure)


def test_nothing_to_draw_is_said(swept, sides):
    assert "No curve has both" in said(swept_against_fisher(swept.head(0), unit="rms", selected=None))
    none = chunks(0).assign(isotropic_steepness=[], steepness=[])
    assert "No chunk has both" in said(isotropic_against_random(none, unit="rms", selected=None))
    none = chunks(0).assign(on_manifold_steepness=[], off_manifold_steepness=[])
    assert "No chunk has an on-manifold" in said(on_and_off_manifold(none, unit="rms", selected=None))
    assert "No leading eigenvalue" in said(eigenvalues([0.0], unit="rms"))
    assert "No KL on the answer alone" in said(
        before_and_after(sides, measure="kl_answer", unit="rms", step=None, selected=None)
    )
