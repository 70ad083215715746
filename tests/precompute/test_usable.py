"""What a study's models cannot do is said by plan and run alike, before anything runs."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from backend.errors import AnchorscopeError
from backend.models import families, trial
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.study import Study
from precompute.usable import require_usable


def study_of(*models) -> Study:
    return Study.model_validate(
        {
            "name": "asked",
            "models": [{"name": str(model)} for model in models],
            "problems": {"per_level": 1, "levels": [1]},
            "sweep": {"layers": [1]},
        }
    )


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("llama"), tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "pointer of Git LFS",
        ),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantised by gptq"),
        ("config.json", {"model_type": "recurrent_gemma"}, "family recurrent_gemma, which cannot be measured"),
        ("config.json", {"model_type": "t5", "is_encoder_decoder": True}, "no decoder-only language model"),
        ("config.json", {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Mine"}}, "custom code"),
        ("adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "x"}, "an adapter beside them"),
    ],
)
def test_plan_and_run_refuse_a_model_before_anything_is_made(folder, tmp_path, file, content, said):
    before = json.loads((folder / file).read_text()) if file == "config.json" else {}
    (folder / file).write_text(content if isinstance(content, str) else json.dumps(before | content))
    made = StudyFolder(tmp_path / "study")
    with pytest.raises(AnchorscopeError, match=said):
        plan_study(study_of(folder), made)
    with pytest.raises(AnchorscopeError, match=said):
        run_study(study_of(folder), made, stages=[])
    assert not made.path.exists()


def test_every_model_is_looked_at_and_one_of_an_untried_family_is_tried(folder, tmp_path, monkeypatch):
    require_usable(study_of(folder))
    with pytest.raises(AnchorscopeError, match="/no/such/folder"):
        require_usable(study_of(folder, "/no/such/folder"))
    require_usable(study_of(folder, "nobody/not-on-this-machine", "not-here-either"))  # a hub is not asked
    monkeypatch.setattr(families, "QUICK", frozenset())
    monkeypatch.setattr(trial, "_untried", lambda model: "it was tried")
    with pytest.raises(AnchorscopeError, match=r"model \(family llama\) cannot be measured: it was tried\."):
        require_usable(study_of(folder))


def test_plan_and_run_refuse_a_dictionary_of_another_layer_before_anything_is_made(folder, tmp_path):
    """SAELens' layout: `hook_resid_pre` of block 1 is the output of block 0."""
    sae, d, n = tmp_path / "sae", 16, 8
    sae.mkdir()
    (sae / "cfg.json").write_text(
        json.dumps({"d_in": d, "d_sae": n, "architecture": "standard", "hook_name": "blocks.1.hook_resid_pre"})
    )
    tensors = {"W_enc": torch.zeros(d, n), "W_dec": torch.ones(n, d), "b_enc": torch.zeros(n), "b_dec": torch.zeros(d)}
    save_file(tensors, sae / "sae_weights.safetensors")
    made = StudyFolder(tmp_path / "study")
    study = study_of(folder).model_dump(mode="json") | {"crosscoder": {"dictionary": str(sae), "layer": 1}}
    for refused in (plan_study, lambda study, made: run_study(study, made, stages=[])):
        with pytest.raises(AnchorscopeError, match=r"crosscoder\.layer is 1, but the dictionary is of layer 0"):
            refused(Study.model_validate(study), made)
    assert not made.path.exists()


def test_a_device_that_is_not_here_is_said_by_run_before_anything_is_made_and_planned_for(folder, tmp_path):
    study = study_of(folder)
    away = study.model_copy(update={"engine": study.engine.model_copy(update={"device": "cuda:77"})})
    with pytest.raises(AnchorscopeError, match=r"engine.device is 'cuda:77'.*Here there is cpu"):
        run_study(away, StudyFolder(tmp_path / "study"), stages=())
    lines, _ = plan_study(away, StudyFolder(tmp_path / "study"))
    assert {line.stage: line.cpu_seconds for line in lines}["cots"] > 0
    assert not (tmp_path / "study").exists()
