"""A vector is uploaded once, kept under a name, and from then on found by links, steered along and audited."""

import io
import json
import os
import shutil
import stat

import numpy as np
import pytest

from app.shared import live
from backend.store.library import KeptVector, Library
from backend.store.store import Store, generation_of
from tests import steerable_study
from tests.backend.live.test_jobs import unit
from tests.pages.conftest import settled, words
from tests.pages.test_steering import box, open_page

pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture
def study(tmp_path, tiny):
    return steerable_study.make(tmp_path / "kept" / "small", tiny("llama"))


@pytest.fixture
def with_vector(study, tiny):
    """The study, and the id of a vector in its library."""
    loaded = tiny("llama")
    made = {"words": "v.npy (array)", "parameters": {"file": "v.npy"}}
    kept = KeptVector("doubt", loaded.model_id, loaded.name, "r7", 1, 3 * unit(4), "file", made)
    return study, Library(study).keep(kept)


def upload(test, name: str, vector: np.ndarray):
    data = io.BytesIO()
    np.save(data, vector)
    test.file_uploader[0].set_value((name, data.getvalue(), "application/octet-stream"))
    return test.run()


def keep(test, name: str | None = None):
    field = next(one for one in test.text_input if one.label == "Name")
    if name is not None:
        field.set_value(name)
    return next(b for b in test.button if b.label == "Keep in the library").click().run()


def test_an_uploaded_vector_is_kept_under_a_name_and_its_link_needs_no_upload(opened, study, tiny):
    given = np.random.default_rng(3).standard_normal(tiny("llama").d_model).astype(np.float32)
    test = upload(open_page(opened, study, direction="file", layer="2", beta="6"), "v.npy", given)
    assert "in this browser tab alone" in words(test) and "v.npy (array)" in words(test)
    test = keep(test, "my doubt")
    chosen = dict(test.session_state["selection"])
    (row,) = Library(study).vectors().to_dict("records")
    assert (chosen["direction"], chosen["vector_kept"]) == ("library", row["vector_id"])
    assert Library(study).get(row["vector_id"]).vector.tobytes() == given.tobytes()
    live.service().close()
    live.service.clear()
    again = open_page(opened, study, **{name: value for name, value in chosen.items() if name != "study"})
    assert "add +6 RMS of “my doubt” at layer 2" in words(again) and not again.exception
    assert box(again, "Vector").value == row["vector_id"] and not again.file_uploader


def test_a_made_direction_is_kept_too_and_a_name_that_is_taken_is_refused(opened, with_vector):
    study, _ = with_vector
    test = open_page(opened, study, direction="random", drawn="7", layer="2")
    test = keep(test, "doubt")
    assert "Another vector of the library is called “doubt”" in words(test)
    test = keep(test, "chance")
    assert sorted(Library(study).vectors()["name"]) == ["chance", "doubt"]
    assert "of “chance” at layer" in words(test)


def test_a_link_to_a_vector_that_was_deleted_says_so(opened, with_vector):
    study, name = with_vector
    Library(study).delete(name)
    test = open_page(opened, study, direction="library", vector_kept=name)
    assert "direction a vector of the library" in words(test) or "(direction)" in words(test)
    assert not test.exception


def test_the_card_says_norm_layer_provenance_and_digest_and_leads_to_the_steering_page(opened, with_vector):
    study, name = with_vector
    test = opened("direction_library", study, study="small")
    kept = Library(study).get(name)
    for said in (
        kept.sha256,
        name,
        "revision r7",
        "v.npy (array)",
        "1: the residual stream after this block",
        "norm  3",
    ):
        assert said in words(test)
    test.button(key="steer_along").click().run()
    chosen = test.session_state["selection"]
    assert (chosen["direction"], chosen["vector_kept"], chosen["layer"]) == ("library", name, "1")


