"""Formulas are set where all of them is known, everything else stays the text it is, and nothing of a text becomes an
element.
"""

import random

import pytest

from app.shared.formulas import DEEPEST, ELEMENTS, parts


def math(text: str):
    """The trees of the formulas in a text."""
    return [part["math"] for part in parts(text) if isinstance(part, dict)]


def elements(tree):
    if isinstance(tree, list):
        yield tree[0]
        for child in tree[1:]:
            yield from elements(child)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("$x$", ["mi", "x"]),
        (r"\(x^2\)", ["msup", ["mi", "x"], ["mn", "2"]]),
        (r"\[a_{1}\]", ["msub", ["mi", "a"], ["mn", "1"]]),
        (r"\boxed{42}", ["boxed", ["mn", "42"]]),
        (r"$\frac{1}{2}$", ["mfrac", ["mn", "1"], ["mn", "2"]]),
        (r"$\frac12$", ["mfrac", ["mn", "1"], ["mn", "2"]]),
        (r"$\sqrt[3]{8}$", ["mroot", ["mn", "8"], ["mn", "3"]]),
        (r"$3 \times 4 = 12$", ["mrow", ["mn", "3"], ["mo", "×"], ["mn", "4"], ["mo", "="], ["mn", "12"]]),
        (r"$\text{5 % of } n_i^2$", ["mrow", ["mtext", "5 % of "], ["msubsup", ["mi", "n"], ["mi", "i"], ["mn", "2"]]]),
        ("$2-3=-1$", ["mrow", ["mn", "2"], ["mo", "−"], ["mn", "3"], ["mo", "="], ["mrow", ["mo", "−"], ["mn", "1"]]]),
        ("$(-x)-1$", ["mrow", ["mo", "("], ["mrow", ["mo", "−"], ["mi", "x"]], ["mo", ")"], ["mo", "−"], ["mn", "1"]]),
        (r"$\left( 1 \right.$", ["mrow", ["mo", "("], ["mn", "1"]]),
    ],
)
def test_a_formula_becomes_its_tree(text, tree):
    assert math(text) == [tree]


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and then $6.",
        r"\$x\$ and \$y\$",
        "no formula, a_b^c, 1 < 2, **b**",
        "$ x $",
        "$unclosed",
        r"\boxed{unclosed",
        r"$\href{javascript:alert(1)}{x}$",
        r"\[\url{http://x.invalid}\]",
        r"$\includegraphics{http://x.invalid/p.png}$",
        r"$\htmlClass{a}{b}$ $\def\a{\a\a}\a$ $\rule{999em}{999em}$",
        r"\(x \unknown y\)",
        "$x^^2$ $x_$ $}$ ${$ $\\frac{1}$ $a & b$ $a^2^3$",
        "$" + "{" * (DEEPEST + 5) + "x" + "}" * (DEEPEST + 5) + "$",
        "$" + r"\sqrt" * 500 + "x$",
        "$" + "x" * 3000 + "$",
        "",
    ],
)
def test_everything_else_stays_text(text):
    assert parts(text) == [text]


@pytest.mark.parametrize("inside", ["<img src=x onerror=alert(1)>", "<script>x</script>", "**b** [a](http://x)"])
def test_what_is_hostile_inside_a_formula_stays_in_strings(inside):
    for text in (f"${inside}$", rf"\({inside}\)", rf"\boxed{{\text{{{inside}}}}}", f"![p](http://x) ${inside}$ <b>"):
        found = parts(text)
        assert "".join(part if isinstance(part, str) else part["tex"] for part in found) == text
        for tree in math(text):
            assert set(elements(tree)) <= set(ELEMENTS)


def test_the_pieces_are_the_text_whatever_it_is():
    draw = random.Random(0)
    marks = ["$", "$$", r"\(", r"\)", r"\[", r"\]", r"\boxed", "{", "}", r"\frac", "^", "_", "x", "12", " ", "\n", "\\"]
    for _ in range(3000):
        text = "".join(draw.choices(marks, k=draw.randint(0, 25)))
        found = parts(text)
        assert "".join(part if isinstance(part, str) else part["tex"] for part in found) == text
        assert all(set(elements(tree)) <= set(ELEMENTS) for tree in math(text))


def test_a_display_is_told_from_what_stands_in_a_line():
    shown = [part["display"] for part in parts(r"a $x$ b \(y\) c \[z\] d $$w$$ e \boxed{5}") if isinstance(part, dict)]
    assert shown == [False, False, True, True, False]
