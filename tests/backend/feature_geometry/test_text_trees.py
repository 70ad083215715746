"""Which streams of texts count: each once, none that two problems have, and those of some problems held out."""

from backend.feature_geometry.text_trees import (
    Continuation,
    TextTree,
    corpus_of,
    held_out_problems,
    with_own_positions,
)


def counted(trees):
    """Beginnings of texts whose last stream counts, as often as it does."""
    found = []
    for tree in with_own_positions(trees):
        found += [tree.token_ids[: end + 1] for end in range(tree.own, len(tree.token_ids))]
        for one in tree.continuations:
            whole = (*tree.token_ids[: one.start], *one.token_ids)
            found += [whole[: one.start + end + 1] for end in range(one.own, len(one.token_ids))]
    return found


TREES = [
    TextTree("a", "p", (1, 2, 3, 4, 5), (Continuation(3, (4, 9)), Continuation(3, (4, 9)), Continuation(2, (7,)))),
    TextTree("b", "p", (1, 2, 3, 8)),
    TextTree("c", "q", (1, 2, 6, 6)),
]


def test_each_stream_counts_once_and_none_that_two_problems_have():
    found = counted(TREES)
    assert len(found) == len(set(found))
    every = {
        tuple(whole[: end + 1])
        for tree in TREES
        for whole in (tree.token_ids, *((*tree.token_ids[: one.start], *one.token_ids) for one in tree.continuations))
        for end in range(1, len(whole))
    }
    assert set(found) == every - {(1, 2)}, "(1, 2) begins texts of both problems; a first token never counts"


def test_rows_are_those_that_count_and_what_has_none_is_left_out():
    trees = with_own_positions([*TREES, TextTree("d", "q", (1, 2, 6, 6))])
    assert [tree.text_id for tree in trees] == ["a", "b", "c"]
    assert sum(tree.n_rows for tree in trees) == len(counted(TREES))
    assert [len(tree.continuations) for tree in trees] == [2, 0, 0], "a continuation twice is one"


def test_held_out_problems_share_no_text_with_those_learned_from():
    trees = [
        TextTree(f"{number}.{sample}", f"p{number}", (0, number, *range(9 + sample)))
        for number in range(10)
        for sample in range(2)
    ]
    told = {"tokens": 10**6, "held_out": 10**6, "share": 0.2, "seed": 3, "max_tokens": 100}
    corpus = corpus_of(trees, **told)
    learned, held_out = ({tree.problem_id for tree in part} for part in (corpus.learned, corpus.held_out))
    assert len(held_out) == 2 and not learned & held_out and len(learned) == 8
    assert corpus.n_available == corpus.n_learned
    again = corpus_of(trees[::-1], **told)
    assert {tree.problem_id for tree in again.held_out} == held_out
    few = corpus_of(trees, **(told | {"tokens": 12, "held_out": 1}))
    assert 12 <= few.n_learned < 12 + 11 and few.n_available == corpus.n_available and few.digest != corpus.digest
    assert held_out_problems(["only"], 0.5, 0) == set() and len(held_out_problems(["one", "two"], 0.9, 0)) == 1


def test_texts_are_cut_and_nothing_continues_from_beyond_the_cut():
    tree = TextTree(
        "a", "p", tuple(range(10)), (Continuation(3, (7,) * 9), Continuation(6, (1,)), Continuation(0, (1,)))
    )
    corpus = corpus_of([tree, TextTree("b", "q", (0, 50))], tokens=100, held_out=100, share=0.5, seed=0, max_tokens=5)
    (cut,) = (one for one in corpus.trees if one.text_id == "a")
    assert cut.token_ids == (0, 1, 2, 3, 4)
    assert cut.continuations == (Continuation(3, (7, 7)),)
