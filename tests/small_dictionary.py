"""A crosscoder for the small study, for tests alone: real weights in their place, and rows with the NULLs and hostile
texts of a real one.

Six features at layer 5: two shared, one of the base model, one of the distilled, a suspect, and one that never fires.
Codes are the same in every CoT with tokens: feature k fires on every token whose position is a multiple of k + 2, with
a code of 1 + k + position / 100.
"""

import json
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend import ids
from backend.crosscoder import stored
from backend.crosscoder.dictionary import Dictionary
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests.small_study import HOSTILE, WIDTH

LAYER, N_FEATURES, SILENT = 5, 6, 5
CLASSES = ("shared", "shared", "base only", "distilled only", "suspect", None)
NRN = (0.5, 0.45, 0.02, 0.98, 0.95, None)
CATEGORIES = {
    "function": ("active_computation", "self_checking"),
    "reasoning": ("self-reflection",),
    "before_reasoning": ("self-reflection",),
}


def weights() -> Dictionary:
    draw = torch.Generator().manual_seed(4)
    encoder, decoder = (
        torch.randn(shape, generator=draw) for shape in ((2, WIDTH, N_FEATURES), (2, N_FEATURES, WIDTH))
    )
    return Dictionary(
        kind="batchtopk",
        encoder=encoder,
        encoder_bias=torch.zeros(N_FEATURES),
        decoder=decoder,
        decoder_bias=torch.zeros(2, WIDTH),
        scale=torch.tensor([0.5, 0.25]),
        threshold=torch.tensor(1.5),
        k=2,
        weighted=True,
        subtract=False,
        facts={"layer": LAYER},
    )


def code(feature: int, position: int) -> float:
    """0 where it does not fire."""
    return (
        0.0
        if feature == SILENT or position == 0 or position % (feature + 2)
        else float(np.float32(1 + feature + position / 100))
    )


def add(folder: Path) -> str:
    """Add the crosscoder, its training and all that is measured of it to the study at `folder`, and publish; returns
    its id.
    """
    dictionary = weights()
    name = dictionary.dictionary_id
    store = Store(folder)
    base, distilled = store.models()["model_id"][0], ids.stable_id("m", "tiny", "distilled")
    model = store.whole_table("models").to_pylist()[0]
    model |= {"model_id": distilled, "name": f"embedded:Thinks {HOSTILE[1]}", "role": "distilled"}
    cots, chunks = store.tokenised_cots(), store.whole_table("chunks").to_pylist()
    store.close()
    both = (base, distilled)
    row = {
        "dictionary_id": name,
        "kind": "batchtopk",
        "base_model_id": base,
        "distilled_model_id": distilled,
        "layer": LAYER,
        "n_features": N_FEATURES,
        "d_model": WIDTH,
        "k": 2,
        "scale": [0.5, 0.25],
        "source": "trained",
        "training_id": "tc",
        "n_tokens": 900,
        "sha256": stored.keep(dictionary, folder),
        "parameters": json.dumps({"settings": {"k": 2}}),
    }
    tables = {
        "models": [model],
        "dictionaries": [row],
        "features": [_feature(name, k) for k in range(N_FEATURES)],
        "cot_codes": [_codes(name, cot) for cot in cots],
    }
    tables |= dict(zip(("training_runs", "training_metrics"), _training(), strict=True))
    tables["dictionary_fits"] = [
        {
            "dictionary_id": name,
            "model_id": model_id,
            "n_tokens": 400,
            "variance_explained": explained,
            "mean": [1.0] * WIDTH,
        }
        for model_id, explained in zip(both, (0.8, 0.7), strict=True)
    ]
    tables["spliced_losses"] = [
        {
            "dictionary_id": name,
            "cot_id": cot["cot_id"],
            "model_id": model_id,
            "n_tokens": 10 + number,
            "loss": 1.0,
            "loss_spliced": 1.5,
            "loss_zeroed": 6.0 + number,
            "loss_averaged": 4.0,
        }
        for number, cot in enumerate(cots)
        for model_id in both
    ]
    firing = [k for k in range(N_FEATURES) if k != SILENT]
    tables["feature_categories"] = [
        {
            "dictionary_id": name,
            "feature": k,
            "scheme": scheme,
            "category": category,
            "n_tokens": 50,
            "n_fired": 10 * (k % 2),
            "frequency": 0.2 * (k % 2),
            "mean_activation": 2.0 if k % 2 else None,
        }
        for k in firing
        for scheme, categories in CATEGORIES.items()
        for category in categories
    ]
    tables["feature_histograms"] = [
        {"dictionary_id": name, "feature": k, "edges": [0.0, 1.0 + k, 2.0 + k], "counts": [k, 3]} for k in firing
    ]
    tables["feature_examples"] = list(chain(*(_examples(name, k, cots[:2], chunks) for k in firing)))
    tables["feature_logits"] = [
        {
            "dictionary_id": name,
            "feature": k,
            "model_id": model_id,
            "side": side,
            "rank": rank,
            "token_id": rank,
            "token": HOSTILE[2] if rank else " Wait",
            "effect": (1.0 - rank / 4) * (1 if side == "top" else -1),
        }
        for k in range(N_FEATURES)
        for model_id in both
        for side in ("top", "bottom")
        for rank in range(2)
    ]
    tables["feature_neighbours"] = [
        {
            "dictionary_id": name,
            "feature": k,
            "model_id": model_id,
            "rank": rank,
            "neighbour": (k + 1 + rank) % N_FEATURES,
            "cosine": 0.9 - 0.2 * rank,
        }
        for k in range(N_FEATURES)
        for model_id in both
        for rank in range(2)
    ]
    tables["feature_ablations"] = [
        _ablation(name, model_id, scheme, above, percent, control, measure)
        for model_id in both
        for scheme in ("reasoning", "before_reasoning")
        for above in (0.5, 0.9)
        for percent in (0.5, 1.0, 20.0)
        for control in ("features", "random")
        for measure in ("logit", "log_probability")
    ]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("crosscoder", "all", tables)
        publish(writer)
    return name


