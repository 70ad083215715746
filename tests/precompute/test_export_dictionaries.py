"""A study with dictionaries leaves with their weights, or not at all."""

import shutil
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from backend.crosscoder import stored
from backend.crosscoder.files import load
from backend.errors import AnchorscopeError
from backend.store.dictionaries import DictionaryLost
from backend.store.store import Store
from precompute.export import export_crosscoder, export_duckdb, export_parquet
from tests import small_dictionary, small_study


@pytest.fixture(scope="module")
def with_dictionary(tmp_path_factory) -> tuple[Path, str]:
    folder = small_study.make(
        tmp_path_factory.mktemp("stores") / "small", rollouts=False, activations=False, steering=False
    )
    return folder, small_dictionary.add(folder)


def test_they_go_beside_the_one_file_or_into_the_folder(with_dictionary, tmp_path):
    study, name = with_dictionary
    export_duckdb(study, tmp_path / "small.duckdb")
    with closing(Store(tmp_path / "small.duckdb")) as store:
        assert stored.read_from(store, name).dictionary_id == name
    export_parquet(study, tmp_path / "out")
    assert stored.read(tmp_path / "out", name).dictionary_id == name


def test_a_study_that_lost_one_is_not_exported_by_halves(with_dictionary, tmp_path):
    study, name = with_dictionary
    shutil.copytree(study, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "dictionaries" / name)
    for export in (export_duckdb, export_parquet):
        with pytest.raises(DictionaryLost, match=rf"{name} is missing"):
            export(tmp_path / "study", tmp_path / "out")
    assert not list(tmp_path.glob("out.d*")) and not (tmp_path / "out").exists()


def test_a_crosscoder_leaves_by_itself_as_others_publish_theirs(with_dictionary, tmp_path):
    study, name = with_dictionary
    written = export_crosscoder(study, tmp_path / "out")
    assert [file.name for file in written] == [
        "config.json",
        "latent_df.csv",
        "model.safetensors",
        "trainer_config.json",
    ]
    back, ours = load(tmp_path / "out"), stored.read(study, name)
    assert back.dictionary_id == name
    statistics = pd.read_csv(tmp_path / "out" / "latent_df.csv", index_col=0)
    base, distilled = ours.decoder.norm(dim=2).numpy()
    assert statistics["dec_base_norm"].to_numpy() == pytest.approx(base)
    assert statistics["dec_ft_norm"].to_numpy() == pytest.approx(distilled)
    with closing(Store(study)) as store:
        features = store.features(name)
    assert statistics["beta_ratio_error"].to_numpy() == pytest.approx(
        features["nu_eps"].astype(float).to_numpy(), nan_ok=True
    )
    with pytest.raises(AnchorscopeError, match="exists already"):
        export_crosscoder(study, tmp_path / "out")


def test_a_study_without_a_crosscoder_has_none_to_export(tmp_path):
    study = small_study.make(tmp_path / "small", rollouts=False, activations=False, steering=False)
    with pytest.raises(AnchorscopeError, match="0 crosscoders of two models"):
        export_crosscoder(study, tmp_path / "out")
