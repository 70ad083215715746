"""The weights of a study's dictionaries are those of the rows, or are refused."""

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from backend.crosscoder import stored
from backend.crosscoder.kinds import DictionaryError
from backend.crosscoder.stored import check, read_from
from backend.store.dictionaries import DictionaryLost
from backend.store.store import NoStore, Store
from tests import small_dictionary, small_study

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_study.make(
        tmp_path_factory.mktemp("stores") / "small", rollouts=False, activations=False, steering=False
    )


@pytest.fixture(scope="module")
def name(folder):
    return small_dictionary.add(folder)


def test_the_weights_are_those_of_the_row(folder, name):
    with closing(Store(folder)) as store:
        found, written = read_from(store, name), small_dictionary.weights()
        assert found.dictionary_id == name and found.facts["layer"] == 5
        assert torch.equal(found.decoder, written.decoder)
        with pytest.raises(NoStore, match=r"no dictionary '\.\./secret'"):
            read_from(store, "../secret")


def test_weights_that_are_missing_damaged_or_anothers_are_refused(folder, name, tmp_path):
    shutil.copytree(folder, tmp_path / "study")
    place = tmp_path / "study" / "dictionaries"
    weights = place / name / "dictionary.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DictionaryError, match="sha256"):
        check(Store(tmp_path / "study"))
    with pytest.raises(DictionaryError, match="sha256"):
        read_from(Store(tmp_path / "study"), name)
    other = small_dictionary.weights().in_float16()
    stored.keep(other, tmp_path / "study")
    shutil.rmtree(place / name)
    shutil.move(place / other.dictionary_id, place / name)
    with pytest.raises(DictionaryLost, match=f"holds dictionary {other.dictionary_id}"):
        read_from(Store(tmp_path / "study"), name)
    shutil.rmtree(place)
    with pytest.raises(DictionaryLost, match=f"{name} is missing"):
        read_from(Store(tmp_path / "study"), name)


def test_rows_of_features_are_those_of_the_weights_and_of_no_other_file(folder, name):
    with closing(Store(folder)) as store:
        sha256, written = store.dictionaries()["sha256"][0], small_dictionary.weights()
    found = stored.feature_rows(folder, name, [4, 0], sha256=sha256)
    assert found.d_model == written.d_model
    assert (found.decoder == written.decoder[:, [4, 0]].numpy()).all()
    assert (found.encoder == written.encoder[:, :, [4, 0]].mT.numpy()).all()
    with pytest.raises(DictionaryLost, match="not what the study was made with"):
        stored.feature_rows(folder, name, [4, 0], sha256="0" * 64)
    with pytest.raises(DictionaryLost, match="cannot be read"):
        stored.feature_rows(folder, "nothing", [4, 0], sha256=sha256)


def test_importing_it_costs_no_torch():
    script = "import sys; import backend.crosscoder.stored; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
