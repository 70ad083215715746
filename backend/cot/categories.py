"""The function of a chunk: the nine tags of Thought Anchors (Bogdan et al. 2025). A chunk may bear several; the first
is its colour.

Two ways to tag a chunk that nobody labelled:
- `CategoryClassifier`: multinomial logistic regression on the chunk's sentence embedding, its place in the CoT, what
  can be counted in its text (digits, signs, a few words that name a function), the same of the chunks beside it, and
  how it relates to the question and to what was said before. Weights, recipe and figures: `assets/categories`.
- `label_with_chat_model`: a chat model is shown the tags as a lettered list and its probabilities of the nine letters
  are read, so that its answer is always one of them.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backend.cot.prompts import answering_prompt
from backend.errors import AnchorscopeError
from backend.root import PRECOMPUTE, ROOT

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

# Each tag with the sentence that explains it to a chat model and on the page.
CATEGORIES = {
    "problem_setup": "restates or reads the problem",
    "plan_generation": "says what will be done next, or chooses a way",
    "fact_retrieval": "recalls a fact, a formula or a detail of the problem, without computing",
    "active_computation": "computes: algebra, arithmetic, steps towards the answer",
    "uncertainty_management": "shows doubt, is confused, reconsiders or goes back",
    "result_consolidation": "gathers intermediate results or prepares the answer from them",
    "self_checking": "checks or confirms an earlier step",
    "final_answer_emission": "states the final answer",
    "unknown": "none of these",
}
NAMES = {
    "problem_setup": "Problem setup",
    "plan_generation": "Plan generation",
    "fact_retrieval": "Fact retrieval",
    "active_computation": "Active computation",
    "uncertainty_management": "Uncertainty management",
    "result_consolidation": "Result consolidation",
    "self_checking": "Self-checking",
    "final_answer_emission": "Final answer",
    "unknown": "Unknown",
}
ASSETS = ROOT / "assets" / "categories"
EXTRA_TAG_PROBABILITY = 0.3  # tags after the first need at least this
UNSURE_BELOW = 0.5  # a first tag less probable than this says that it is unsure

# Words that tell functions apart. Each is a feature of its own: whether the chunk holds it.
CUE_WORDS = (
    "wait",
    "hmm",
    "let",
    "so",
    "therefore",
    "but",
    "first",
    "next",
    "need",
    "remember",
    "recall",
    "formula",
    "check",
    "verify",
    "correct",
    "maybe",
    "final",
    "answer",
    "problem",
    "given",
    "alternatively",
    "sure",
    "confirm",
    "sum",
    "total",
    "how",
    "compute",
    "calculate",
    "means",
    "because",
    "since",
    "thus",
)

Tags = list[tuple[str, float]]  # category and probability, best first


class CategoryError(AnchorscopeError):
    """No usable classifier, or a chat model that cannot be asked for a letter."""


@dataclass(frozen=True, eq=False)
class Chain:
    """What of one CoT its tags are read from: all its chunks, in reading order, and the question."""

    texts: Sequence[str]
    embeddings: np.ndarray  # (n, d) of the texts; NaN where a chunk has no word
    question: str
    question_embedding: np.ndarray  # (d,)

    @classmethod
    def encoded(cls, encode: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str], question: str) -> "Chain":
        """`encode` as SentenceEncoder.encode."""
        vectors = encode([*texts, question])
        return cls(texts, vectors[:-1], question, vectors[-1])


def features(chain: Chain, *, beside: float) -> np.ndarray:
    """(n, 3·(d + 13 + len(CUE_WORDS)) + 7) float64 of n chunks: own embedding, place, counts and cue words; those of
    the chunk before and the one after, embeddings times `beside` (zeros where there is none); and the relations.

    Relations: cosine with the question, with the chunk before, with the one after, and the largest with any chunk
    before; whether it has a number that was not said yet, only numbers that were, only numbers of the question.
    """
    embeddings = np.asarray(chain.embeddings, dtype=np.float64)
    known = np.nan_to_num(embeddings)
    own = np.hstack([_places(len(embeddings)), _all_counts(chain.texts)])
    near = [np.hstack([_shifted(own, by), beside * _shifted(known, by)]) for by in (-1, 1)]
    return np.hstack([embeddings, own, *near, _relations(chain, known)])


def _places(n: int) -> np.ndarray:
    """(n, 4): from 0 (the CoT's first chunk) to 1 (its last), its square, and how near either end is."""
    shares = np.arange(n) / max(1, n - 1)
    return np.stack([shares, shares**2, np.exp(-shares / 0.05), np.exp(-(1 - shares) / 0.05)], axis=1)


def _all_counts(texts: Sequence[str]) -> np.ndarray:
    return np.array([_counts(text) for text in texts], dtype=np.float64).reshape(len(texts), 9 + len(CUE_WORDS))


def _shifted(rows: np.ndarray, by: int) -> np.ndarray:
    """The row of the chunk `by` places on; zeros where there is none."""
    moved = np.zeros_like(rows)
    if by < 0:
        moved[-by:] = rows[:by]
    else:
        moved[:-by] = rows[by:]
    return moved


def _relations(chain: Chain, known: np.ndarray) -> np.ndarray:
    """(n, 7), as `features` says."""
    n = len(known)
    cosines = known @ known.T
    earlier = np.where(np.tri(n, k=-1, dtype=bool), cosines, -np.inf).max(axis=1, initial=-np.inf)
    asked = _numbers(chain.question)
    said, of_numbers = set(asked), np.zeros((n, 3))
    for row, text in zip(of_numbers, chain.texts, strict=True):
        own = _numbers(text)
        row[:] = not own <= said, bool(own) and own <= said, bool(own) and own <= asked
        said |= own
    return np.column_stack(
        [
            known @ np.nan_to_num(np.asarray(chain.question_embedding, dtype=np.float64)),
            (known * _shifted(known, -1)).sum(axis=1),
            (known * _shifted(known, 1)).sum(axis=1),
            np.where(np.isfinite(earlier), earlier, 0.0),
            of_numbers,
        ]
    )


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def _counts(text: str) -> list[float]:
    words = set(re.findall(r"[a-z']+", text.lower()))
    surface = [
        np.log1p(len(text)) / 5,
        3 * sum(character.isdigit() for character in text) / max(1, len(text)),
        text.count("=") > 0,
        text.count("=") > 1,
        "?" in text,
        "\\boxed" in text,
        "\\" in text,
        re.search(r"\d\s*[-+*/×]\s*\d", text) is not None,
        text.rstrip().endswith(":"),
    ]
    return surface + [word in words for word in CUE_WORDS]


@dataclass(frozen=True)
class CategoryClassifier:
    """A trained classifier: p(tag) = softmax(features @ weights + biases)."""

    tags: tuple[str, ...]  # those it was trained on; it never predicts another
    weights: np.ndarray  # (n_features, n_tags)
    biases: np.ndarray  # (n_tags,)
    beside: float  # what the embeddings of the chunks beside are multiplied by
    encoder: str  # name and revision of the sentence encoder it was trained with
    version: str  # follows from the weights

    @property
    def source(self) -> str:
        """What is stored beside its tags."""
        return f"classifier {self.version}"

    @classmethod
    def load(cls, folder: Path = ASSETS) -> "CategoryClassifier":
        """The classifier in `folder`/classifier.json, by default the shipped one."""
        path = Path(folder) / "classifier.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            weights, biases = (np.array(content[name], dtype=np.float64) for name in ("weights", "biases"))
            tags, encoder, version = tuple(content["tags"]), content["encoder"], content["version"]
            beside = float(content["beside"])
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise CategoryError(
                f"{path} is not a category classifier ({type(fault).__name__}: {fault}). Train one with:"
                f" {PRECOMPUTE} train-categories FOLDER, FOLDER being in the layout of Thought Anchors."
            ) from fault
        if (
            weights.ndim != 2
            or weights.shape[1:] != biases.shape
            or len(tags) != len(biases)
            or not set(tags) <= set(CATEGORIES)
        ):
            raise CategoryError(
                f"{path}: weights {weights.shape}, biases {biases.shape} and {len(tags)} tags do not belong together."
                " Train it again."
            )
        return cls(tags, weights, biases, beside, encoder, version)

    def probabilities(self, chain: Chain) -> np.ndarray:
        """(n, n_tags), rows summing to 1; NaN where the embedding is NaN (a chunk without a word)."""
        rows = features(chain, beside=self.beside)
        if rows.shape[1] != len(self.weights):
            raise ValueError(
                f"the classifier was trained on {len(self.weights)} features ({self.encoder}), got {rows.shape[1]}"
            )
        logits = rows @ self.weights + self.biases
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def predict(self, chain: Chain) -> list[Tags]:
        """Tags of the chunks with their probabilities, best first: the most probable one, and others of at least 0.3.

        The embeddings are those of the encoder that the classifier names. A chunk whose embedding is NaN gets no tag.
        """
        return [_ranked(row, self.tags) for row in self.probabilities(chain)]


def _ranked(probabilities: np.ndarray, tags: Sequence[str]) -> Tags:
    if not np.isfinite(probabilities).all():
        return []
    best = sorted(zip(tags, probabilities.tolist(), strict=True), key=lambda tag: -tag[1])
    return best[:1] + [tag for tag in best[1:] if tag[1] >= EXTRA_TAG_PROBABILITY]


def label_with_chat_model(loaded: "LoadedModel", texts: Sequence[str]) -> list[Tags]:
    """Tags of a CoT's chunks, in reading order, by a chat model; probabilities are relative to the nine letters.

    The model sees the list of tags, the chunk before, and the chunk. One forward pass a chunk. Raises CategoryError for
    a tokenizer that does not write each letter as one token. A chunk without a word gets no tag.
    """
    letters = [chr(ord("A") + i) for i in range(len(CATEGORIES))]
    return [
        (
            _ranked(_letter_probabilities(loaded, _labelling_prompt(loaded, before, text), letters), list(CATEGORIES))
            if text.strip()
            else []
        )
        for before, text in zip(["", *texts[:-1]], texts, strict=True)
    ]


def _labelling_prompt(loaded: "LoadedModel", before: str, text: str) -> str:
    choices = "\n".join(f"{chr(ord('A') + i)}. {tag}: {meaning}" for i, (tag, meaning) in enumerate(CATEGORIES.items()))
    request = (
        "Below is one sentence of a chain of thought that solves a mathematics problem. What does the sentence"
        f" do?\n\n{choices}\n\nThe sentence before it: {before.strip() or '(none)'}\nThe sentence:"
        f" {text.strip()}\n\nAnswer with one letter."
    )
    tokenizer = loaded.tokenizer
    if not tokenizer.chat_template:
        return f"{request}\nLetter:"
    return (  # a reasoning model answers at once when its thinking is closed
        f"{answering_prompt(tokenizer, request)}Letter:"
    )


def _letter_probabilities(loaded: "LoadedModel", prompt: str, letters: Sequence[str]) -> np.ndarray:
    import torch

    tokens = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    written = [loaded.tokenizer(f"{prompt} {letter}", add_special_tokens=False)["input_ids"] for letter in letters]
    if any(ids[:-1] != tokens for ids in written) or len({ids[-1] for ids in written}) < len(letters):
        raise CategoryError(
            f"{loaded.name} does not write ' A' to ' I' as one token each, so it cannot label. Choose another labeller."
        )
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([tokens], device=loaded.model.device)).logits[0, -1]
    return torch.softmax(logits[[ids[-1] for ids in written]].double(), dim=0).cpu().numpy()
