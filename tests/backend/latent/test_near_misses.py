"""Near misses, counted by hand."""

import numpy as np
import pytest

from backend.latent.near_misses import ANY, near_rows, sets_of
from backend.latent.problems import LatentProblem


def problem(answer, intermediates=(), operands=()):
    texts = [str(one) for one in (*intermediates, answer)]
    return LatentProblem("p", "", str(answer), tuple(texts), tuple(map(str, operands)), False)


NUMBERS = range(1000)


def near(problem_, kind):
    return np.flatnonzero(sets_of(NUMBERS, [problem_], []).near[kind][0]).tolist()


def test_twice_the_answer_and_3_percent_of_it():
    own = problem(360, operands=[600])
    assert near(own, "twice") == [720]
    assert near(own, "close") == [*range(350, 360), *range(361, 371)]
    assert near(own, "operand") == [960]
    assert len(near(own, ANY)) == 22


def test_an_operand_more_or_less_but_not_what_the_problem_holds_anyway():
    own = problem(50, intermediates=[43], operands=[7, 10, 0])
    assert near(own, "operand") == [40, 57, 60]  # 43 is an intermediate
    assert near(problem(0, operands=[5]), "twice") == []  # 2 · 0 is the answer


def test_shares_are_of_wrong_numbers_alone():
    scored = [problem(4, operands=[1]), problem(6, operands=[1])]
    sets = sets_of(range(10), scored, [problem(8), problem(8), problem(3), problem(4)])
    assert sets.frequency.tolist() == [0, 0, 0, 0.25, 0.25, 0, 0, 0, 0.5, 0]
    mass = np.zeros((2, 10))
    mass[0, [4, 8, 5, 0]] = 0.5, 0.2, 0.1, 0.1  # half on the answer; 8 is twice it, 5 one more
    mass[1, [5, 9]] = 0.3, 0.3
    rows = {(row["kind"], row["measure"]): row for row in near_rows(sets, mass[:, None], np.array([[8], [-1]]), seed=0)}
    twice = rows["twice", "probability"]
    assert twice["share"] == pytest.approx(0.5) and twice["n_problems"] == 1  # 12 is no number of the vocabulary
    assert twice["chance_answers"] == pytest.approx(0.5 / 0.75)  # 8 among 8 and 3: 4 is the answer
    assert twice["chance_readings"] == 0  # the other problem says 5 and 9
    operand = rows["operand", "probability"]
    assert operand["share"] == pytest.approx((0.25 + 0.5) / 2) and operand["n_problems"] == 2
    assert rows["twice", "top"]["share"] == 1 and rows["twice", "top"]["n_problems"] == 1
    assert rows["operand", "top"]["share"] == 0


def test_what_is_drawn_by_the_answers_is_in_no_excess_and_what_is_planted_is_found():
    rng = np.random.default_rng(0)
    scored = [problem(int(answer), operands=[3]) for answer in rng.integers(10, 40, 300)]
    others = [problem(int(answer)) for answer in rng.integers(0, 100, 4000)]
    sets = sets_of(range(100), scored, others)
    top = rng.integers(0, 100, 300)

    def excess(top_):
        found = near_rows(sets, np.full((300, 1, 100), 0.01), np.array(top_)[:, None], seed=0)
        return next(row for row in found if (row["kind"], row["measure"]) == ("twice", "top"))

    assert excess(top)["p_answers"] > 0.05 and excess(top)["p_readings"] > 0.05
    planted = np.where(rng.random(300) < 0.1, [2 * int(one.answer) for one in scored], top)
    assert excess(planted)["excess_answers_low"] > 0.03 and excess(planted)["p_readings"] < 0.001


def test_a_number_that_is_always_said_is_no_near_miss():
    scored = [problem(answer, operands=[1]) for answer in range(10, 40)]
    sets = sets_of(range(100), scored, scored)
    always = np.full((30, 1), 40)
    rows = near_rows(sets, np.eye(100)[always], always, seed=0)  # 40 whatever is asked
    found = next(row for row in rows if (row["kind"], row["measure"]) == ("twice", "top"))
    assert found["share"] > 0 and found["excess_readings"] == pytest.approx(0)
