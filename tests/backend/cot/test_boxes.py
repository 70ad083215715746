import pytest

from backend.cot.boxes import all_boxes, last_box, last_boxed
from tests.hanging import ends


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So we get \boxed{18}.", "18"),
        (r"so we have $\boxed 2$.", "2"),
        (r"so $\boxed2$, as asked", "2"),
        (r"Hence \boxed 2 apples are left.", "2"),
        (r"Hence $\boxed\frac{1}{2}$.", r"\frac{1}{2}"),
        (r"$\boxed 3\sqrt{2}$", r"3\sqrt{2}"),
        (r"$\fbox{3}$", "3"),
        (r"\framebox{3}", "3"),
        ("\x08oxed{7}", "7"),  # what JSON makes of one backslash
        ("\x0cbox{7}", "7"),
        ("\\boxed\n{7}", "7"),
        ("The answer is boxed{7}", "7"),
        (r"\boxed{\boxed{4}}", "4"),
        (r"\boxed{\text{The answer is } \boxed{4}}", "4"),
        (r"A set \{1 } is \boxed {\frac{1}{2}} {", r"\frac{1}{2}"),
        (r"It is \boxed{4}. Now write it in \boxed{}, that is \boxed{\text{answer}} or \boxed{...}.", "4"),
        (r"It is \boxed{4}. No, it is \boxed{5", "4"),  # the cut-off box says nothing
        (r"It is \boxed{5", None),
        ("No box.", None),
    ],
)
def test_what_the_last_box_says(text, answer):
    assert last_boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The solutions are \boxed{-2} and \boxed{3}.", "-2, 3"),
        (r"$x = \boxed{-2}$ or $x = \boxed{3}$", "-2, 3"),
        (r"\boxed{1}, \boxed{2}, and \boxed{3}", "1, 2, 3"),
        (r"\boxed{2} \text{ and } \boxed{3}", "2, 3"),
        (r"\boxed{2}和\boxed{3}", "2, 3"),
        ("\\begin{aligned} x &= \\boxed{2} \\\\\n y &= \\boxed{3} \\end{aligned}", "2, 3"),
        ("(a) \\boxed{2}\n(b) \\boxed{3}", "2, 3"),
        (r"The smallest is \boxed{2} and the largest is \boxed{3}.", "2, 3"),
        (r"\boxed{18}, \boxed{18}", "18"),
        (r"First \boxed{3}, then \boxed{4}", "4"),
        (r"Not \boxed{3} but \boxed{4}", "4"),
        (r"\boxed{3}, so \boxed{4}", "4"),
        ("\\boxed{3}\n\n\\boxed{4}", "4"),
        ("\\boxed{3}\n\\boxed{4}", "4"),  # a model that goes on and on
    ],
)
def test_boxes_are_one_answer_only_where_they_are_stated_together(text, answer):
    assert last_boxed(text) == answer


def test_the_place_of_an_answer_reaches_from_the_first_content_to_the_last():
    text = r"We have \boxed{ 2 } and \boxed{3}; or, in the end, \boxed{ 5 }."
    assert [(box.text, text[box.start : box.end]) for box in all_boxes(text)] == [
        ("2, 3", r"2 } and \boxed{3"),
        ("5", "5"),
    ]
    assert last_box("nothing") is None


def test_time_is_linear_in_the_text():
    with ends():
        assert last_boxed(r"\boxed{" * 20_000) is None
        assert last_boxed(r"\boxed{}" * 100_000) is None
        assert last_boxed(r"\boxed{ab" * 20_000 + "}" * 20_000) == "ab"
        assert last_boxed(r"\boxed " * 100_000) is None
        assert last_boxed("\\boxed" + " " * 200_000) is None
        assert last_boxed(r"\boxed{1}" + "a = " * 100_000 + r"\boxed{2}") == "2"
        assert last_boxed(r"\boxed{1} and " * 50_000) == "1"
