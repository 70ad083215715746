from backend.cot.reasoning import target_counts, target_starts


def test_target_words_count_as_whole_words_in_any_case():
    text = "Wait, 3 + 4 = 8. Hmm, wait. But no waiter or button counts. However, thus far: Therefore 7. Alternatively, 7."
    assert target_counts(text) == {"self-reflection": 2, "deductive": 2, "alternative": 1, "contrastive": 2}
    assert set(target_counts("").values()) == {0}


def test_target_words_are_found_where_they_begin():
    text = "But wait, however 3 = 3. Thus however."
    starts = target_starts(text)
    assert {name: len(found) for name, found in starts.items()} == target_counts(text)
    assert [text[start : start + 7] for start in starts["contrastive"]] == ["But wai", "however", "however"]
