"""What is pinned stands beside what is open: chains, chunks, layers and runs, all of it in the link."""

from types import SimpleNamespace

import pytest

from app.shell.vocabulary import RUN_KINDS
from app.steering import compared_runs
from backend.store.experiments import Experiments
from backend.store.geometry_columns import COLUMNS
from backend.store.store import Store
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


def tables(test) -> dict[tuple[str, ...], object]:
    """The tables of the page, by their heads."""
    return {tuple(shown.value.columns): shown.value for shown in test.dataframe}


def button(test, label: str):
    return next(one for one in test.button if one.label == label)


def test_what_is_open_is_pinned_and_another_layer_and_chunk_are_set_beside_it(opened, whole):
    store = Store(whole)
    found = store.frame(
        "SELECT k.cot_id, list(k.chunk_id ORDER BY k.chunk_index) AS chunks FROM chunks k JOIN cots c USING (cot_id)"
        " JOIN (SELECT problem_id FROM cots GROUP BY 1 HAVING count(*) > 1) USING (problem_id) WHERE k.chunk_id IN"
        " (SELECT chunk_id FROM kl_curves) GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    first, second, *_ = found["chunks"][0]
    test = opened("chains_of_thought", whole, chunk=first, dock="compare", layer="15")
    assert not test.exception and "Nothing is pinned" in words(test)
    button(test, "Pin what is open").click().run()
    chosen = test.session_state["selection"]
    assert (chosen["pinned_chunk"], chosen["pinned_layer"]) == (first, "15") and "pinned_run" not in chosen
    assert "layer 15" in words(test) and button(test, "Let go of what is pinned")
    assert not any(head[0] == "quantity" for head in tables(test))  # nothing differs yet

    chosen.update(chunk=second, layer="5")
    test.run()
    assert not test.exception and "Pinned" in words(test)
    shown = tables(test)
    (layers,) = (rows for head, rows in shown.items() if head[0] == "quantity")
    rows = layers.set_index("quantity")
    assert rows["difference"].notna().any() and rows.loc[rows["this"].isna(), "difference"].isna().all()
    curvature = store.neighbourhood_of(second).set_index("layer")["curvature"]
    assert rows.loc["Curvature", ["this", "pinned"]].tolist() == pytest.approx([curvature[5], curvature[15]])
    assert any({"metric", "pinned", "difference"} <= set(head) for head in shown)
    found = store.geometry_of(second, chosen["pinned_model"], 5)
    known = found.loc[found["x"].notna() & (found["kind"] == "none"), "name"]
    assert known.nunique() > 4 and {COLUMNS[name].label for name in known} <= set(layers["quantity"])

    button(test, "Let go of what is pinned").click().run()
    assert not {"pinned_chunk", "pinned_model", "pinned_layer"} & set(test.session_state["selection"])


def test_more_than_two_chains_stand_side_by_side_and_strangers_of_a_link_are_left_out(opened, whole):
    found = Store(whole).frame(
        "SELECT list(cot_id ORDER BY cot_id) AS cots, min(chunk_id) AS chunk FROM cots JOIN chunks USING (cot_id)"
        " GROUP BY problem_id HAVING count(DISTINCT cot_id) > 1 ORDER BY problem_id LIMIT 2"
    )
    (own, second), pinned = dict.fromkeys(found["cots"][0]), found["chunk"][1]  # that of another problem can stand too
    third = pinned.rpartition("_")[0]
    link = {"cot": own, "compared_cot": f"{second}|nobody|{third}", "dock": "compare", "pinned_chunk": pinned}
    test = opened("chains_of_thought", whole, **link, pinned_run="nobody")
    assert not test.exception and "3rd:" in words(test)
    assert any(head[:4] == ("chunk", "this", "2nd", "3rd") for head in tables(test))
    assert "pinned_run" not in test.session_state["selection"]
    test.session_state["selection"].update(pinned_chunk="nobody")
    test.run()  # without it the third chain is none that can stand there
    assert not test.exception and "3rd:" not in words(test) and "Nothing is pinned" in words(test)


def test_a_pinned_run_stands_beside_the_open_one_with_what_differs_and_a_way_in(opened, whole):
    kept = Experiments(whole).history(limit=99)
    streams = kept.loc[kept["kind"] == "stream", "experiment_id"].tolist()
    test = opened("chains_of_thought", whole, dock="compare", run=streams[0], pinned_run=streams[1])
    assert not test.exception and "a run" in words(test)
    shown = tables(test)
    assert ("setting", "this", "the other") in shown
    along = shown["token", "this wrote", "the other wrote", "this", "the other", "difference"]
    assert along["difference"].tolist() == [0, 0, 0] and len(along) == 3  # both wrote the same


def test_two_runs_of_two_kinds_are_those_that_are_compared_and_no_third_one(opened, whole):
    kept = Experiments(whole).history()
    many = next(row.experiment_id for row in kept.itertuples() if row.kind == "continue")
    third, one = (row.experiment_id for row in kept.itertuples() if row.kind == "stream")
    ways = ({"second_run": one}, {"pinned_run": one}, {"second_run": many, "pinned_run": third})
    for link, opens in zip(ways, (many, many, one), strict=True):
        test = opened("chains_of_thought", whole, dock="compare", run=opens, **link)
        settings = tables(test)["setting", "this", "the other"].set_index("setting")
        kinds = [RUN_KINDS["continue"], RUN_KINDS["stream"]][:: 1 if opens == many else -1]
        assert not test.exception and settings.loc["kind", ["this", "the other"]].tolist() == kinds
        assert "Runs of two kinds" in words(test) and test.session_state["selection"]["run"] == opens
        assert not any(box.label == "Beside" for box in test.selectbox)
    test = opened("chains_of_thought", whole, dock="compare", run="nobody", pinned_run=one)
    assert "The open run is not kept yet" in words(test)


def test_without_an_open_run_one_of_the_pinned_one_s_kind_is_offered(opened, whole):
    kept = Experiments(whole).history()
    many = next(row.experiment_id for row in kept.itertuples() if row.kind == "continue")
    test = opened("chains_of_thought", whole, dock="compare", pinned_run=many)
    assert not test.exception and "No other run of its kind" in words(test)


def test_arms_of_a_reworded_run_and_of_a_steered_one_are_not_set_beside_each_other(monkeypatch):
    said, tables = [], []
    monkeypatch.setattr(compared_runs.st, "caption", said.append)
    monkeypatch.setattr(compared_runs, "_table", lambda rows, key: tables.append(key))
    results = {"arms": {"changed": {"n": 2}}, "comparisons": []}
    steered, reworded = (SimpleNamespace(results=results, is_reworded=one) for one in (False, True))
    compared_runs._measured(steered, reworded)
    assert tables == [] and "not the same" in said[0]
    compared_runs._measured(reworded, reworded)
    assert tables == ["compared_arms", "compared_effects"]
