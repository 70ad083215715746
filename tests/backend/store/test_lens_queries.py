"""Lenses of a study: which one of several of a kind comes first, and whose quality is told."""

import json
from datetime import datetime

import pytest

from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder

MODEL = "m1"


def row(table: str, **known):
    return dict.fromkeys(TABLES[table].columns) | known


def card(lens_id: str, tokens: int, kind: str = "tuned", variant: str = "all"):
    said = json.dumps({"tokens": tokens, "shares": {}})
    return row("lenses", lens_id=lens_id, model_id=MODEL, kind=kind, variant=variant, parameters=said, n_tokens=tokens)


@pytest.fixture
def study(tmp_path):
    """Its newest run asked for 500 tokens; lens `b` was fitted so, `a` and `c` by runs of before."""
    layers = [
        row("lens_layers", lens_id=name, layer=layer, kept="identity")
        for name in "abcz"
        for layer in range(5 if name == "c" else 2)
    ]
    quality = [
        row("lens_quality", model_id=MODEL, lens_id=name, kind=kind, layer=0, positions="all", kl=1.0)
        for name, kind in (("logit", "logit"), ("b", "tuned"), ("gone", "tuned"))
    ]
    runs = [
        row("runs", run_id=f"r{day}", started_at=datetime(2026, 1, day), parameters=json.dumps({"lens": lens}))
        for day, lens in ((1, {"tokens": 900}), (2, {"tokens": 500}), (3, None))
    ]
    with StudyFolder(tmp_path / "small").writing("test") as writer:
        cards = [card("z", 500, variant="cot"), card("a", 100), card("c", 900), card("b", 500)]
        tables = {"lenses": cards, "lens_layers": layers, "lens_quality": quality, "runs": runs}
        writer.add("test", "all", tables)
        publish(writer)
    store = Store(tmp_path / "small")
    yield store
    store.close()


def test_of_several_lenses_that_of_the_newest_settings_comes_first_then_that_of_more_layers(study):
    assert study.lenses(MODEL)["lens_id"].tolist() == ["b", "c", "a", "z"]


def test_the_quality_of_a_lens_that_is_no_longer_there_is_not_told(study):
    assert study.lens_quality(MODEL)["lens_id"].tolist() == ["logit", "b"]
