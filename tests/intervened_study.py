"""A study of a tiny pair of models with a crosscoder: what interventions on features need, made in a second."""

import json
from contextlib import closing
from pathlib import Path

import torch

from backend import ids
from backend.crosscoder import stored
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.files import save
from backend.crosscoder.null_kinds import TWIN
from backend.models.loaded import LoadedModel
from backend.models.loading import load_model
from backend.store.dictionaries import null_folder
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_study
from tests.conftest import make_tiny_model, tune
from tests.had_once import copied
from tests.small_study import HOSTILE

LAYER, N_FEATURES, SILENT = 1, 12, 11
PROBLEMS = (
    ("What is 12 + 30?", "42", 1),
    ("What is 3 + 4?", "7", 1),
    ("Find the total cost of 3 apples.", HOSTILE[1], 2),
    ("6 * 7?", "42", 2),
)
SAMPLING = {"temperature": 1.0, "top_p": 0.9, "max_new_tokens": 12}


def make_pair(folder: Path) -> tuple[str, str]:
    """Folders of a tiny model, and of one that was made from it."""
    base, distilled = (make_tiny_model("llama", folder / name) for name in ("base", "distilled"))
    tuned = load_model(str(distilled))
    tune(tuned.model)
    tuned.model.save_pretrained(distilled)
    return str(base), str(distilled)


def weights(d_model: int) -> Dictionary:
    draw = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    return Dictionary(
        kind="batchtopk",
        encoder=0.2 * normal(2, d_model, N_FEATURES),
        encoder_bias=normal(N_FEATURES),
        decoder=0.3 * normal(2, N_FEATURES, d_model),
        decoder_bias=normal(2, d_model),
        scale=torch.tensor([0.8, 1.25]),
        threshold=torch.tensor(0.5),
        k=6,
        weighted=False,
        subtract=False,
        facts={"layer": LAYER},
    )


@copied
def make(folder: Path, names: tuple[str, str]) -> Path:
    """Publish it at `folder`; feature k fires on a share 0.5 / (k + 1) of tokens, and its NRN is k / N_FEATURES."""
    pair = [load_model(name) for name in names]
    run = small_study._run() | {
        "run_id": ids.stable_id("r", 1),
        "parameters": json.dumps({"sampling": {**SAMPLING, "samples": 2}}),
    }
    tables = {
        "runs": [run],
        "models": [_model(one, role) for one, role in zip(pair, ("base", "distilled"), strict=True)],
        "problems": [
            small_study.problem(k) | {"question": question, "answer": answer, "level": level}
            for k, (question, answer, level) in enumerate(PROBLEMS)
        ],
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("all", "all", tables)
    add_dictionary(folder, [one.model_id for one in pair], pair[0].d_model)
    return folder


def add_dictionary(folder: Path, model_ids: list[str], d_model: int) -> str:
    """Add the crosscoder and its features to a study whose models have this width, and publish; returns its id."""
    dictionary = weights(d_model)
    name = dictionary.dictionary_id
    row = {
        "dictionary_id": name,
        "kind": "batchtopk",
        "base_model_id": model_ids[0],
        "distilled_model_id": model_ids[1],
        "layer": LAYER,
        "n_features": N_FEATURES,
        "d_model": d_model,
        "k": 6,
        "scale": dictionary.scale.tolist(),
        "source": "trained",
        "training_id": None,
        "n_tokens": 900,
        "sha256": stored.keep(dictionary, folder),
        "parameters": "{}",
    }
    logits = [
        {
            "dictionary_id": name,
            "feature": k,
            "model_id": model_id,
            "side": "top",
            "rank": rank,
            "token_id": rank,
            "token": HOSTILE[2] if rank else " Wait",
            "effect": 1.0 - rank / 4,
        }
        for k in range(N_FEATURES)
        for model_id in model_ids
        for rank in range(2)
    ]
    tables = {
        "dictionaries": [row],
        "features": [_feature(name, k) for k in range(N_FEATURES)],
        "feature_logits": logits,
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("crosscoder", "all", tables)
        publish(writer)
    return name


def add_twin(folder: Path, twin: Dictionary) -> str:
    """Put `twin` in the place of the dictionary's frozen decoder, with frequencies as its own, and publish; returns the
    null's id.
    """
    with closing(Store(folder)) as store:
        name = store.dictionary_ids()[0]
        frequency = store.features(name)["frequency"].tolist()
    row = {
        "null_id": "n1",
        "dictionary_id": name,
        "null": TWIN,
        "number": 0,
        "seed": 1,
        "n_features": N_FEATURES,
        "n_tokens": 900,
        "n_judged": 300,
        "variance_explained_base": 0.8,
        "variance_explained_distilled": 0.7,
        "l0": 2.0,
        "dead_share": 1 / N_FEATURES,
        "parameters": "{}",
    }
    unknown = ("top_category", "top_category_lift", "peak_share")
    features = [
        {"null_id": "n1", "feature": k, "nrn_l1": 0.5, "nrn_l2": 0.5, "nu_eps": 1.0, "nu_r": 1.0, "class": "shared"}
        | {"frequency": frequency[k], **dict.fromkeys(unknown)}
        for k in range(N_FEATURES)
    ]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("null_pairs", "all", {"null_dictionaries": [row], "null_features": features})
        publish(writer)
    save(twin, null_folder(folder, "n1"))
    return "n1"


def _model(loaded: LoadedModel, role: str) -> dict:
    return {
        "model_id": loaded.model_id,
        "name": loaded.name,
        "role": role,
        "revision": loaded.revision,
        "dtype": loaded.dtype,
        "family": loaded.family,
        "n_layers": loaded.n_layers,
        "d_model": loaded.d_model,
        "vocab_size": loaded.vocab_size,
    }


def _feature(name: str, k: int) -> dict:
    fires, nrn = k != SILENT, k / N_FEATURES
    return {
        "dictionary_id": name,
        "feature": k,
        "norm_base_l1": 4.0,
        "norm_distilled_l1": 4.0,
        "norm_base_l2": 1.0,
        "norm_distilled_l2": 1.0,
        "rdn_l1": 1.0,
        "rdn_l2": 1.0,
        "nrn_l1": nrn,
        "nrn_l2": nrn,
        "decoder_cosine": 0.5,
        "nu_eps": 1.0,
        "nu_r": 1.0,
        "class": "shared",
        "frequency": 0.5 / (k + 1) if fires else 0.0,
        "mean_activation": 1.5 if fires else None,
        "max_activation": 3.0 if fires else None,
        "top_category": None,
        "top_category_lift": None,
    }
