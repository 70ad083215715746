import pytest

from backend.importance.numbers import numbers_and_operators, same_numbers

SAME = [
    ("31 + 9 = 40", "So 31+9=40."),
    ("31 + 9 = 40", "9 + 31 = 40"),
    ("She buys 5 pens.", "She buys five pens."),
    ("It costs 1,000 dollars", "It costs $1000$ dollars."),
    ("It costs 1{,}000", "It costs 1000"),
    ("a share of 1/2", "a share of 0.5"),
    ("a share of 1/2", r"a share of $\frac{1}{2}$"),
    (r"\dfrac{3}{4}", "3 / 4"),
    (r"\frac12", "0.50"),
    ("7 − 3 = 4", "7 - 3 = 4"),
    ("3 × 4 = 12", r"3 \times 4 = 12"),
    ("3 x 4 = 12", "3*4=12"),
    ("3 times 4 equals 12", "3 · 4 = 12"),
    ("20 ÷ 4", "20 divided by 4"),
    ("5²", "5^2"),
    ("2 ** 3", "2^3"),
    ("50%", "50 percent"),
    ("50\\%", "50 %"),
    ("twenty-five apples", "25 apples"),
    ("two hundred and 5", "200 and 5"),
    ("one hundred twenty thousand", "120000"),
    ("- 5 pens", "* 5 pens"),
    ("**5** pens", "5 pens"),
    ("a well-known 5", "a known 5"),
    ("5-dollar notes", "5 dollar notes"),
    ("x = -3", "x = −3"),
    ("n - 3", "n − 3"),
    ("No number here.", "None there either"),
    ("", "words"),
    (r"\frac{\frac{1}{2}}{3}", "1/2/3"),
]
DIFFERENT = [
    ("31 + 9 = 40", "31 + 9 = 41"),
    ("31 + 9 = 40", "31 - 9 = 40"),
    ("5 pens", "6 pens"),
    ("20 / 4 = 5", "40 / 8 = 5"),
    ("5 and 5", "5"),
    ("x = 3", "x = -3"),
    ("10 - 3", "10 3"),
    ("2 ≤ 3", "2 < 3"),
    ("1,000", "1, 000"),
    ("0.5", "5"),
    ("two five", "seven"),
    (r"\sqrt{4}", "4"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_numbers_are_the_same_however_they_are_written(one, other):
    assert same_numbers(one, other), (numbers_and_operators(one), numbers_and_operators(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_numbers_or_operators_are_not(one, other):
    assert not same_numbers(one, other), numbers_and_operators(one)


def test_any_text_is_read_and_is_like_itself():
    for text in ("9" * 5000, "٣ + ٤", "\\frac{", "{,}", "-", "1.2.3.4", "½", "--5"):
        assert same_numbers(text, text)
