"""A small study made by seeded code, for tests alone: the shape of a real one, with its NULLs, published from real unit
files.

Three problems, six CoTs (one imported, with published values and neither tokens nor rollouts), rollouts at every chunk
of the others, activations at two layers, maps, directions, KL curves, exact geometry with pairs of it and importance,
and kept live runs. Some texts are hostile on purpose: whatever a model wrote is only ever text.
"""

import json
import math
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backend import ids
from backend.importance.metric_registry import conventions_of
from backend.importance.outcomes import arm_summary, compare
from backend.schema.tables import TABLES
from backend.store.experiments import Experiments
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import steered_pairs
from tests.had_once import copied

LAYERS, WIDTH = (5, 15), 16
CATEGORIES = (
    "problem_setup",
    "plan_generation",
    "fact_retrieval",
    "active_computation",
    "uncertainty_management",
    "result_consolidation",
    "self_checking",
    "final_answer_emission",
    "unknown",
)
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> ",
    "![pixel](http://tracker.invalid/p.png) ",
    "<script>document.title='owned'</script> ",
    "$\\href{http://tracker.invalid/h}{x}$ <b>bold</b> ",
)
_SENTENCES = (
    "First, restate the question in my own words. ",
    "I will add the crates one day at a time. ",
    "A week has seven days. ",
    "Seven times twelve is eighty-four. ",
    "Wait, did I count Sunday twice? ",
    "So the total before sales is 84. ",
    "Checking: 84 − 30 = 54. ",
    "The answer is 54.\n\n",
    "Hmm. ",
)
_MODEL = ids.stable_id("m", "tiny")
_METRICS = (
    "counterfactual_accuracy",
    "different_trajectories_fraction",
    "overdeterminedness",
    "resampling_importance_accuracy",
    "forced_importance_accuracy",
    "counterfactual_importance_accuracy",
    "resampling_importance_kl",
    "counterfactual_importance_kl",
    "forced_importance_kl",
)
_METRIC_CONVENTIONS = {name: conventions_of(name) for name in _METRICS}


@copied
def make(
    folder: Path, *, rollouts: bool = True, activations: bool = True, steering: bool = True, geometry: bool = True
) -> Path:
    """Write and publish the study at `folder`; the flags leave out later stages, as in a study that is still running.

    Geometry comes after all others, so it is left out with any of them.
    """
    rng = np.random.default_rng(7)
    with StudyFolder(folder).writing("test") as writer:
        writer.add("runs", "all", {"runs": [_run()], "models": [_model()]})
        problems = [problem(k) for k in range(3)]
        writer.add("problems", "all", {"problems": problems})
        cots, chunks = [], []
        for number, its_problem in enumerate(problems):
            for sample in range(2):
                cot, its_chunks = _cot(its_problem, number, sample, imported=(number, sample) == (2, 1))
                cots.append(cot)
                chunks.append(its_chunks)
        writer.add(
            "cots",
            "all",
            {"cots": cots, "problem_accuracy": [_accuracy(p, n) for p, n in zip(problems, (1, 2, 0), strict=True)]},
        )
        writer.add(
            "chunks", "all", {"chunks": list(chain(*chunks)), "categories": _categories(list(chain(*chunks)), rng)}
        )
        sampled = [its for cot, its in zip(cots, chunks, strict=True) if cot["token_ids"] is not None]
        if rollouts:
            for its_chunks in sampled:
                rows = [row for chunk in its_chunks for row in _rollouts(chunk, rng)]
                writer.add("rollouts", its_chunks[0]["cot_id"], {"rollouts": rows, "answer_clusters": _clusters(rows)})
            writer.add(
                "importance",
                "all",
                {
                    "importance": [row for its in sampled for row in _importance(its, rng)]
                    + _published(chunks[-1], rng),
                    "step_importance": _steps(chunks[-1]),
                },
            )
        if activations:
            _add_activations(writer, list(chain(*sampled)), rng)
        if steering:
            _add_steering(writer, list(chain(*sampled)), rng)
            for experiment, samples in experiments(cots[0], chunks[0]):
                Experiments(folder).keep(experiment, samples)
        if rollouts and activations and steering and geometry:
            _add_geometry(writer, sampled)
        publish(writer)
    return folder


def add_training(folder: Path) -> str:
    """Add a training of the study's model to the study at `folder`, and publish; returns its id.

    The loss of step 3 is unknown.
    """
    training_id, n_steps = ids.stable_id("t", 1), 60
    run = {
        "training_id": training_id,
        "model_id": _MODEL,
        "kind": "lora",
        "base": f"embedded:Base {HOSTILE[1]}",
        "started_at": datetime(2026, 1, 2, 3, 4, 5),
        "seconds": 11_100.0,
        "seed": 20_000,
        "parameters": json.dumps(
            {"n_examples": 4000, "recipe": {"seed": 20_000, "rank": 16, "learning_rate": 1e-3, "note": HOSTILE[0]}}
        ),
        "n_tokens": 120_000,
        "n_weights": 2_442_240,
        "versions": json.dumps({"torch": "2.13.0"}),
        "commit": None,
    }
    values = {"loss": lambda step: None if step == 3 else 0.5 + 2 / step, "learning_rate": lambda step: 1e-3 / step}
    metrics = [
        {"training_id": training_id, "metric": metric, "step": step, "tokens": 2000 * step, "value": value(step)}
        for metric, value in values.items()
        for step in range(n_steps, 0, -1)
    ]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("training", "all", {"training_runs": [run], "training_metrics": metrics})
        publish(writer)
    return training_id


