"""The page Lenses without a browser: on a study whose model is here, on one whose model is not, on empty and old ones,
and with text that tries to act.
"""

import shutil
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest

from app.lenses import heat, local, reading
from app.shared import vector_lens
from backend.lens.grid import CUTS
from backend.lens.quantities import QUANTITIES
from backend.live.jobs import Reader
from backend.live.lens_map import under_lens
from backend.live.requests import LensMap
from backend.live.service import merge
from backend.live.study_texts import text_of_cot
from backend.models import embedded
from backend.schema.tables import TABLES
from backend.store.library import KeptVector, Library
from backend.store.store import Store, generation_of
from tests import intervened_study, lensed_study, steerable_study
from tests.pages.conftest import settled, words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "lenses"


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    return steerable_study.make(tmp_path_factory.mktemp("lenses") / "small", tiny("llama"))


@pytest.fixture
def drawn(monkeypatch):
    """What the map was drawn with, run by run: its cells, and the rest."""
    calls, real = [], heat.lens_heat

    def noted(cells, columns, **how):
        calls.append((cells, columns, how))
        return real(cells, columns, **how)

    monkeypatch.setattr(heat, "lens_heat", noted)
    return calls


def open_page(opened, study, **selection):
    test = opened(PAGE, study, study="small", **selection)
    assert not test.exception, test.exception
    return settled(test, lambda t: "whole map" in words(t) and any("logit" in frame.value for frame in t.dataframe))


def first_chunks(study) -> list[str]:
    return Store(study).frame("SELECT chunk_id FROM chunks ORDER BY chunk_id")["chunk_id"].tolist()


def test_the_map_begins_with_the_last_token_of_each_chunk(opened, study, drawn):
    test = open_page(opened, study, chunk=first_chunks(study)[0], layer="2")
    cells, columns, how = drawn[-1]
    assert how["n_layers"] == 4 and how["axis"] == "chunk" and how["selected"] == (2, 1)
    assert len(cells) == 4 * len(columns) and cells["value"].between(0, 1).all()
    said = "\n".join(str(getattr(one, "value", "")) for one in test.main)
    assert "GFLOP of matrix products" in said and said.index("Words are the top") < said.index("first picture after")


def test_the_cells_are_those_that_the_worker_finds(opened, study, drawn, tiny):
    chunk = first_chunks(study)[0]
    open_page(opened, study, chunk=chunk, lens_cut="token", lens_colour="kl", lens_width="300")
    cells, columns, how = drawn[-1]
    text, found = text_of_cot(Store(study), chunk, tiny("llama").model_id), {}
    for kind, part in under_lens(Reader(tiny("llama")), LensMap(text)):
        if kind == "part":
            merge(found, part)
    window = found["windows"][0]
    assert columns["column"].tolist() == list(range(window["first"], window["end"]))
    for layer in range(4):
        at = cells[cells["layer"] == layer]
        assert at["kl"].tolist() == pytest.approx(window["rows"][layer]["kl"].tolist(), rel=1e-4, abs=1e-9)
    assert (cells.loc[cells["layer"] == 3, "value"] == 0).all() and how["bounds"][0] == 0


def test_the_selection_names_the_cell_whose_likeliest_tokens_are_listed(opened, study):
    chunk = first_chunks(study)[1]
    token = int(Store(study).frame("SELECT token_start FROM chunks WHERE chunk_id = $c", c=chunk)["token_start"][0]) + 1
    test = open_page(opened, study, chunk=chunk, token=str(token), lens_cut="token", layer="1")
    assert f"Layer 1, token {token} (" in words(test) and "of chunk 2" in words(test)
    table = next(frame.value for frame in test.dataframe if "logit" in frame.value)
    assert len(table) == 20 and table["probability"].is_monotonic_decreasing and table["logit"].is_monotonic_decreasing


def test_what_a_click_chooses_is_the_selection_of_every_page(study, monkeypatch):
    state: dict = {"study": "small"}
    monkeypatch.setattr(heat.selection, "_state", lambda: state)
    place = heat.Place(40, 41, "x", 2)
    shown = shown_with([place], spans={"a": (30, 38), "b": (38, 45)})
    heat.go_to(shown, place, layer=3, window=range(0, 1))
    assert state == {"study": "small", "chunk": "b", "token": "40", "layer": "3", "model": "m1", "lens_from": "0"}