def test_the_audit_has_its_lens_its_cost_and_its_texts_each_with_n_and_random_vectors(opened, with_vector):
    study, name = with_vector
    link = {"audited_chunks": "2", "audited_problems": "1", "audited_texts": "2", "audited_tokens": "8"}
    test = opened("direction_library", study, study="small", **link)
    test = settled(test, lambda t: "Largest |z|" in words(t))
    assert "Not measured yet." in words(test) and "has no direction at layer 1" in words(test)
    test.button(key="audit_cost").click().run()
    test = settled(test, lambda t: "times that of random vectors of its norm" in words(t))
    assert "n = 2 chunks" in words(test) and "β = 0: 0 nats" in words(test) and "of 19 random vectors" in words(test)
    test.button(key="audit_texts").click().run()
    test = settled(test, lambda t: "Thinking tokens:" in words(t))
    pairs = next(frame.value for frame in test.dataframe if "compared" in frame.value.columns)
    assert {"steered − unsteered", "steered − random directions"} <= set(pairs["compared"])
    kept = [json.loads(row)["what"] for row in Library(study).audits(name)["parameters"]]
    assert sorted(kept) == ["cost", "texts"]
    live.service().close()
    live.service.clear()  # nothing is remembered but what is kept beside the study
    again = opened("direction_library", study, study="small", **link)
    assert "times that of random vectors" in words(again) and "Thinking tokens:" in words(again)


def test_a_vector_is_renamed_and_deleted_on_its_page(opened, with_vector):
    study, name = with_vector
    test = opened("direction_library", study, study="small")
    next(one for one in test.text_input if one.label == "New name").set_value("haste")
    test = next(b for b in test.button if b.label == "Rename").click().run()
    assert Library(study).get(name).name == "haste" and "haste" in words(test)
    test.button(key="delete_vector").click().run()
    assert Library(study).vectors().empty and "has no vectors yet" in words(test)


def test_an_empty_library_says_how_a_vector_comes_in_also_of_a_study_of_before(opened, study, everything, tmp_path):
    import duckdb

    old = tmp_path / "old.duckdb"
    shutil.copy(generation_of(study), old)
    with duckdb.connect(str(old)) as connection:
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
        for table in ("vectors", "vector_audits", "typed_texts"):
            connection.execute(f"DROP TABLE {table}")
    for one in (study, everything, old):
        test = opened("direction_library", one)
        assert "has no vectors yet" in words(test) and "Keep this vector" in words(test) and not test.exception


def test_a_vector_of_a_model_that_is_not_here_shows_what_is_known_without_it(opened, study):
    kept = KeptVector("far", "m-far", "somebody/R1-14B", None, 1, 3 * unit(4), "file", {"words": "v.npy"})
    Library(study).keep(kept)
    test = opened("direction_library", study, study="small")
    assert "R1-14B, for which this vector was kept, is not on this machine" in words(test)
    assert not any(b.key == "audit_cost" for b in test.button) and not test.exception


def test_a_study_that_cannot_be_written_says_why_a_vector_is_not_kept_and_what_to_do(opened, study):
    test = open_page(opened, study, direction="random", drawn="7", layer="2")
    folder = study / "experiments"
    settled(test, lambda t: "random pushes of this size" in words(t))
    os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this person may write everywhere")
        test = keep(test, "chance")
        assert "Could not keep a vector" in words(test) and "open a copy of the study" in words(test)
    finally:
        os.chmod(folder, stat.S_IRWXU)


def test_a_long_text_is_kept_beside_the_study_and_opens_by_its_link(opened, study):
    chain = "Let me see. " * 180
    test = open_page(opened, study)
    for label, value in (("Question", "What is 5-1?"), ("Chain of thought", chain)):
        next(one for one in test.text_area if one.label.startswith(label)).set_value(value)
    test = next(b for b in test.button if b.label == "Steer this text").click().run()
    test = settled(test, lambda t: any(b.key == "run_button" for b in t.button))
    assert "it is kept beside the study, and a link to this page names it" in words(test)
    link = dict(test.session_state["selection"])
    assert max(map(len, link.values())) < 100
    again = opened("steering", study, **link)
    again = settled(again, lambda t: any(b.key == "run_button" for b in t.button))
    area = next(one for one in again.text_area if one.label.startswith("Chain of thought"))
    assert area.value == chain and Store(study).published_at
