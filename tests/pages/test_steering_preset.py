"""Steering opens on what the study's sweep moved most, and leaves alone what somebody chose."""

import math

import pytest

from app.shell.studies import open_store
from app.steering import preset


@pytest.fixture
def points(whole):
    """(KL, chunk, kind, model, layer, β) of every point of the curves along a chunk's own activation."""
    rows = open_store(whole).whole_table("kl_curves").to_pylist()
    return [
        (kl, row["chunk_id"], row["kind"], row["model_id"], row["layer"], beta)
        for row in rows
        if row["kind"] == "per_chunk"
        for beta, kl in zip(row["betas"], row["kl"], strict=True)
        if kl is not None and math.isfinite(kl) and kl > 0
    ]


def test_the_point_is_the_largest_of_at_most_so_much(whole, points):
    store = open_store(whole)
    sizes = sorted({kl for kl, *_ in points})
    for most in (sizes[-1], sizes[len(sizes) // 2]):
        (found,) = store.most_moved(["per_chunk"], most=most).to_dict("records")
        assert found["kl"] == max(kl for kl in sizes if kl <= most)
        place = tuple(found[name] for name in ("kl", "chunk_id", "kind", "model_id", "layer", "beta"))
        assert place in points
    assert store.most_moved(["per_chunk"], most=sizes[0] / 2).empty and store.most_moved([], most=1.0).empty


def test_of_a_chunk_it_is_the_largest_of_that_chunk(whole, points):
    chunk = min(points)[1]
    (found,) = open_store(whole).most_moved(["per_chunk"], most=1e9, chunk=chunk).to_dict("records")
    assert found["chunk_id"] == chunk and found["kl"] == max(kl for kl, at, *_ in points if at == chunk)


def test_nothing_is_chosen_for_somebody_who_has_chosen(whole, monkeypatch):
    chosen = {"beta": "2"}
    monkeypatch.setattr(preset.selection, "get", lambda field: chosen.get(field.name))
    monkeypatch.setattr(preset.selection, "choose", lambda *what, **named: pytest.fail("something was chosen"))
    preset.open_on(open_store(whole))


def test_it_is_chosen_with_its_chunk_model_layer_place_and_size(whole, monkeypatch):
    chosen = {}
    monkeypatch.setattr(preset.selection, "get", lambda field: chosen.get(field.name))
    monkeypatch.setattr(
        preset.selection, "choose", lambda what: chosen.update({field.name: value for field, value in what.items()})
    )
    preset.open_on(open_store(whole))
    assert {"chunk", "model", "layer", "direction", "operation", "steered_where", "unit", "beta"} <= set(chosen)
    assert float(chosen["beta"]) != 0
