"""Trains the category classifier on labelled chunks in the layout of Thought Anchors, and measures it on CoTs it has
not seen.

1. Chunks, and the first tag of each, are read as the importer reads them.
2. Features as in `backend.cot.categories`; multinomial logistic regression, every tag weighing the same (balanced
   classes), C = 1.
3. F1 twice: leaving out one CoT at a time, and leaving out one problem at a time. The second is the honest one for a
   new problem, because several CoTs answer the same problem in the same words.
4. The shipped weights are fitted on all chunks.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.cot.categories import ASSETS, CATEGORIES, CUE_WORDS, CategoryClassifier, CategoryError, features
from backend.models.sentences import load_encoder
from precompute.importers.thought_anchors import read_thought_anchors

REGULARISATION = 1.0  # scikit-learn's C


@dataclass(frozen=True)
class Scores:
    """How well held-out chunks are tagged."""

    macro_f1: float  # mean of F1 over the tags that occur
    accuracy: float  # share of chunks whose first tag is right
    f1: dict[str, float]  # by tag
    n_folds: int


@dataclass(frozen=True)
class TrainingReport:
    classifier: CategoryClassifier
    n: dict[str, int]  # chunks by tag
    n_cots: int
    n_problems: int
    by_cot: Scores  # one CoT left out at a time
    by_problem: Scores  # one problem left out at a time
    majority_macro_f1: float  # of always saying the most frequent tag

    def __str__(self) -> str:
        def line(tag: str) -> str:
            return f"  {tag:<24}{self.n[tag]:>6}{self.by_cot.f1[tag]:>13.3f}{self.by_problem.f1[tag]:>17.3f}"

        return "\n".join(
            [
                (
                    f"{sum(self.n.values())} chunks of {self.n_cots} CoTs on {self.n_problems} problems;"
                    f" {self.classifier.source}"
                ),
                f"  {'tag':<24}{'n':>6}{'F1, CoT out':>13}{'F1, problem out':>17}",
                *map(line, sorted(self.n, key=lambda tag: -self.n[tag])),
                f"  {'macro-F1':<30}{self.by_cot.macro_f1:>13.3f}{self.by_problem.macro_f1:>17.3f}",
                f"  {'accuracy':<30}{self.by_cot.accuracy:>13.3f}{self.by_problem.accuracy:>17.3f}",
                f"  always the most frequent tag: macro-F1 {self.majority_macro_f1:.3f}",
            ]
        )


def train(folder: Path, out_folder: Path = ASSETS) -> TrainingReport:
    """Reads labelled chunks below `folder`, writes classifier.json and README.md (the model card) to `out_folder`.

    Raises ImportFormatError for malformed data, and CategoryError for fewer than two CoTs or two tags.
    """
    study = read_thought_anchors(Path(folder))
    tags = {row["chunk_id"]: row["category"] for row in study.tables["categories"] if row["rank"] == 0}
    chunks = [chunk for chunk in study.tables["chunks"] if chunk["chunk_id"] in tags]
    labels = np.array([tags[chunk["chunk_id"]] for chunk in chunks])
    cots = np.array([chunk["cot_id"] for chunk in chunks])
    problem_of = {cot["cot_id"]: cot["problem_id"] for cot in study.tables["cots"]}
    if len(set(cots)) < 2 or len(set(labels)) < 2:
        raise CategoryError(
            f"{folder} has {len(set(cots))} labelled CoTs and {len(set(labels))} tags; training needs two of each."
        )
    encoder = load_encoder()
    n_chunks = Counter(chunk["cot_id"] for chunk in study.tables["chunks"])
    positions = [chunk["chunk_index"] / max(1, n_chunks[chunk["cot_id"]] - 1) for chunk in chunks]
    texts = [chunk["text"] for chunk in chunks]
    rows = features(encoder.encode(texts), positions, texts)

    weights, biases, order = _fitted(rows, labels)
    rounded = [[float(f"{value:.5g}") for value in row] for row in weights], [float(f"{value:.5g}") for value in biases]
    version = hashlib.sha256(json.dumps([order, *rounded]).encode()).hexdigest()[:8]
    name = f"{encoder.name} {encoder.revision}"
    n = dict(Counter(labels.tolist()))
    share = max(n.values()) / len(labels)
    report = TrainingReport(
        classifier=CategoryClassifier(tuple(order), np.array(rounded[0]), np.array(rounded[1]), name, version),
        n=n,
        n_cots=len(set(cots)),
        n_problems=len(set(problem_of.values())),
        by_cot=held_out_scores(rows, labels, cots),
        by_problem=held_out_scores(rows, labels, np.array([problem_of[cot] for cot in cots])),
        majority_macro_f1=2 * share / (1 + share) / len(n),
    )
    out = Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    content = {"version": version, "encoder": name, "tags": order, "biases": rounded[1], "weights": rounded[0]}
    (out / "classifier.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_model_card(report), encoding="utf-8")
    return report


def _fitted(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Weights (n_features, n_tags), biases (n_tags,), and the tags in that order, which is CATEGORIES'."""
    from sklearn.linear_model import LogisticRegression

    order = [tag for tag in CATEGORIES if tag in set(labels)]
    model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=1000).fit(
        rows, [order.index(tag) for tag in labels]
    )
    if len(order) == 2:  # one row of weights for the second tag against the first
        return np.vstack([-model.coef_ / 2, model.coef_ / 2]).T, np.array([-0.5, 0.5]) * model.intercept_, order
    return model.coef_.T, model.intercept_, order


