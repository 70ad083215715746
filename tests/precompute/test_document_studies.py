"""The study files of the documents: each is planned without a network, a model or a file, and its small twin runs
through every stage.
"""

import io

import pytest
from rich.console import Console

from backend.models import embedded
from backend.models.loading import load_model
from backend.store.costs import PUBLISHING, measured
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import plan_study, publishing, totals
from precompute.stages import STAGES
from precompute.study import Study
from tests.conftest import make_tiny_model, tune
from tests.latent_layouts import write_codi_b
from tests.latent_study import briefly_fitted
from tests.twin_studies import corpora, gsm8k_file, math_file, published, shipped, twin, word_pairs

PAIRS = ("distilled-reasoning-1.5b", "distilled-reasoning-7b", "distilled-reasoning-14b", "decoding-r1")
OF_DOCUMENTS = (*PAIRS, "features-and-logits", "latent-codi", "feature-geometry-gemma2")


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("documents")
    return {"math": math_file(folder), "gsm8k": gsm8k_file(folder), "corpus": corpora(folder)} | {
        "pairs": word_pairs(folder, tiny("qwen2").tokenizer)
    }


@pytest.fixture(scope="module")
def pair(tiny_folder, tmp_path_factory):
    other = make_tiny_model("qwen2", tmp_path_factory.mktemp("distilled"))
    loaded = load_model(str(other))
    tune(loaded.model)
    loaded.model.save_pretrained(other)
    return tiny_folder("qwen2"), other


def whole(content, folder):
    study, store = Study.model_validate(content), StudyFolder(folder)
    run_study(study, store, stages=STAGES, console=Console(file=io.StringIO(), width=200))
    asked = {line.stage for line in plan_study(study, store)[0] if line.units}
    return asked, store, Store(store.path)


@pytest.mark.parametrize("name", OF_DOCUMENTS)
def test_a_study_of_a_document_is_planned_without_a_network_a_model_or_a_file(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study = Study.model_validate(shipped(name))
    lines, _ = plan_study(study, StudyFolder(tmp_path / name))
    lines.append(publishing(lines, study))
    assert all(line.units is None or line.units >= 0 for line in lines)
    assert all(line.tokens is None or line.tokens >= 0 for line in lines)
    if name != "latent-codi":  # its models are in no table: unknown
        assert totals(lines).cpu_seconds > 0 and all(hours > 0 for hours in totals(lines).on_cards.values())
    assert not (tmp_path / name).exists()


@pytest.mark.embedded
@pytest.mark.skipif(not embedded.is_ready(), reason="the embedded sentence encoder is not in the cache folder")
@pytest.mark.parametrize("name", ["features-and-logits", "distilled-reasoning-14b", "decoding-r1"])
def test_a_twin_of_a_study_with_models_runs_whole(name, pair, files, tmp_path):
    models = pair if name in PAIRS else pair[1:]
    asked, folder, store = whole(twin(name, models, files), tmp_path / "twin")
    took = measured(folder.path)
    assert asked - took.keys() <= {"capped_answers"} and PUBLISHING in took
    assert len(store.frame("SELECT * FROM kl_curves")) > 0
    if name in PAIRS:
        assert len(store.frame("SELECT * FROM features")) == 32
    store.close()


@pytest.mark.parametrize("name", PAIRS[:2])
def test_a_study_of_another_size_differs_in_names_layers_and_rows_alone(name):
    ours, other = shipped(name), shipped("distilled-reasoning-14b")
    for one in (ours, other):
        del one["name"], one["models"], one["engine"]["rows"], one["activations"], one["sweep"]["layers"]
        del one["crosscoder"]["layer"]
    assert ours == other


def test_a_twin_of_the_latent_study_runs_whole(tmp_path):
    written = write_codi_b("llama", tmp_path)
    content = shipped("latent-codi")
    content["latent"] |= {
        "problems": 2,
        "means_from": 4,
        "random": 1,
        "coefficients": [1.0],
        "latents": 2,
        "max_tokens": 2,
    }
    content["latent"]["spaces"] = ["z", "kv"]
    content["latent"]["models"][0] |= {"name": str(written.folder), "base": str(written.base)}
    with briefly_fitted():
        asked, folder, store = whole(content, tmp_path / "twin")
    assert asked <= measured(folder.path).keys()
    store.close()


def test_a_twin_of_the_study_of_published_dictionaries_runs_whole(tmp_path):
    asked, folder, store = whole(published(shipped("feature-geometry-gemma2"), tmp_path / "sae"), tmp_path / "twin")
    assert asked == {"cosines"} and measured(folder.path)["cosines"].units == 32
    store.close()
