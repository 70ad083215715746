"""Rows of influence for tests of pages, made by seeded code in the form in which a study has them."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder

N_LAYERS, N_HEADS, TOP = 3, 2, 4
PARTS = ("all", "layers 0-1", "head 1.0")
NOISE = 1e-6
CONVENTION = "sentence"
Rows = dict[str, list[dict[str, Any]]]


def add(folder: Path, *, only: Sequence[str] | None = None) -> Store:
    """Add rows of all tables of influence (or of those in `only`) to the study at `folder`, of every CoT with tokens
    and every model, and publish. Returns the store.
    """
    with closing(Store(folder)) as store:
        found = rows(read_chunks(store), store.models()["model_id"].tolist())
    kept = {table: own for table, own in found.items() if only is None or table in only}
    with StudyFolder(folder).writing("test") as writer:
        for table, own in kept.items():
            writer.add("influence", table, {table: own})
        publish(writer)
    return Store(folder)


def read_chunks(store: Store) -> dict[str, list[str]]:
    """Ids of the chunks of every CoT with tokens, in reading order."""
    found = store.frame(
        "SELECT cot_id, chunk_id FROM chunks WHERE token_start IS NOT NULL ORDER BY cot_id, chunk_index"
    )
    return {str(cot): own["chunk_id"].tolist() for cot, own in found.groupby("cot_id", sort=False)}


def rows(chunks: Mapping[str, Sequence[str]], models: Sequence[str]) -> Rows:
    """Influence falls with distance; the second model's is twice the first's. A pair in forty lies below the floor."""
    found: Rows = {
        name: []
        for name in (
            "influences",
            "chunk_influences",
            "chunk_attention",
            "head_attention",
            "receiver_heads",
            "receiver_reliability",
            "received_attention",
            "resampled_influences",
            "influence_agreement",
        )
    }
    for number, (model, own) in enumerate((model, own) for model in models for own in chunks.values()):
        _of_chain(found, own, model, 1 + models.index(model), np.random.default_rng(number))
    for number, own in enumerate(chunks.values()):
        _resampled(found, own, np.random.default_rng(1000 + number))
    for model in models:
        _of_heads(found, model, len(chunks))
        _agreement(found, model, len(chunks))
    return found


def _of_chain(found: Rows, chunks: Sequence[str], model: str, size: float, rng: np.random.Generator) -> None:
    pairs = list(combinations(range(len(chunks)), 2))
    for part in PARTS:
        scale = size * {"all": 1.0, "layers 0-1": 0.4, "head 1.0": 0.02}[part]
        kl = {
            (i, j): NOISE / 2 if rng.random() < 0.025 else float(scale * 0.2 / (j - i) * rng.lognormal(0, 1.0))
            for i, j in pairs
        }
        found["influences"] += [
            {
                "source_chunk_id": chunks[i],
                "target_chunk_id": chunks[j],
                "model_id": model,
                "suppressed": part,
                "kl": value,
                "log_kl": math.log(value + 1e-9) - 0.5,
                "n_tokens": 9,
            }
            for (i, j), value in kl.items()
        ]
        median = float(np.median(list(kl.values()))) if kl else 0.0
        for i, chunk in enumerate(chunks):
            out = [value for (source, _), value in kl.items() if source == i]
            back = [value for (_, target), value in kl.items() if target == i]
            far = [j - i for (source, j), value in kl.items() if source == i and value >= median]
            found["chunk_influences"].append(
                {
                    "chunk_id": chunk,
                    "model_id": model,
                    "suppressed": part,
                    "answer_kl": None if i == 2 else float(scale * 0.05 * rng.lognormal(0, 1)),
                    "n_answer": 0 if i == 2 else 3,
                    "noise": NOISE if out else None,
                    "out_influence": float(np.mean(out)) if out else None,
                    "in_influence": float(np.mean(back)) if back else None,
                    "last_reader": max(far, default=0) if out else None,
                    "n_later": len(out),
                    "n_earlier": len(back),
                }
            )
    for i, j in pairs:
        each = rng.uniform(0.2, 1.8, N_LAYERS * N_HEADS) * 0.02 / (j - i)
        pair = {"source_chunk_id": chunks[i], "target_chunk_id": chunks[j], "model_id": model}
        found["chunk_attention"].append(pair | {"attention": float(each.mean()), "n_source": 8, "n_target": 9})
        found["head_attention"].append(pair | {"by_head": each.astype(np.float32)})
    for rank in range(TOP):
        for i, chunk in enumerate(chunks):
            n_later = max(0, len(chunks) - i - 4)
            found["received_attention"].append(
                {
                    "chunk_id": chunk,
                    "model_id": model,
                    "layer": rank % N_LAYERS,
                    "head": rank // N_LAYERS,
                    "received": float(rng.exponential(0.01)) if n_later else None,
                    "n_later": n_later,
                }
            )


def _resampled(found: Rows, chunks: Sequence[str], rng: np.random.Generator) -> None:
    for i, j in combinations(range(len(chunks)), 2):
        if (i + j) % 3 == 2:  # no rollouts of both
            continue
        kept, replaced = (float(share) for share in rng.uniform(0, 1, 2))
        found["resampled_influences"].append(
            {
                "source_chunk_id": chunks[i],
                "target_chunk_id": chunks[j],
                "convention": CONVENTION,
                "kept": kept,
                "replaced": replaced,
                "effect": kept - replaced,
                "low": kept - replaced - 0.3,
                "high": kept - replaced + 0.3,
                "p": 0.2,
                "n_kept": 6,
                "n_replaced": 5,
            }
        )


def _of_heads(found: Rows, model: str, n_cots: int) -> None:
    for rank in range(N_LAYERS * N_HEADS):
        kurtosis = 12.0 / (rank + 1)
        found["receiver_heads"].append(
            {
                "model_id": model,
                "layer": rank % N_LAYERS,
                "head": rank // N_LAYERS,
                "kurtosis": kurtosis,
                "low": kurtosis - 1,
                "high": kurtosis + 1,
                "shuffled": 2.0,
                "shuffled_low": 1.0,
                "shuffled_high": 3.0,
                "placed": 2.5,
                "rank": rank + 1,
                "n_cots": n_cots,
                "n_problems": 3,
            }
        )
    for number in range(3):
        found["receiver_reliability"].append(
            {
                "model_id": model,
                "number": number,
                "spearman": 0.5 + number / 10,
                "shared": 2,
                "top": TOP,
                "by_chance": 1.5,
                "n_cots_a": n_cots // 2,
                "n_cots_b": n_cots - n_cots // 2,
            }
        )


def _agreement(found: Rows, model: str, n_cots: int) -> None:
    for number, (first, second) in enumerate(combinations(("suppression", "attention", "resampling"), 2)):
        found["influence_agreement"].append(
            {
                "model_id": model,
                "writer_id": "all",
                "first": first,
                "second": second,
                "spearman": 0.6 - number / 5,
                "low": 0.4 - number / 5,
                "high": 0.8 - number / 5,
                "at_distance": 0.2,
                "p": 0.001 if number == 0 else 0.4,
                "n_cots": n_cots,
                "n_problems": 3,
                "n_pairs": 90,
            }
        )
