from dataclasses import replace

import pandas as pd

from backend.latent import steering_words
from backend.latent.outcomes import AgainstRandom, Estimated
from backend.latent.published import PUBLISHED, Arm, taken_apart
from backend.latent.steering_words import Part

NONE = AgainstRandom(500, 15, 20, 90, 0, 0, 120, 3, -0.01, -0.008, -0.002, -0.02, 0.015, 0.6, 0.02, 0.02, 0.7, 0.08)


def test_a_map_like_random_is_said_to_be_and_with_what_would_have_been_found():
    said = steering_words.of_map(NONE, early=True)
    assert (
        "No cell of 90 differs from the unsteered run of the same length after Holm, when the answer is forced" in said
    )
    assert (
        "of 120 cells of random vectors 3 (2%) pass its strictest bar" in said
        and "Not told from random vectors: differences change accuracy by -1.0 points" in said
    )
    assert "A change of 8.0 points in a single cell would be found four times in five (n = 500 problems" in said


def test_an_effect_needs_its_interval_and_its_permutations():
    helps = replace(NONE, difference=0.05, low=0.02, high=0.08, p_helps=0.001)
    assert steering_words.verdict(helps) == "Above random vectors"
    assert steering_words.verdict(replace(helps, p_helps=0.2)) == "Not told from random vectors"
    assert steering_words.verdict(replace(helps, low=-0.01)) == "Not told from random vectors"
    assert steering_words.verdict(replace(helps, difference=-0.05, low=-0.08, high=-0.02)) == "Below random vectors"
    moves = replace(NONE, p_moves=0.01, size_pairs=0.1)
    assert steering_words.verdict(moves) == "No better or worse than random vectors, but accuracy moves more"
    assert steering_words.verdict(replace(NONE, difference=float("nan"))) == "Unknown"


def part(arm, value):
    like = Estimated(value, value - 0.1, min(1.0, value + 0.1), 50)
    return Part(arm, like, like, like, Estimated(value / 10, value / 10 - 0.01, value / 10 + 0.01, 50))


def test_the_defect_whose_mending_changes_the_published_map_most_is_named():
    parts = [part(arm, 0.9) for arm in taken_apart("h")]
    mended = Arm("h", PUBLISHED["h"] - {"flipped"})
    parts = [part(mended, -0.6) if one.arm == mended else one for one in parts]
    said = steering_words.of_parts("h", parts)
    assert said.startswith("Mending the flipped sign changes the published map most.")
    assert "flipped sign -0.60 [-0.70, -0.50], " in said and "With all of them mended it is 0.90" in said
    assert "unknown" in steering_words.of_parts("h", [])


def test_the_defect_that_hides_a_difference_from_random_vectors_is_named():
    whole, mended = Arm("h", PUBLISHED["h"]), Arm("h", PUBLISHED["h"] - {"wrong_space"})
    parts = [part(arm, {whole: 0.0, mended: -0.9}.get(arm, 0.1)) for arm in taken_apart("h")]
    said = steering_words.of_parts("h", parts)
    assert "As published, differences are not told from random vectors as long: +0.0 points apart [-1.0, +1.0]" in said
    assert "furthest apart with the wrong space mended: -9.0 points [-10.0, -8.0]; with all mended +1.0 points" in said
    assert "7 long, is 8 times as long as one of embeddings" in steering_words.of_lengths(7.0, 0.875)


def test_cells_above_with_both_signs_are_counted():
    table = pd.DataFrame({"a": [1, 1], "b": [2, 3], "target": [5, 5], "p_holm": [0.01, 0.01], "difference": [0.1, 0.1]})
    other = table.assign(difference=[-0.1, 0.1], p_holm=[0.01, 0.3])
    said = steering_words.of_both_signs({1: table, -1: other})
    assert "2 cells are above unsteered with one or the other, and none with both" in said
    assert "1 with both" in steering_words.of_both_signs({1: table, -1: other.assign(p_holm=0.01)})
    assert "has not been run" in steering_words.of_both_signs({1: table})


def test_a_control_that_works_says_from_which_length_on_and_one_that_fails_says_so():
    rows = pd.DataFrame(
        {
            "space": ["z", "z", "h"],
            "target": [2, 2, 2],
            "bound": [0.5, 1.0, 1.0],
            "lengths": [0.5, 0.98, 1.0],
            "difference": [0.01, 0.2, 0.0],
            "low": [-0.01, 0.15, -0.02],
            "high": [0.03, 0.25, 0.02],
            "p_holm": [0.5, 0.001, 1.0],
        }
    )
    said = steering_words.of_fitted(rows)
    assert "in z 1 of 2 help, from 1 typical lengths of a difference on; the most at latent 2, +20.0 points" in said
    assert "in h none of 1 helps (at most +0.0 points [-2.0, +2.0])" in said
    assert "would then say little" in steering_words.of_fitted(rows.iloc[:0])


def test_siblings_are_counted_space_by_space():
    helps = replace(NONE, difference=0.05, low=0.02, high=0.08, p_helps=0.001)
    said = steering_words.of_siblings([("latent", "kv", helps), ("pause", "kv", NONE), ("latent", "h", NONE)])
    assert "kv (latent: above in 1, below in 0 of 1; pause: above in 0, below in 0 of 1)" in said
    assert "h (latent: above in 0, below in 0 of 1)" in said
    assert steering_words.of_siblings([]) == "No map has been run here."
