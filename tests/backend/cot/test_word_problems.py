import re
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.cot.problems import ProblemError
from backend.cot.word_problems import generate


def recomputed(expression: str) -> Fraction:
    """A second evaluator, apart from the generator's:
    every whole number becomes a Fraction and Python does the rest."""
    assert re.fullmatch(r"[\d+\-*/() ]+", expression), expression
    return eval(re.sub(r"\d+", r"Fraction(\g<0>)", expression), {"Fraction": Fraction})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_every_step_and_the_answer_hold_in_exact_arithmetic(seed):
    for problem in generate(12, seed):
        values = []
        for step in problem.solution.splitlines():
            expression, _, value = step.rpartition(" = ")
            assert recomputed(expression) == Fraction(value), problem
            values.append(Fraction(value))
        assert str(values[-1]) == problem.answer
        assert all(value > 0 for value in values), problem


def test_every_number_of_a_step_is_in_the_question_or_an_earlier_result():
    units = {"100", "1000", "60", "1", "2"}  # per cent, milliliters, minutes, a whole job, two aunts
    for problem in generate(60, seed=3):
        known = set(re.findall(r"\d+(?:/\d+)?", problem.question)) | set(re.findall(r"\d+", problem.question)) | units
        for step in problem.solution.splitlines():
            expression, _, value = step.rpartition(" = ")
            if problem.level == 1 and "/" in expression:
                known.add(expression.split(" / ")[0])
            for number in re.findall(r"\(\d+/\d+\)|\d+", expression):
                assert number.strip("()") in known, (number, problem)
            known.add(value)


def test_levels_take_more_steps():
    problems = generate(60, seed=1)
    steps = {level: [len(p.solution.splitlines()) for p in problems if p.level == level] for level in range(1, 6)}
    assert set(steps[1]) == {1}
    assert set(steps[2]) == {2}
    assert set(steps[3]) == {3}
    assert set(steps[4]) <= {3, 4}
    assert set(steps[5]) <= {4, 5, 6}


def test_the_easy_levels_stay_small_and_whole():
    for problem in generate({1: 200, 2: 200}, seed=2):
        assert Fraction(problem.answer).denominator == 1
        assert int(problem.answer) <= 50


def test_no_question_and_no_id_comes_twice():
    problems = generate(300, seed=0)
    assert (
        len({p.question for p in problems})
        == len({p.problem_id for p in problems})
        == len({p.source_key for p in problems})
        == 1500
    )


def test_wording_varies():
    openings = Counter(re.sub(r"[A-Z]\w+|\d+", "_", p.question)[:25] for p in generate(50, seed=0))
    assert len(openings) > 60


def test_the_seed_decides_and_more_problems_begin_with_the_same():
    assert generate(5, seed=4) == generate(5, seed=4)
    assert generate(5, seed=4) != generate(5, seed=5)
    assert generate({2: 30}, seed=4)[:5] == generate({2: 5}, seed=4)
    assert generate({1: 3, 2: 5}, seed=4)[3:] == generate({2: 5}, seed=4)


@pytest.mark.parametrize("wish", [{6: 1}, {0: 1}, {1: -1}, -1])
def test_levels_and_counts_out_of_range_are_refused(wish):
    with pytest.raises(ProblemError, match="levels are 1 to 5"):
        generate(wish, seed=0)


def test_more_problems_than_there_are_is_said():
    from backend.cot import word_problems as problems

    one = {1: (lambda story: (story.work("1 + 1"), "How many are 1 and 1?")[1],)}
    original, problems.TEMPLATES = problems.TEMPLATES, one
    try:
        with pytest.raises(ProblemError, match="only 1 different problems of level 1 were found, 2 were asked for"):
            generate({1: 2}, seed=0)
    finally:
        problems.TEMPLATES = original
