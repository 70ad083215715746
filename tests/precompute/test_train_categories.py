import json

import numpy as np
import pytest

from backend.cot.categories import ASSETS, CategoryClassifier, CategoryError, Chain
from precompute import train_categories
from precompute.train_categories import CHOICES, Labelled, f1_score, nested_scores, train

SENTENCES = {
    "active_computation": [
        "Now 2 + 2 = 4 apples are here.",
        "So 3 * 5 = 15 pears are left.",
        "Then 9 - 4 = 5 coins remain.",
    ],
    "uncertainty_management": [
        "Wait, maybe that is not right.",
        "Hmm, but maybe it is another one.",
        "Wait, but is this the way to go?",
    ],
    "final_answer_emission": [
        "The final answer is \\boxed{4}.",
        "So the final answer is \\boxed{5}.",
        "Final answer, then: \\boxed{15}.",
    ],
}


class CountingEncoder:
    """Embeddings without meaning: what is learnt here is learnt from place, signs and cue words."""

    name, revision = "fake", "0"

    def encode(self, texts):
        return np.full((len(texts), 4), 0.5)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Three labelled CoTs on three problems in the published layout."""
    monkeypatch.setattr(train_categories, "load_encoder", CountingEncoder)
    for k in range(3):
        place = tmp_path / "data" / "model" / "correct_base_solution" / f"problem_{k}"
        place.mkdir(parents=True)
        chunks = [(tag, sentences[k]) for tag, sentences in SENTENCES.items()]
        (place / "problem.json").write_text(json.dumps({"problem": f"Question {k}?", "gt_answer": "4"}))
        (place / "base_solution.json").write_text(
            json.dumps({"prompt": "", "solution": " ".join(text for _, text in chunks)})
        )
        labelled = [{"chunk": text, "chunk_idx": i, "function_tags": [tag]} for i, (tag, text) in enumerate(chunks)]
        (place / "chunks_labeled.json").write_text(json.dumps(labelled))
    return tmp_path / "data"


def test_what_is_written_loads_and_tags_the_chunks_it_was_trained_on(published, tmp_path):
    report = train(published, tmp_path / "out")
    loaded = CategoryClassifier.load(tmp_path / "out")
    assert loaded.version == report.classifier.version
    assert (report.n_cots, report.n_problems, len(report.by_problem.choices)) == (3, 3, 3)
    texts = [sentences[0] for sentences in SENTENCES.values()]
    tags = loaded.predict(Chain.encoded(CountingEncoder().encode, texts, "Question 0?"))
    assert [found[0][0] for found in tags] == list(SENTENCES)


def test_the_report_and_the_model_card_state_the_figures(published, tmp_path):
    report = train(published, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"**{report.by_problem.macro_f1:.3f}**" in card
    assert f"{report.by_problem.macro_f1:.3f}" in str(report)
    assert report.majority_macro_f1 == pytest.approx(
        0.5 / 3
    )  # a third of the chunks: F1 = 2·(1/3)/(1 + 1/3) for one tag of three


def test_training_twice_gives_the_same_weights(published, tmp_path):
    first, second = (train(published, tmp_path / name) for name in "ab")
    assert first.classifier.version == second.classifier.version
    assert (tmp_path / "a" / "classifier.json").read_bytes() == (tmp_path / "b" / "classifier.json").read_bytes()


def test_one_cot_is_not_enough_to_train_on(published, tmp_path):
    with pytest.raises(CategoryError, match="on 1 problems"):
        train(published / "model" / "correct_base_solution" / "problem_0", tmp_path / "out")


def test_scores_fall_to_chance_on_labels_that_mean_nothing_and_rise_with_ones_that_do():
    generator = np.random.default_rng(0)
    tags = [np.array(["self_checking", "unknown"])[generator.integers(0, 2, 50)] for _ in range(6)]
    problems = tuple(f"p{number}" for number in range(6))

    def scores(signal):
        chains = []
        for own in tags:
            vectors = generator.normal(size=(51, 5))
            vectors[:50, 0] += np.where(own == "unknown", signal, -signal)
            chains.append(Chain(["We go on."] * 50, vectors[:50], "?", vectors[50]))
        return nested_scores(Labelled(tuple(chains), tuple(tags), problems), CHOICES[2:4])

    nothing, much = scores(0.0), scores(4.0)
    assert 0.4 < nothing.accuracy < 0.6
    assert nothing.interval.low < 0.5 < nothing.interval.high
    assert much.macro_f1 > 0.95


def test_what_is_left_out_has_no_part_in_the_choice_nor_in_the_fit(monkeypatch):
    """Every fit says of how many problems its rows are: choosing for one left out of four leaves one more out each."""
    generator = np.random.default_rng(2)
    tags = tuple(np.array(["self_checking", "unknown"])[generator.integers(0, 2, 20)] for _ in range(4))
    chains = tuple(Chain(["We go on."] * 20, np.full((20, 3), number), "?", np.zeros(3)) for number in range(4))
    fitted, seen = train_categories._fitted, []

    def watched(rows, labels, choice):
        seen.append(len(set(rows[:, 0])))
        return fitted(rows, labels, choice)

    monkeypatch.setattr(train_categories, "_fitted", watched)
    nested_scores(Labelled(chains, tags, ("a", "b", "c", "d")), CHOICES[:2])
    assert sorted(seen) == [2] * (4 * 3 * 2) + [3] * 4


def test_f1_is_that_of_the_reference():
    from sklearn.metrics import f1_score as reference

    generator = np.random.default_rng(1)
    true, said = generator.random(200) < 0.3, generator.random(200) < 0.4
    assert f1_score(true, said) == pytest.approx(reference(true, said))
    assert f1_score(np.zeros(3, bool), np.zeros(3, bool)) == 0


def test_the_shipped_model_card_gives_the_nested_figure_and_what_unsure_means():
    card = (ASSETS / "README.md").read_text()
    assert "nested" in card
    assert "less probable than 0.5 says so" in card
