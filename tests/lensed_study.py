"""Fitted lenses among the rows of a study with a tiny model: a tuned one, a Jacobian one with whole matrices, one of
named tokens alone, and how good they are.
"""

from pathlib import Path

import torch

from backend.lens.jacobian import cotangents_of
from backend.lens.stored import rows_of
from backend.models.loaded import LoadedModel
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.unit_files import StudyFolder

TUNED, WHOLE, NAMED = "l-tuned", "l-jacobian", "l-named"
GREYED = (0, 1)  # layers at which the logit lens shows no gain
NAMED_TOKENS = (5, 19, 200)


def add(folder: Path, loaded: LoadedModel) -> None:
    """Adds them to a published study, and publishes it anew."""
    below = range(loaded.n_layers - 1)
    maps = {layer: affine(loaded, layer) for layer in below}
    tables: dict[str, list] = {
        "lenses": [
            _card(TUNED, loaded, "tuned", "all"),
            _card(WHOLE, loaded, "jacobian", "all"),
            _card(NAMED, loaded, "jacobian", "named"),
        ],
        "lens_layers": [_layer(TUNED, layer, "identity" if layer == 0 else "tuned") for layer in below]
        + [_layer(WHOLE, layer, "averaged") for layer in below if layer]
        + [_layer(NAMED, layer, "averaged") for layer in below],
        "lens_rows": [row for layer in below if layer for row in rows_of(TUNED, layer, *maps[layer])]
        + [row for layer in below if layer for row in rows_of(WHOLE, layer, maps[layer][0])],
        "lens_quality": [
            _quality(loaded, lens_id, kind, layer, positions)
            for lens_id, kind in (("logit", "logit"), (TUNED, "tuned"))
            for layer in range(loaded.n_layers)
            for positions in ("all", "prompt", "cot", "chunk_first")
        ],
        **_named(loaded),
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("lens", "all", tables)
        publish(writer)


def affine(loaded: LoadedModel, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """W (less the identity) and b of the tuned lens; the Jacobian lens has I + W."""
    draw = torch.Generator().manual_seed(layer)
    return 0.05 * torch.randn(loaded.d_model, loaded.d_model, generator=draw), torch.randn(
        loaded.d_model, generator=draw
    )


def _named(loaded: LoadedModel) -> dict[str, list]:
    vectors = cotangents_of(loaded, NAMED_TOKENS).vectors
    tokens = [
        {"lens_id": NAMED, "token_id": token, "text": f"t{token}", "roles": ["answer"], "constant": 0.0}
        for token in NAMED_TOKENS
    ]
    rows = [
        {"lens_id": NAMED, "layer": layer, "token_id": token, "values": vector.numpy(), "cosine": None}
        for layer in range(loaded.n_layers)
        for token, vector in zip(NAMED_TOKENS, vectors, strict=True)
    ]
    return {"jacobian_tokens": tokens, "jacobian_rows": rows}


def _card(lens_id: str, loaded: LoadedModel, kind: str, variant: str) -> dict:
    blank = dict.fromkeys(TABLES["lenses"].columns)
    own = {"lens_id": lens_id, "model_id": loaded.model_id, "kind": kind, "variant": variant}
    return blank | own | {"source": "fitted", "parameters": "{}", "versions": "{}"}


def _layer(lens_id: str, layer: int, kept: str) -> dict:
    return dict.fromkeys(TABLES["lens_layers"].columns) | {"lens_id": lens_id, "layer": layer, "kept": kept}


def _quality(loaded: LoadedModel, lens_id: str, kind: str, layer: int, positions: str) -> dict:
    no_gain = kind == "logit" and layer in GREYED
    kl = float(loaded.n_layers - 1 - layer) * (2.0 if kind == "logit" else 1.0)
    gain = -1.0 if no_gain else 1.0
    return {
        "model_id": loaded.model_id,
        "lens_id": lens_id,
        "kind": kind,
        "layer": layer,
        "positions": positions,
        "kl": kl,
        "ci_low": kl * 0.9,
        "ci_high": kl * 1.1,
        "agrees": 0.5,
        "baseline": 3.0,
        "gain": gain,
        "gain_low": gain - 0.5,
        "gain_high": gain + 0.5,
        "n_tokens": 120,
        "n_problems": 3,
    }
