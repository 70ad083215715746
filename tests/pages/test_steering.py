"""The Steering page without a browser: on a study whose model is here, on one whose model is not, and with links that
make no sense.
"""

import io

import numpy as np
import pytest
import torch

from app.shared import live
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.models import embedded
from backend.models.word_contexts import vocabulary
from backend.store.experiments import Experiments
from backend.store.store import Store
from tests import intervened_study, steerable_study
from tests.backend.geometry.test_direction_kinds import DOUBLED
from tests.pages.conftest import settled, words
from tests.registering import registered

pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    return steerable_study.make(tmp_path_factory.mktemp("steerable") / "small", tiny("llama"))


def open_page(opened, study, **selection):
    first = Store(study).frame("SELECT chunk_id FROM chunks ORDER BY chunk_id LIMIT 2")["chunk_id"][1]
    test = opened("steering", study, study="small", **({"chunk": first} | selection))
    return settled(test, lambda t: any(b.key == "run_button" for b in t.button))


def test_the_intervention_is_said_in_a_sentence_and_the_curve_has_its_controls(opened, study):
    test = open_page(opened, study, direction="category", about="self_checking", beta="4", layer="2", place="chunk")
    assert "add +4 RMS of self_checking − rest at layer 2 to the" in words(test)
    settled(test, lambda t: "random pushes of this size" in words(t))
    table = next(frame.value for frame in test.dataframe if "control strip" in frame.value.columns)
    assert table["control strip"].tolist() == ["as set", "sign flipped", "β = 0", "8 random directions"]
    assert table["KL, nats"][2] == "0"


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"beta": "nan"}, "a number was expected"),
        ({"beta": "inf"}, "a number was expected"),
        ({"layer": "99"}, "(layer)"),
        ({"direction": "nonsense"}, "Not here: direction nonsense"),
        ({"run": "x0123456789ab"}, "This run is not known here"),
        ({"direction": "file"}, "Choose a file"),
    ],
)
def test_a_link_that_makes_no_sense_gets_a_sentence_and_stores_nothing(opened, study, selection, said):
    before = len(Experiments(study).history(limit=1000))
    test = open_page(opened, study, **selection)
    assert said in words(test)
    kinds = Experiments(study).history(limit=1000)["kind"]
    assert len(kinds) <= before + 1 and set(kinds[: len(kinds) - before]) <= {"curve"}


@pytest.mark.parametrize(
    "kind", ["per_chunk", "centered", "diff_in_means", "random", "pair", "category", "on_manifold"]
)
def test_every_direction_gives_an_intervention_or_the_reason_why_not(opened, study, kind):
    test = open_page(opened, study, direction=kind)
    test = settled(test, lambda t: "is reading the text" not in words(t))
    said = words(test)
    assert "RMS of" in said or "There is no such direction" in said


def test_an_analogy_of_three_words_is_read_and_said_and_one_of_several_tokens_is_refused(opened, study, tiny):
    one, two, three = list(vocabulary(tiny("llama").tokenizer, leading_space=True).values())[:3]
    link = {"direction": "analogy", "analogy_word_a": one, "analogy_word_b": two, "analogy_word_c": three}
    test = open_page(opened, study, layer="2", vector_layer="2", **link)
    said = words(settled(test, lambda t: "RMS of" in words(t)))
    assert f"add +8 RMS of {two} − {one} + {three} at layer 2" in said
    test = open_page(opened, study, layer="2", vector_layer="2", **link | {"analogy_word_b": "xylophone"})
    assert "tokens of this model after a space" in words(settled(test, lambda t: "xylophone” is" in words(t)))
    assert "Type three words" in words(open_page(opened, study, direction="analogy", analogy_word_a=one))


def test_a_direction_kind_that_is_registered_is_offered_and_made(opened, study):
    with registered(DIRECTION_KINDS, DOUBLED):
        test = settled(open_page(opened, study, direction="doubled"), lambda t: "is reading the text" not in words(t))
        assert DOUBLED.words in box(test, "Direction").options
        assert "RMS of twice chunk 2 at layer" in words(test) and not test.exception


