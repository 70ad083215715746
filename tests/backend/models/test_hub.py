"""What a model hub answers, and what its cache holds, is each said in one sentence: name, what is wrong, what to do.

The hub is one on this machine (`tests.local_hub`); caches are made in its layout,
models--own--er/{blobs,snapshots,refs}.
"""

import json
import shutil

import pytest
from huggingface_hub import constants

from backend.live.available import is_here
from backend.models.loading import ModelLoadingError, check_model, find_weights, identify_model, load_model
from tests.local_hub import COMMIT, Hub, serving


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


@pytest.fixture
def hub(monkeypatch):
    with serving(Hub()) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("{repo_id}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{found.url}/{template[1]}{template[2]}")
        yield found


@pytest.fixture
def model(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("llama"), tmp_path / "published")


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def cached(tmp_path, folder, name="own/er"):
    """The folder in the layout of the hub's cache: files are links to blobs."""
    root = tmp_path / "hub-cache" / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for part in (snapshot, root / "refs", root / "blobs"):
        part.mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, root / "blobs" / str(number))
        (snapshot / file.name).symlink_to(root / "blobs" / str(number))
    return snapshot


def refused(name, words, **how):
    with pytest.raises(ModelLoadingError, match=words) as said:
        find_weights(name, how.get("revision"))
    assert name in str(said.value) and "\n" not in str(said.value)
    return str(said.value)


def test_a_model_of_the_hub_is_fetched_once_and_known_by_its_commit(hub, model, tmp_path):
    hub.repositories["models/own/er"] = model
    (model / "original").mkdir()
    for name in ("original/model.safetensors", "consolidated.safetensors"):
        shutil.copy(model / "model.safetensors", model / name)
    loaded = load_model("own/er")
    assert loaded.revision == COMMIT and is_here("own/er", None)
    assert not any("original" in path or "consolidated" in path for path in hub.asked if "resolve" in path)
    before = len(hub.asked)
    assert identify_model("own/er", revision=COMMIT) == loaded.model_id and len(hub.asked) == before


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "GatedRepo"), "The model hub has own/er, but it is gated: .* Accept them .* `hf auth login`"),
        ((403, "GatedRepo"), "The model hub has own/er, but it is gated"),
        ((401, "RepoNotFound"), "no model 'own/er' that may be read. Check the spelling; .* `hf auth login`"),
        ((404, "RepoNotFound"), "no model 'own/er' that may be read"),
        ((403, ""), r"own/er is not in .* local cache, and the hub refused it \(HTTP 403\). The token .* may not read"),
        ((503, ""), r"the hub refused it \(HTTP 503\). Try again later, or name a folder with the model's files"),
    ],
)
def test_what_the_hub_refuses_is_told_apart(hub, model, answer, said, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # it is asked again after a 5xx
    hub.repositories["models/own/er"], hub.refused["models/own/er"] = model, answer
    refused("own/er", said)


def test_a_revision_that_does_not_exist_is_named(hub, model):
    hub.repositories["models/own/er"] = model
    refused("own/er", "has own/er, but no revision 'step-9' of it. Name a branch", revision="step-9")


def test_a_repository_that_was_fetched_is_used_without_a_network_and_one_that_was_not_is_not(model, tmp_path, offline):
    cached(tmp_path, model)
    assert load_model("own/er").revision == COMMIT
    assert "name a folder" in refused("somebody/else", "could not be reached on the model hub and is not in its local")


def test_a_hub_that_nothing_answers_for_is_a_sentence_too(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("own/er", r"could not be reached on the model hub .* Check the network")


def test_a_name_that_the_hub_cannot_have_is_refused_in_words(offline):
    refused("own/er--x", "is no name that the model hub can have")


def test_a_download_that_was_cut_says_which_file_was_never_fetched(hub, model, tmp_path, monkeypatch):
    hub.repositories["models/own/er"] = model
    (folder := find_weights("own/er").folder).joinpath("model.safetensors").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("own/er", r"own/er is not whole in .* cache: model\.safetensors of its files were never .* with a network")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert find_weights("own/er").folder == folder and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["pytorch_model.bin"],
            r"no \.safetensors file, but pickled weights \(pytorch_model\.bin\)\. Only",
        ),
        (["q4.gguf"], r"no \.safetensors file, but a GGUF file \(q4\.gguf\)\. .* save_pretrained"),
        ([], r"has no \.safetensors file\. Only"),
    ],
)
def test_a_repository_in_another_layout_is_named_and_nothing_large_is_fetched(hub, model, files, said):
    (model / "model.safetensors").unlink()
    for name in files:
        (model / name).write_bytes(b"x" * 1000)
    hub.repositories["models/own/er"] = model
    refused("own/er", f"own/er of the model hub {'has ' if files else ''}{said}")
    assert not any(path.endswith(tuple(files or ["never"])) for path in hub.asked)


def test_damaged_files_of_the_cache_say_what_was_expected_and_how_they_are_fetched_anew(model, tmp_path, offline):
    snapshot, whole = cached(tmp_path, model), (model / "model.safetensors").read_bytes()
    file = snapshot / "model.safetensors"
    for content, said in (
        (whole[: len(whole) // 2], rf"has {len(whole) // 2:,} bytes, but its header says {len(whole):,}"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a pointer of Git LFS"),
        (b"", "is empty"),
    ):
        file.resolve().write_bytes(content)
        words = refused("own/er", f"own/er is damaged in the model hub's local cache: .*model.safetensors {said}")
        assert f"{snapshot.parents[1]}, is deleted" in words
    file.resolve().write_bytes(whole)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("own/er", r"lacks model-00002-of-00002\.safetensors \(1 of the 2 files of weights that model.*index.json")


def test_a_link_to_a_blob_that_is_gone_is_damage_too(model, tmp_path, offline):
    (cached(tmp_path, model) / "model.safetensors").resolve().unlink()
    refused("own/er", "is damaged .*model.safetensors cannot be read")


def test_an_adapter_alone_is_merged_into_the_base_of_the_cache_and_says_which_is_missing(
    tiny_folder, model, tmp_path, offline
):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(r=2, target_modules=["q_proj"]))
    tuned.peft_config["default"].base_model_name_or_path = "own/base"
    tuned.save_pretrained(tmp_path / "adapter")
    cached(tmp_path, tmp_path / "adapter", "own/adapter")
    words = refused(
        "own/adapter", "own/adapter is an adapter of the model 'own/base' .*, which cannot be used: own/base"
    )
    assert "is not in its local cache" in words
    cached(tmp_path, model, "own/base")
    assert load_model("own/adapter").revision.startswith(f"{COMMIT}+{COMMIT}-")
    check_model("own/adapter")
