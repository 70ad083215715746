"""Traces are right by construction: every equation holds but the slips, every slip is repaired, and the box has the
answer.
"""

import re
from fractions import Fraction

import pytest

from backend.cot.boxes import last_boxed
from backend.cot.problems import Problem, ProblemError
from backend.cot.traces import Manner, inverse, parts, trace
from backend.cot.word_problems import exact_value, generate

PROBLEMS = generate(40, seed=3)
EQUATION = re.compile(r"(?<![\d/.])((?:\(?\d+(?:/\d+)?\)? [-+*/] )+\(?\d+(?:/\d+)?\)?) = (\d+(?:/\d+)?)")
ALWAYS = Manner(slip=1, check=1, route=1)


@pytest.mark.parametrize("manner", [None, ALWAYS, Manner(0, 0, 0), Manner(fine=True)])
def test_every_equation_is_true_but_those_of_the_slips(manner):
    n = 0
    for problem in PROBLEMS:
        made = trace(problem, seed=1, manner=manner)
        equations = EQUATION.findall(made.thinking.replace(", which is ", " = "))
        assert [f"{e} = {v}" for e, v in equations if exact_value(e) != Fraction(v)] == list(made.slips), made.thinking
        n += len(equations)
    assert n > 400


def test_every_slip_is_doubted_and_put_right_in_the_next_sentence():
    for problem in PROBLEMS:
        made = trace(problem, seed=2, manner=ALWAYS)
        for slip in made.slips:
            after = made.thinking.replace(", which is ", " = ").split(f"{slip}.", 1)[1].lstrip()[:90]
            expression = slip.partition(" = ")[0]
            right = str(exact_value(expression))
            assert re.match(r"Wait|Hmm|Hold on|Actually", after) and right in after, made.thinking


def test_the_box_has_the_answer_and_the_thinking_reaches_it():
    for problem in PROBLEMS:
        made = trace(problem, seed=1)
        assert last_boxed(made.response) == problem.answer and problem.answer in made.thinking.rsplit("\n\n", 1)[1]
        assert "boxed" not in made.thinking


def test_the_same_seed_and_number_tell_the_same_and_others_do_not():
    assert trace(PROBLEMS[9], seed=4) == trace(PROBLEMS[9], seed=4)
    assert len({trace(PROBLEMS[9], seed=4, number=k).thinking for k in range(12)}) == 12


def test_no_sentence_stands_in_a_trace_twice_and_few_recur_across_traces():
    everything = []
    for problem in PROBLEMS:
        sentences = re.split(r"(?<=[.?!])\s+", trace(problem, seed=5).thinking)
        assert len(set(sentences)) >= len(sentences) - 1  # "Good." may come twice
        everything += [sentence for sentence in sentences if any(c.isdigit() for c in sentence)]
    assert len(set(everything)) > 0.9 * len(everything)


def test_the_manner_is_that_of_a_reasoner():
    made = [trace(problem, seed=6) for problem in PROBLEMS]
    per_trace = {
        word: sum(len(re.findall(word, one.thinking)) for one in made) / len(made)
        for word in ("Wait", "Therefore|Thus", "Alternatively", "But|However")
    }
    assert per_trace["Wait"] > 0.5 and per_trace["Therefore|Thus"] > 0.7
    assert per_trace["Alternatively"] > 0.2 and per_trace["But|However"] > 0.1
    assert sum(one.n_checks for one in made) > 50 and sum(one.n_routes for one in made) > 50


@pytest.mark.parametrize(
    ("expression", "value", "check"),
    [
        ("7 + 6", "13", "13 - 6 = 7"),
        ("9 - 2", "7", "7 + 2 = 9"),
        ("3 * 4", "12", "12 / 4 = 3"),
        ("70 / 7", "10", "10 * 7 = 70"),
        ("420 * 10 / 100", "42", None),
        ("1 / 4", "1/4", None),
    ],
)
def test_a_check_is_the_inverse_operation(expression, value, check):
    assert inverse(expression, value) == check


@pytest.mark.parametrize("solution", [None, "think hard", "2 + 2 = 5"])
def test_a_problem_without_true_calculations_is_refused(solution):
    with pytest.raises(ProblemError, match="true calculations"):
        trace(Problem("p1", "generator", "k", 1, "What?", "4", solution), seed=1)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("4 * 17", "4 * 10 = 40, 4 * 7 = 28, 40 + 28 = 68"),
        ("298 - 61", "298 - 60 = 238, 238 - 1 = 237"),
        ("16 + 127", "127 + 10 = 137, 137 + 6 = 143"),
        ("240 * 35 / 100", "240 * 30 = 7200, 240 * 5 = 1200, 7200 + 1200 = 8400, 8400 / 100 = 84"),
        ("90 - 90 * 10 / 100", "90 * 10 = 900, 900 / 100 = 9"),
        ("7 * 6", ""),
        ("30 * 40", ""),
        ("72 / 8", ""),
        ("(1/2) / (11/60)", ""),
    ],
)
def test_long_calculations_have_parts_and_plain_ones_none(expression, told):
    assert ", ".join(parts(expression)) == told


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (
            "36 * 75",
            (
                "30 * 70 = 2100, 30 * 5 = 150, 2100 + 150 = 2250, 6 * 70 = 420, 2250 + 420 = 2670, 6 * 5 = 30, 2670 +"
                " 30 = 2700"
            ),
        ),
        ("45 * 2 / 3", "40 * 2 = 80, 5 * 2 = 10, 80 + 10 = 90, 90 / 3 = 30"),
        ("30 * 5 / 100", "30 * 5 = 150, 150 / 50 = 3, 100 / 50 = 2"),
        ("(1/8) + (1/6)", "1/8 = 3/24, 1/6 = 4/24, 3 + 4 = 7"),
        ("308 - (462/5)", "308 = 1540/5, 1540 - 462 = 1078"),
        ("(1/2) / (7/24)", "2 * 7 = 14, 24 / 2 = 12, 14 / 2 = 7"),
        ("6 * (7/5)", "6 * 7 = 42"),
        ("90 / 50", "90 / 10 = 9, 50 / 10 = 5"),
        ("7 * 6", ""),
        ("72 / 8", ""),
        ("1 / 8", ""),
    ],
)
def test_fine_parts_go_digit_by_digit_and_by_common_denominators(expression, told):
    assert ", ".join(parts(expression, fine=True)) == told


@pytest.mark.parametrize("fine", [False, True])
def test_parts_are_true_and_end_in_what_the_result_needs(fine):
    expressions = {line.partition(" = ")[0] for problem in PROBLEMS for line in problem.solution.splitlines()}
    told = {expression: parts(expression, fine=fine) for expression in expressions if parts(expression, fine=fine)}
    assert len(told) > 50
    for expression, equations in told.items():
        assert all(exact_value(e) == Fraction(v) for e, v in (equation.split(" = ") for equation in equations)), (
            expression
        )
        if re.fullmatch(r"\d+ [-+*] \d+|\d+ \* \d+ / \d+", expression) and exact_value(expression).denominator == 1:
            assert equations[-1].endswith(f" = {exact_value(expression)}")