@pytest.mark.parametrize("mark", ["9.40", "1.99", "x.y", "1", None, 7])
def test_a_click_on_what_is_no_cell_chooses_nothing(mark, monkeypatch):
    state: dict = {}
    monkeypatch.setattr(heat.selection, "_state", lambda: state)
    monkeypatch.setattr(heat, "marks", lambda key: [] if mark is None else [mark])
    heat._clicked("k", shown_with([heat.Place(40, 41, "x", 1)], spans={"a": (38, 45)}), range(1))
    assert state == {}


def shown_with(places, spans):
    grid = SimpleNamespace(places=places, n_layers=4)
    choice = SimpleNamespace(choice=SimpleNamespace(model_id="m1"))
    asked = SimpleNamespace(cut=SimpleNamespace(is_chunk=False), where=object(), models=[choice])
    return SimpleNamespace(grids=[grid], asked=asked, found={"spans": spans})


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("colour", QUANTITIES)
def test_every_colour_is_drawn_for_every_kind_of_column(opened, study, cut, colour, drawn):
    test = opened(PAGE, study, study="small", lens_cut=cut, lens_colour=colour)
    test = settled(test, lambda t: len(t.dataframe))
    assert not test.exception and drawn[-1][0]["value"].notna().any()


def test_followed_tokens_are_named_with_their_first_token(opened, study):
    test = open_page(opened, study, lens_followed="360|#7", lens_colour="rank")
    assert "The followed token is 3, the first of the 3 tokens of 360" in words(test)


def test_a_typed_text_is_read(opened, study):
    test = opened(PAGE, study, study="small", text_from="yes")
    test.text_area[0].set_value("Wait, 12 + 30 is <b>42</b>. [x](http://evil.example) Therefore it is 42.")
    next(button for button in test.button if button.label == "Read it").click().run()
    test = settled(test, lambda t: "whole map" in words(t))
    assert not test.exception and "Click a cell" in words(test)
    test.session_state["selection"]["token"] = "3"
    test = settled(test.run(), lambda t: len(t.dataframe))
    assert "of chunk 1" in words(test)


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"lens": "nonsense"}, "(lens)"),
        ({"layer": "99"}, "(layer)"),
        ({"token": "99999"}, "(token)"),
        ({"lens_followed": "#99999"}, "knows #0 to #383"),
    ],
)
def test_a_link_that_makes_no_sense_gets_a_sentence(opened, study, selection, said):
    test = settled(opened(PAGE, study, study="small", **selection), lambda t: said in words(t))
    assert not test.exception


def test_without_a_model_on_this_machine_nothing_is_read(opened, everything):
    assert not embedded.is_ready()
    assert "under a lens" in words(opened(PAGE, everything, study="small"))


def test_an_empty_study_says_what_it_lacks(opened, tmp_path, tiny):
    study = steerable_study.make(tmp_path / "small", tiny("llama"))
    file = tmp_path / "empty.duckdb"
    shutil.copy(generation_of(study), file)
    with duckdb.connect(str(file)) as connection:
        for table in ("chunks", "cots"):
            connection.execute(f"DELETE FROM {table}")
    test = opened(PAGE, file, study="empty")
    assert not test.exception and "no chains of thought cut into chunks yet" in words(test)


WHOLE_LINK = {"lens": "tuned:all", "layer": "2", "token": "40", "lens_cut": "token", "lens_colour": "kl"}


def test_a_link_to_a_cell_opens_a_study_of_before_there_were_lenses(opened, lensed, tmp_path):
    study = shutil.copytree(lensed, tmp_path / "small")
    with duckdb.connect(str(generation_of(study))) as connection:
        for name in (name for name, table in TABLES.items() if table.since > 8):
            connection.execute(f'DROP TABLE "{name}"')
        connection.execute("UPDATE about SET value = '8' WHERE name = 'schema_version'")
    chunk = first_chunks(study)[1]
    test = open_page(opened, study, chunk=chunk, model=the_model(study), **WHOLE_LINK)
    assert "(lens)" in words(test) and "logit lens, unembed(norm(h))" in words(test)
    assert "Layer 2, token 40 (" in words(test) and "--stage lens_quality" in words(test)


@pytest.mark.parametrize("lost", [("cots", "chunks"), ("chunks",), ("models",)])
def test_a_link_to_a_cell_of_what_is_no_longer_there_gets_a_sentence(opened, lensed, tmp_path, lost):
    chunk, model = first_chunks(lensed)[1], the_model(lensed)
    study = shutil.copytree(lensed, tmp_path / "small")
    with duckdb.connect(str(generation_of(study))) as connection:
        for table in lost:
            connection.execute(f"DELETE FROM {table}")
    test = opened(PAGE, study, study="small", chunk=chunk, model=model, **WHOLE_LINK)
    assert not test.exception and words(test).strip() and "whole map" not in words(test)