def add_prompts(folder: Path, *, cells: tuple[tuple[str, str], ...]) -> None:
    """Add four problems with two CoTs each for every cell (name of a model, prompt) to the study at `folder`, and
    publish.

    `reasoner` solves what `base` does and, under the prompt `steps`, one problem more.
    """
    roles = {"base": "base", "reasoner": "distilled"}
    models = {
        name: _model() | {"model_id": ids.stable_id("m", name), "name": f"embedded:{name}", "role": roles[name]}
        for name, _ in cells
    }
    problems = [problem(k) for k in range(4, 8)]
    rows: dict[str, list[dict[str, Any]]] = {
        "models": list(models.values()),
        "problems": problems,
        "cots": [],
        "prompts": [],
    }
    for name, prompt in cells:
        model_id, n_solved = models[name]["model_id"], 2 + (name == "reasoner" and prompt == "steps")
        rows["prompts"].append(
            {
                "prompt_name": prompt,
                "model_id": model_id,
                "text": f"{HOSTILE[0]}{{question}}",
                "system": None,
                "worked": False,
                "manner": "template" if name == "reasoner" else "none",
                "settings": "{}",
                "wording": "{}",
            }
        )
        for number, its_problem in enumerate(problems):
            for sample in range(2):
                cot, _ = _cot(its_problem, number, sample, imported=False)
                own = {
                    "cot_id": ids.stable_id("c", name, prompt, number, sample),
                    "model_id": model_id,
                    "prompt_name": prompt,
                    "answer": "54",
                    "answer_source": "forced" if sample else "given",
                    "is_correct": number < n_solved,
                }
                rows["cots"].append(cot | own)
    with StudyFolder(folder).writing("test") as writer:
        writer.add("prompted", "all", rows)
        publish(writer)


def add_capped(folder: Path) -> str:
    """Of the first CoT's first chunk two more rollouts, cut at the token cap: one was then made to answer, wrongly, the
    other gave no answer even so. Its importance without the forced answer is another. Returns the chunk's id.
    """
    with closing(Store(folder)) as store:
        row = store.arrow("SELECT * FROM rollouts WHERE kind = 'resample' ORDER BY rollout_id LIMIT 1").to_pylist()[0]
        cot = row["cot_id"]
        own = store.arrow(
            "SELECT i.* FROM importance i JOIN chunks USING (chunk_id) WHERE cot_id = $c", c=cot
        ).to_pylist()
    unanswered = {"answer": None, "is_correct": None, "finish": "cap"}
    cut = [
        row
        | unanswered
        | {"rollout_id": ids.rollout_id(row["chunk_id"], "resample", number), "sample": number, "seed": number}
        for number in (6, 7)
    ]
    forced = [
        {
            "rollout_id": one["rollout_id"],
            "chunk_id": one["chunk_id"],
            "cot_id": cot,
            "seed": 9,
            "text": f"So the answer is {HOSTILE[0]}",
            "answer": answer,
            "answer_source": answer and "forced at the cap",
            "is_correct": None if answer is None else False,
            "grader": "math-verify 0.9.0",
            "finish": "eos",
            "n_tokens": 3,
            "as_sampled": True,
        }
        for one, answer in zip(cut, ("7", None), strict=True)
    ]
    given = [one | {"value": one["value"] and one["value"] / 2, "n": one["n"] - 1} for one in own]
    with StudyFolder(folder).writing("test") as writer:
        writer.add("rollouts", "cut", {"rollouts": cut})
        writer.add("capped_answers", "all", {"capped_answers": forced})
        writer.add("importance", "given", {"importance_given": given})
        publish(writer)
    return str(row["chunk_id"])


@copied
def make_imported(folder: Path) -> Path:
    """One published CoT: text, tags, published importance and step importance; no tokens, no rollouts."""
    rng = np.random.default_rng(8)
    its_problem = problem(2)
    cot, chunks = _cot(its_problem, 2, 1, imported=True)
    model = _model() | {"revision": None, "dtype": None, "n_layers": None, "d_model": None}
    with StudyFolder(folder).writing("test") as writer:
        tables = {"runs": [_run()], "models": [model], "problems": [its_problem], "cots": [cot], "chunks": chunks}
        tables |= {
            "categories": _categories(chunks, rng),
            "importance": _published(chunks, rng),
            "step_importance": _steps(chunks),
        }
        writer.add("import", "all", tables)
        publish(writer)
    return folder


