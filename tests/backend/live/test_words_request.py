"""What the worker reads of single words, and the direction that is made of three."""

import numpy as np
import pytest

from backend.geometry.direction_kinds import DirectionSpec, SpecError
from backend.geometry.direction_library import make_direction
from backend.live.jobs import Reader
from backend.live.requests import RequestError, Words
from backend.live.words import words
from backend.models.residuals import record_residuals
from backend.models.word_contexts import WordError, before, vocabulary
from backend.store.store import Store
from tests import steerable_study


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


@pytest.fixture(scope="module")
def there(reader):
    """Three words of one token, with their ids."""
    return list(vocabulary(reader.loaded.tokenizer, leading_space=True).items())[:3]


def read(reader, request) -> dict:
    return {key: value for _, part in words(reader, request) for key, value in part.items()}


def test_words_are_read_at_the_layer_in_their_context(reader, there):
    first = before(reader.loaded.tokenizer, "phrase")
    found = read(reader, Words(tuple(word for _, word in there), 2))
    assert found["revision"] == reader.loaded.revision
    for token, word in there:
        expected = record_residuals(reader.loaded, [*first, token], [2])[2][-1].numpy()
        np.testing.assert_allclose(found["vectors"][word], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (lambda: Words(("xylophone",), 1), WordError, "“xylophone” is .* tokens of this model"),
        (lambda: Words(("a",), 9), RequestError, "layers 0 to 3"),
        (lambda: Words((" ",), 1), RequestError, "1 to 60 characters"),
        (lambda: Words(("a",), 1, "dream"), RequestError, "no context 'dream'"),
    ],
)
def test_what_cannot_be_read_is_refused(reader, asked, error, said):
    with pytest.raises(error, match=said):
        read(reader, asked())


def test_an_analogy_is_b_less_a_plus_c_at_its_length_and_says_how_it_was_made(tiny, reader, there, tmp_path):
    store = Store(steerable_study.make(tmp_path / "s", tiny("llama")))
    a, b, c = (word for _, word in there)
    spec = DirectionSpec("analogy", reader.loaded.model_id, 2, word_a=a, word_b=b, word_c=c, context="bos")
    vectors = read(reader, Words(spec.words, 2, "bos"))["vectors"]
    made = make_direction(store, DirectionSpec.from_json(spec.to_json()), words=vectors)
    expected = vectors[b].astype(float) - vectors[a] + vectors[c]
    np.testing.assert_allclose(made.vector * made.norm, expected, rtol=1e-4, atol=1e-4)
    for part in (f'"a": "{a}"', f'"b": "{b}"', f'"c": "{c}"', '"context": "bos"'):
        assert part in made.parameters
    with pytest.raises(SpecError, match=f"“{a}” has not been read at layer 2"):
        make_direction(store, spec)
    store.close()


def test_an_analogy_needs_three_words_and_a_context_that_there_is():
    with pytest.raises(SpecError, match="needs word_c"):
        DirectionSpec("analogy", "m", 1, word_a="a", word_b="b")
    with pytest.raises(SpecError, match="no context 'dream'"):
        DirectionSpec("analogy", "m", 1, word_a="a", word_b="b", word_c="c", context="dream")
