"""What lenses say of latents: the last row is the model, ranks and probabilities are those of a plain reference."""

import numpy as np
import pytest
import torch

from backend.latent.problems import LatentProblem
from backend.latent.readings import Followed, Reader, Vocabulary, followed, joined, read_all
from backend.latent.recording import record_all
from backend.latent.tasks import PERMUTATIONS
from tests.latent_models import tiny_latent

K = 3


@pytest.fixture(scope="module")
def model():
    return tiny_latent()


@pytest.fixture(scope="module")
def problems():
    return PERMUTATIONS.problems(10, steps=[2], seed=1, held_out=False)


@pytest.fixture(scope="module")
def words(problems):
    return followed(problems, ["hops", "therefore"])


@pytest.fixture(scope="module")
def recorded(model, problems):
    return record_all(model, problems, K)


@pytest.fixture(scope="module")
def found(model, recorded, words):
    return read_all(Reader(model, words), recorded, {"tuned": lambda stream, layer: stream})


def test_the_last_row_of_the_logit_lens_is_the_model_itself_bit_for_bit(model, recorded, found):
    log_p = model.model.lm_head(recorded.h).double().log_softmax(-1)
    own = found["logit", model.n_layers - 1]
    assert np.array_equal(own.token, log_p.argmax(-1))
    assert np.array_equal(own.probability, log_p.max(-1).values.exp())
    assert np.allclose(own.entropy, -(log_p.exp() * log_p).sum(-1), rtol=1e-12)


def test_an_identity_reads_what_the_logit_lens_reads(found):
    for part in ("token", "entropy", "rank", "log_prob", "numbers"):
        assert np.array_equal(getattr(found["tuned", 0], part), getattr(found["logit", 0], part), equal_nan=True)
    assert ("tuned", 1) not in found  # the model itself


def test_rank_and_probability_of_a_word_are_counted_by_hand(model, recorded, words, found):
    log_p = model.model.lm_head(model.model.base_model.norm(recorded.streams[:, :, 0])).double().log_softmax(-1)
    own = found["logit", 0]
    for row, one in enumerate(words):
        for column, word in enumerate(one.words[:-1]):
            token = model.tokenizer.convert_tokens_to_ids(word)
            for step in range(K + 1):
                assert own.log_prob[row, column, step] == pytest.approx(float(log_p[row, step, token]))
                better = (log_p[row, step] > log_p[row, step, token]).sum()
                assert own.rank[row, column, step] == 1 + int(better)


def test_a_word_that_the_vocabulary_does_not_have_is_unknown(found):
    own = found["logit", 0]
    assert (own.rank[:, -1] == 0).all() and np.isnan(own.log_prob[:, -1]).all()


def test_numbers_have_the_probability_of_their_tokens(model, recorded, words, found):
    reader = Reader(model, words)
    assert list(reader.numbers) == list(range(100))
    p = model.model.lm_head(recorded.h).double().softmax(-1)
    assert np.allclose(found["logit", 1].numbers, p[..., [own[0] for own in reader.numbers.values()]])


def test_the_difference_reads_the_stream_less_the_one_before_it(model, recorded, found):
    moved = recorded.streams[:, 2, 0] - recorded.streams[:, 1, 0]
    log_p = model.model.lm_head(model.model.base_model.norm(moved)).double().log_softmax(-1)
    assert np.array_equal(found["difference", 0].token[:, 1], log_p.argmax(-1))
    assert found["difference", 0].token.shape == (10, K)


def test_the_nearest_embedding_of_z_is_found_by_cosine(model, recorded, found):
    table = model.model.get_input_embeddings().weight
    cosines = torch.nn.functional.cosine_similarity(recorded.z[:, :, None], table, dim=-1)
    own = found["embedding", -1]
    assert np.array_equal(own.token, cosines.argmax(-1))
    assert np.allclose(own.cosine, cosines.max(-1).values, atol=1e-6)
    assert np.isnan(own.probability).all() and np.isnan(own.entropy).all() and (own.rank[:, 0] > 0).all()
    assert found["embedding", 2].token.shape == (10, K + 1)


def test_an_embedding_is_nearest_to_itself(model, words):
    table = model.model.get_input_embeddings().weight
    own = Reader(model, words[:1]).nearest(3 * table[None, 7:12])
    assert own.token.tolist() == [[7, 8, 9, 10, 11]]


def test_problems_read_in_parts_are_the_problems(model, recorded, words, monkeypatch):
    whole = Reader(model, words).read(recorded.streams[:, :, 0])
    monkeypatch.setattr("backend.latent.readings._AT_ONCE", 3 * (K + 1) * 200)
    parts = Reader(model, words).read(recorded.streams[:, :, 0])
    assert np.array_equal(whole.token, parts.token) and np.allclose(whole.entropy, parts.entropy)
    assert len(joined([whole, parts]).token) == 20


def test_controls_are_no_numbers_of_the_problem():
    def problem(name, answer, intermediates, operands):
        return LatentProblem(name, "", answer, (*intermediates, answer), operands, False)

    problems = [problem("a", "4", ("2",), ("2", "7")), problem("b", "2", ("9",), ("9",)), problem("c", "5", (), ("1",))]
    found = followed(problems, ["so"])
    assert found[0] == Followed("4", "5", "7", ("2",), ("so",))  # b's answer is a result of a
    assert found[1].operand is None and found[2].other == "4"


def test_a_model_without_latents_is_read_at_position_0(problems, words):
    none = tiny_latent("none")
    found = read_all(Reader(none, words), record_all(none, problems, 0), {})
    assert set(found) == {("logit", 0), ("logit", 1), ("embedding", 2)}
    assert found["logit", 0].token.shape == (10, 1)


def test_a_number_of_several_digits_is_a_number_where_it_is_one_token(model):
    assert Vocabulary(model).numbers()[42] == [42]