def held_out_scores(rows: np.ndarray, labels: np.ndarray, groups: Sequence[str] | np.ndarray) -> Scores:
    """Every group is tagged by a classifier trained on the others."""
    groups = np.asarray(groups)
    said = np.empty_like(labels)
    for group in np.unique(groups):
        inside = groups == group
        weights, biases, order = _fitted(rows[~inside], labels[~inside])
        said[inside] = np.array(order)[np.argmax(rows[inside] @ weights + biases, axis=1)]
    f1 = {tag: f1_score(labels == tag, said == tag) for tag in np.unique(labels).tolist()}
    return Scores(float(np.mean(list(f1.values()))), float(np.mean(said == labels)), f1, len(np.unique(groups)))


def f1_score(true: np.ndarray, said: np.ndarray) -> float:
    """2·hits / (true + said), of two boolean arrays; 0 where nothing was hit."""
    return float(2 * (true & said).sum() / max(1, true.sum() + said.sum()))


def _model_card(report: TrainingReport) -> str:
    table = "\n".join(
        f"| {tag} | {report.n[tag]} | {report.by_cot.f1[tag]:.3f} | {report.by_problem.f1[tag]:.3f} |"
        for tag in sorted(report.n, key=lambda tag: -report.n[tag])
    )
    missing = ", ".join(tag for tag in CATEGORIES if tag not in report.n) or "none"
    return f"""# Category classifier {report.classifier.version}

Tags a chunk of a chain of thought with its function (Thought Anchors' tags). `classifier.json` holds the weights as plain numbers;
`backend/cot/categories.py` reads it. Written by `python -m precompute train-categories FOLDER`; do not edit by hand.

- **Data**: {sum(report.n.values())} labelled chunks of {report.n_cots} chains of thought by DeepSeek-R1-Distill (Qwen-14B, Llama-8B) on
  {report.n_problems} MATH problems, published with Thought Anchors (Bogdan et al. 2025, MIT licence), tagged by a language model.
- **Recipe**: sentence embedding ({report.classifier.encoder.split()[0]}), place in the CoT, counts of signs and digits, {len(CUE_WORDS)}
  cue words; multinomial logistic regression, balanced classes, C = {REGULARISATION}. A chunk's first published tag is its label.
- **Figures**, on chunks of CoTs the classifier had not seen, first tag against first tag:

| tag | n | F1, one CoT left out | F1, one problem left out |
| --- | ---: | ---: | ---: |
{table}
| **macro-F1** | | **{report.by_cot.macro_f1:.3f}** | **{report.by_problem.macro_f1:.3f}** |
| accuracy | | {report.by_cot.accuracy:.3f} | {report.by_problem.accuracy:.3f} |

Always saying the most frequent tag has a macro-F1 of {report.majority_macro_f1:.3f}.

- **Limits**: a tag is right about half the time, so read colours as a hint and check before counting. Rare tags rest on few examples; tags
  never seen in training ({missing}) are never given. Trained on long reasoning about MATH problems: short answers of small models on word
  problems lie outside of that. The labels are a language model's, not a person's. Each chunk is tagged alone, without its neighbours.
"""  # noqa: E501
