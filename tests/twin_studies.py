"""A shipped study file with everything in it that takes long made small: tiny models, few problems, short texts.

Tables, kinds, prompts, positions and units stay as the file has them; names of models, files and corpora, layers and
sizes are what a twin changes, each said below.
"""

import copy
import gzip
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.root import ROOT

# by table: what is small in a twin where the file says anything about it
SMALL: Mapping[str, Mapping[str, Any]] = {
    "problems": {"limit": 2},
    "sampling": {"max_new_tokens": 32, "forced_max_tokens": 6},
    "rollouts": {"n": 2, "forced": 1, "cots": 1, "min_chunks": 1, "max_chunks": 400},
    "sweep": {"points": 5},
    "geometry": {"spectra": 1, "before_after": 1, "probes": 2, "n_bootstrap": 20, "n_permutations": 20},
    "random_steps": {"directions": 3},
    "crosscoder": {"n_features": 32, "steps": 8, "batch": 64, "ablation_targets": 4},
    "parallelograms": {"vocabulary": 64, "shuffles": 20, "sides": 64, "draws": 1, "components": [0, 2]},
    "diverge": {"tokens": 200, "lens_tokens": 16},
    "engine": {"workers": 1, "threads": 1, "rows": 16, "device": "cpu"},
    "latent": {"problems": 4, "means_from": 8, "random": 2},
    "cosines": {"pairs": 2, "links": 10},
}
_LAYERS = ("activations", "map", "sweep", "geometry", "random_steps")
TINY_LAYERS = 4  # of the tiny models


def shipped(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "studies" / f"{name}.toml").read_text(encoding="utf-8"))


def twin(name: str, models: Sequence[Path], files: Mapping[str, Any]) -> dict[str, Any]:
    """The study file `name`, small. `files` stand in for what it reads: `math`, `gsm8k`, `corpus` and `pairs`."""
    study = copy.deepcopy(shipped(name))
    depth = {"features-and-logits": 28, "decoding-r1": 28, "distilled-reasoning-14b": 48}.get(name, 28)
    for model, folder in zip(study.get("models", []), models, strict=False):
        model["name"] = str(folder)
    for table, settings in SMALL.items():
        if table in study:
            part = study[table]
            part.update({key: value for key, value in settings.items() if key in part or table not in ("crosscoder",)})
    for table in _LAYERS:
        if isinstance(study.get(table, {}).get("layers"), list):
            study[table]["layers"] = [_shallow(layer, depth) for layer in study[table]["layers"]]
    if "problems" in study:
        for source in ("math", "gsm8k"):
            if source in study["problems"]:
                study["problems"][source] = str(files[source])
        if "hardest" in study["problems"]:
            study["problems"]["hardest"] = 2
            del study["problems"]["limit"]
    if crosscoder := study.get("crosscoder"):
        crosscoder["layer"] = _shallow(crosscoder["layer"], depth)
        if "k" in crosscoder:
            crosscoder["k"] = 4
        if "tokens" in crosscoder:
            crosscoder.update(tokens=600, corpus=[str(folder) for folder in files["corpus"]], max_tokens=64)
    if "parallelograms" in study:
        study["parallelograms"]["pairs"] = str(files["pairs"])
        study["parallelograms"]["layers"] = [_shallow(13, depth)]
    return study


def _shallow(layer: int, depth: int) -> int:
    return (layer + 1) * TINY_LAYERS // depth - 1


def math_file(folder: Path) -> Path:
    """Problems as MATH has them, of levels 1 and 2."""
    records = [
        {
            "problem": f"What is {n} + {n + 3}?",
            "solution": f"It is $\\boxed{{{2 * n + 3}}}$.",
            "level": f"Level {1 + n % 2}",
            "type": "Algebra",
        }
        for n in range(12)
    ]
    file = folder / "math.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def gsm8k_file(folder: Path) -> Path:
    records = [
        {"question": f"Ann has {n} pears and buys {n + 2}. How many has she?", "answer": f"So many.\n#### {2 * n + 2}"}
        for n in range(8)
    ]
    file = folder / "gsm8k.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def corpora(folder: Path) -> tuple[Path, Path]:
    """Folders in the layouts of OpenThoughts-114k and of RedPajama's sample."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    thoughts, pajama = folder / "thoughts", folder / "pajama"
    (thoughts / "data").mkdir(parents=True)
    pajama.mkdir()
    turns = [
        {
            "system": "Think.",
            "conversations": [
                {"from": "user", "value": f"What is {n} + {n}?"},
                {"from": "assistant", "value": f"Wait, let me think. It is {2 * n}. Therefore {2 * n}."},
            ],
        }
        for n in range(20)
    ]
    pq.write_table(pa.Table.from_pylist(turns), thoughts / "data" / "train-00000-of-00001.parquet")
    with gzip.open(pajama / "wikipedia_sample.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps({"text": f"The number {n} comes after {n - 1}. " * 3}) for n in range(20)))
    return thoughts, pajama


def word_pairs(folder: Path, tokenizer: Any) -> Path:
    """A folder with a class of words that the model has as one token each."""
    from backend.models.word_contexts import vocabulary

    words, pairs = list(vocabulary(tokenizer, leading_space=True).values()), folder / "pairs"
    pairs.mkdir()
    rows = [{"input": words[2 * k], "output": words[2 * k + 1]} for k in range(6)]
    (pairs / "first.json").write_text(json.dumps(rows), encoding="utf-8")
    return pairs


def published(study: dict[str, Any], folder: Path, *, n_features: int = 24, d_model: int = 16) -> dict[str, Any]:
    """The study with every dictionary that it names written under `folder`, small, in the layout that it names."""
    draw = np.random.default_rng(0)
    for number, one in enumerate(study["cosines"]["published"]):
        own = folder / str(number)
        for file in one["files"]:
            path = own / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(
                path,
                W_enc=draw.standard_normal((d_model, n_features)).astype(np.float32),
                W_dec=draw.standard_normal((n_features, d_model)).astype(np.float32),
                b_enc=np.zeros(n_features, np.float32),
                b_dec=np.zeros(d_model, np.float32),
                threshold=np.ones(n_features, np.float32),
            )
        one.update(folder=str(own), n_features=n_features, d_model=d_model)
    return study
