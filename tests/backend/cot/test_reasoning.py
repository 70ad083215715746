from backend.cot.reasoning import target_counts, target_starts, target_tokens


def test_target_words_count_as_whole_words_in_any_case():
    text = (
        "Wait, 3 + 4 = 8. Hmm, wait. But no waiter or button counts. However, thus far: Therefore 7. Alternatively, 7."
    )
    assert target_counts(text) == {"self-reflection": 2, "deductive": 2, "alternative": 1, "contrastive": 2}
    assert set(target_counts("").values()) == {0}


def test_target_words_are_found_where_they_begin():
    text = "But wait, however 3 = 3. Thus however."
    starts = target_starts(text)
    assert {name: len(found) for name, found in starts.items()} == target_counts(text)
    assert [text[start : start + 7] for start in starts["contrastive"]] == ["But wai", "however", "however"]


def test_a_token_begins_a_target_word_if_it_has_its_first_letter():
    prompt, text = "Wait: ", "No. Wait, 3\nWAIT! waiter (wait Thus"
    tokens = ["Wait", ": ", "No.", " ", "Wa", "it,", " 3\nW", "AIT", "!", " wait", "er ", "(wait", " ", "Th", "us"]
    assert "".join(tokens) == prompt + text
    assert target_tokens(tokens, 2, prompt, text) == {
        "self-reflection": [4],
        "deductive": [13],
        "alternative": [],
        "contrastive": [],
    }
    assert target_tokens(tokens, 5, prompt, text)["self-reflection"] == []
