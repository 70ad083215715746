import json
from types import SimpleNamespace

import numpy as np
import pytest

from backend.cot.categories import CATEGORIES, CategoryClassifier, CategoryError, Chain, features, label_with_chat_model

D = 384


def unit_vectors(n: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(n, D))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def shipped() -> CategoryClassifier:
    return CategoryClassifier.load()


def test_the_nine_tags_of_thought_anchors_have_meanings():
    assert len(CATEGORIES) == 9
    assert all(CATEGORIES.values())


def chain(texts, vectors=None, question="How many are there, if there were 12?"):
    vectors = unit_vectors(len(texts) + 1) if vectors is None else vectors
    return Chain(texts, vectors[: len(texts)], question, vectors[-1])


def test_the_shipped_classifier_gives_probabilities_and_names_its_source(shipped):
    rows = shipped.probabilities(chain([f"So we have {i} + 2 = {i + 2}." for i in range(5)]))
    assert rows.shape == (5, len(shipped.tags))
    assert rows.sum(axis=1) == pytest.approx(1)
    assert shipped.source == f"classifier {shipped.version}"
    assert "all-MiniLM-L6-v2" in shipped.encoder
    assert set(shipped.tags) <= set(CATEGORIES)


def test_tags_are_ranked_and_later_ones_pass_a_threshold(shipped):
    for tags in shipped.predict(chain(["Wait, let me check."] * 40)):
        scores = [score for _, score in tags]
        assert scores == sorted(scores, reverse=True)
        assert len(tags) >= 1
        assert all(score >= 0.3 for score in scores[1:])


def test_a_chunk_is_read_with_the_one_before_and_the_one_after_and_place_alone_changes_beyond(shipped):
    texts = [f"Chunk {'abcdefg'[i]}?" for i in range(7)]
    told = features(chain(texts), beside=1.0)
    other = features(chain([*texts[:5], "Wait, 2 + 2 = 4!", texts[6]]), beside=1.0)
    assert [bool((one == two).all()) for one, two in zip(told, other, strict=True)] == [True] * 4 + [False] * 3


def test_relations_see_what_was_said_before_and_what_the_question_has():
    vectors = np.eye(4)[[0, 1, 0, 3]]
    *_, nearest, new, old, asked = features(chain(["12 pens", "3 more", "12 and 3"], vectors), beside=0.0).T
    assert nearest.tolist() == [0, 0, 1], "the third says what the first said"
    assert new.tolist() == [0, 1, 0], "12 is in the question"
    assert old.tolist() == [1, 0, 1]
    assert asked.tolist() == [1, 0, 0]


def test_a_chunk_without_a_word_gets_no_tag_and_those_beside_it_get_theirs(shipped):
    vectors = unit_vectors(4)
    vectors[1] = np.nan
    first, second, third = shipped.predict(chain(["Let me see.", " ", "So it is."], vectors))
    assert first
    assert second == []
    assert third


def test_no_chunks_have_no_tags(shipped):
    assert shipped.predict(chain([])) == []


def test_embeddings_of_another_encoder_are_refused(shipped):
    with pytest.raises(ValueError, match="trained on"):
        shipped.predict(chain(["a"], np.zeros((2, 10))))


def test_features_see_signs_and_cue_words():
    plain, rich = (
        features(chain([text], np.zeros((2, 3))), beside=0.0) for text in ("We go on", "Wait, is 2 + 2 = 4?")
    )
    assert (rich != plain).sum() >= 5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"tags": ["a"], "weights": [[1]], "biases": [1, 2], "encoder": "e", "version": "v"}',
        '{"tags": ["daydreaming"], "weights": [[1]], "biases": [1], "encoder": "e", "version": "v"}',
    ],
)
def test_a_file_that_is_no_classifier_is_refused_by_name(tmp_path, content):
    (tmp_path / "classifier.json").write_text(content)
    with pytest.raises(CategoryError, match=r"classifier\.json"):
        CategoryClassifier.load(tmp_path)


