"""What a browser reports of widgets: also of those that have gone meanwhile, and of tables that have changed."""

import ast
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
from streamlit.runtime.scriptrunner import RerunData, RerunException

from app.components import examples, keyboard, layer_strip, reader, token_text
from app.crosscoder import charts
from app.feature import side_by_side
from app.latent_map import chunk_map
from app.shared import chosen_chain, chosen_chunk, chosen_dictionary, clicks
from app.shell import selection
from app.steepness import all_pairs
from tests.pages.conftest import ROOT

DICTIONARY = pd.Series({"dictionary_id": "d", "n_features": 9})
CHUNKS = pd.DataFrame(
    {"chunk_id": ["c_0001"], "number": [1], "text": ["Wait."], "category": ["unknown"], "value": [0.5]}
)


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """The session of a browser whose widgets have all gone."""
    state = {}
    monkeypatch.setattr(clicks.st, "session_state", state)
    return state


def test_no_code_of_the_app_counts_on_a_key_of_the_session():
    for file in [*(ROOT / "app").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            read = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)
            assert not (read and getattr(node.value, "attr", None) == "session_state"), (
                f"{file}:{node.lineno} fails where the key is gone"
            )


@pytest.mark.parametrize(
    "late",
    [
        partial(clicks.go_to_clicked, "chart", CHUNKS["chunk_id"]),
        partial(chunk_map.taken, "chart", CHUNKS),
        partial(all_pairs._clicked, "chart", CHUNKS),
        partial(chosen_dictionary.choose_clicked, "chart", DICTIONARY),
        partial(charts._brushed, "chart", x="nrn_l1"),
        partial(charts._taken, "chart", DICTIONARY, x="nrn_l1", y="share_eps"),
        partial(side_by_side._keep, SimpleNamespace(path="nowhere"), DICTIONARY, 3, "label", "author"),
    ],
)
def test_a_click_on_what_is_gone_does_nothing(session, late):
    late()
    assert not {"selection", "lassoed_chunks"} & set(session)


@pytest.mark.parametrize(
    ("component", "draw"),
    [
        (reader, lambda on: reader.reader(CHUNKS, None, selected="c_0001", on_chunk=on)),
        (
            token_text,
            lambda on: token_text.token_text(
                [], {}, key="k", colour="", n_prompt=0, selected=None, marked=range(0), on_token=on
            ),
        ),
        (examples, lambda on: examples.examples(pd.DataFrame(), key="k", colour="red", names=[], on_read=on)),
        (
            layer_strip,
            lambda on: layer_strip.layer_strip(
                4, key="k", selected=(0, 0), stored=(), source=None, preview=None, on_select=on
            ),
        ),
    ],
)
def test_a_component_that_is_gone_has_nothing_to_say(monkeypatch, component, draw):
    callbacks = {}
    monkeypatch.setattr(component, "_component", lambda: lambda **given: callbacks.update(given))
    draw(lambda *said: pytest.fail(f"was told {said}"))
    next(callback for name, callback in callbacks.items() if name.startswith("on_"))()


@pytest.fixture
def pressed(monkeypatch, session):
    """`pressed(said)`: the keys that were acted on when the browser says this; each asks for another run."""
    drawn, acted = {}, []

    def on_key(key):
        acted.append(key)
        raise RerunException(RerunData())

    monkeypatch.setattr(keyboard, "_component", lambda: lambda **given: drawn.update(given))
    keyboard.keyboard([], on_key)

    def press(said):
        session["keyboard"] = SimpleNamespace(pressed=said)
        acted.clear()
        with suppress(RerunException):
            drawn["on_pressed_change"]()
        keyboard.keyboard([], on_key)
        return list(acted), drawn["data"]["heard"]

    return press


def test_every_key_is_acted_on_once_however_many_messages_say_it(pressed):
    assert pressed({"at": 5, "value": [[5, "u"]]}) == (["u"], 5)
    assert pressed({"at": 7, "value": [[5, "u"], [6, "U"], [7, "p"]]}) == (["U", "p"], 7)
    assert pressed({"at": 7, "value": [[5, "u"], [6, "U"], [7, "p"]]}) == ([], 7)


