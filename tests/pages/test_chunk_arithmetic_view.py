"""b − a + c of three chunks, on the page Geometry and on Steering."""

from contextlib import closing

import pytest

from backend.store.library import Library
from backend.store.store import Store
from tests import parallelogram_study, small_study, steerable_study
from tests.pages.conftest import settled, words

LINK = {"study": "small", "geometry_part": "parallelograms"}


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    folder = steerable_study.make(tmp_path_factory.mktemp("steerable") / "small", tiny("llama"))
    parallelogram_study.add(folder, [tiny("llama").model_id])
    return folder


@pytest.fixture(scope="module")
def chunks(study) -> list[str]:
    with closing(Store(study)) as store:
        return store.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id")["chunk_id"].tolist()


def chosen(chunks) -> dict[str, str]:
    """b and c of one chain, a of another."""
    return {"analogy_chunk_b": chunks[1], "analogy_chunk_a": chunks[-1], "analogy_chunk_c": chunks[0], "layer": "2"}


@pytest.mark.usefixtures("no_embedded_model")
def test_three_chunks_of_two_chains_are_kept_as_one_direction_and_offered_on_steering(opened, study, chunks):
    test = opened("geometry", study, **LINK, **chosen(chunks) | {"chunk": chunks[0]})
    assert not test.exception, test.exception
    said = words(test)
    assert "chunk 2 − chunk" in said and "of another CoT + chunk 1 has the norm" in said
    button = next(one for one in test.button if one.key == "analogy_chunks")
    button.click().run()
    assert not test.exception, test.exception
    (kept,) = Library(study).vectors().to_dict("records")
    assert kept["kind"] == "chunk_analogy" and kept["layer"] == 2
    assert test.title[0].value == "Steering" and test.session_state["selection"]["vector_kept"] == kept["vector_id"]


@pytest.mark.usefixtures("no_embedded_model")
def test_steering_makes_it_too(opened, study, chunks):
    link = chosen(chunks) | {"direction": "chunk_analogy", "chunk": chunks[0], "vector_layer": "2"}
    test = opened("steering", study, study="small", **link)
    said = words(settled(test, lambda t: "RMS of" in words(t)))
    assert "RMS of chunk 2 − chunk" in said and "of another CoT + chunk 1 at layer 2" in said


@pytest.mark.usefixtures("no_embedded_model")
def test_a_study_without_activations_names_the_command(opened, tmp_path):
    folder = small_study.make(tmp_path / "small", activations=False)
    with closing(Store(folder)) as store:
        models = store.models()["model_id"].tolist()
    parallelogram_study.add(folder, models[:1])
    test = opened("geometry", folder, **LINK)
    assert not test.exception and "--stage activations" in words(test)