def test_a_missing_classifier_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(CategoryError, match="train-categories"):
        CategoryClassifier.load(tmp_path)


class LetterModel:
    """A chat model that prefers the letter in `answers` for the first sentence it finds in its prompt."""

    name, device = "fake", "cpu"
    chat_template = "{{ messages }}"

    def __init__(self, answers: dict[str, str], merges: bool = False) -> None:
        self.answers, self.merges, self.prompts = answers, merges, []
        self.tokenizer = self.model = self

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt):
        return messages[0]["content"]

    def __call__(self, text=None, *, input_ids=None, add_special_tokens=None):
        import torch

        if text is not None:  # the tokenizer: a token a character, a letter with its space one token
            head, letter = (text[:-2], text[-1]) if text[-2] == " " else (text, "")
            return {"input_ids": [ord(c) % 500 for c in head] + ([0 if self.merges else ord(letter)] if letter else [])}
        prompt = "".join(chr(i) for i in input_ids[0].tolist())
        self.prompts.append(prompt)
        logits = torch.zeros(1, input_ids.shape[1], 500)
        asked = prompt.split("The sentence: ")[1]
        for sentence, letter in self.answers.items():
            if sentence in asked:
                logits[0, -1, ord(letter)] = 9.0
        return SimpleNamespace(logits=logits)


def test_a_chat_model_tags_by_its_most_probable_letter_and_sees_the_sentence_before():
    model = LetterModel({"Read the problem": "A", "Now 2 + 2 = 4": "D"})
    first, second = label_with_chat_model(model, ["Read the problem.", " Now 2 + 2 = 4."])
    assert [tag for tag, _ in first] == ["problem_setup"]
    assert [tag for tag, _ in second] == ["active_computation"]
    assert second[0][1] == pytest.approx(np.exp(9) / (np.exp(9) + 8))
    assert "The sentence before it: (none)" in model.prompts[0]
    assert "The sentence before it: Read the problem." in model.prompts[1]


def test_a_chat_model_always_gives_one_of_the_nine_tags():
    (tags,) = label_with_chat_model(LetterModel({}), ["Something odd happens here."])
    assert tags[0][0] in CATEGORIES
    assert tags[0][1] == pytest.approx(1 / 9)


def test_a_chunk_without_a_word_is_not_shown_to_the_chat_model():
    assert label_with_chat_model(LetterModel({}), [" \n"]) == [[]]


def test_a_tokenizer_that_splits_letters_is_refused():
    with pytest.raises(CategoryError, match="one token each"):
        label_with_chat_model(LetterModel({}, merges=True), ["A sentence."])


@pytest.mark.embedded
def test_the_embedded_model_and_encoder_can_tag(shipped):
    from backend.models import embedded

    if not (embedded.cache_folder() / "models").exists():
        pytest.skip("needs the embedded model in the cache folder; run `make model`")
    from backend.models.loading import load_model
    from backend.models.sentences import load_encoder

    texts = [
        "First I need to multiply the two numbers.",
        " 3 * 4 = 12, and 12 + 5 = 17.",
        " Wait, that can't be right, let me reconsider this.",
        " Let me check: 12 + 5 = 17 is correct.",
        " The final answer is \\boxed{17}.",
    ]
    chain = Chain.encoded(load_encoder().encode, texts, "What is 3 times 4, and 5 more?")
    assert [found[0][0] for found in shipped.predict(chain)] == [
        "plan_generation",
        "active_computation",
        "uncertainty_management",
        "self_checking",
        "final_answer_emission",
    ]
    labelled = label_with_chat_model(load_model("embedded:SmolLM2-135M-Instruct"), texts[:1])
    assert labelled[0][0][0] in CATEGORIES


def test_the_shipped_file_is_plain_json(shipped):
    from backend.cot.categories import ASSETS

    content = json.loads((ASSETS / "classifier.json").read_text())
    assert content["version"] == shipped.version
    assert (ASSETS / "README.md").read_text().startswith(f"# Category classifier {shipped.version}")