def uploaded(test, name: str, content) -> object:
    """The page after a file of that content was given; PyTorch's or NumPy's by its name."""
    data = io.BytesIO()
    torch.save(content, data) if name.endswith(".pt") else np.save(data, content)
    test.file_uploader[0].set_value((name, data.getvalue(), "application/octet-stream"))
    return test.run()


def box(test, label: str):
    return next((one for one in test.selectbox if one.label == label), None)


def test_a_file_is_of_the_layer_that_it_says_and_what_is_from_elsewhere_is_refused(opened, study, tiny):
    d, n = tiny("llama").d_model, tiny("llama").n_layers
    test = open_page(opened, study, direction="file", layers="2-2", made="2")
    test = uploaded(test, "v.pt", {"layer_activations": {1: torch.ones(d), 2: -torch.ones(d)}})
    assert (
        box(test, "Entry").value == "layer_activations.2" and box(test, "Row") is None and "at layer 2" in words(test)
    )
    test = box(test, "Entry").set_value("layer_activations.1").run()
    assert "The file says that this vector is of layer 1" in words(test) and not test.exception
    test = uploaded(test, "w.pt", {"blocks.1.hook_mlp_out": torch.ones(d)})
    assert "not of the residual stream after a block" in box(test, "Entry").options[0]
    assert "is the MLP of block 1, not the residual stream" in words(test)
    assert f"the model has {n} blocks, 0 to {n - 1}" in words(uploaded(test, "x.pt", {n: torch.ones(d)}))


def test_of_a_file_with_a_row_of_embeddings_the_row_is_chosen(opened, study, tiny):
    d, n = tiny("llama").d_model, tiny("llama").n_layers
    test = open_page(opened, study, direction="file", layers="2-2", made="2")
    test = uploaded(test, "v.npy", np.ones((n + 1, d)))
    assert "embeddings" in words(test) and "choose row 3" in words(test) and box(test, "Row").value is None
    assert len(box(test, "Row").options) == n
    test = box(test, "Row").set_value(3).run()
    assert "v.npy (array[3])" in words(test) and "choose row" not in words(test) and not test.exception


@pytest.mark.parametrize("operation", ["replace", "ablate", "cap", "rotate"])
@pytest.mark.parametrize("place", ["anchor", "onward", "prompt"])
def test_every_operation_and_place_is_said(opened, study, operation, place):
    assert not open_page(opened, study, operation=operation, place=place, direction="random").exception


def test_a_run_is_streamed_kept_and_restored_by_its_link(opened, study):
    test = open_page(opened, study, direction="random", beta="6", place="onward", what="stream")
    test.number_input(key="number_run_tokens").set_value(16).run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    settled(test, lambda t: Experiments(study).get(run) is not None)
    kept = Experiments(study).get(run)
    assert kept["kind"] == "stream" and kept["sentence"].startswith("add +6 RMS of random direction")
    link = dict(test.session_state["selection"])
    live.service().close()
    live.service.clear()  # nothing is remembered but what the store has
    again = opened("steering", study, **link)
    again = settled(again, lambda t: "They part at token" in words(t) or "never part" in words(t))
    assert live.service().status(run) is None


def test_a_kept_run_brings_its_controls_back_once_and_what_was_chosen_since_stays(opened, study):
    test = open_page(opened, study, direction="random", beta="6", place="onward", what="stream")
    test.number_input(key="number_run_tokens").set_value(8).run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    settled(test, lambda t: Experiments(study).get(run) is not None)
    test = open_page(opened, study, direction="random", beta="2")
    settled(test, lambda t: "random pushes of this size" in words(t))
    table = next(frame for frame in test.dataframe if (frame.key or "").startswith("history_"))

    def message():
        """What the browser sends: the first row of the table is chosen, the other widgets as they are."""
        states = test._tree.get_widget_states()
        states.widgets.add(id=table.proto.id, string_value='{"selection": {"rows": [0], "columns": [], "cells": []}}')
        return states

    test._run(message())
    assert (test.session_state["selection"]["beta"], test.session_state["selection"]["run"]) == ("6", run)
    slider = next(slider for slider in test.slider if slider.label == "Magnitude β")
    assert slider.value == 6.0
    slider.set_value(7.5)
    late = message()
    test._run(late)
    test.switch_page(
        "../pages/overview.py"
    ).run()  # the table is away, as while a text is read, and the server forgets its state
    test._run(late)
    assert not test.exception and test.session_state["selection"]["beta"] == "7.5"


