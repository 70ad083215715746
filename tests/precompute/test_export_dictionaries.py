"""A study with dictionaries leaves with their weights, or not at all."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from backend.store import dictionaries
from backend.store.dictionaries import DictionaryLost
from backend.store.store import Store
from precompute.export import export_duckdb, export_parquet
from tests import small_dictionary, small_study


@pytest.fixture(scope="module")
def with_dictionary(tmp_path_factory) -> tuple[Path, str]:
    folder = small_study.make(tmp_path_factory.mktemp("stores") / "small", rollouts=False, activations=False, steering=False)
    return folder, small_dictionary.add(folder)


def test_they_go_beside_the_one_file_or_into_the_folder(with_dictionary, tmp_path):
    study, name = with_dictionary
    export_duckdb(study, tmp_path / "small.duckdb")
    with closing(Store(tmp_path / "small.duckdb")) as store:
        assert store.dictionary(name).dictionary_id == name
    export_parquet(study, tmp_path / "out")
    assert dictionaries.read(tmp_path / "out", name).dictionary_id == name


def test_a_study_that_lost_one_is_not_exported_by_halves(with_dictionary, tmp_path):
    study, name = with_dictionary
    shutil.copytree(study, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "dictionaries" / name)
    for export in (export_duckdb, export_parquet):
        with pytest.raises(DictionaryLost, match=rf"{name} is missing"):
            export(tmp_path / "study", tmp_path / "out")
    assert not list(tmp_path.glob("out.d*")) and not (tmp_path / "out").exists()