def _run() -> dict[str, Any]:
    return {
        "run_id": ids.stable_id("r", 1),
        "command": "run",
        "study": "small",
        "started_at": datetime(2026, 1, 2, 3, 4, 5),
        "seed": 1,
        "parameters": json.dumps({"name": "small", "seed": 1}),
        "versions": json.dumps({"python": "3.11", "schema": 1}),
        "commit": "0123abcd",
        "warnings": ["problem_330: step_importance.json is missing <b>here</b>"],
    }


def _model() -> dict[str, Any]:
    return {
        "model_id": _MODEL,
        "name": "embedded:Tiny",
        "role": "model",
        "revision": "a" * 40,
        "dtype": "float32",
        "family": "llama",
        "n_layers": 30,
        "d_model": WIDTH,
        "vocab_size": 99,
    }


def problem(k: int) -> dict[str, Any]:
    return {
        "problem_id": ids.stable_id("p", k),
        "source": ("generator", "generator", "thought-anchors")[k % 3],
        "source_key": f"problem_{k}",
        "level": (1, 3, None)[k % 3],
        "difficulty": None,
        "question": f"How many crates are left after {k + 5} days? {HOSTILE[0] if k == 2 else ''}",
        "answer": "54",
        "solution": None,
    }


def _cot(problem: dict, number: int, sample: int, *, imported: bool) -> tuple[dict, list[dict]]:
    cot_id = ids.stable_id("c", number, sample)
    texts = [_SENTENCES[(k * (sample + 2) + number) % len(_SENTENCES)] for k in range(7 + number + sample)]
    texts[1:1] = HOSTILE if (number, sample) == (0, 1) else ()
    text, n_prompt = "".join(texts), 11
    chunks, char, token = [], 0, n_prompt
    for index, piece in enumerate(texts):
        n_tokens = len(piece.split()) + 1
        chunks.append(
            {
                "chunk_id": ids.chunk_id(cot_id, index),
                "cot_id": cot_id,
                "chunk_index": index,
                "char_start": char,
                "char_end": char + len(piece),
                "text": piece,
                "token_start": None if imported else token,
                "token_end": None if imported else token + n_tokens,
            }
        )
        char, token = char + len(piece), token + n_tokens
    unanswered = (number, sample) == (1, 1)
    cot = {
        "cot_id": cot_id,
        "problem_id": problem["problem_id"],
        "model_id": _MODEL,
        "run_id": ids.stable_id("r", 1),
        "prompt_name": "published" if imported else "boxed",
        "sample": sample,
        "seed": None if imported else 3,
        "prompt": problem["question"],
        "think_close": None if sample else "</think>",
        "text": text,
        "after_text": None if sample else "The answer is 54.",
        "token_ids": None if imported else list(range(token)),
        "n_prompt_tokens": n_prompt,
        "n_tokens": token - n_prompt,
        "finish": None if imported else ("cap" if unanswered else "eos"),
        "answer": None if unanswered else ("54", "1,000")[sample],
        "answer_source": None if unanswered else ("published" if imported else "given"),
        "is_correct": None if unanswered else sample == 0,
        "grader": "math-verify 0.9.0",
    }
    return cot, chunks


def _accuracy(problem: dict, correct: int) -> dict[str, Any]:
    return {
        "problem_id": problem["problem_id"],
        "model_id": _MODEL,
        "prompt_name": "boxed",
        "n": 2,
        "n_correct": correct,
        "accuracy": correct / 2,
        "ci_low": 0.1,
        "ci_high": 0.9,
        "candidate": correct == 1,
    }


def _categories(chunks: list[dict], rng: np.random.Generator) -> list[dict]:
    rows = []
    for chunk in chunks:
        first, second = rng.choice(CATEGORIES, 2, replace=False)
        rows.append(
            {"chunk_id": chunk["chunk_id"], "source": "classifier 1", "rank": 0, "category": first, "score": 0.7}
        )
        rows.append(
            {"chunk_id": chunk["chunk_id"], "source": "classifier 1", "rank": 1, "category": second, "score": 0.2}
        )
        if chunk["token_start"] is None:
            rows.append(
                {"chunk_id": chunk["chunk_id"], "source": "published", "rank": 0, "category": second, "score": None}
            )
    return rows


def _rollouts(chunk: dict, rng: np.random.Generator) -> list[dict]:
    rows = []
    for sample in range(6):
        answer = (None, "54", "54.0", "84", "1,000", "54")[(sample + chunk["chunk_index"]) % 6]
        resampled = (_SENTENCES[int(rng.integers(9))], HOSTILE[1])[sample == 5]
        rows.append(
            {
                "rollout_id": ids.rollout_id(chunk["chunk_id"], "resample", sample),
                "chunk_id": chunk["chunk_id"],
                "cot_id": chunk["cot_id"],
                "kind": "resample",
                "sample": sample,
                "seed": sample,
                "text": resampled + "And so on.",
                "resampled_chunk": resampled,
                "similarity": (None, 0.95, 0.8, 0.79, 0.3, 0.1)[sample],
                "answer": answer,
                "is_correct": None if answer is None else answer.startswith("54"),
                "grader": "math-verify 0.9.0",
                "finish": "eos",
                "n_tokens": 20,
                "n_kept": None,
                "departing_chunk": None,
                "departing_similarity": None,
            }
        )
    return rows