def the_model(study) -> str:
    return Store(study).models()["model_id"][0]


# Fitted lenses, and when to believe them


@pytest.fixture(scope="module")
def lensed(tmp_path_factory, tiny):
    folder = steerable_study.make(tmp_path_factory.mktemp("lensed") / "small", tiny("llama"))
    lensed_study.add(folder, tiny("llama"))
    return folder


def test_a_study_without_a_measured_lens_says_what_to_run(opened, study):
    test = open_page(opened, study)
    assert "It is not known how far any lens is" in words(test) and "--stage lens_quality" in words(test)


def test_layers_that_are_no_better_than_token_frequencies_are_greyed_and_said(opened, lensed, drawn):
    test = open_page(opened, lensed)
    assert drawn[-1][2]["greyed"] == [0, 1] and "Grey: layers 0 to 1, where on held-out problems" in words(test)
    assert "the logit lens gains from layer 2 on; the tuned lens gains from layer 0 on" in words(test)
    assert "n = 120 tokens of 3 problems" in words(test)
    assert drawn[-1][2]["unmeasured"] == [] and "Hatched" not in words(test)


def test_layers_that_were_not_measured_are_hatched_and_said_to_be_unknown(opened, lensed, drawn, tmp_path):
    study = shutil.copytree(lensed, tmp_path / "small")
    with duckdb.connect(str(generation_of(study))) as connection:
        connection.execute("DELETE FROM lens_quality WHERE layer = 1")
    test = open_page(opened, study)
    how = drawn[-1][2]
    assert how["greyed"] == [0] and how["unmeasured"] == [1]
    assert "Hatched: layers 1, where this lens was not measured" in words(test)


def test_a_lens_whose_maps_were_left_out_of_a_pack_is_measured_and_not_offered(opened, lensed, tmp_path):
    study = shutil.copytree(lensed, tmp_path / "small")
    with duckdb.connect(str(generation_of(study))) as connection:
        connection.execute("DELETE FROM lens_rows")
        connection.execute("DELETE FROM jacobian_rows")
    assert local._average(Store(lensed), the_model(study)) is not None
    assert local._average(Store(study), the_model(study)) is None  # the worker would look for its rows in vain
    test = open_page(opened, study)
    assert not any("tuned" in option for box in test.selectbox if box.label == "Lens" for option in box.options)
    assert "The maps of the tuned lens are not in this pack" in words(test)
    assert "the tuned lens gains from layer 0 on" in words(test)


def test_a_fitted_lens_is_offered_and_read(opened, lensed, drawn):
    test = open_page(opened, lensed, lens="tuned:all", lens_colour="entropy")
    assert next(box for box in test.selectbox if box.label == "Lens").options == [
        "logit lens",
        "tuned lens",
        "Jacobian lens",
        "Jacobian lens, named, named tokens",
    ]
    assert drawn[-1][2]["greyed"] == [] and "tuned lens, unembed(norm(h + W h + b))" in words(test)
    of_tuned = drawn[-1][0]["value"].tolist()
    open_page(opened, lensed, lens_colour="entropy")
    assert drawn[-1][0]["value"].tolist() != of_tuned


def test_a_lens_of_earlier_settings_is_offered_after_the_newest_and_said_to_be_one():
    new, old = (
        {
            "lens_id": name,
            "kind": "tuned",
            "variant": "cot",
            "is_whole": True,
            "is_readable": True,
            "n_layers": 3,
            "n_tokens": tokens,
        }
        for name, tokens in (("b", 5000), ("a", 1000))
    )
    store = SimpleNamespace(lenses=lambda _model: pd.DataFrame([new, old]))
    fits = reading._fits(store, SimpleNamespace(choice=SimpleNamespace(model_id="m")))
    assert {name: row["lens_id"] for name, row in fits.items()} == {"tuned:cot": "b", "tuned:cot:a": "a"}
    assert [reading._lens_words(*fit) for fit in fits.items()] == [
        "tuned lens, cot",
        "tuned lens, cot (earlier settings: 3 layers, 1,000 tokens)",
    ]


def test_a_lens_of_named_tokens_says_that_it_knows_no_others(opened, lensed, drawn):
    test = settled(
        opened(PAGE, lensed, study="small", lens="jacobian:named", lens_followed="#19"),
        lambda t: "whole map" in words(t) and len(t.dataframe),
    )
    assert "knows 3 named tokens alone" in words(test) and not test.exception
    assert drawn[-1][0]["value"].notna().any()


