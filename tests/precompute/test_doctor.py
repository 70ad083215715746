"""The doctor finds nothing in sound models of either way, and names what was broken in others."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from backend.models.edits import encode
from backend.models.loading import load_model
from precompute import cli, doctor, plain_checks
from precompute.doctor import escaped, examine
from precompute.study import Study
from tests.checking_device import DEVICE, checking
from tests.hooks import hooks_on


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))


def study_of(*models, **parts) -> Study:
    roles = ("base", "distilled") if len(models) == 2 else ("model",)
    known = {
        "name": "tried",
        "models": [{"name": str(model), "role": role} for model, role in zip(models, roles, strict=True)],
        "problems": {"per_level": 1, "levels": [1]},
        "sampling": {"max_new_tokens": 32},
        "activations": {"layers": [0, 1, 2]},
        "sweep": {"layers": [1]},
    }
    return Study.model_validate(known | parts)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("llama"), tmp_path / "model")


def faults(study) -> str:
    return "\n".join(examine(study).faults)


def test_a_sound_pair_with_a_dictionary_has_no_fault_and_shows_what_it_was_asked(tiny_folder):
    pair = [tiny_folder("llama"), tiny_folder("qwen2")]
    wanted = {"layer": 1, "n_features": 64, "k": 4, "batch": 16}
    report = examine(study_of(*pair, crosscoder=wanted))
    words = str(report)
    assert report.faults == [] and f"All {report.n_checks} checks are as they should be." in words
    assert "| <|im_start|>assistant\\n" in words and doctor.QUESTION in words
    for what in (
        "residual stream at layer 2",
        "KL of a step at layer 1",
        "equal bit for bit",
        "against generate, greedy",
    ):
        assert words.count(what) >= 2
    assert "two steps of the dictionary: loss" in words and "tokens a second" in words


def test_a_family_that_takes_the_plain_way_has_none_either(tiny_folder):
    loaded = load_model(str(tiny_folder("gemma2")))
    before = hooks_on(loaded.model)
    assert not encode(loaded, [1, 2, 3], layers=[1]).is_shared_prefix
    assert examine(study_of(tiny_folder("gemma2"))).faults == []
    chunk = plain_checks.chunk_of(loaded, "Say.\n")
    assert all(check.fault is None for check in plain_checks.checks(loaded, chunk, [0, 3], seed=0))
    assert hooks_on(loaded.model) == before


def test_a_model_whose_attention_is_another_than_the_one_computed_here_is_found(folder, monkeypatch):
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def altered(module, query, key, value, mask, **how):
        return sdpa_attention_forward(module, query * 0.5, key, value, mask, **how)

    AttentionInterface.register("altered", altered)

    def altering(*args, **how):
        loaded = load_model(*args, **how)
        loaded.model.set_attn_implementation("altered")
        return loaded

    monkeypatch.setattr(doctor, "load_model", altering)
    assert "KL of a step at layer 1 against a hook: " in (words := faults(study_of(folder))) and "by the hook" in words
    assert "layer 2 against a hook" not in words.partition("KL")[0]  # what is read is the model's own


WRONG = {
    "record_residuals": lambda found: {layer: h * 1.001 for layer, h in found.items()},
    "steering_edits": lambda edits: [replace(edit, change=lambda h: h + 1.0) for edit in edits],
    "sample": lambda drawn: [replace(one, token_ids=(5, 6)) for one in drawn],
}
SAID = {"record_residuals": "layer 2 against a hook", "steering_edits": "step of size 0", "sample": "part at token"}


@pytest.mark.parametrize("name", WRONG)
def test_each_comparison_can_fail(folder, monkeypatch, name):
    right = getattr(plain_checks, name)
    monkeypatch.setattr(plain_checks, name, lambda *args, **how: WRONG[name](right(*args, **how)))
    assert SAID[name] in faults(study_of(folder))


def test_weights_that_are_not_numbers_end_with_the_reason_and_exit_code_1(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    file = tmp_path / "tried.toml"
    file.write_text(
        f'name = "tried"\n[[models]]\nname = "{folder}"\n[problems]\nper_level = 1\nlevels = [1]\n'
        "[sampling]\nmax_new_tokens = 32\n[activations]\nlayers = [0, 1]\n[sweep]\nlayers = [1]\n"
    )
    ended = CliRunner().invoke(cli.app, ["doctor", str(file)])
    assert ended.exit_code == 1
    assert "1 of" in ended.stdout and "model.layers.1.mlp.up_proj.weight has values that are NaN" in ended.stdout


def test_a_chat_model_whose_template_is_missing_is_named_and_a_plain_one_is_not(folder):
    (folder / "chat_template.jinja").unlink()
    assert "has the tokens of a chat template (<|im_start|>), but there is no chat template" in faults(study_of(folder))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = folder / name
        file.write_text(file.read_text().replace("<|im_start|>", "<s>"))
    assert faults(study_of(folder)) == ""


def test_a_first_token_that_is_written_twice_is_named(folder):
    file = folder / "chat_template.jinja"
    file.write_text("{{ bos_token }}" + file.read_text())
    assert "it begins with '<|im_start|>' twice" in faults(study_of(folder))


def test_a_layer_that_the_model_has_not_is_said(folder):
    assert "names layer 9, and" in faults(study_of(folder, activations={"layers": [0, 9]}, sweep={"layers": [9]}))


def test_a_device_that_is_not_here_ends_the_report_with_what_there_is(folder):
    report = examine(study_of(folder, engine={"device": "cuda:7"}))
    assert len(report.faults) == 1 and "on which nothing can be computed on this machine" in report.faults[0]


def test_weights_that_do_not_fit_are_said_before_they_are_read(folder, monkeypatch):
    few = SimpleNamespace(available=1000, total=2000)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: few)
    monkeypatch.setattr(doctor, "load_model", lambda *_args, **_how: pytest.fail("it was read"))
    assert "of weights do not fit into the 0.0 GB that are free" in faults(study_of(folder))


def test_rows_that_do_not_fit_are_a_note_with_how_many_do(folder, monkeypatch):
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * size, total=4 * size))
    report = examine(study_of(folder, sampling={"max_new_tokens": 2000}))
    assert report.faults == [] and "rows fit, and that is what will be taken" in str(report)


def test_what_a_prompt_holds_cannot_steer_the_terminal(folder):
    file = folder / "chat_template.jinja"
    file.write_text("\x1b[2J\u202e" + file.read_text())
    assert escaped("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\n"
    words = str(examine(study_of(folder)))
    assert "\\x1b[2J\\u202e<|im_start|>" in words and "\x1b" not in words and "\u202e" not in words


def test_a_pass_that_fails_is_a_fault_in_words(folder, monkeypatch):
    def failing(*_args, **_how):
        raise RuntimeError("expected all tensors on one device\nand more")

    monkeypatch.setattr(plain_checks, "encode", failing)
    assert "a pass: RuntimeError: expected all tensors on one device" in faults(study_of(folder))


def test_on_a_device_it_asks_for_each_of_its_transfers(tiny_folder):
    known = study_of(tiny_folder("llama"), crosscoder={"layer": 1, "n_features": 64, "k": 4, "batch": 16})
    away = known.model_copy(update={"engine": known.engine.model_copy(update={"device": DEVICE})})
    with checking() as waits:
        assert examine(away).faults == []
    assert waits["cpu"] > 0