def _feature(name: str, k: int) -> dict[str, Any]:
    fires = k != SILENT
    return {
        "dictionary_id": name,
        "feature": k,
        "norm_base_l1": 4.0,
        "norm_distilled_l1": 4.0 * k,
        "norm_base_l2": 1.0,
        "norm_distilled_l2": 1.0 * k,
        "rdn_l1": None if NRN[k] is None else NRN[k] / (1 - NRN[k]),
        "rdn_l2": 1.0 * k,
        "nrn_l1": NRN[k],
        "nrn_l2": NRN[k],
        "decoder_cosine": 0.9 if fires else None,
        "nu_eps": (1.0, 0.9, 40.0, 0.02, 0.8, None)[k],
        "nu_r": (1.0, 1.1, 50.0, 0.1, 0.9, None)[k],
        "class": CLASSES[k],
        "frequency": 1 / (k + 2) if fires else 0.0,
        "mean_activation": 1.5 + k if fires else None,
        "max_activation": 2.0 + k if fires else None,
        "top_category": "self_checking" if fires else None,
        "top_category_lift": 3.0 if fires else None,
    }


def _ablation(
    name: str, model_id: str, scheme: str, above: float, percent: float, control: str, measure: str
) -> dict[str, Any]:
    """Above NRN 0.9 nothing is among the top 0.5 %; random sets do nothing."""
    n_features = 0 if (above, percent) == (0.9, 0.5) else round(percent * 2)
    effect = None if not n_features else -percent if control == "features" else 0.0
    return {
        "dictionary_id": name,
        "model_id": model_id,
        "category": "self-reflection",
        "scheme": scheme,
        "nrn_above": above,
        "top_percent": percent,
        "control": control,
        "measure": measure,
        "n_features": n_features,
        "features": list(range(n_features)) if control == "features" else None,
        "n_targets": 50,
        "n_cots": 5,
        "n_problems": 3,
        "before": 9.5,
        "effect": effect,
        "ci_low": None if effect is None else effect - 0.5,
        "ci_high": None if effect is None else effect + 0.25,
        "frequency": 0.25 if n_features else None,
        "removed": 0.125 if n_features else None,
        "seed": 1,
        "parameters": json.dumps({"layer": LAYER, "targets": 100, "sets": 8}),
    }


def _codes(name: str, cot: dict[str, Any]) -> dict[str, Any]:
    found = [
        (position, k, code(k, position))
        for position in range(len(cot["token_ids"]))
        for k in range(N_FEATURES)
        if code(k, position)
    ]
    positions, features, codes = (list(column) for column in zip(*found, strict=True))
    tokens = [f" t{position}" if position % 7 else HOSTILE[2] for position in range(len(cot["token_ids"]))]
    return {
        "dictionary_id": name,
        "cot_id": cot["cot_id"],
        "tokens": tokens,
        "positions": positions,
        "features": features,
        "codes": codes,
    }