@pytest.mark.parametrize(
    "said", [None, "u 1", {"at": "x"}, {"at": 9, "value": ["u", [1], [9, 3]]}, {"value": [[9, "u"]]}]
)
def test_what_is_no_message_of_keys_presses_none(pressed, said):
    assert pressed(said)[0] == []


def test_a_component_hears_what_was_acted_on_whatever_is_selected_by_then(session):
    session["cot_reader"] = SimpleNamespace(chunk={"at": 12.0, "value": "c_0001"})
    assert clicks.heard("cot_reader") == 0 and clicks.told("cot_reader", "chunk") == "c_0001"
    assert clicks.heard("cot_reader") == 12 and clicks.told("gone", "chunk") is None


def test_a_widget_that_is_gone_keeps_what_was_selected(session):
    selection.choose(layer="3")
    for late in (
        selection.following("slider", 4.0, pytest.fail),
        selection.following("words", "as before", pytest.fail),
    ):
        late["on_change"]()
    assert selection.get("layer") == "3"


def test_of_a_table_only_rows_that_it_has_are_picked(session):
    session["table"] = SimpleNamespace(selection=SimpleNamespace(rows=[7, 1, "0", None, -1, True]))
    assert clicks.picked_rows("table", 3) == [1] and clicks.picked_row("table", 1) is None


def test_of_a_table_only_cells_and_heads_that_it_has_are_picked(session):
    session["table"] = SimpleNamespace(selection=SimpleNamespace(cells=[(9, "a"), None, (1, "a")], columns=["no", "a"]))
    assert clicks.picked_cell("table", 3) == 1 and clicks.picked_cell("table", 1) is None
    assert clicks.picked_column("table", ["a", "b"]) == "a" and clicks.picked_column("gone", ["a"]) is None


def test_marks_are_whatever_the_chart_gave_them(session):
    points = [
        {"customdata": ["c_0001", 2]},
        {"customdata": "c_0002"},
        {"x": 1},
        {"customdata": []},
        {"customdata": {"a": 1}},
    ]
    session["chart"] = SimpleNamespace(selection=SimpleNamespace(points=points, box=[], lasso=[]))
    assert clicks.chunk_ids("chart", pd.Series(["c_0001", "c_0003"])) == ["c_0001"]


def test_choosing_a_chain_looks_at_every_problem_once(monkeypatch):
    """The names of the problems in the picker take one look at the list of chains, however many problems there are."""
    looks, n = [], 50
    problems = pd.DataFrame(
        {"problem_id": [f"p{k}" for k in range(n)], "level": 1, "question": "How many?", "candidate": True}
    )
    cots = pd.DataFrame(
        {
            "cot_id": [f"c{k}" for k in range(n)],
            "problem_id": problems["problem_id"],
            "model_id": "m",
            "model": "tiny",
            "prompt_name": "ours",
            "sample": 0,
            "answer": "1",
            "is_correct": True,
            "n_chunks": 3,
            "has_rollouts": True,
        }
    )
    monkeypatch.setattr(chosen_chain.studies, "ask", lambda question: question())
    monkeypatch.setattr(chosen_chain, "_filter", lambda *_: None)
    monkeypatch.setattr(chosen_chain, "_kept", lambda *_: cots)
    monkeypatch.setattr(chosen_chain.selection, "pick", lambda name, label, options, **_: looks.append(len(options)))
    monkeypatch.setattr(chosen_chain, "set", lambda *rows: looks.append("a set") or set(*rows), raising=False)
    store = SimpleNamespace(problem_index=lambda: problems, cot_index=lambda: cots)
    chosen_chain.choose_cot(store, chosen_chunk.ChosenChunk("p0", "c0", "c0_0000"))
    assert looks.count("a set") <= 2 and n in looks