def _clusters(rows: list[dict]) -> list[dict]:
    answers = [row["answer"] for row in rows if row["answer"] is not None]
    return [
        {
            "cot_id": rows[0]["cot_id"],
            "answer": answer,
            "cluster": "54" if answer.startswith("54") else answer,
            "n": answers.count(answer),
            "grader": "math-verify 0.9.0",
        }
        for answer in sorted(set(answers))
    ]


def _importance(chunks: list[dict], rng: np.random.Generator) -> list[dict]:
    rows = []
    for chunk in chunks:
        last = chunk is chunks[-1]
        for metric, conventions in _METRIC_CONVENTIONS.items():
            for convention in conventions:
                compared = "importance" in metric
                value = None if (compared and last) else 0.0 if rng.random() < 0.3 else float(rng.exponential(0.3))
                value = value if value is None or compared else min(value, 1.0)
                interval = value is not None and metric != "overdeterminedness"
                rows.append(
                    {
                        "chunk_id": chunk["chunk_id"],
                        "metric": metric,
                        "convention": convention,
                        "value": value,
                        "ci_low": max(0.0, value - 0.1) if interval else None,
                        "ci_high": value + 0.2 if interval else None,
                        "n": 6,
                        "n_comparator": (0 if last else 8) if compared else None,
                        "p": None,
                        "written": None,
                        "reason": None,
                    }
                )
    return rows


def add_divergence(study: Path, rows: Sequence[tuple[int, float, float]]) -> list[str]:
    """Counterfactual importance (JSD) of chunks: number in the order of ids, value and p. The ids of all chunks."""
    with closing(Store(study)) as store:
        chunks = store.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id")["chunk_id"].tolist()
    names = {"metric": "counterfactual_importance_jsd", "convention": "jsd", "n": 20, "n_comparator": 20}
    blank = dict.fromkeys(TABLES["importance"].columns) | names
    made = [
        blank | {"chunk_id": chunks[number], "value": value, "ci_low": value - 0.1, "ci_high": value + 0.2, "p": p}
        for number, value, p in rows
    ]
    with StudyFolder(study).writing("test") as writer:
        writer.add("importance", "divergence", {"importance": made})
        publish(writer)
    return chunks


def _published(chunks: list[dict], rng: np.random.Generator) -> list[dict]:
    return [
        {
            "chunk_id": chunk["chunk_id"],
            "metric": "counterfactual_importance_kl",
            "convention": "published",
            "value": float(rng.exponential(9.0)),
            "ci_low": None,
            "ci_high": None,
            "n": None,
            "n_comparator": None,
            "p": None,
            "written": None,
            "reason": None,
        }
        for chunk in chunks
    ]


def _steps(chunks: list[dict]) -> list[dict]:
    return [
        {
            "source_chunk_id": a["chunk_id"],
            "target_chunk_id": b["chunk_id"],
            "convention": "published",
            "value": 1 / (1 + b["chunk_index"] - a["chunk_index"]),
        }
        for a in chunks
        for b in chunks
        if a["chunk_index"] < b["chunk_index"]
    ]


def _add_activations(writer: Any, chunks: list[dict], rng: np.random.Generator) -> None:
    activations, projections, maps = [], [], []
    for layer in LAYERS:
        vectors = rng.standard_normal((len(chunks), WIDTH)).astype(np.float32)
        for chunk, vector in zip(chunks, vectors, strict=True):
            activations.append(
                {
                    "chunk_id": chunk["chunk_id"],
                    "model_id": _MODEL,
                    "layer": layer,
                    "vector": vector,
                    "rms": float(np.sqrt((vector**2).mean())),
                    "n_tokens": chunk["token_end"] - chunk["token_start"],
                }
            )
            for method in ("umap_2d", "umap_3d", "pca_3d"):
                projections.append(
                    {
                        "chunk_id": chunk["chunk_id"],
                        "model_id": _MODEL,
                        "layer": layer,
                        "method": method,
                        "x": float(vector[0]),
                        "y": float(vector[1]),
                        "z": None if method == "umap_2d" else float(vector[2]),
                    }
                )
        maps += [
            {
                "model_id": _MODEL,
                "layer": layer,
                "method": method,
                "n": len(chunks),
                "seed": 1,
                "parameters": json.dumps({"n_neighbors": 15, "min_dist": 0.1}),
                "trustworthiness": 0.9,
                "explained_variance": [0.3, 0.2, 0.1] if method == "pca_3d" else None,
            }
            for method in ("umap_2d", "umap_3d", "pca_3d")
        ]
    writer.add("activations", "all", {"activations": activations})
    writer.add("map", "all", {"maps": maps, "projections": projections})