def _examples(name: str, k: int, cots: list[dict[str, Any]], chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for rank, cot in enumerate(cots):
        position = max(place for place in range(len(cot["token_ids"])) if code(k, place))
        inside = [
            row["chunk_id"]
            for row in chunks
            if row["cot_id"] == cot["cot_id"] and row["token_start"] <= position < row["token_end"]
        ]
        rows.append(
            {
                "dictionary_id": name,
                "feature": k,
                "rank": rank,
                "cot_id": cot["cot_id"],
                "chunk_id": inside[0],
                "position": position,
                "activation": code(k, position),
                "contribution_base": 2.0,
                "contribution_distilled": 3.0,
                "window_start": position - 4,
                "window_values": [
                    code(k, place) for place in range(position - 4, min(position + 3, len(cot["token_ids"])))
                ],
            }
        )
    return rows


def _training() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    run = {
        "training_id": "tc",
        "model_id": None,
        "kind": "crosscoder",
        "base": None,
        "started_at": datetime(2026, 1, 3),
        "seconds": 60.0,
        "seed": 1,
        "parameters": json.dumps({"settings": {"k": 2}}),
        "n_tokens": 3000,
        "n_weights": 400,
        "versions": json.dumps({"torch": "2.13.0"}),
        "commit": None,
    }
    values = {
        "loss": lambda step: 20 / step,
        "l0": lambda _: 2.0,
        "dead_share": lambda _: 0.1,
        "learning_rate": lambda _: 1e-3,
        "variance_explained_base": lambda step: 1 - 0.5 / step,
        "variance_explained_distilled": lambda step: 1 - 0.6 / step,
    }
    metrics = [
        {"training_id": "tc", "metric": metric, "step": step, "tokens": 100 * step, "value": value(step)}
        for metric, value in values.items()
        for step in range(1, 31)
    ]
    return [run], metrics


def add_nulls(folder: Path, name: str, *, evidence: bool = True) -> None:
    """Two null pairs, one of two trainings, a frozen decoder and planted directions beside the crosscoder; with
    `evidence`, what their features fire on, names, and the frozen decoder's features zeroed.

    Feature 0 of each null fires twice as often before a word of self-reflection as elsewhere, and no other does.
    """
    dictionaries, features, planted = [], [], []
    for kind, number in (("same", 0), ("noise", 0), ("noise", 1), ("frozen_decoder", 0), ("planted", 0)):
        null_id, width = f"n{kind}{number}", {"same": 0.01, "noise": 0.1}.get(kind, 0.0)
        dictionaries.append(
            {
                "null_id": null_id,
                "dictionary_id": name,
                "null": kind,
                "number": number,
                "seed": 4 + number,
                "n_features": N_FEATURES,
                "n_tokens": 900,
                "n_judged": 300,
                "variance_explained_base": 0.8,
                "variance_explained_distilled": 0.7,
                "l0": 2.0,
                "dead_share": 1 / N_FEATURES,
                "parameters": "{}",
            }
        )
        features += [
            {
                "null_id": null_id,
                "feature": k,
                "nrn_l1": 0.5 + width * (-1) ** k,
                "nrn_l2": 0.99 if kind == "planted" and k == 3 else 0.5 + width * (-1) ** k,
                "nu_eps": 0.0 if kind == "planted" and k == 3 else 1.0,
                "nu_r": 0.0 if kind == "planted" and k == 3 else 1.0,
                "class": "shared",
                "frequency": 0.0 if k == SILENT else 0.1,
                "top_category": None if k == SILENT else "self_checking",
                "top_category_lift": None if k == SILENT else 2.0,
                "peak_share": None if k == SILENT else 0.5,
            }
            for k in range(N_FEATURES)
        ]
        planted += [
            {"null_id": null_id, "direction": k, "strength": 1.0 + k, "share": 0.01, "feature": 2 + k, "cosine": 0.9}
            for k in range(2 * (kind == "planted"))
        ]
    tables = {"null_dictionaries": dictionaries, "null_features": features, "planted_directions": planted}
    with StudyFolder(folder).writing("test") as writer:
        writer.add("null_pairs", "all", tables)
        if evidence:
            writer.add("null_evidence", "all", _null_evidence([row["null_id"] for row in dictionaries[:-1]]))
            writer.add("twin_ablations", "all", {"twin_ablations": _twin_ablations(folder, name)})
        publish(writer)


def _null_evidence(null_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    fires = {"feature": 0, "category": "self-reflection", "n_tokens": 50, "n_fired": 10}
    categories = [
        {"null_id": null_id, "scheme": scheme} | fires
        for null_id in null_ids
        for scheme in ("reasoning", "before_reasoning")
    ]
    peaks = [
        {
            "null_id": "nfrozen_decoder0",
            "feature": k,
            "tokens": [HOSTILE[2], " Wait"],
            "counts": [3, 2],
            "n_examples": 5 if k else 9,
            "promoted": [" but", " so"],
        }
        for k in range(N_FEATURES)
        if k != SILENT
    ]
    return {"null_categories": categories, "null_peaks": peaks}


def _twin_ablations(folder: Path, name: str) -> list[dict[str, Any]]:
    """Beside every choice of features of `add`: sets of the twin take between -0.75 and 0.75 of the target."""
    store = Store(folder)
    rows = []
    for ranked, table in (("all", "feature_ablations"), ("firing", "firing_ablations")):
        for row in store.whole_table(table).to_pylist():
            if row["control"] == "features" and row["n_features"]:
                own = {key: row[key] for key in TABLES["twin_ablations"].columns if key in row}
                beside = {
                    "ranked": ranked,
                    "null_id": "nfrozen_decoder0",
                    "effect": 0.0,
                    "ci_low": -0.5,
                    "ci_high": 0.5,
                }
                rows.append(own | beside | {"set_effects": [-0.25, 0.25] * 4})
    store.close()
    return rows
