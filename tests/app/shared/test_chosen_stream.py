"""One model and one layer for every page: what the selection names, else the usual one, and what a page shows that has
nothing there.
"""

from types import SimpleNamespace

import pandas as pd
import pytest

from app.shared import chosen_stream
from app.shared.chosen_stream import Stream
from app.shell import selection
from app.steering.text_and_curve import choose_model

MODELS = pd.DataFrame(
    {"model_id": ["b", "d"], "name": ["one", "other"], "role": ["base", "distilled"], "n_layers": [30, 30]}
)
HERE = SimpleNamespace(model_id="here", model=SimpleNamespace(name="tiny"))  # a model of this machine alone
COLUMNS = ("model_id", "layer", "n_swept", "n_dictionaries", "n_stored")


@pytest.fixture
def study(monkeypatch):
    """`study(*places, writer=…, n_layers=…, **selected)`: a study that did something at these places, each a row of
    COLUMNS.
    """

    def make(*places, writer: str = "", n_layers=30, **selected: str):
        rows = pd.DataFrame(places, columns=COLUMNS).assign(n_layers=n_layers)
        rows = rows.assign(role=["base" if model == "b" else "distilled" for model in rows["model_id"]])
        monkeypatch.setattr(selection.st, "session_state", {})
        monkeypatch.setattr(chosen_stream.studies, "ask", lambda question, **_: question())
        chosen_stream._ordered.clear()
        monkeypatch.setattr(chosen_stream.live, "steerable", lambda _: [HERE])
        selection.choose(**({"cot": "c"} if writer else {}), **selected)
        return SimpleNamespace(
            generation="",
            published_at="",
            models=lambda: MODELS.assign(n_layers=n_layers),
            streams=lambda: rows,
            cot_to_read=lambda _: pd.DataFrame({"model_id": [writer]}),
        )

    return make


STORED = [("b", layer, 0, 0, 90) for layer in (5, 15, 25)]


@pytest.mark.parametrize(
    ("places", "usual"),
    [
        ([*STORED, ("b", 20, 3, 0, 9)], ("b", 20)),  # a swept layer comes before every other
        ([*STORED, ("b", 20, 3, 0, 9), ("b", 10, 40, 0, 9)], ("b", 10)),  # of several the one with most chunks
        ([("b", 10, 40, 0, 9), ("b", 20, 40, 1, 9)], ("b", 20)),  # of equals one that a dictionary reads
        ([*STORED, ("b", 8, 0, 1, 0)], ("b", 8)),  # nothing swept: the trained one
        ([*STORED, ("d", 15, 0, 0, 90)], ("d", 15)),  # nothing trained: the distilled model
        (STORED, ("b", 15)),  # nearest to half depth
        ([("b", 14, 0, 0, 9), ("b", 15, 0, 0, 9)], ("b", 14)),  # as near on either side of 14.5: the lower
        ([], ("d", None)),  # nothing is known of any layer
    ],
)
def test_the_usual_layer_is_the_swept_one_else_the_trained_one_else_the_middle(study, places, usual):
    for order in (places, places[::-1]):
        assert chosen_stream.chosen(study(*order)) == Stream(*usual)


def test_of_swept_models_the_one_that_wrote_the_open_chain_comes_first(study):
    places = [("b", 15, 40, 0, 9), ("d", 20, 99, 1, 99)]
    assert chosen_stream.chosen(study(*places, writer="b")) == Stream("b", 15)
    assert chosen_stream.chosen(study(*places, writer="imported")) == Stream("d", 20)
    assert chosen_stream.chosen(study(("b", 15, 0, 0, 9), places[1], writer="b")) == Stream("d", 20)


def test_where_nothing_is_known_of_any_layer_the_writer_of_the_open_chain_comes_first(study):
    assert chosen_stream.chosen(study(writer="b")) == Stream("b", None)


def test_what_is_selected_counts_and_is_completed(study):
    places = [("b", 15, 40, 0, 9), ("d", 20, 99, 0, 9)]
    assert chosen_stream.chosen(study(*places, model="b", layer="3")) == Stream("b", 3)
    assert chosen_stream.chosen(study(*places, model="b")) == Stream("b", 15)
    assert chosen_stream.chosen(study(*places, layer="15")) == Stream("b", 15)
    assert chosen_stream.chosen(study(*places, model="here")) == Stream("here", 20)
    assert not selection.notes()


@pytest.mark.parametrize(
    "junk", [{"layer": layer} for layer in ("30", "-1", "x", "9" * 500, "１５")] + [{"model": "nobody"}]
)
def test_what_no_model_has_is_forgotten_and_noted(study, junk):
    assert chosen_stream.chosen(study(("b", 15, 40, 0, 9), **junk)) == Stream("b", 15)
    assert selection.notes() == list(junk) and not selection.values().keys() & junk.keys()


def test_a_layer_beyond_a_model_of_unknown_depth_is_not_refused(study):
    assert chosen_stream.chosen(study(("b", 15, 40, 0, 9), n_layers=None, model="b", layer="99")) == Stream("b", 99)


@pytest.mark.parametrize(
    ("there", "shown"),
    [
        ([("b", 5), ("b", 10), ("b", 25)], ("b", 10)),
        ([("b", 10), ("b", 14)], ("b", 10)),  # as near: the lower
        ([("d", 12), ("b", 29)], ("b", 29)),  # the model first
        ([("d", 29), ("d", 11), ("x", 12)], ("d", 11)),  # not of this model: the next in the usual order
    ],
)
def test_a_page_without_the_chosen_layer_shows_the_nearest_and_changes_nothing(study, there, shown):
    store = study(("b", 15, 40, 0, 9), ("d", 20, 9, 0, 9), model="b", layer="12")
    assert chosen_stream.nearest(store, [Stream(*one) for one in there]) == Stream(*shown)
    assert (selection.get("model"), selection.get("layer")) == ("b", "12")


@pytest.mark.parametrize(
    ("places", "selected", "said"),
    [
        ([], {}, []),  # no page shows anything of the usual model, and nobody chose it
        ([("b", 15, 40, 0, 9)], {}, [("model", "base", "tiny")]),
        ([], {"model": "b"}, [("model", "base", "tiny")]),
    ],
)
def test_steering_says_which_model_it_lacks_where_that_is_shown_elsewhere_or_chosen(study, places, selected, said):
    store = study(*places, writer="b", **selected)
    assert choose_model(store, [HERE], SimpleNamespace(cot="c")) is HERE
    assert [(name, wanted, shown) for name, wanted, shown in selection.stand_ins()] == said
