"""Trains the category classifier on labelled chunks in the layout of Thought Anchors, and measures it on problems it
has not seen.

1. Chunks, and the first tag of each, are read as the importer reads them.
2. Features as in `backend.cot.categories`; multinomial logistic regression, every tag weighing the same (balanced
   classes).
3. How strong it is regularised, and how much the chunks beside count, is chosen by macro-F1, leaving out one problem at
   a time.
4. The figures are nested: the CoTs of one problem are left out, 3. is done on those of the others alone, and the result
   tags what was left out. So no problem, and no choice, is measured on what it was made from.
5. The shipped weights are fitted on all chunks, with what 3. chooses on all problems.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backend.cot.categories import (
    ASSETS,
    CATEGORIES,
    CUE_WORDS,
    UNSURE_BELOW,
    CategoryClassifier,
    CategoryError,
    Chain,
    features,
)
from backend.ids import seed_for
from backend.models.sentences import load_encoder
from backend.statistics.intervals import Interval
from precompute.importers.thought_anchors import read_thought_anchors


@dataclass(frozen=True)
class Choice:
    """What is chosen by leaving out problems."""

    regularisation: float  # scikit-learn's C
    beside: float  # what the embeddings of the chunks beside are multiplied by


CHOICES = tuple(Choice(strength, beside) for strength in (0.5, 1.0, 2.0) for beside in (0.0, 1.0))


@dataclass(frozen=True)
class Labelled:
    """Chunks with their first tags, CoT by CoT."""

    chains: tuple[Chain, ...]
    tags: tuple[np.ndarray, ...]  # of each chain, (n,) of str; "" for a chunk without a tag
    problems: tuple[str, ...]  # of each chain

    @cached_property
    def labels(self) -> np.ndarray:
        tags = np.concatenate(self.tags)
        return tags[tags != ""]

    @cached_property
    def groups(self) -> np.ndarray:
        """The problem of each label."""
        pairs = zip(self.problems, self.tags, strict=True)
        return np.concatenate([np.full((tags != "").sum(), problem) for problem, tags in pairs])

    def rows(self, beside: float) -> np.ndarray:
        """(n labels, features)."""
        pairs = zip(self.chains, self.tags, strict=True)
        return np.vstack([features(chain, beside=beside)[tags != ""] for chain, tags in pairs])


@dataclass(frozen=True)
class Scores:
    """How well chunks of problems that were left out are tagged."""

    macro_f1: float  # mean of F1 over the tags that occur
    interval: Interval  # of it, 95 %, problems drawn anew
    accuracy: float  # share of chunks whose first tag is right
    f1: dict[str, float]  # by tag
    sure: float  # share of chunks whose tag is at least UNSURE_BELOW probable
    accuracy_sure: float  # of those
    accuracy_unsure: float  # of the others
    choices: tuple[Choice, ...]  # made for each problem that was left out


@dataclass(frozen=True)
class TrainingReport:
    classifier: CategoryClassifier
    choice: Choice
    n: dict[str, int]  # chunks by tag
    n_cots: int
    n_problems: int
    by_problem: Scores
    majority_macro_f1: float  # of always saying the most frequent tag

    def __str__(self) -> str:
        scores = self.by_problem
        return "\n".join(
            [
                (
                    f"{sum(self.n.values())} chunks of {self.n_cots} CoTs on {self.n_problems} problems;"
                    f" {self.classifier.source}"
                ),
                f"  {'tag':<24}{'n':>6}{'F1, problem out':>17}",
                *(f"  {tag:<24}{self.n[tag]:>6}{scores.f1[tag]:>17.3f}" for tag in by_frequency(self.n)),
                f"  {'macro-F1':<30}{scores.macro_f1:>17.3f} [{scores.interval.low:.3f}, {scores.interval.high:.3f}]",
                f"  {'accuracy':<30}{scores.accuracy:>17.3f}",
                f"  always the most frequent tag: macro-F1 {self.majority_macro_f1:.3f}",
            ]
        )


def by_frequency(n: dict[str, int]) -> list[str]:
    return sorted(n, key=lambda tag: -n[tag])


def train(folder: Path, out_folder: Path = ASSETS) -> TrainingReport:
    """Reads labelled chunks below `folder`, writes classifier.json and README.md (the model card) to `out_folder`.

    Minutes: the nested choice fits some hundred classifiers. Raises ImportFormatError for malformed data, and
    CategoryError for fewer than three problems or two tags.
    """
    encoder = load_encoder()
    labelled = _labelled(Path(folder), encoder)
    choice, scores = chosen(labelled), nested_scores(labelled)
    weights, biases, order = _fitted(labelled.rows(choice.beside), labelled.labels, choice)
    rounded = [[float(f"{value:.5g}") for value in row] for row in weights], [float(f"{value:.5g}") for value in biases]
    version = hashlib.sha256(json.dumps([order, choice.beside, *rounded]).encode()).hexdigest()[:8]
    name = f"{encoder.name} {encoder.revision}"
    n = dict(Counter(labelled.labels.tolist()))
    share = max(n.values()) / len(labelled.labels)
    report = TrainingReport(
        classifier=CategoryClassifier(
            tuple(order), np.array(rounded[0]), np.array(rounded[1]), choice.beside, name, version
        ),
        choice=choice,
        n=n,
        n_cots=len(labelled.chains),
        n_problems=len(set(labelled.problems)),
        by_problem=scores,
        majority_macro_f1=2 * share / (1 + share) / len(n),
    )
    out = Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "version": version,
        "encoder": name,
        "tags": order,
        "beside": choice.beside,
        "biases": rounded[1],
        "weights": rounded[0],
    }
    (out / "classifier.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_model_card(report), encoding="utf-8")
    return report


def _labelled(folder: Path, encoder: Any) -> Labelled:
    study = read_thought_anchors(folder)
    tags = {row["chunk_id"]: row["category"] for row in study.tables["categories"] if row["rank"] == 0}
    questions = {problem["problem_id"]: problem["question"] for problem in study.tables["problems"]}
    by_cot: dict[str, list[Any]] = {}
    for chunk in sorted(study.tables["chunks"], key=lambda chunk: chunk["chunk_index"]):
        by_cot.setdefault(chunk["cot_id"], []).append(chunk)
    made = []
    for cot in study.tables["cots"]:
        chunks = by_cot.get(cot["cot_id"], [])
        own = np.array([tags.get(chunk["chunk_id"], "") for chunk in chunks])
        if (own != "").any():
            chain = Chain.encoded(encoder.encode, [chunk["text"] for chunk in chunks], questions[cot["problem_id"]])
            # A chunk without a word has no embedding: nothing is learned from it.
            made.append((chain, np.where(np.isnan(chain.embeddings).any(axis=1), "", own), cot["problem_id"]))
    n_problems, found = len({problem for *_, problem in made}), {tag for _, own, _ in made for tag in own} - {""}
    if n_problems < 3 or len(found) < 2:
        raise CategoryError(
            f"{folder} has labelled CoTs on {n_problems} problems, with {len(found)} tags; training needs three"
            " problems and two tags."
        )
    return Labelled(*(tuple(part) for part in zip(*made, strict=True)))


def _fitted(rows: np.ndarray, labels: np.ndarray, choice: Choice) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Weights (n_features, n_tags), biases (n_tags,), and the tags in that order, which is CATEGORIES'."""
    from sklearn.linear_model import LogisticRegression

    order = [tag for tag in CATEGORIES if tag in set(labels)]
    model = LogisticRegression(C=choice.regularisation, class_weight="balanced", max_iter=1000).fit(
        rows, [order.index(tag) for tag in labels]
    )
    if len(order) == 2:  # one row of weights for the second tag against the first
        return np.vstack([-model.coef_ / 2, model.coef_ / 2]).T, np.array([-0.5, 0.5]) * model.intercept_, order
    return model.coef_.T, model.intercept_, order