# Directions


@pytest.mark.parametrize("kind", ["pair", "category", "per_chunk"])
def test_the_lens_of_a_direction_stands_beside_random_vectors(opened, lensed, kind):
    test = settled(opened(PAGE, lensed, study="small", direction=kind, layer="2"), lambda t: "Largest |z|" in words(t))
    assert not test.exception and "of 19 random vectors median" in words(test)


def test_the_lens_of_a_direction_is_the_one_that_is_chosen(opened, lensed):
    test = settled(
        opened(PAGE, lensed, study="small", direction="category", layer="2", lens="tuned:all"),
        lambda t: "Largest |z|" in words(t),
    )
    assert "Tuned lens of the vector: v̂ + W v̂" in words(test)


@pytest.fixture
def directed(monkeypatch):
    """The requests by which directions were read, run by run."""
    requests, real = [], vector_lens.draw

    def noted(choice, request):
        requests.append(request)
        return real(choice, request)

    monkeypatch.setattr(vector_lens, "draw", noted)
    return requests


def test_a_kept_vector_is_read_as_it_was_kept(opened, study, tmp_path, tiny, directed):
    loaded, own = tiny("llama"), shutil.copytree(study, tmp_path / "small")
    made = {"words": "v.npy (array)", "parameters": {"file": "v.npy"}}
    vector = 3 * np.eye(loaded.d_model, dtype=np.float32)[4]
    name = Library(own).keep(KeptVector("doubt", loaded.model_id, loaded.name, "r7", 1, vector, "file", made))
    test = opened(PAGE, own, study="small", direction="library", vector_kept=name)
    test = settled(test, lambda t: "Largest |z|" in words(t))
    assert "made at layer 1 of" in words(test) and directed[-1].layer == 1
    assert np.array_equal(directed[-1].vector / np.linalg.norm(directed[-1].vector), vector / 3)


@pytest.mark.parametrize("model", [0, 1])
def test_a_decoder_row_is_read_by_the_model_that_it_decodes_to(opened, pair, directed, model):
    store = Store(pair)
    model_id = store.dictionaries().iloc[0][["base_model_id", "distilled_model_id"]].iloc[model]
    typed = {"text_from": "yes", "typed_text": "So the answer is 42."}
    test = opened(PAGE, pair, study="small", direction="feature", feature="3", model=model_id, **typed)
    test = settled(test, lambda t: "Largest |z|" in words(t))
    row = intervened_study.weights(len(directed[-1].vector)).decoder[model, 3].numpy()
    cosine = row @ directed[-1].vector / np.linalg.norm(row) / np.linalg.norm(directed[-1].vector)
    assert cosine == pytest.approx(1, abs=1e-6) and directed[-1].layer == intervened_study.LAYER


# Two models


def test_two_models_of_a_pair_are_read_alike_and_subtracted(opened, pair, drawn):
    typed = {"text_from": "yes", "typed_text": "Let me add 12 and 30. Wait, that is 42. So the answer is 42."}
    test = settled(
        opened(PAGE, pair, study="small", **typed, lens_pair="difference", lens_colour="entropy"),
        lambda t: words(t).count("whole map") == 2,
    )
    assert not test.exception and "reasoner − base" in drawn[-1][2]["title"]
    low, high = drawn[-1][2]["bounds"]
    assert low == -high < 0 and (drawn[-1][0]["word"] == "").any()
    assert "where the two models' top tokens part" in words(test)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two tiny models of one tokenizer, base and distilled."""
    models = intervened_study.make_pair(tmp_path_factory.mktemp("models"))
    return intervened_study.make(tmp_path_factory.mktemp("pair") / "small", models)


def test_the_cell_by_its_own_jacobian_says_what_is_summed_and_how_far_the_average_holds(opened, study, tmp_path, tiny):
    first = {"chunk": first_chunks(study)[0], "layer": "3", "lens_cut": "last"}
    test = settled(open_page(opened, study, **first), lambda t: "are summed" in words(t))
    assert "No averaged Jacobians" in words(test)
    assert len([frame for frame in test.dataframe if [*frame.value] == ["token", "probability", "id"]]) == 1
    lensed_study.add(shutil.copytree(study, tmp_path / "small"), tiny("llama"))
    test = settled(open_page(opened, tmp_path / "small", **first), lambda t: "on average, is" in words(t))
    assert "The cosine of J h, here and on average, is 1.00" in words(test)
