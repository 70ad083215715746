import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.ids import stable_id
from backend.latent import files, loading
from backend.latent.kinds import SIBLINGS, LatentError
from backend.latent.loading import identify, load_latent
from backend.latent.loop import run
from backend.models.embedded import file_sha256
from tests.latent_models import tiny_latent, tiny_latent_folder

QUESTIONS = torch.tensor([[105, 115, 3, 120], [105, 116, 7, 121]])


@pytest.fixture(params=SIBLINGS)
def sibling(request):
    return request.param


def test_what_is_loaded_is_what_was_saved(sibling, tmp_path):
    made = tiny_latent(sibling)
    found = load_latent(str(tiny_latent_folder(tmp_path, sibling)))
    weights = files.weights_of(made)
    assert all(torch.equal(value, weights[key]) for key, value in files.weights_of(found).items())
    n = made.n_latents
    state, other = run(made, QUESTIONS, n), run(found, QUESTIONS, n)
    assert torch.equal(state.h, other.h) and made.answer(state, 2) == found.answer(other, 2)
    text = "The frog first runs, second slides. It began on stone 4. Where is it?"
    assert made.tokenizer(text)["input_ids"] == found.tokenizer(text)["input_ids"]
    for part in ("sibling", "before", "after", "end", "n_latents", "n_answer_tokens", "layout"):
        assert getattr(made, part) == getattr(found, part)


def test_its_id_is_known_without_its_weights(tmp_path):
    name = str(tiny_latent_folder(tmp_path))
    sha256 = file_sha256(tmp_path / files.WEIGHTS)
    assert identify(name) == stable_id("m", name, sha256, "float32") == load_latent(name).model_id


def test_weights_are_halved_on_disk_only_where_that_loses_nothing(tmp_path):
    made = tiny_latent()
    files.save(made, tmp_path / "whole")
    for weight in files.weights_of(made).values():
        weight.copy_(weight.half())
    files.save(made, tmp_path / "half")
    stored = {name: load_file(tmp_path / name / files.WEIGHTS) for name in ("whole", "half")}
    assert {tensor.dtype for tensor in stored["whole"].values()} == {torch.float32}
    assert {tensor.dtype for tensor in stored["half"].values()} == {torch.float16}
    found = files.weights_of(load_latent(str(tmp_path / "half")))
    assert all(torch.equal(found[key], value) for key, value in files.weights_of(made).items())


def test_each_number_and_word_is_one_token_and_an_answer_is_a_number_or_the_end():
    made = tiny_latent()
    spoken = made.tokenizer
    assert spoken.convert_tokens_to_ids([str(n) for n in range(100)]) == list(range(100))
    assert made.end == 100 and made.n_answer_tokens == 101
    assert spoken.decode(spoken("It began on leaf 42 .")["input_ids"]) == "It began on leaf 42 ."


def test_the_language_model_of_a_seed_is_the_same_for_all_siblings():
    one, *others = (files.weights_of(tiny_latent(name, seed=3)) for name in SIBLINGS)
    for other in others:
        shared = [key for key in other if key.startswith("model.")]
        assert shared and all(torch.equal(one[key], other[key]) for key in shared)


def spoil_weights(folder, change):
    tensors = load_file(folder / files.WEIGHTS)
    change(tensors)
    save_file(tensors, folder / files.WEIGHTS)


def spoil_note(folder, **changed):
    file = folder / files.NOTE
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: spoil_weights(folder, lambda all: all.pop("model.norm.weight")),
            "model.norm.weight .* missing",
        ),
        (
            lambda folder: spoil_weights(folder, lambda all: all.pop("projection.3.bias")),
            "projection.3.bias .* missing",
        ),
        (lambda folder: spoil_weights(folder, lambda all: all["model.norm.weight"].fill_(torch.nan)), "not finite"),
        (lambda folder: spoil_weights(folder, lambda all: all.update(odd=torch.ones(1))), "odd has shape .* no place"),
        (lambda folder: spoil_note(folder, sibling="pause"), "not those of a pause sibling"),
        (lambda folder: spoil_note(folder, sibling="none"), "not those of a none sibling"),
        (lambda folder: spoil_note(folder, sibling="twin"), "no sibling 'twin'"),
        (lambda folder: spoil_note(folder, layout="other"), "names the layout 'other'"),
        (lambda folder: (folder / files.NOTE).write_text("{}"), "has no 'layout'"),
        (lambda folder: (folder / files.NOTE).write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / files.NOTE).unlink(), "no latent model in a layout that is known"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded from"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_by_name(spoil, said, tmp_path):
    spoil(tiny_latent_folder(tmp_path))
    with pytest.raises(LatentError, match=said):
        load_latent(str(tmp_path))


def test_a_name_that_is_nothing_here_is_refused_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    tiny_latent_folder(tmp_path / "pause-3", "pause")
    with pytest.raises(LatentError, match=r"no such folder\. Embedded ones: embedded:Anchorscope-Latent/pause-3"):
        load_latent("embedded:Anchorscope-Latent/pause-4")
    assert load_latent("embedded:Anchorscope-Latent/pause-3").sibling == "pause"
    with pytest.raises(LatentError, match=r"a revision .*main.* can only be asked of"):
        load_latent("embedded:Anchorscope-Latent/pause-3", "main")
