"""The browser parts of steering are given exactly what they may draw,
and take from the browser only what makes sense."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from app.components import layer_strip, reader, streams

PARTS = sorted(Path(streams.__file__).parents[1].glob("*/*.js"))


def token(text: str, kl: float | None = 0.5, top: list | None = None) -> dict:
    return {"id": 7, "text": text, "kl": kl, "top": [[text, 0.25, 0.75]] if top is None else top}


def run(**changes) -> dict:
    arms = {
        "base": {"tokens": [token(" so"), token("\n\n", 0.0)], "finish": "eos"},
        "changed": {"tokens": [token(" so"), token(" <b>Wait</b>", math.nan), token("", math.inf)], "finish": None},
    }
    return {"id": "x1", "arms": arms, "first_divergence": 1, "seconds": 0.5, "tokens_per_second": 6.0} | changes


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.stem)
def test_no_part_makes_html_of_text(part):
    source = part.read_text(encoding="utf-8")
    assert not [
        way
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(")
        if way in source
    ]


# Streams


def test_the_pieces_of_a_stream_join_to_the_text_that_was_written():
    shown = streams.shown(run())["arms"]["changed"]["tokens"]
    assert "".join(piece for piece, _, _ in shown) == " so <b>Wait</b>"


def test_an_unknown_kl_reaches_the_browser_as_unknown_and_never_as_zero():
    shown = streams.shown(run())
    assert [kl for _, kl, _ in shown["arms"]["changed"]["tokens"]] == [0.5, None, None]
    assert shown["arms"]["base"]["tokens"][1][1] == 0.0
    json.dumps(shown, allow_nan=False)


def test_alternatives_keep_their_order_and_four_digits():
    given = run(
        arms={"base": {"tokens": [token("a", top=[["a", 0.123456, 1.23456e-9], ["b", math.nan, 0.0]])], "finish": None}}
    )
    assert streams.shown(given)["arms"]["base"]["tokens"][0][2] == [["a", 0.1235, 1.235e-9], ["b", None, 0.0]]


def test_a_run_that_has_only_begun_has_no_divergence_and_no_pace():
    begun = {
        "id": "x1",
        "arms": {name: {"tokens": [], "finish": None} for name in ("base", "changed")},
        "first_divergence": None,
    }
    shown = streams.shown(begun)
    assert (shown["divergence"], shown["seconds"], shown["rate"]) == (None, None, None)
    assert streams.shown(None) is None


def test_what_is_shown_of_a_growing_run_only_grows():
    whole = run()
    part = run(arms={name: {"tokens": arm["tokens"][:1], "finish": None} for name, arm in whole["arms"].items()})
    for name, arm in streams.shown(part)["arms"].items():
        assert streams.shown(whole)["arms"][name]["tokens"][: len(arm["tokens"])] == arm["tokens"]


# The layer strip


def test_the_strip_has_one_lens_a_layer_and_none_where_it_was_not_read():
    lens = {1: [[f"t{k}", 0.5 / (k + 1)] for k in range(9)]}
    drawn = layer_strip.strip(3, selected=(1, 2), stored=[2, 0, 99], source=None, preview=lens)
    assert (drawn["n"], drawn["selected"], drawn["stored"], drawn["source"]) == (3, [1, 2], [0, 2], None)
    assert drawn["lens"][0] is None and drawn["lens"][2] is None
    assert drawn["lens"][1] == lens[1][:5]
    assert layer_strip.strip(3, selected=(0, 0), stored=[], source=1, preview=None)["lens"] == [None] * 3


@pytest.mark.parametrize(
    "value", [None, "1-2", [1], [1, 2, 3], [2, 1], [-1, 0], [0, 30], [1.0, 2.0], [True, True], [None, 1]]
)
def test_a_choice_that_is_no_range_of_layers_is_not_taken(value):
    assert layer_strip.layers_of(value, 30) is None


@pytest.mark.parametrize("value", [[0, 0], [0, 29], [12, 15]])
def test_a_range_of_layers_is_taken_as_it_is(value):
    assert layer_strip.layers_of(value, 30) == tuple(value)


# The reader's marks

CHUNKS = pd.DataFrame(
    {
        "chunk_id": ["a", "b", "c"],
        "number": [1, 2, 3],
        "text": ["x", "y", "z"],
        "category": "unknown",
        "value": math.nan,
    }
)


def test_marks_find_their_chunks_by_id_and_leave_the_rest_as_it_is():
    plain, marked = (
        reader.spans(CHUNKS, None),
        reader.spans(CHUNKS, None, {"c": "source", "a": "both", "gone": "applied"}),
    )
    assert [chunk["mark"] for chunk in marked] == ["both", None, "source"]
    assert [chunk | {"mark": None} for chunk in marked] == plain


def test_a_mark_without_a_meaning_is_refused():
    with pytest.raises(ValueError, match="'target'; expected source, applied, both"):
        reader.spans(CHUNKS, None, {"a": "target"})
