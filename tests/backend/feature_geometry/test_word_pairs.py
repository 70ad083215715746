"""Which pairs of a folder take part, and what is wrong with a folder that cannot be read."""

import json

import pytest

from backend.feature_geometry.word_pairs import OWN, WordPair, WordPairsError, digest, read_classes, single_tokens
from tests.shared_data import shared_folder


def whole(word):
    """A tokenizer that has words of up to five letters."""
    return [1] if len(word) <= 5 else [1, 2]


def test_pairs_of_several_tokens_and_duplicates_are_left_out_and_counted_by_reason():
    pairs = [
        WordPair("king", "queen"), WordPair("emperor", "girl"), WordPair("boy", "empress"),
        WordPair("emperor", "empress"), WordPair("king", "queen"), WordPair("deer", "deer"), WordPair("king", "wife"),
    ]  # fmt: skip
    found = single_tokens(pairs, [whole])
    assert found.pairs == (pairs[0], pairs[6]) and found.n == 7
    assert found.left_out == {"input": 1, "output": 1, "both": 1, "duplicate": 2}


def test_a_word_must_be_one_token_of_every_model():
    found = single_tokens([WordPair("king", "queen")], [whole, lambda word: list(word)])
    assert found.pairs == () and found.left_out["both"] == 1


def test_our_own_classes_are_plain_pairs_enough():
    classes = read_classes(OWN)
    assert len(classes) >= 10
    for pairs in classes.values():
        assert len(pairs) >= 20
        assert all(" " not in word for pair in pairs for word in (pair.input, pair.output))
        assert len(set(pairs)) == len(pairs)


def test_other_keys_of_an_entry_are_not_read(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps([{"input": " hot", "output": "cold ", "source": 3}]))
    classes = read_classes(tmp_path)
    assert classes == {"b": (WordPair("hot", "cold"),)}
    assert digest(classes) != digest({"b": (WordPair("hot", "cool"),)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "entry 0"),
        ('[{"input": "a"}]', "entry 0"),
        ('[{"input": "a", "output": " "}]', "entry 0"),
        ("{}", "list"),
        ("[", "JSON"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused_by_file_and_place(tmp_path, text, said):
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(WordPairsError, match=rf"odd\.json.*{said}"):
        read_classes(tmp_path)


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(WordPairsError, match=r"no \*\.json"):
        read_classes(tmp_path)


def test_a_folder_of_published_word_pairs_is_read():
    classes = read_classes(shared_folder("word_pairs"))
    assert {"antonym", "country-capital", "next_item"} <= classes.keys()
    assert all(pair.input and pair.output for pairs in classes.values() for pair in pairs)