def _add_steering(writer: Any, chunks: list[dict], rng: np.random.Generator) -> None:
    directions, curves, fits = [], [], []
    betas = np.linspace(-10, 10, 21)

    def direction(kind: str, *key: Any, chunk: str | None = None, seed: int | None = None) -> str:
        vector = rng.standard_normal(WIDTH).astype(np.float32)
        name = ids.stable_id("d", kind, *key)
        directions.append(
            {
                "direction_id": name,
                "kind": kind,
                "model_id": _MODEL,
                "layer": LAYERS[1],
                "chunk_id": chunk,
                "norm": 2.0,
                "vector": vector / np.linalg.norm(vector),
                "seed": seed,
                "parameters": "{}",
            }
        )
        return name

    shared = [("diff_in_means", direction("diff_in_means", 0))] + [
        ("random", direction("random", k, seed=k)) for k in range(2)
    ]
    for number, chunk in enumerate(chunks):
        own = [
            (kind, direction(kind, chunk["chunk_id"], chunk=chunk["chunk_id"])) for kind in ("per_chunk", "centered")
        ]
        for position in ("anchor", "chunk"):
            for kind, name in own + shared:
                silent = number % 9 == 4
                a = 1e-9 if silent else float(rng.exponential(0.002))
                kl = a * betas**2 + (0 if silent else 1e-3)
                curve = {
                    "curve_id": ids.stable_id("k", chunk["chunk_id"], name, position),
                    "chunk_id": chunk["chunk_id"],
                    "direction_id": name,
                    "kind": kind,
                    "model_id": _MODEL,
                    "layer": LAYERS[1],
                    "position": position,
                    "unit": "rms",
                }
                curves.append(curve | {"betas": betas.tolist(), "kl": kl.tolist(), "noise_floor": 1e-6, "n_tokens": 5})
                fits.append(
                    curve
                    | {
                        "steepness": None if number % 11 == 6 else a,
                        "r2": 0.99,
                        "amplitude": a,
                        "amplitude_r2": 0.98,
                        "n_betas": 3 if number % 11 == 6 else 21,
                        "below_floor": silent,
                    }
                )
    assert all(math.isfinite(value) for row in curves for value in row["kl"])
    writer.add("sweep", "all", {"directions": directions, "kl_curves": curves, "steepness": fits})


def _add_geometry(writer: Any, chunks_by_cot: list[list[dict]]) -> None:
    """Rows of the exact geometry at LAYERS[1], of the clouds at both layers, and of some pairs. Steering just before
    and after a chunk is known in the first CoT alone, eigenvalues and finite steps at every third chunk; one cloud is
    too small, one entropy unknown.
    """
    rng, chunks = np.random.default_rng(11), list(chain(*chunks_by_cot))
    about = {"model_id": _MODEL, "layer": LAYERS[1], "unit": "rms"}
    fisher, local, clouds, steered = [], [], [], []
    shared = [("diff_in_means", ids.stable_id("d", "diff_in_means", 0))] + [
        ("random", ids.stable_id("d", "random", k)) for k in range(2)
    ]
    for number, chunk in enumerate(chunks):
        here, n_tokens = {"chunk_id": chunk["chunk_id"]}, chunk["token_end"] - chunk["token_start"]
        own = [(kind, ids.stable_id("d", kind, chunk["chunk_id"])) for kind in ("per_chunk", "centered")]
        for position in ("anchor", "chunk"):
            for kind, name in own + shared:
                fisher.append(
                    here
                    | about
                    | {
                        "curve_id": ids.stable_id("k", chunk["chunk_id"], name, position),
                        "direction_id": name,
                        "kind": kind,
                        "position": position,
                        "fisher_steepness": float(rng.exponential(0.003)),
                        "n_tokens": n_tokens,
                    }
                )
            local.append(here | about | {"position": position, "n_tokens": n_tokens} | _of_g(number, rng))
        for layer in LAYERS:
            small = number == 7
            twonn, mle, curvature = (
                None if small else float(rng.uniform(*between)) for between in ((4, 9), (4, 9), (0.3, 1.2))
            )
            clouds.append(
                here
                | {
                    "model_id": _MODEL,
                    "layer": layer,
                    "k": 5 if small else 30,
                    "n": len(chunks),
                    "dimension_twonn": twonn,
                    "dimension_mle": mle,
                    "curvature": curvature,
                    "density": float(rng.normal()),
                    "residual_norm": float(rng.uniform(3, 5)),
                }
            )
    for number, chunk in enumerate(chunks_by_cot[0]):
        is_last = number == len(chunks_by_cot[0]) - 1
        for name in (ids.stable_id("d", "per_chunk", chunk["chunk_id"]), *(name for _, name in shared)):
            for side, size in (("before", 0.002), ("after", 0.001)):
                steered += [
                    {
                        "chunk_id": chunk["chunk_id"],
                        "direction_id": name,
                        **about,
                        "side": side,
                        "beta": float(beta),
                        "kl_rest": None if is_last else size * beta**2,
                        "n_rest": 0 if is_last else 20 - number,
                        "kl_answer": size * beta**2 / 2,
                        "n_answer": 3,
                        "noise_floor": None if is_last else 1e-6,
                    }
                    for beta in range(-10, 11, 2)
                ]
    writer.add("neighbourhoods", "all", {"neighbourhoods": clouds})
    writer.add("geometry", "all", {"fisher": fisher, "local_geometry": local})
    writer.add("before_after", "all", {"before_after": steered})
    writer.add("random_steps", "all", {"random_steps": [_random_steps(n, chunk) for n, chunk in enumerate(chunks)]})
    writer.add("anchors", "all", _anchors(chunks_by_cot, np.random.default_rng(13)))
    writer.add("evidence", "all", {"associations": _pairs(len(chunks), len(chunks_by_cot), rng)})
    pairs = [(own[3], own[1]) for own in chunks_by_cot]
    writer.add("causation", "all", steered_pairs.rows(pairs, _MODEL))


