import pytest
import torch

from backend.latent.kinds import LatentError
from backend.latent.vectors import Vector, differences, pairs_of, random_like, stacked


def of(space, *rows):
    return Vector(space, (torch.tensor(rows),))


MEANS = {1: of("z", [1.0, 0.0]), 2: of("z", [0.0, 2.0]), 3: of("z", [4.0, 4.0])}


def test_pairs_are_unordered_and_begin_with_the_earlier_latent():
    assert pairs_of(3) == ((1, 2), (1, 3), (2, 3))


def test_the_direction_of_a_pair_is_the_mean_of_the_first_less_that_of_the_second():
    """Defect 2: the sign that the name says."""
    found = differences(MEANS, [(1, 2), (2, 3)])
    assert found.space == "z" and found.parts[0].tolist() == [[1.0, -2.0], [-4.0, -2.0]]


def test_a_vector_of_one_space_is_not_added_in_another_of_equal_width():
    """Defect 1: a difference of hidden states was added to an embedding."""
    hidden, embedding = of("h", [1.0, 2.0]), of("z", [1.0, 2.0])
    for use in (lambda: hidden + embedding, lambda: hidden - embedding, lambda: stacked([hidden, embedding])):
        with pytest.raises(LatentError, match="another space, also where both are as wide"):
            use()
    with pytest.raises(LatentError, match="h, before the projection was to be added in z"):
        hidden.require("z")


def test_what_a_published_study_did_must_be_said():
    hidden = of("h", [1.0, 2.0])
    assert hidden.taken_for("z").space == "z" and torch.equal(hidden.taken_for("z").parts[0], hidden.parts[0])
    with pytest.raises(LatentError, match="cannot be taken for"):
        hidden.taken_for("kv")
    with pytest.raises(LatentError, match="no space of latents 'x'"):
        of("x", [1.0])


def test_random_vectors_are_as_long_as_the_others_typically_are_in_each_part():
    vectors = Vector("kv", (torch.tensor([[[3.0, 0.0]], [[0.0, 5.0]]]), torch.tensor([[[0.1, 0.0]], [[0.0, 0.1]]])))
    found = random_like(vectors, 50, seed=1)
    typical = torch.tensor([17.0**0.5, 0.1]).double().expand(50, 2)  # root mean square of 3 and 5, of 0.1 and 0.1
    torch.testing.assert_close(found.norms, typical, atol=1e-6, rtol=1e-6)
    assert found.parts[0].shape == (50, 1, 2) and found.space == "kv"
    torch.testing.assert_close(found.length, (typical**2).sum(1).sqrt(), atol=1e-6, rtol=1e-6)


def test_random_directions_point_everywhere_and_follow_from_the_seed():
    vectors = of("h", [1.0] * 8)
    found, again, other = (random_like(vectors, 400, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(found.parts[0], again.parts[0]) and not torch.equal(found.parts[0], other.parts[0])
    assert found.parts[0].mean(0).abs().max() < 0.2
    squares = (found.parts[0] ** 2).mean(0)  # 8 coordinates share a length of √8: 1 each on average
    assert (squares - 1).abs().max() < 0.25
