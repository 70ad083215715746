from itertools import combinations

import pytest

from backend.latent.kinds import LatentError
from backend.latent.published import DEFECTS, PUBLISHED, Arm, Move, defects_of, moves_of, taken_apart


def test_each_published_defect_can_be_switched_alone_and_mended_alone():
    for space, published in PUBLISHED.items():
        assert published <= set(defects_of(space))
        arms = taken_apart(space)
        assert arms[0] == Arm(space, published) and arms[-1] == Arm(space)
        assert {arm.defects for arm in arms} == {
            published,
            frozenset(),
            *(published - {name} for name in published),
            *(frozenset({name}) for name in published),
        }


def test_what_was_published_is_called_so_and_what_is_ours_too():
    published = PUBLISHED["h"]
    assert Arm("h", published).label == "as published" and Arm("h").label == "ours"
    assert Arm("h", published - {"flipped"}).label == "published, flipped sign mended"
    assert Arm("kv", frozenset({"rotated"})).label == "ours with rotated keys"


def test_the_published_hidden_steering_adds_hidden_states_to_embeddings():
    assert Arm("h", PUBLISHED["h"]).move == Move("z", "h", scored_means=True)
    assert Arm("h").move == Move("h", "h") and Arm("z").move == Move("z", "z")
    assert Arm("kv", PUBLISHED["kv"]).move == Move("kv", "kv", rotated=True, scored_means=True)
    with pytest.raises(LatentError, match="no study did so"):
        Move("h", "z")


def test_sign_label_and_answer_need_no_runs_of_their_own():
    plain = Arm("h")
    views = [Arm("h", frozenset({name})) for name in ("flipped", "one_more", "one_token")]
    assert all(view.move == plain.move for view in views)
    assert [(view.sign, view.shift, view.is_one_token) for view in views] == [
        (-1, 0, False),
        (1, 1, False),
        (1, 0, True),
    ]


def test_what_is_run_is_enough_for_every_subset_of_the_defects():
    run = moves_of(("z", "h", "kv"), published=True)
    for space, published in PUBLISHED.items():
        for n in range(len(published) + 1):
            assert all(Arm(space, frozenset(some)).move in run for some in combinations(sorted(published), n))
    assert len(run) == len(set(run)) == 1 + 4 + 4
    assert moves_of(("z", "h", "kv", "k", "v"), published=False) == tuple(
        Move(space, space) for space in ("z", "h", "kv", "k", "v")
    )
    assert len({move.name for move in run}) == len(run)


def test_a_defect_that_a_space_cannot_have_is_refused():
    with pytest.raises(LatentError, match="rotated keys cannot be switched in h"):
        Arm("h", frozenset({"rotated"}))
    assert set(DEFECTS) == PUBLISHED["h"] | PUBLISHED["kv"]
