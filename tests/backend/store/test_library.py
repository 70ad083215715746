"""Vectors are found by what they are, called what people call them, and never overwritten."""

import json
import os
import shutil
import stat

import numpy as np
import pytest

from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.store.experiments import Experiments, NotKept
from backend.store.library import KeptVector, Library, LibraryError
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store, generation_of
from backend.store.unit_files import StudyFolder
from tests import small_study


def vector(seed: int = 1, name: str = "doubt", *, d: int = 6, layer: int = 3, length: float = 2.5) -> KeptVector:
    values = np.random.default_rng(seed).standard_normal(d)
    values = (length * values / np.linalg.norm(values)).astype(np.float32)
    return KeptVector(name, "m-tiny", "tiny", "r1", layer, values, "file", {"words": "v.npy (array)"})


@pytest.fixture
def study(tmp_path):
    return small_study.make(tmp_path / "small")


def test_a_vector_comes_back_bit_for_bit_with_all_that_is_known_of_it(study):
    kept = vector()
    name = Library(study).keep(kept)
    found = Library(study).get(name)
    assert found.vector.tobytes() == kept.vector.tobytes() and found == kept.__class__(
        **{**vars(kept), "created_at": found.created_at}
    )
    assert (found.vector_id, found.sha256, found.norm) == (kept.vector_id, kept.sha256, pytest.approx(2.5))
    table = Library(study).vectors()
    assert table[["name", "layer", "d_model", "kind"]].values.tolist() == [["doubt", 3, 6, "file"]]


def test_the_id_is_of_values_layer_and_model_and_not_of_the_name():
    one = vector()
    assert one.vector_id == vector(name="another").vector_id
    others = (vector(2), vector(layer=4), KeptVector("doubt", "m2", "tiny", None, 3, one.vector, "file", {}))
    assert len({one.vector_id, *(other.vector_id for other in others)}) == 4


def test_nothing_is_overwritten_in_silence(study):
    library = Library(study)
    library.keep(vector(1, "doubt"))
    library.keep(vector(1, " doubt "))  # the same vector under the same name: nothing to do
    with pytest.raises(LibraryError, match="Another vector of the library is called “doubt”"):
        library.keep(vector(2, "doubt"))
    with pytest.raises(LibraryError, match="in the library already, as “doubt”"):
        library.keep(vector(1, "something else"))
    second = library.keep(vector(2, "haste"))
    with pytest.raises(LibraryError, match="called “doubt”"):
        library.rename(second, "doubt")
    assert list(library.vectors()["name"]) == ["doubt", "haste"]


def test_a_vector_is_renamed_and_keeps_its_id_and_a_deleted_one_is_gone_with_its_audits_and_may_come_again(study):
    library = Library(study)
    name = library.keep(vector())
    library.rename(name, "hesitation")
    assert library.get(name).name == "hesitation"
    library.keep_audit(audit("a1", name))
    assert list(library.audits(name)["audit_id"]) == ["a1"]
    library.delete(name)
    library.delete(name)
    assert library.vectors().empty and library.audits(name).empty
    with pytest.raises(LibraryError, match=f"no vector {name}: it was deleted"):
        library.get(name)
    assert library.keep(vector(name="doubt")) == name


def audit(audit_id: str, vector_id: str) -> dict:
    return {
        "audit_id": audit_id,
        "vector_id": vector_id,
        "created_at": small_study._run()["started_at"],
        "model_id": "m-tiny",
        "model": "tiny",
        "parameters": "{}",
        "results": "{}",
        "state": "finished",
        "seconds": 1.0,
        "versions": "{}",
        "commit": None,
    }


@pytest.mark.parametrize("name", ["", "  ", "x" * 81])
def test_a_name_that_is_none_is_refused(study, name):
    with pytest.raises(LibraryError, match=r"needs a name|81 characters"):
        Library(study).keep(vector(name=name))


@pytest.mark.parametrize("values", [np.zeros(4, np.float32), np.array([1, np.nan], np.float32), np.ones(3)])
def test_a_vector_that_points_nowhere_or_is_no_float32_is_refused(values):
    with pytest.raises(LibraryError):
        KeptVector("x", "m", "tiny", None, 1, values, "file", {})


def test_a_portable_file_keeps_them_beside_itself_and_an_export_takes_them_in(study, tmp_path):
    Library(study).keep(vector())
    with StudyFolder(study).writing("test") as writer:
        publish(writer)
    file = tmp_path / "portable.duckdb"
    shutil.copy(generation_of(study), file)
    assert list(Library(file).vectors()["name"]) == ["doubt"]
    name = Library(file).keep(vector(2, "haste"))
    assert Experiments(file).folder.path == tmp_path / "portable.experiments"
    Library(file).delete(vector(1).vector_id)  # of the file, which is never written to
    assert list(Library(file).vectors()["vector_id"]) == [name]


def test_a_pack_keeps_every_bit_of_a_vector(study, tmp_path):
    kept = vector()
    Library(study).keep(kept)
    pack(study, tmp_path / "pack")
    unpack(tmp_path / "pack", tmp_path / "unpacked.duckdb")
    found = Library(tmp_path / "unpacked.duckdb").get(kept.vector_id)
    assert found.vector.tobytes() == kept.vector.tobytes() and found.vector_id == kept.vector_id


def test_a_study_that_cannot_be_written_says_why_and_what_to_do(study):
    (study / "experiments").mkdir(exist_ok=True)
    os.chmod(study / "experiments", stat.S_IRUSR | stat.S_IXUSR)
    try:
        if os.access(study / "experiments", os.W_OK):
            pytest.skip("this person may write everywhere")
        with pytest.raises(NotKept, match=r"Could not keep a vector.*open a copy of the study"):
            Library(study).keep(vector())
    finally:
        os.chmod(study / "experiments", stat.S_IRWXU)


def test_a_study_of_before_has_an_empty_library(study, tmp_path):
    import duckdb

    file = tmp_path / "old.duckdb"
    shutil.copy(generation_of(study), file)
    with duckdb.connect(str(file)) as connection:
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
        for table in ("vectors", "vector_audits", "typed_texts"):
            connection.execute(f"DROP TABLE {table}")
    assert Library(file).vectors().empty and Library(file).text("t1") is None
    Library(file).keep(vector())
    assert list(Library(file).vectors()["name"]) == ["doubt"]


def test_a_typed_text_is_found_by_its_id(study):
    library = Library(study)
    name = library.keep_text("Wait. " * 5000)
    assert library.keep_text("Wait. " * 5000) == name and library.text(name) == "Wait. " * 5000
    assert library.text("t-other") is None


def test_a_direction_of_the_library_is_made_of_its_vector_at_its_own_layer(study):
    kept = vector(d=6)
    name = Library(study).keep(kept)
    store = Store(study)
    made = make_direction(store, DirectionSpec("library", "m-other", 3, vector_id=name), d_model=6)
    assert np.array_equal(made.vector, kept.unit) and made.norm == kept.norm
    assert json.loads(made.parameters) == {"vector": name}
    Library(study).rename(name, "another name")
    again = make_direction(store, DirectionSpec("library", "m-other", 3, vector_id=name), d_model=6)
    assert again.direction_id == made.direction_id
    for spec, width, said in (
        (DirectionSpec("library", "m-other", 2, vector_id=name), 6, "of the output of layer 3"),
        (DirectionSpec("library", "m-other", 3, vector_id=name), 8, "has 6 values"),
        (DirectionSpec("library", "m-other", 3, vector_id="v-none"), 6, "no vector v-none"),
    ):
        with pytest.raises(AnchorscopeError, match=said):
            make_direction(store, spec, d_model=width)
