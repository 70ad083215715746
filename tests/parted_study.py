"""Rows of where two models part, as made by hand: equal up to block 9, then further apart from layer to layer."""

from contextlib import closing
from pathlib import Path
from typing import Any

from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder

LAYERS, EQUAL_UP_TO = 30, 9
_AT_THE_LAST = {"relative_norm": 0.4, "cka": 0.9, "principal_angle": 30.0, "kl": 1.5, "kl_reverse": 1.25}
_CONTROL = {"relative_norm": 0.5, "cka": 0.8, "principal_angle": 20.0, "kl": 1.0, "kl_reverse": 1.0}
_NULL = {"relative_norm": 0.95, "cka": 0.0, "principal_angle": 83.6, "kl": 4.0, "kl_reverse": 4.0}
_SHARE = {"all": 1.0, "prompt": 0.5, "cot": 1.2}  # of what they differ by at all positions


def rows(base: str, distilled: str) -> list[dict[str, Any]]:
    return [
        _row(measure, positions, layer) | {"base_model_id": base, "distilled_model_id": distilled}
        for layer in range(LAYERS)
        for positions in _SHARE
        for measure in _AT_THE_LAST
    ]


def _row(measure: str, positions: str, layer: int) -> dict[str, Any]:
    at_the_last, same = _AT_THE_LAST[measure], 1.0 if measure == "cka" else 0.0
    apart = max(layer - EQUAL_UP_TO, 0) / (LAYERS - 1 - EQUAL_UP_TO) * _SHARE[positions]
    value = same + (at_the_last - same) * apart
    half = abs(value - same) / 20
    return dict.fromkeys(TABLES["divergence"].columns) | {
        "layer": layer,
        "positions": positions,
        "measure": measure,
        "value": value,
        "low": value - half,
        "high": min(value + half, 1.0) if measure == "cka" else value + half,
        "control": _CONTROL[measure],
        "n_control": 2000,
        "null": _NULL[measure],
        "null_sd": 0.01,
        "angles": [value / 2, value * 1.5] if measure == "principal_angle" else None,
        "n_tokens": 256 if measure.startswith("kl") else 2800,
        "n_problems": 17,
    }


def add(folder: Path) -> None:
    """To a study with a crosscoder, of its models."""
    with closing(Store(folder)) as store:
        pair = store.dictionaries().iloc[0]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("diverge", "all", {"divergence": rows(pair["base_model_id"], pair["distilled_model_id"])})
        publish(writer)
