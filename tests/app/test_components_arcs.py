"""What the arcs are given: every link once, the strongest on top, unknown ones not at all."""

import json
import math

import pandas as pd

from app.components import arcs


def chunks(n: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "chunk_id": [f"c_{k}" for k in range(n)],
            "number": range(1, n + 1),
            "text": "<b>So</b>",
            "category": ["problem_setup", "untagged", "no such tag"][:n],
        }
    )


def links(**changes) -> pd.DataFrame:
    return pd.DataFrame(
        {"source_index": [0, 0, 1], "target_index": [1, 2, 2], "value": [0.5, -2.0, 1.0], "strength": [0.0, 1.0, 0.5]}
        | changes
    )


def test_links_grow_with_strength_and_the_strongest_lies_on_top():
    found = arcs.drawn(chunks(), links(), "nats")["links"]
    assert [(link["source"], link["target"]) for link in found] == [(0, 1), (1, 2), (0, 2)]
    widths, opacities = ([link[name] for link in found] for name in ("width", "opacity"))
    assert widths == sorted(widths) and opacities == sorted(opacities) and widths[0] >= 1
    assert [link["negative"] for link in found] == [False, False, True]
    assert found[2]["hint"] == "1 acts on 3: -2 nats" and found[2]["value"] == "-2"


def test_an_unknown_link_has_no_arc_and_all_that_is_sent_is_plain():
    data = arcs.drawn(chunks(), links(value=[0.5, math.nan, 1.0]), "nats")
    assert len(data["links"]) == 2
    json.dumps(data, allow_nan=False)


def test_of_too_many_links_the_strongest_are_drawn(monkeypatch):
    monkeypatch.setattr(arcs, "MOST", 1)
    (one,) = arcs.drawn(chunks(), links(), "nats")["links"]
    assert one["target"] == 2 and one["negative"]


def test_a_chunk_brings_its_text_as_it_is_and_the_colour_of_its_tag():
    found = arcs.drawn(chunks(), links(), "nats")["chunks"]
    assert [chunk["text"] for chunk in found] == ["<b>So</b>"] * 3 and len({chunk["colour"] for chunk in found}) == 3