def test_many_continuations_are_compared_in_pairs_with_their_intervals(opened, study):
    test = open_page(opened, study, direction="random", beta="6", what="continue", n="4", start="before")
    test.number_input(key="number_run_tokens").set_value(16).run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    settled(test, lambda t: Experiments(study).get(run) is not None and "compared in pairs" in words(t))
    samples = Experiments(study).samples(run)
    assert samples.groupby("arm").size().to_dict() == {"base": 4, "changed": 4, "random": 4}


def test_a_dose_response_and_a_new_wording_run(opened, study):
    test = open_page(opened, study, direction="random", what="dose", n="2")
    test.number_input(key="number_run_tokens").set_value(8).run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    settled(test, lambda t: Experiments(study).get(run) is not None and "continuations at each β" in words(t))
    assert "no step tested: it takes 5 continuations" in figures(test)
    test = open_page(opened, study, what="wording", n="1")
    test.toggle(key="pick_chunk_deleted").set_value(True).run()
    test.number_input(key="number_run_tokens").set_value(8).run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    settled(test, lambda t: Experiments(study).get(run) is not None)
    assert "delete it, and go on from there" in Experiments(study).get(run)["sentence"]
    kept = Experiments(study).history()
    other = next(row.experiment_id for row in kept.itertuples() if row.kind == "dose")
    both = open_page(opened, study, run=run, against=other)  # two kept runs, one above the other
    assert all(Experiments(study).get(name)["sentence"] in words(both) for name in (run, other))


def figures(test) -> str:
    """What the page's Plotly figures say."""
    return "\n".join(one.proto.spec for one in test.get("plotly_chart"))


def arms_of(test) -> list[str]:
    return next(frame.value for frame in test.dataframe if "without an answer" in frame.value.columns)["arm"].tolist()


def test_rewording_has_its_own_words_and_controls_and_hides_those_of_the_residual_stream(opened, study):
    test = open_page(opened, study, what="wording", n="3", longest="16")
    labels = {one.label for kind in (test.slider, test.number_input, test.selectbox) for one in kind}
    assert not labels & {"Magnitude β", "β, exactly", "β in", "Direction", "Operation", "Where", "Only while"}
    assert {"Seed", "Samples", "Max new tokens", "Temperature", "Top-p"} <= labels
    assert "The residual stream stays as it is" in words(test) and "control strip" not in words(test)
    assert test.button(key="run_button").disabled  # the sentence is as it was
    area(test, "The sentence instead").set_value(" It is 7.").run()
    area(test, "A paraphrase").set_value(" First of all, 12 and 30 are to be added.").run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    test = settled(test, lambda t: Experiments(study).get(run) is not None and "compared in pairs" in words(t))
    samples = Experiments(study).samples(run)
    texts = {arm: list(rows["text"]) for arm, rows in samples.groupby("arm")}
    assert set(texts) == {"base", "changed", "same", "paraphrase"} and texts["same"] == texts["base"]
    assert arms_of(test) == ["as written", "reworded", "the same sentence again", "your paraphrase"]
    compared = next(frame.value for frame in test.dataframe if "compared" in frame.value.columns)
    assert {"reworded − as written", "reworded − your paraphrase"} <= set(compared["compared"])
    again = compared[compared["compared"] == "the same sentence again − as written"]
    assert {value for value in again["difference"] if value != "unknown"} == {"+0"}
    assert "steered" not in figures(test)


def area(test, label: str):
    return next(one for one in test.text_area if one.label.startswith(label))


def test_many_says_unsteered_and_keeps_the_stored_names(opened, study):
    test = open_page(opened, study, direction="random", beta="6", what="continue", n="2", longest="8")
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    test = settled(test, lambda t: Experiments(study).get(run) is not None and "compared in pairs" in words(t))
    assert arms_of(test) == ["unsteered", "steered", "random directions"]
    assert set(Experiments(study).samples(run)["arm"]) == {"base", "changed", "random"}


