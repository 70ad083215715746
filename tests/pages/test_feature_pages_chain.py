"""Features on the chain, and Categories: on a study with a crosscoder, with an autoencoder, with a tiny pair to read
any text, and none.
"""

from types import SimpleNamespace

import pandas as pd
import pytest

from app.categories import ablations
from app.features_on_chain import codes_along_text
from app.features_on_chain.codes_along_text import go_to_chunk, go_to_token
from app.shared import live
from backend.models import embedded
from backend.store.labels import add_label
from backend.store.store import Store
from tests import intervened_study, small_dictionary, small_study
from tests.pages.conftest import settled, words
from tests.pages.test_crosscoder_pages import add_autoencoder, table
from tests.small_dictionary import LAYER, SILENT, code
from tests.small_study import HOSTILE

CHAIN, CATEGORIES = PAGES = ("features_on_chain", "categories")
_EARLY = {"rollouts": False, "activations": False, "steering": False}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("features") / "small", **_EARLY)
    add_label(folder, small_dictionary.add(folder), 1, "<b>Wait</b>, a label", "Ada")
    return folder


@pytest.fixture(scope="module")
def chunks(study):
    """Of the first CoT with codes."""
    store = Store(study)
    cot = store.whole_table("cot_codes")["cot_id"][0].as_py()
    found = store.chunk_spans(cot).assign(cot=cot)
    store.close()
    return found


