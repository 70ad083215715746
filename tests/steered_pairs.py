"""Rows of anchors steered beside their matches, made by seeded code: what the page Causation needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from backend import ids
from backend.importance import matching
from backend.importance.steered_effects import effects_of_chunk
from backend.importance.steered_rollouts import ARMS, BEFORE, STARTS

N = 4


def rows(pairs: Sequence[tuple[dict, dict]], model_id: str, *, flips: float = 0.6) -> dict[str, list[dict[str, Any]]]:
    """Tables of these pairs of chunks, anchor first; steering flips the anchor's answer that often, and nothing else
    flips any. One sample was cut and forced, one never answered.
    """
    rng = np.random.default_rng(17)
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("causation_pairs", "causation_samples", "causation_effects")
    }
    for number, (anchor, match) in enumerate(pairs):
        pair_id = ids.stable_id("p", "causation", anchor["chunk_id"], match["chunk_id"])
        tables["causation_pairs"].append(_pair(pair_id, model_id, anchor["chunk_id"], match["chunk_id"], number))
        for role, chunk in (("anchor", anchor), ("match", match)):
            own = _samples(chunk["chunk_id"], rng, flips if role == "anchor" else 0.0)
            tables["causation_samples"] += [{"pair_id": pair_id, "role": role, **row} for row in own]
            effects = effects_of_chunk(pd.DataFrame(own), n_bootstrap=5, seed=number)
            about = {"pair_id": pair_id, "role": role, "chunk_id": chunk["chunk_id"]}
            tables["causation_effects"] += [about | effect for effect in effects]
    return tables


def _pair(pair_id: str, model_id: str, anchor: str, match: str, number: int) -> dict[str, Any]:
    return {
        "pair_id": pair_id,
        "model_id": model_id,
        "anchor_id": anchor,
        "match_id": match,
        "anchor_importance": 1.0 - number / 10,
        "match_importance": 0.05,
        "convention": "fl",
        "threshold": 0.2,
        "rule": matching.RULE,
        "same_cot": ids.cot_of(anchor) == ids.cot_of(match),
        "share_apart": 0.25,
        "length_ratio": 1.2,
        "kind": "per_chunk",
        "layer": 15,
        "place": "chunk",
        "unit": "rms",
        "beta": 10.0,
        "n": N,
        "n_random": 2,
        "seed": 7,
    }


def _samples(chunk_id: str, rng: np.random.Generator, flips: float) -> list[dict[str, Any]]:
    found = []
    for start in STARTS:
        said = rng.choice(["54", "84", "<b>54</b>"], N)
        for arm in ARMS:
            for sample in range(N):
                answer = "7" if arm == "steered" and rng.random() < flips else str(said[sample])
                silent, forced = (start, arm, sample) == ("before", "random", 0), (arm, sample) == ("random", 1)
                found.append(
                    {
                        "start": start,
                        "arm": arm,
                        "sample": sample,
                        "chunk_id": chunk_id,
                        "direction_id": None if arm == "base" else ids.stable_id("d", arm, chunk_id),
                        "seed": ids.seed_for(chunk_id, start, sample),
                        "text": f"So it is {answer}.",
                        "forced_text": "\n\nTherefore, the final answer is \\boxed{54}" if forced else None,
                        "resampled_chunk": f"So it is {answer}." if start == BEFORE else None,
                        "similarity": float(rng.uniform(0.5, 1)) if start == BEFORE else None,
                        "answer": None if silent else answer,
                        "answer_source": None if silent else "forced at the cap" if forced else "given",
                        "cluster": None if silent else answer,
                        "is_correct": None if silent else answer == "54",
                        "grader": "math-verify 0.9.0",
                        "finish": "cap" if silent or forced else "eos",
                        "n_tokens": 6 + sample,
                    }
                )
    return found
