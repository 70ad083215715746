from backend.cot.reasoning import target_counts


def test_target_words_count_as_whole_words_in_any_case():
    text = "Wait, 3 + 4 = 8. Hmm, wait. But no waiter or button counts. However, thus far: Therefore 7. Alternatively, 7."
    assert target_counts(text) == {"self-reflection": 2, "deductive": 2, "alternative": 1, "contrastive": 2}
    assert set(target_counts("").values()) == {0}