def _anchors(chunks_by_cot: list[list[dict]], rng: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    """In every CoT its second chunk is an anchor at LAYERS[1] and its third the match, but in the second CoT, whose
    anchor has none, and in the third, whose match has no direction.
    """
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("directions", "counterfactuals", "anchor_steering", "anchor_attention")
    }
    about = {"model_id": _MODEL, "layer": LAYERS[1]}
    for number, chunks in enumerate(chunks_by_cot):
        pair = [chunk["chunk_id"] for chunk in chunks[1:3]]
        for chunk, other, is_anchor in ((pair[0], pair[1], True), (pair[1], pair[0], False)):
            if number == 1 and not is_anchor:
                continue
            is_lost, name = number == 2 and not is_anchor, ids.stable_id("d", "counterfactual", chunk)
            vector = rng.normal(size=WIDTH)
            if not is_lost:
                found["directions"].append(
                    about
                    | {
                        "direction_id": name,
                        "kind": "counterfactual",
                        "chunk_id": chunk,
                        "norm": 2.0,
                        "vector": (vector / np.linalg.norm(vector)).astype(np.float32),
                        "seed": None,
                        "parameters": json.dumps({"n_rollouts": 7}),
                    }
                )
                found["anchor_steering"] += _steered_anchor(chunk, name, len(chunks), is_anchor, rng)
                found["anchor_attention"] += _attention(chunk, rng)
            found["counterfactuals"].append(
                about
                | {
                    "chunk_id": chunk,
                    "direction_id": None if is_lost else name,
                    "norm": None if is_lost else 2.0,
                    "activation_norm": 4.0,
                    "cosine": 0.8,
                    "n_rollouts": 7,
                    "n_texts": 4,
                    "is_anchor": is_anchor,
                    "matched_chunk_id": None if number == 1 else other,
                    "importance": 0.4 if is_anchor else 0.05,
                    "convention": "fl",
                    "threshold": 0.2,
                    "noise_floor": 1e-9,
                    "why_not": "its vector is zero and points nowhere" if is_lost else None,
                }
            )
    return found


def _steered_anchor(
    chunk: str, name: str, n_chunks: int, is_anchor: bool, rng: np.random.Generator
) -> list[dict[str, Any]]:
    index = ids.chunk_index(chunk)
    arms = [
        (arm, number, place, beta)
        for arm, n in (("counterfactual", 1), ("random", 2))
        for number in range(n)
        for place in (index, index + 1)
        for beta in (-1.0, -0.5, 0.0)
    ]
    if is_anchor:
        arms += [
            (arm, number, place, -1.0)
            for arm in ("alternative", "random_alternative")
            for number in range(2)
            for place in range(n_chunks + 1)
        ]
    rows = []
    for arm, number, place, beta in arms:
        size = 0.02 if "random" not in arm and place <= index else 0.005
        kl, is_end = float(size * beta**2 * rng.uniform(0.8, 1.2)), place == n_chunks
        rows.append(
            {
                "chunk_id": chunk,
                "model_id": _MODEL,
                "layer": LAYERS[1],
                "arm": arm,
                "number": number,
                "place": place,
                "beta": beta,
                "direction_id": name,
                "norm": 2.0,
                "kl_rest": None if is_end else kl,
                "n_rest": 0 if is_end else 9,
                "kl_answer": None,
                "n_answer": 0,
            }
        )
    return rows