def test_a_preset_is_a_text_of_ones_own(opened, study):
    test = open_page(opened, study)
    test.button(key="preset_over-thinking").click().run()
    test = settled(
        test, lambda t: "no chain of thought yet" in words(t) and any(b.key == "run_button" for b in t.button)
    )
    test.number_input(key="number_run_tokens").set_value(8).run()
    test.button(key="run_button").click().run()
    run = test.session_state["selection"]["run"]
    settled(test, lambda t: Experiments(study).get(run) is not None)
    kept = Experiments(study).get(run)
    assert kept["cot_id"] is None and "What is 5-1?" in kept["prompt"]


def test_without_a_model_on_this_machine_the_page_says_how_to_get_one(opened, whole):
    assert not embedded.is_ready()
    assert "python -m precompute model" in words(opened("steering", whole))


def test_a_text_by_a_model_that_is_not_here_is_steered_by_another_and_marked(opened, tiny, tmp_path, monkeypatch):
    study = steerable_study.make(tmp_path / "small", tiny("llama"), writer="somebody/R1-14B")
    from backend.live import available
    from backend.live.requests import Model

    choice = available.Choice(Model(tiny("llama").name), tiny("llama").model_id)
    monkeypatch.setattr(live, "choices", lambda models, device: [choice])
    test = open_page(opened, study, direction="random")
    assert "written by R1-14B, which is not what is steered here" in words(test)


def test_a_feature_comes_from_the_interventions_page_with_its_unit_and_norm(opened, tiny, tmp_path):
    study = steerable_study.make(tmp_path / "small", tiny("llama"))
    name = intervened_study.add_dictionary(study, [tiny("llama").model_id, "m0"], 64)
    test = opened("interventions", study, study="small", source="numbers", numbers="3")
    test.selectbox(key="steer_in").set_value(tiny("llama").model_id)
    test.button(key="open_steering").click().run()
    chosen = test.session_state["selection"]
    assert (chosen["direction"], chosen["feature"], chosen["dictionary"], chosen["layer"]) == (
        "feature",
        "3",
        name,
        "1",
    )
    chunk = Store(study).frame("SELECT chunk_id FROM chunks ORDER BY chunk_id LIMIT 2")["chunk_id"][1]
    test = opened("steering", study, **{**chosen, "chunk": chunk})
    test = settled(
        test, lambda t: "In units of the residual stream" in words(t) or "in units of the residual stream" in words(t)
    )
    row = intervened_study.weights(64).decoder[0, 3].double() / 0.8
    assert f"its norm is {float(row.norm()):.3g}, which a code of 1 adds" in words(test)
    usual = f"{4 * 1.5 * float(row.norm()):.3g}"
    assert f"add +{usual} (absolute) of the decoder row of feature 3 at layer 1" in words(test)
    assert "β = 4 × its mean code." in words(test)
    # the other model's row, the same vector
    test = box(test, "Decoder row").set_value("distilled").run()
    assert test.session_state["selection"]["vector_decoder"] == "distilled"
    test = settled(test, lambda t: "(same vector, same norm)" in words(t))
    row = intervened_study.weights(64).decoder[1, 3].double() / intervened_study.weights(64).scale[1].double()
    assert "the decoder row of feature 3 in the reasoner (same vector, same norm)" in words(test)
    assert "The decoder row of the other model, as it is, in units of the residual stream: its norm is" in words(test)
    assert f"its norm is {float(row.norm()):.3g}, which a code of 1 adds" in words(test)
    # presets stay by it
    test.button(key="preset_incisive thinking").click().run()
    chosen = test.session_state["selection"]
    kept = ("direction", "feature", "dictionary", "model", "layer", "vector_decoder", "unit")
    loaded = tiny("llama").model_id
    assert [chosen[one] for one in kept] == ["feature", "3", name, loaded, "1", "distilled", "absolute"]
    assert chosen["beta"] == f"{-float(f'{4 * 1.5 * float(row.norm()):.3g}'):g}"
    test = settled(test, lambda t: any(b.key == "run_button" for b in t.button))
    assert f"add {chosen['beta']} (absolute) of the decoder row of feature 3 in the reasoner" in words(test)
    assert "β = -4 × its mean code." in words(test) and not test.exception