def _said(rows: np.ndarray, labels: np.ndarray, inside: np.ndarray, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Tags of what is inside, and their probabilities, by a classifier fitted on what is not."""
    weights, biases, order = _fitted(rows[~inside], labels[~inside], choice)
    logits = rows[inside] @ weights + biases
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.array(order)[odds.argmax(axis=1)], odds.max(axis=1) / odds.sum(axis=1)


def chosen(labelled: Labelled, among: np.ndarray | None = None, choices: Sequence[Choice] = CHOICES) -> Choice:
    """The choice with the best macro-F1, one problem left out at a time; `among`: the labels that are looked at."""
    among = np.ones(len(labelled.labels), dtype=bool) if among is None else among
    labels, groups = labelled.labels[among], labelled.groups[among]
    all_rows = {beside: labelled.rows(beside)[among] for beside in {choice.beside for choice in choices}}
    found = []
    for choice in choices:
        said = np.empty_like(labels)
        for group in np.unique(groups):
            inside = groups == group
            said[inside] = _said(all_rows[choice.beside], labels, inside, choice)[0]
        found.append(macro_f1(labels, said))
    return choices[int(np.argmax(found))]


def nested_scores(labelled: Labelled, choices: Sequence[Choice] = CHOICES) -> Scores:
    """The CoTs of each problem are tagged by a classifier fitted, and chosen, on those of the others."""
    labels, groups = labelled.labels, labelled.groups
    said, sure, made = np.empty_like(labels), np.zeros(len(labels)), []
    for group in np.unique(groups):
        inside = groups == group
        made.append(chosen(labelled, ~inside, choices))
        said[inside], sure[inside] = _said(labelled.rows(made[-1].beside), labels, inside, made[-1])
    right, is_sure = said == labels, sure >= UNSURE_BELOW
    return Scores(
        macro_f1(labels, said),
        _interval(labels, said, groups),
        float(right.mean()),
        {tag: f1_score(labels == tag, said == tag) for tag in np.unique(labels).tolist()},
        float(is_sure.mean()),
        _share(right[is_sure]),
        _share(right[~is_sure]),
        tuple(made),
    )


def _share(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else float("nan")


def _interval(labels: np.ndarray, said: np.ndarray, groups: np.ndarray, draws: int = 1000) -> Interval:
    """95 % percentile bootstrap of macro-F1, problems drawn with replacement."""
    rng = np.random.default_rng(seed_for("categories", "interval"))
    parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    found = []
    for _ in range(draws):
        rows = np.concatenate([parts[number] for number in rng.integers(0, len(parts), len(parts))])
        found.append(macro_f1(labels[rows], said[rows]))
    return Interval(*np.percentile(found, [2.5, 97.5]).tolist())


def macro_f1(labels: np.ndarray, said: np.ndarray) -> float:
    """Mean F1 over the tags that occur among the labels."""
    return float(np.mean([f1_score(labels == tag, said == tag) for tag in np.unique(labels)]))


def f1_score(true: np.ndarray, said: np.ndarray) -> float:
    """2·hits / (true + said), of two boolean arrays; 0 where nothing was hit."""
    return float(2 * (true & said).sum() / max(1, true.sum() + said.sum()))


def _model_card(report: TrainingReport) -> str:
    scores = report.by_problem
    table = "\n".join(f"| {tag} | {report.n[tag]} | {scores.f1[tag]:.3f} |" for tag in by_frequency(report.n))
    missing = ", ".join(tag for tag in CATEGORIES if tag not in report.n) or "none"
    made = Counter(f"C = {one.regularisation:g}, times {one.beside:g}" for one in scores.choices)
    choices = "; ".join(f"{words} ({times})" for words, times in made.most_common())
    return f"""# Category classifier {report.classifier.version}

Tags a chunk of a chain of thought with its function (Thought Anchors' tags). `classifier.json` holds the weights as plain numbers;
`backend/cot/categories.py` reads it. Written by `python -m precompute train-categories FOLDER`; do not edit by hand.

- **Data**: {sum(report.n.values())} labelled chunks of {report.n_cots} chains of thought by DeepSeek-R1-Distill (Qwen-14B, Llama-8B) on
  {report.n_problems} MATH problems, published with Thought Anchors (Bogdan et al. 2025, MIT licence), tagged by a language model.
- **Recipe**: sentence embedding ({report.classifier.encoder.split()[0]}), place in the CoT, counts of signs and digits, {len(CUE_WORDS)}
  cue words; the same of the chunks before and after; cosines with the question and with what was said before, and whether a number is
  new; multinomial logistic regression, balanced classes. C = {report.choice.regularisation:g}, and embeddings of the chunks beside times
  {report.choice.beside:g}, as chosen by leaving out problems. A chunk's first published tag is its label.
- **Figures** on problems the classifier had not seen, nested: for each problem left out, both choices were made on the others alone
  ({choices}). First tag against first tag:

| tag | n | F1 |
| --- | ---: | ---: |
{table}
| **macro-F1** | | **{scores.macro_f1:.3f}** [{scores.interval.low:.3f}, {scores.interval.high:.3f}] |
| accuracy | | {scores.accuracy:.3f} |

In brackets: 95 % interval, problems drawn anew; there are only {report.n_problems}. Always saying the most frequent tag has a macro-F1 of
{report.majority_macro_f1:.3f}.

- **Unsure**: a tag less probable than {UNSURE_BELOW:g} says so. At or above it are {scores.sure:.0%} of the chunks, and {scores.accuracy_sure:.0%} of those tags are
  right; of the others {scores.accuracy_unsure:.0%}.
- **Limits**: read colours as a hint and check before counting. Rare tags rest on few examples; tags never seen in training ({missing})
  are never given. Trained on long reasoning about MATH problems: short answers of small models on word problems lie outside of that. The
  labels are a language model's, not a person's.
"""  # noqa: E501
