"""Each token has one kind, by what stands there."""

import pytest

from backend.lens.positions import ALL, POSITION_KINDS, Places, kinds_in, kinds_of, known_variant

#       prompt   thought                     after it
TEXT = "Q: 2+9? First, 2+9. So it is 11.</t> 11"
OFFSETS = [(0, 2), (2, 6), (6, 7), (7, 13), (13, 14), (14, 19), (19, 22), (22, 28), (28, 30), (30, 31), (31, 32)]
OFFSETS += [(32, 36), (36, 37), (37, 38), (38, 39)]
PLACES = Places(cot=(8, 32), chunks=((8, 20), (20, 32)), answer=(37, 39))


def test_a_token_has_the_kind_of_what_stands_there():
    kinds = kinds_of(TEXT, OFFSETS, PLACES)
    assert kinds[:3] == ["prompt"] * 3
    assert kinds[3] == "chunk_first", "a token that holds the space before it begins the chunk all the same"
    assert [number for number, kind in enumerate(kinds) if kind == "chunk_first"] == [3, 6]
    assert kinds[-2:] == ["answer_digit"] * 2 and kinds[-4:-2] == ["after"] * 2
    assert set(kinds) == {"prompt", "cot", "chunk_first", "after", "answer_digit"}


def test_a_digit_of_the_answer_goes_before_the_first_token_of_a_chunk():
    assert kinds_of("So 11", [(0, 2), (2, 3), (3, 5)], Places((0, 5), ((0, 3), (3, 5)), (3, 5))) == [
        "chunk_first",
        "cot",
        "answer_digit",
    ]


def test_of_an_answer_only_the_digits_count_and_without_one_there_are_none():
    of = ("x=4", [(0, 1), (1, 2), (2, 3)])
    assert kinds_of(*of, Places((0, 3), ((0, 3),), (0, 3))) == ["chunk_first", "cot", "answer_digit"]
    assert kinds_of(*of, Places((0, 3), ((0, 3),), None)) == ["chunk_first", "cot", "cot"]


def test_a_token_that_ends_one_chunk_and_begins_the_next_is_the_first_of_that():
    assert kinds_of("a. b", [(0, 1), (1, 4)], Places((0, 4), ((0, 3), (3, 4)), None)) == ["chunk_first"] * 2


def test_a_variant_names_kinds_in_the_registrys_order():
    assert known_variant("answer_digit+cot") == "cot+answer_digit"
    assert kinds_in("cot+answer_digit") == {"cot", "answer_digit"}
    assert known_variant(ALL) == ALL and kinds_in(ALL) == {*POSITION_KINDS}
    with pytest.raises(ValueError, match=r"no kind of position 'digits'; allowed are all, or some of prompt, cot"):
        known_variant("cot+digits")