def _attention(chunk: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    sides = [("none", "unsteered")] + [
        (side, arm) for side in ("before", "after") for arm in ("counterfactual", "random")
    ]
    rows = []
    for side, arm in sides:
        by_layer = rng.uniform(0.05, 0.2, size=3)
        rows.append(
            {
                "chunk_id": chunk,
                "model_id": _MODEL,
                "layer": LAYERS[1],
                "side": side,
                "arm": arm,
                "number": 0,
                "attention": float(by_layer.mean()),
                "by_layer": by_layer.tolist(),
                "n_keys": 6,
                "n_queries": 30,
            }
        )
    return rows


def _of_g(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """What is known of G at a chunk without a direction: all of it at every third chunk."""
    trace = float(rng.exponential(0.002))
    row = {
        "isotropic_steepness": trace,
        "isotropic_se": trace / 5,
        "n_probes": 8,
        "on_manifold_steepness": 4 * trace,
        "off_manifold_steepness": None if number == 7 else trace / 2,
        "n_tangents": None if number == 7 else 4,
        "entropy": None if number == 5 else float(rng.uniform(0.2, 2)),
        "seed": number,
    }
    spectral = {
        "eigenvalues": [trace * 2.0**-k for k in range(4)],
        "eigen_residual": 1e-4,
        "participation_ratio": float(rng.uniform(2, 9)),
        "participation_se": 0.3,
        "epsilons": [0.1, 1.0, 10.0],
        "random_kl": [trace * size**2 for size in (0.1, 1.0, 10.0)],
        "random_cv": [None, 0.4, 0.5],
        "n_random": 16,
        "anisotropy_ratio": None if number % 2 else float(rng.uniform(2, 20)),
        "n_below_floor": number % 2,
        "noise_floor": 1e-6,
    }
    return row | (spectral if number % 3 == 0 else dict.fromkeys(spectral))


def _random_steps(number: int, chunk: dict[str, Any]) -> dict[str, Any]:
    """Finite steps at the anchor, at every chunk: along each direction a multiple of the square; every fifth chunk has
    one at the noise floor.
    """
    rng, floor, epsilons = np.random.default_rng(number), 1e-6, (0.1, 1.0, 10.0)
    kl_at_1 = 0.002 * rng.gamma(6, size=16) / 6
    if number % 5 == 0:
        kl_at_1[3] = floor / 2
    below = int((kl_at_1 <= floor).sum())
    return {
        "chunk_id": chunk["chunk_id"],
        "model_id": _MODEL,
        "layer": LAYERS[1],
        "position": "anchor",
        "unit": "rms",
        "epsilons": list(epsilons),
        "random_kl": [float(kl_at_1.mean()) * size**2 for size in epsilons],
        "random_cv": [float(kl_at_1.std(ddof=1) / kl_at_1.mean())] * len(epsilons),
        "kl_at_1": kl_at_1.tolist(),
        "n_random": len(kl_at_1),
        "n_below_floor": below,
        "anisotropy_ratio": None if below else float(kl_at_1.max() / kl_at_1.min()),
        "noise_floor": floor,
        "n_tokens": chunk["token_end"] - chunk["token_start"],
        "seed": number,
    }


def _pairs(n: int, n_cots: int, rng: np.random.Generator) -> list[dict]:
    """Rows of `associations` with numbers that nobody computed: one law that q lets stand, one that it does not, and
    pairs without any.
    """
    columns = [
        ("steepness", "per_chunk", "anchor"),
        ("fisher_steepness", "random", "anchor"),
        ("isotropic_steepness", "none", "chunk"),
    ]
    rows = []
    for x, kind, position in columns:
        for metric in ("counterfactual_importance_kl", "resampling_importance_kl"):
            for subset in ("all", "away_from_origin"):
                planted = x == "fisher_steepness" and metric.startswith("counterfactual")
                rho, p = rng.uniform(-0.2, 0.2), 0.5
                if planted:
                    rho, p = (-0.6, 0.0005) if subset == "all" else (-0.4, 0.009)
                rows.append(
                    {
                        "x": x,
                        "kind": kind,
                        "model_id": _MODEL,
                        "layer": LAYERS[1],
                        "position": position,
                        "unit": "rms",
                        "metric": metric,
                        "convention": "ta",
                        "subset": subset,
                        "n": n - n_cots,
                        "n_cots": n_cots,
                        "n_problems": 6,
                        "n_missing": n_cots,
                        "n_zero_x": 0,
                        "n_zero_y": 9,
                        "within": rho,
                        "within_low": rho - 0.15,
                        "within_high": rho + 0.15,
                        "within_null_low": -0.3,
                        "within_null_high": 0.3,
                        "p": p,
                        "p_problems": p,
                        "spearman": -rho / 2,
                        "ci_low": -rho / 2 - 0.15,
                        "ci_high": -rho / 2 + 0.15,
                        "null_low": -0.25,
                        "null_high": 0.25,
                        "kendall": rho * 0.7,
                        "kendall_low": rho * 0.7 - 0.1,
                        "kendall_high": rho * 0.7 + 0.1,
                        "partial": rho * 0.9,
                        "partial_p": p,
                        "partial_p_problems": p,
                        "covariates": ["n_tokens", "place", "residual_norm", "entropy"],
                        "verdict": "inverse" if planted else "none",
                        "details": json.dumps(_details(n - n_cots, rho)),
                        "n_planted": 200 if subset == "all" else 0,
                        "planted_rho": [-0.15, -0.25, -0.4] if subset == "all" else [],
                        "planted_found": [0.3, 0.93, 1.0] if subset == "all" else [],
                        "planted_p": [1.0, 0.004, 0.001] if subset == "all" else [],
                        "n_bootstrap": 200,
                        "n_permutations": 2000,
                        "seed": 1,
                    }
                )
    return rows


def _details(n: int, rho: float) -> dict[str, Any]:
    """Unknown numbers are null, as everywhere."""
    curves = {"constant": ["c"], "linear": ["intercept", "slope"], "inverse": ["A", "x0", "c"]}
    fits = [
        {
            "rows": "all",
            "n": n,
            "curve": curve,
            "parameters": dict.fromkeys(names, 0.1),
            "aic": -100.0 - len(names),
            "r2": 0.1 * len(names),
            "cv_r2": 0.0 if curve == "constant" else 0.05 * len(names),
        }
        for curve, names in curves.items()
    ]
    zero = {
        "n_positive": n - 9,
        "n_negative": 0,
        "auc": 0.5 + rho / 4,
        "auc_low": 0.3,
        "auc_high": 0.7,
        "auc_p": 0.3,
        "auc_null_mean": 0.5,
        "positive_spearman": rho,
        "positive_low": rho - 0.2,
        "positive_high": rho + 0.2,
        "positive_p": 0.2,
        "positive_null_mean": 0.0,
    }
    slope = {"slope": rho, "low": rho - 0.2, "high": rho + 0.2}
    mixed = slope | {"p": 0.1, "problem_share": None, "note": "problems do not differ"}
    theil_sen = slope | {"intercept": 0.2}
    found = {"zero_inflated": zero, "fits": fits, "theil_sen": theil_sen, "mixed": mixed}
    return {"null_mean": -0.01, "partial": {"n": n - 1}, "power_note": "", **found, "notes": []}


def experiments(cot: dict, chunks: list[dict]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Kept live runs, oldest first, each with its samples: a stream and n continuations at the CoT's third chunk, and a
    typed text that was stopped, of which almost everything is unknown.
    """
    vector = np.eye(WIDTH, dtype=np.float32)[3]
    steered = {
        "cot_id": cot["cot_id"],
        "chunk_id": chunks[2]["chunk_id"],
        "model_id": _MODEL,
        "model": "embedded:Tiny",
        "written_by": "embedded:Tiny",
        "layers": [LAYERS[1]],
        "place": "chunk",
        "operation": "add",
        "beta": 4.0,
        "unit": "rms",
        "direction_kind": "random",
        "direction": json.dumps({"seed": 3}),
        "vector": vector,
        "prompt": cot["prompt"],
        "text": cot["text"],
        "parameters": json.dumps({"start": "before", "view": {}}),
        "seed": 3,
        "state": "finished",
        "seconds": 1.5,
        "versions": json.dumps({"python": "3.11", "schema": 2}),
        "commit": "0123abcd",
    }
    typed = steered | dict.fromkeys(
        (
            "cot_id",
            "chunk_id",
            "written_by",
            "layers",
            "place",
            "operation",
            "beta",
            "unit",
            "direction_kind",
            "direction",
            "vector",
            "seconds",
            "commit",
        )
    )
    rows = [
        steered | {"kind": "stream", "sentence": "add +4.0 RMS of a random direction at layer 15 to chunk 3, seed 3"},
        steered | {"kind": "continue", "sentence": f"add +4.0 RMS of {HOSTILE[0]}at layer 15 to chunk 3, seed 3"},
        typed | {"kind": "stream", "sentence": "chunk 1 is deleted", "text": "One. Two. ", "state": "stopped"},
    ]
    for number, row in enumerate(rows):
        row |= {"experiment_id": ids.stable_id("e", number), "created_at": datetime(2026, 1, 2, 4, number, 5)}
        row["results"] = json.dumps(_stream())
    samples = _samples(rows[1]["experiment_id"])
    frame = pd.DataFrame(samples).assign(cluster=[sample["answer"] for sample in samples])
    rows[1]["results"] = json.dumps({"arms": arm_summary(frame), "comparisons": compare(frame), "importance": []})
    return [(row, samples if row["kind"] == "continue" else []) for row in rows]


def _stream() -> dict[str, Any]:
    """Two arms that part at their second token."""
    tokens = {"base": ("So", " the", " sum", "."), "changed": ("So", " wait", HOSTILE[1])}
    arms = {
        arm: {
            "tokens": [
                {"id": k, "text": piece, "kl": 0.05 * k, "top": [[piece, 0.6, 0.4], [HOSTILE[0], 0.1, 0.3]]}
                for k, piece in enumerate(pieces)
            ],
            "finish": "cap",
        }
        for arm, pieces in tokens.items()
    }
    return {"arms": arms, "first_divergence": 1, "seconds": 0.5, "tokens_per_second": 14.0}


def _samples(experiment_id: str) -> list[dict[str, Any]]:
    rows = []
    for arm, beta in (("base", 0.0), ("changed", 4.0), ("flipped", -4.0), ("random", 4.0)):
        for sample in range(4):
            answer = (None, "54", "84", "54")[(sample + len(arm)) % 4]
            text = "" if answer is None and arm == "random" else f"So the answer is {answer}. {HOSTILE[2]}"
            rows.append(
                {
                    "experiment_id": experiment_id,
                    "arm": arm,
                    "beta": beta,
                    "sample": sample,
                    "seed": sample,
                    "text": text,
                    "answer": answer,
                    "is_correct": None if answer is None else answer == "54",
                    "grader": "math-verify 0.9.0",
                    "finish": "cap" if answer is None else "eos",
                    "n_tokens": 9 if text else 0,
                    "reflection_words": 0,
                    "repetition": 0.1 * sample if text else None,
                    "compression_ratio": 1.2 if text else None,
                }
            )
    return rows
