import re

import pytest

from backend.latent.kinds import LatentError
from backend.latent.problems import TASKS
from backend.latent.stories import EMPLOYEES, KINDS, RECKONINGS, told

STORIES = TASKS["stories"]


def every(held_out):
    n = 10 * sum(one.is_held_out == held_out for one in RECKONINGS) + held_out
    return STORIES.problems(n, steps=(3,), seed=0, held_out=held_out)


def test_every_kind_of_story_tells_every_way_of_reckoning_once():
    problems = [*every(True), *every(False)]
    assert len({problem.question for problem in problems}) == len({problem.problem_id for problem in problems})
    assert len(problems) == len(KINDS) * 2 * 28 * 8 + 1


def test_the_answer_is_what_the_numbers_of_the_question_give():
    for kind in range(len(KINDS)):
        for one in RECKONINGS[::37]:
            problem = told(kind, one)
            x, y, z = map(int, re.findall(r"\d+", problem.question))
            there = x + y if one.adds else x - y
            assert problem.operands == (str(x), str(y), str(z)) and x > y
            assert problem.intermediates == (str(there), str(there * z), str(there * z + there))
            assert problem.answer == problem.intermediates[-1]


def test_joining_and_leaving_are_told_apart_in_every_kind():
    adding, taking = (next(one for one in RECKONINGS if one.adds is adds) for adds in (True, False))
    assert all(told(kind, adding).question != told(kind, taking).question for kind in range(len(KINDS)))


def test_a_way_of_reckoning_is_on_one_side_in_all_stories():
    sides = [{problem.operands + problem.intermediates for problem in every(held_out)} for held_out in (True, False)]
    assert not sides[0] & sides[1]
    assert 0.4 < sum(one.is_held_out for one in RECKONINGS) / len(RECKONINGS) < 0.6


def test_the_published_prompt_is_the_first_held_out_problem_whatever_the_seed():
    for seed in (0, 1):
        assert STORIES.problems(3, steps=(3,), seed=seed, held_out=True)[0] is EMPLOYEES
    promoted, paid = 600 * 30 // 100, 600 * 10 // 100
    assert EMPLOYEES.intermediates == (str(promoted), str(paid), str(600 - promoted - paid)) == ("180", "60", "360")


def test_the_same_seed_draws_the_same_problems_and_another_one_others():
    one, again, other = (STORIES.problems(50, steps=(3,), seed=seed, held_out=False) for seed in (4, 4, 5))
    assert one == again != other


def test_more_problems_than_there_are_and_other_steps_are_refused():
    with pytest.raises(LatentError, match="has 3 steps"):
        STORIES.problems(5, steps=(2, 3), seed=0, held_out=True)
    with pytest.raises(LatentError, match="problems, and 9,999 were asked for"):
        STORIES.problems(9999, steps=(3,), seed=0, held_out=True)
