"""A sentence for a person has no codes that steer a terminal, whatever other libraries and files put into it."""

import pytest

from backend.errors import AnchorscopeError, plain, words_of


class Ours(AnchorscopeError):
    pass


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Weights only load failed. \x1b[1mdo those steps\x1b[0m.", "Weights only load failed. do those steps."),
        ("\x1b[38;5;196mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07file", "file"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x9b31mb\x00c\x7f", "abc"),
        ("cut off \x1b[1", "cut off "),
        ("carriage\rreturn", "carriagereturn"),
        ("two\nlines\tand a tab, ñ, 数", "two\nlines\tand a tab, ñ, 数"),
    ],
)
def test_every_error_of_ours_is_shown_without_terminal_codes(said, shown):
    assert str(Ours(said)) == shown == plain(said)


def test_of_another_librarys_error_the_first_line_is_shown_or_its_type():
    assert words_of(ValueError("\n\x1b[31mfirst\x1b[0m\nsecond")) == "first"
    assert words_of(KeyError()) == "KeyError"
    assert words_of(ValueError("x" * 500), 20) == "x" * 20
