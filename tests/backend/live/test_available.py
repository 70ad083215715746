"""Which models can be steered here is found without loading or fetching any."""

import pandas as pd
import pytest

from backend.ids import stable_id
from backend.live.available import choices, device_of, is_here


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def models(*rows) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["name", "revision", "dtype"])
    return found.assign(model_id=[f"m{k}" for k in range(len(found))], role="model")


def test_a_folder_with_weights_can_be_steered_under_the_id_its_results_have(tiny, tiny_folder):
    found = choices(models((str(tiny_folder("llama")), "whatever", "float32")))
    assert [choice.model_id for choice in found] == [tiny("llama").model_id]


def test_a_model_that_is_elsewhere_and_one_that_was_only_imported_cannot(tmp_path):
    rows = models(
        ("somebody/not-here", None, "float32"),
        (str(tmp_path / "gone"), None, "float32"),
        ("somebody/R1-14B", None, None),
    )
    assert choices(rows) == []
    assert not is_here("../etc", None) and not is_here("embedded:Nothing", None)


def test_weights_that_changed_since_the_study_have_another_id(tiny_folder, tiny, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    before = choices(models((str(folder), None, "float32")))[0].model_id
    shutil.copy(tiny_folder("qwen2") / "model.safetensors", folder / "model.safetensors")
    assert choices(models((str(folder), None, "float32")))[0].model_id != before


def test_a_hub_model_is_here_with_its_weights_and_nobody_asks_the_hub_for_it(tmp_path, monkeypatch):
    commit = "a" * 40
    snapshot = tmp_path / "cached" / "models--own--er" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (refs := snapshot.parents[1] / "refs").mkdir()
    (refs / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cached"))

    def refuse(*_args, **_how):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    rows = models(("own/er", commit, "float32"))
    assert choices(rows) == []  # a config without weights is no model
    (snapshot / "model.safetensors").write_bytes(b"weights")
    expected = stable_id("m", "own/er", commit, "float32")
    for revision in (commit, None):
        (found,) = choices(models(("own/er", revision, "float32")))
        assert (found.model.revision, found.model_id) == (commit, expected)


def test_live_models_compute_where_the_study_that_was_run_last_did(monkeypatch):
    monkeypatch.delenv("ANCHORSCOPE_DEVICE", raising=False)
    runs = pd.DataFrame(
        {"parameters": [None, "[]", '{"engine": {"device": "cuda:1"}}', '{"engine": {"device": "cpu"}}']}
    )
    assert device_of(runs) == "cuda:1" and device_of(runs[:2]) == "cpu"
    monkeypatch.setenv("ANCHORSCOPE_DEVICE", "mps")
    assert device_of(runs) == "mps"


def test_choices_say_where_their_models_compute(tiny_folder):
    (found,) = choices(models((str(tiny_folder("llama")), None, "float32")), "cuda")
    assert found.model.device == "cuda"