@pytest.fixture(scope="module")
def pair_study(tmp_path_factory):
    """A dictionary of a tiny pair that is on this machine; the machine's own cache is out of reach."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ANCHORSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield intervened_study.make(
        tmp_path_factory.mktemp("stores") / "pair", intervened_study.make_pair(tmp_path_factory.mktemp("models"))
    )
    live.service().close()
    live.service.clear()
    patch.undo()


@pytest.mark.parametrize("which", PAGES)
def test_in_an_autoencoder_what_compares_two_models_is_left_out(opened, tmp_path_factory, which):
    folder = small_study.make(tmp_path_factory.mktemp("autoencoder") / "small", **_EARLY)
    add_autoencoder(folder)
    test = opened(which, folder)
    assert not test.exception
    said = words(test)
    assert "jumprelu autoencoder of Tiny, layer 5" in said
    if which == CHAIN:
        assert "residual stream times model 1)" in said and "crosscoder has one f" not in said
        assert test.selectbox(key="pick_heat_order").options == [
            "lift: more often here than elsewhere",
            "mean f on this text",
            "a chosen set",
        ]
    else:
        assert "which a dictionary of one model does not have" in said


@pytest.mark.parametrize(
    ("which", "selection", "said"),
    [
        (CHAIN, {"token": "99999"}, "(token)"),
        (CHAIN, {"token": "-1"}, "(token)"),
        (CHAIN, {"rank": "best"}, "(order of the features)"),
        (CHAIN, {"rank": "set", "chosen": "1, 2, 77"}, "“77” is no feature"),
        (CHAIN, {"feature": "6"}, "(feature)"),
        (CATEGORIES, {"scheme": "x", "above": "0.7"}, "(tokens that features are counted on, NRN of what is zeroed)"),
        (CATEGORIES, {"measure": "nan"}, "(measure of zeroing)"),
    ],
)
def test_a_link_that_makes_no_sense_gets_a_sentence(opened, study, which, selection, said):
    test = opened(which, study, study="small", **selection)
    assert not test.exception and said in words(test)


# Features on the chain


def test_what_the_colour_is_stands_on_the_page(opened, study):
    said = words(opened(CHAIN, study))
    assert "f_k · ‖W_dec,k‖₂" in said and "residual stream times base 0.5 and reasoner 0.25" in said
    assert "one f for both models" in said and "5 features fire on" in said


def test_a_token_lists_what_fires_there_and_what_it_adds_to_each_model(opened, study, chunks):
    first = int(chunks["token_start"][1])
    token = next(
        position for position in range(first, first + 12) if position % 12 == 0
    )  # 12: features 0, 1, 2 and 4 fire
    test = opened(CHAIN, study, study="small", chunk=chunks["chunk_id"][1], token=str(token))
    found = table(test, "adds to base").set_index("feature")
    assert sorted(found.index) == [0, 1, 2, 4] and found["f"].is_monotonic_decreasing
    for k in found.index:  # the small dictionary's L2 norms are 1 and k
        assert found["f"][k] == pytest.approx(code(k, token)) and found["adds to base"][k] == pytest.approx(
            code(k, token)
        )
        assert found["adds to reasoner"][k] == pytest.approx(k * code(k, token))
    assert found["label"][1] == "<b>Wait</b>, a label" and f"What fires at token {token}" in words(test)


def test_without_a_token_the_selected_chunk_is_summed_up(opened, study, chunks):
    row = chunks.iloc[2]
    test = opened(CHAIN, study, study="small", chunk=row.chunk_id, cells="chunk")
    span = range(int(row.token_start), int(row.token_end))
    found = table(test, "n fired").set_index("feature")
    assert "What fires in chunk 3" in words(test) and SILENT not in found.index
    for k in found.index:
        values = [code(k, position) for position in span]
        assert found["f"][k] == pytest.approx(sum(values) / len(span)) and found["n fired"][k] == sum(
            value > 0 for value in values
        )


def test_features_are_ranked_chosen_and_the_opened_one_is_always_there(opened, study, monkeypatch):
    drawn = []
    real = codes_along_text.chain_heat
    monkeypatch.setattr(
        codes_along_text, "chain_heat", lambda cells, **how: drawn.append(list(how["rows"])) or real(cells, **how)
    )
    for selection in (
        {"rank": "distilled"},
        {"rank": "base", "feature": "1"},
        {"rank": "set", "chosen": "4, 0"},
        {"rank": "mean"},
    ):
        assert not opened(CHAIN, study, study="small", **selection).exception
    assert drawn[:3] == [[3, 4, 0, 1, 2], [1, 2, 0, 4, 3], [4, 0]] and sorted(drawn[3]) == [0, 1, 2, 3, 4]


def test_going_to_a_place_selects_its_chunk(monkeypatch, study, chunks):
    state: dict = {}
    monkeypatch.setattr(codes_along_text.selection, "_state", lambda: state)
    text = codes_along_text.TextCodes(
        ["a"] * 400, int(chunks["token_start"][0]), pd.DataFrame(), chunks.assign(number=chunks.index + 1)
    )
    shown = codes_along_text.Shown(text, codes_along_text.ChosenChunk("p", chunks["cot"][0], chunks["chunk_id"][0]))
    go_to_token(shown, int(chunks["token_start"][3]) + 1)
    assert state == {"chunk": chunks["chunk_id"][3], "token": str(int(chunks["token_start"][3]) + 1)}
    go_to_chunk(shown, 2)
    assert state == {"chunk": chunks["chunk_id"][1]}
    go_to_token(shown, 400)
    go_to_chunk(shown, 99)
    assert state == {"chunk": chunks["chunk_id"][1]}
    go_to_chunk(codes_along_text.Shown(text, None), 3)
    assert state["token"] == str(int(chunks["token_start"][2]))


@pytest.mark.parametrize(
    ("reported", "chosen"),
    [
        ([{"customdata": ["3.200"]}], {"feature": "3", "token": "200"}),
        ([{"customdata": "2.200"}], {"feature": "2", "token": "200"}),
        ([], {}),
        ([{}], {}),
        ([{"customdata": 7}], {}),
        ([{"customdata": "9.200"}], {}),
        ([{"customdata": "a.b"}], {}),
        ([{"customdata": "1.999"}], {"feature": "1"}),
    ],
)
def test_a_click_on_a_cell_chooses_its_feature_and_its_token(monkeypatch, reported, chosen):
    state: dict = {}
    monkeypatch.setattr(codes_along_text.selection, "_state", lambda: state)
    chart = SimpleNamespace(selection=SimpleNamespace(points=reported))
    monkeypatch.setattr(codes_along_text.st, "session_state", {"chain_heat_token": chart})
    text = codes_along_text.TextCodes(["a"] * 400, 0, pd.DataFrame(), pd.DataFrame())
    codes_along_text._clicked("chain_heat_token", codes_along_text.Shown(text, None), pd.Series({"n_features": 6}))
    assert state == chosen


def test_a_cot_without_tokens_says_why_it_has_no_codes(opened, study):
    store = Store(study)
    imported = store.frame("SELECT cot_id FROM cots WHERE token_ids IS NULL")["cot_id"][0]
    store.close()
    test = opened(CHAIN, study, study="small", cot=imported)
    assert not test.exception and "imported as text" in words(test)


# Any text


def test_any_text_is_read_and_shown(opened, pair_study):
    test = opened(CHAIN, pair_study, study="pair", typed="yes")
    assert not test.exception
    test.text_area[0].set_value("Wait, 12 + 30 is 42. " + HOSTILE[2] + " Therefore it is 42.")
    next(button for button in test.button if button.label == "Show its features").click().run()
    test = settled(test, lambda t: "features fire on" in words(t))
    said = words(test)
    assert "residual stream times base 0.8 and reasoner 1.25" in said and "Click a cell or a word" in said
    test.session_state["selection"]["token"] = "3"
    test.run()
    assert not test.exception and "What fires at token 3" in words(test) and "chunk 1" in words(test)
    assert len(table(test, "adds to reasoner"))


def test_a_text_that_cannot_be_read_says_why_and_can_be_tried_again(opened, pair_study):
    test = opened(CHAIN, pair_study, study="pair", typed="yes")
    test.text_area[0].set_value("W")
    next(button for button in test.button if button.label == "Show its features").click().run()
    test = settled(test, lambda t: "single token" in words(t))
    assert any(button.key == "features_text_again" for button in test.button)


def test_without_the_models_on_this_machine_no_text_is_read(opened, study, pair_study):
    assert not embedded.is_ready()
    test = opened(CHAIN, study, study="small", typed="yes")
    assert not test.exception and "is not on this machine" in words(test)


# Categories


def test_absent_categories_are_named_and_the_others_are_counted(opened, study):
    said = words(opened(CATEGORIES, study))
    assert (
        "In no CoT of the study: deductive (Therefore, Thus); alternative (Alternatively); contrastive (But, However)"
        in said
    )
    assert "of n = 50 tokens" in said and "layer 5" in said and "8 sets" in said


def test_the_table_says_how_often_a_feature_fires_there_and_anywhere(opened, study):
    found = table(opened(CATEGORIES, study), "fires there").set_index("feature")
    assert (
        found["fires there"][1] == "20.0%" and found["anywhere"][1] == "33.33%" and found["95 %"][1] == "[11.2%, 33.0%]"
    )
    assert found["fires there"][0] == "0.0%" and found["times as often"][1] == "0.6" and found["NRN, L1"][3] == "0.98"


def test_the_numbers_of_the_ablation_stand_beside_the_control(opened, study):
    found = table(opened(CATEGORIES, study, study="small", above="0.9"), "taken out")
    assert (
        found["model"].tolist() == ["base"] * 3 + ["reasoner"] * 3 and found["top %"].tolist() == ["0.5", "1", "20"] * 2
    )
    assert found["change"].tolist()[:3] == ["unknown", "-1 [-1.5, -0.75]", "-20 [-20.5, -19.8]"]
    assert found["random"].tolist()[:3] == ["unknown", "+0 [-0.5, 0.25]", "+0 [-0.5, 0.25]"]
    assert set(found["n tokens"]) == {50} and set(found["problems"]) == {3}


def test_a_study_of_before_shows_what_was_ranked_among_all_and_says_what_to_run_for_the_rest(opened, study):
    said = words(opened(CATEGORIES, study, study="small"))
    assert "of all 6 features" in said and "Baek & Tegmark (2025, figure 2)" in said
    assert "--stage firing_ablations" in said and "not been zeroed by their rank among those that fire" in said


def test_a_set_that_a_smaller_k_zeroes_too_is_said_and_the_largest_effect_is_put_in_words():
    row = {"category": "deductive", "role": "base", "control": "features", "n_targets": 20, "measure": "logit"}
    rows = pd.DataFrame(
        [
            row | {"top_percent": k, "n_features": n, "effect": -float(n), "ci_low": -n - 1.0, "ci_high": -n + 2.0}
            for k, n in ((1, 1), (2, 4), (5, 4), (20, 4))
        ]
    )
    assert ablations._alike(rows) == "The same set as at a smaller k, drawn there alone (“=”): deductive at 5, 20 %."
    assert ablations._alike(rows.head(2)) == ""
    said = ablations.said(rows)
    assert "base: deductive -4 [-5, -2] (apart from 0: 1 of 1)." in said and "Of as few as 20 tokens" in said
    assert ablations.said(rows.assign(effect=None)) == "Here nothing was zeroed."


def test_before_anything_is_zeroed_the_page_names_the_stage(opened, pair_study):
    test = opened(CATEGORIES, pair_study, study="pair")
    assert not test.exception
    assert "No features have been zeroed yet" in words(test) and "--stage ablations" in words(test)
    assert "No CoT of the study has a target word" in words(test)


def test_the_figure_is_of_one_measure_scheme_and_threshold(opened, study, monkeypatch):
    drawn = []
    real = ablations.ablation_effects
    monkeypatch.setattr(ablations, "ablation_effects", lambda rows, **how: drawn.append(rows) or real(rows, **how))
    opened(CATEGORIES, study, study="small", scheme="before_reasoning", measure="log_probability", above="0.5")
    (rows,) = drawn
    assert (
        len(rows) == 2 * 3 * 2
        and set(rows["scheme"]) == {"before_reasoning"}
        and set(rows["measure"]) == {"log_probability"}
    )
    assert set(rows["nrn_above"]) == {0.5} and set(rows["role"]) == {"base", "distilled"} and LAYER == 5
