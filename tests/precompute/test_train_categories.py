import json

import numpy as np
import pytest

from backend.cot.categories import ASSETS, CategoryClassifier, CategoryError
from precompute import train_categories
from precompute.train_categories import f1_score, held_out_scores, train

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
    assert (report.n_cots, report.n_problems, report.by_cot.n_folds, report.by_problem.n_folds) == (3, 3, 3, 3)
    for tag, sentences in SENTENCES.items():
        place = list(SENTENCES).index(tag) / 2
        assert loaded.predict(np.full((1, 4), 0.5), [place], sentences[:1])[0][0][0] == tag


def test_the_report_and_the_model_card_state_the_figures(published, tmp_path):
    report = train(published, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"**{report.by_cot.macro_f1:.3f}**" in card
    assert f"{report.by_problem.macro_f1:.3f}" in str(report)
    assert report.majority_macro_f1 == pytest.approx(
        0.5 / 3
    )  # a third of the chunks: F1 = 2·(1/3)/(1 + 1/3) for one tag of three


def test_training_twice_gives_the_same_weights(published, tmp_path):
    first, second = (train(published, tmp_path / name) for name in "ab")
    assert first.classifier.version == second.classifier.version
    assert (tmp_path / "a" / "classifier.json").read_bytes() == (tmp_path / "b" / "classifier.json").read_bytes()


def test_one_cot_is_not_enough_to_train_on(published, tmp_path):
    with pytest.raises(CategoryError, match="1 labelled CoTs"):
        train(published / "model" / "correct_base_solution" / "problem_0", tmp_path / "out")


def test_held_out_scores_fall_to_chance_on_labels_that_mean_nothing():
    generator = np.random.default_rng(0)
    rows, labels = (
        generator.normal(size=(300, 5)),
        np.array(["self_checking", "unknown"])[generator.integers(0, 2, 300)],
    )
    scores = held_out_scores(rows, labels, np.arange(300) % 6)
    assert 0.4 < scores.accuracy < 0.6
    signal = np.where(labels == "unknown", 3.0, -3.0)[:, None]
    assert held_out_scores(rows + signal, labels, np.arange(300) % 6).macro_f1 > 0.95


def test_f1_is_that_of_the_reference():
    from sklearn.metrics import f1_score as reference

    generator = np.random.default_rng(1)
    true, said = generator.random(200) < 0.3, generator.random(200) < 0.4
    assert f1_score(true, said) == pytest.approx(reference(true, said))
    assert f1_score(np.zeros(3, bool), np.zeros(3, bool)) == 0


def test_the_shipped_model_card_reports_both_figures():
    card = (ASSETS / "README.md").read_text()
    assert "one CoT left out" in card
    assert "one problem left out" in card
