"""One chunk at two layers: by the name of the quantity and by id, and a difference only where both are known."""

import numpy as np
import pandas as pd

from app.chains_of_thought.compared_layers import (
    Quantity,
    Steered,
    beside,
    kl_beside,
    neighbours_beside,
    points,
    steered,
)
from app.shared.chosen_stream import Stream


def curves(*rows: tuple[int, str, list[float]]) -> pd.DataFrame:
    """Layer, kind and KL at β −1, 0, 1."""
    found = pd.DataFrame(rows, columns=["layer", "kind", "kl"])
    found["betas"] = [[-1.0, 0.0, 1.0]] * len(rows)
    return found.assign(model_id="m", position="anchor", unit="rms", n_tokens=4)


def test_quantities_are_compared_by_name_with_interval_and_n():
    own = [Quantity("Curvature", "radians", 0.5, 0.4, 0.6, 30, "chunks"), Quantity("only here", "", 1.0)]
    other = [Quantity("only there", "", 2.0), Quantity("Curvature", "radians", 0.2, None, None, 20, "chunks")]
    rows = beside(own, other).set_index("quantity")
    assert rows.loc["Curvature", "difference"] == 0.3 and rows.loc["Curvature", "n"] == "30 and 20 chunks"
    assert rows.loc["Curvature", "95 %"] == "[0.4, 0.6]" and rows.loc["Curvature", "pinned's 95 %"] is None
    assert rows.loc[["only here", "only there"], "difference"].isna().all()


def test_what_is_unknown_of_both_has_no_row_and_an_equal_n_is_said_once():
    rows = beside([Quantity("a", "", None), Quantity("b", "", 1.0, n=7, of="tokens")], [Quantity("b", "", 0.0, n=7)])
    assert rows["quantity"].tolist() == ["b"] and rows["n"].tolist() == ["7 tokens"]
    assert beside([], []).empty


def test_both_layers_are_taken_under_the_direction_that_both_have():
    rows = curves((3, "random", [1, 0, 1]), (3, "per_chunk", [1, 0, 1]), (5, "per_chunk", [2, 0, 2]))
    assert steered(rows, Stream("m", 3), Stream("m", 5)) == Steered("per_chunk", "anchor", "rms")
    assert steered(rows, Stream("m", 5), Stream("m", 9)) == Steered("per_chunk", "anchor", "rms")
    assert steered(rows, Stream("m", 8), Stream("m", 9)) == Steered(None, None, None)


def test_kl_stands_at_each_beta_and_directions_of_a_kind_are_averaged():
    rows = curves((3, "random", [1, 0, 1]), (3, "random", [3, 0, 5]), (5, "random", [0.5, 0, np.nan]))
    table = kl_beside(
        points([("here", rows[rows["layer"] == 3]), ("there", rows[rows["layer"] == 5])]), "here", "there"
    )
    assert table["β"].tolist() == [-1, 0, 1] and table["this"].tolist() == [2, 0, 3]
    assert table["difference"].tolist()[:2] == [1.5, 0] and np.isnan(table["difference"].iloc[2])


def test_kl_of_a_place_without_curves_is_unknown():
    rows = curves((3, "random", [1, 0, 1]))
    table = kl_beside(points([("here", rows), ("there", rows.iloc[:0])]), "here", "there")
    assert table["this"].tolist() == [1, 0, 1] and table["pinned"].isna().all() and table["difference"].isna().all()
    swapped = kl_beside(points([("here", rows.iloc[:0]), ("there", rows)]), "here", "there")
    assert swapped["this"].isna().all() and swapped["pinned"].tolist() == [1, 0, 1]


def test_neighbours_are_matched_by_id_the_nearest_at_this_layer_first():
    near = pd.DataFrame({"chunk_id": ["a", "b"], "text": ["one", "two"], "cosine": [0.75, 0.5]})
    far = pd.DataFrame({"chunk_id": ["c", "a"], "text": ["three", "one"], "cosine": [0.9, 0.25]})
    rows = neighbours_beside(near, far)
    assert rows["chunk"].tolist() == ["one", "two", "three"]
    assert rows["difference"].tolist()[0] == 0.5 and rows["difference"].isna().tolist() == [False, True, True]
