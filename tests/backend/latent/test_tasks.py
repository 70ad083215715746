import re
from collections import Counter

import pytest

from backend.latent.fresh import tokenizer
from backend.latent.kinds import LatentError
from backend.latent.problems import TASKS
from backend.latent.tasks import HALVE_OR_TRIPLE, LOOK_UPS, OURS, PERMUTATIONS


def numbers(text):
    return [int(found) for found in re.findall(r"\d+", text)]


def permuted(question):
    """By following the verbs through a table that one-step problems give; a move that none of them shows is unknown."""
    place, results = moved(question)[1], []
    for verb in moved(question)[0]:
        place = ONE_STEP.get((verb, place))
        results.append(place)
    return results


def moved(question):
    """Verbs, and where it began."""
    verbs, place = re.search(r"The \w+ ([^.]*)\. It began on \w+ (\d+)\.", question).groups()
    order, told = zip(*(verb.split() for verb in verbs.split(", ")), strict=True)
    assert list(order) == ["first", "second", "third", "fourth", "fifth"][: len(order)]
    return told, int(place)


ONE_STEP = {
    (verbs[0], place): int(problem.answer)
    for problem in PERMUTATIONS.problems(150, steps=(1,), seed=9, held_out=False)
    + PERMUTATIONS.problems(15, steps=(1,), seed=9, held_out=True)
    for verbs, place in [moved(problem.question)]
}


def looked_up(question):
    rows = dict(map(int, row) for row in re.findall(r"(\d+) to (\d+)", question))
    place, results = int(re.search(r"Start at (\d+)", question)[1]), []
    for _ in range(
        ["once", "twice", "thrice", "fourfold", "fivefold"].index(re.search(r"ride (\w+)", question)[1]) + 1
    ):
        results.append(place := rows[place])
    return results


def halved_or_tripled(question):
    x, results = numbers(question)[0], []
    for added in numbers(question.partition("Add")[2]):
        x = (x + added) % 50
        x = x // 2 if x % 2 == 0 else (3 * x + 1) % 50
        results.append(x)
    return results


BY_QUESTION = {PERMUTATIONS: permuted, LOOK_UPS: looked_up, HALVE_OR_TRIPLE: halved_or_tripled}


@pytest.fixture(params=OURS, ids=lambda task: task.name)
def task(request):
    return request.param


def test_each_task_is_found_by_name(task):
    assert TASKS[task.name] is task


def test_results_follow_from_the_question_alone(task):
    n_known = 0
    for problem in task.problems(30, steps=(2, 3), seed=1, held_out=False):
        expected = BY_QUESTION[task](problem.question)
        known = [
            (one, int(other)) for one, other in zip(expected, problem.intermediates, strict=True) if one is not None
        ]
        assert all(one == other for one, other in known) and problem.answer == problem.intermediates[-1]
        n_known += len(known)
    assert n_known >= 30  # of permutations, a verb from a place is not always among the one-step problems


def test_no_result_comes_twice_or_is_what_it_began_with(task):
    for problem in task.problems(60, steps=(2, 4), seed=2, held_out=False):
        assert len({problem.operands[0], *problem.intermediates}) == 1 + problem.n_steps
        if task is not LOOK_UPS:  # whose results stand in the table
            assert not {*problem.operands} & {*problem.intermediates}


def test_a_quarter_of_problems_names_a_number_of_no_use(task):
    made = task.problems(400, steps=(3,), seed=3, held_out=False)
    assert 0.19 < sum(problem.has_distractor for problem in made) / len(made) < 0.31
    for problem in made:
        assert problem.has_distractor == bool(re.search(r"\d+ (people|lamps)", problem.question))


def test_every_number_of_the_question_is_an_operand(task):
    for problem in task.problems(60, steps=(3,), seed=4, held_out=False):
        assert Counter(map(str, numbers(problem.question))) == Counter(problem.operands)


def combination(problem):
    """The question without its story, its distractor and its order of clauses."""
    question = re.sub(r"\d+ (people|lamps) \w+\.", "", problem.question)
    return re.sub(r" |frog|robot|ant|cat|stone|square|leaf|stair|dial|clock|meter|counter", "", question)


def test_no_combination_is_on_both_sides_of_the_split(task):
    of_training, held_out = (
        {combination(problem) for problem in task.problems(100, steps=(2,), seed=seed, held_out=side)}
        for seed, side in ((5, False), (6, True))
    )
    assert len(of_training) == len(held_out) == 100 and not of_training & held_out


def test_a_tenth_of_all_combinations_is_held_out():
    with pytest.raises(LatentError, match=r"has no 100 held-out problems of 1 steps; 2\d were found"):
        PERMUTATIONS.problems(100, steps=(1,), seed=0, held_out=True)  # of 24 verbs × 10 places


def test_problems_depend_on_the_seed_alone_and_none_comes_twice(task):
    asked = {"steps": (2, 3), "held_out": False}
    made = task.problems(50, seed=7, **asked)
    assert made == task.problems(50, seed=7, **asked) != task.problems(50, seed=8, **asked)
    assert len({problem.problem_id for problem in made}) == len({problem.question for problem in made}) == 50
    assert Counter(problem.n_steps for problem in made) == {2: 25, 3: 25}


def test_its_tokenizer_knows_every_word(task):
    spoken = tokenizer(task.vocabulary)
    for problem in task.problems(60, steps=(1, 3, 5), seed=0, held_out=False):
        assert spoken.unk_token_id not in spoken(problem.question)["input_ids"]
        assert spoken.decode(spoken(problem.question)["input_ids"]).replace(" ", "") == problem.question.replace(
            " ", ""
        )


def test_a_lesson_has_nothing_that_is_held_out_and_repeats_where_there_is_too_little():
    asked = {"n_steps": 1, "has_distractor": False}
    made = PERMUTATIONS.lesson(300, seed=1, **asked)
    held_out = {combination(problem) for problem in PERMUTATIONS.problems(15, steps=(1,), seed=0, held_out=True)}
    told = {combination(problem) for problem in made}
    assert 100 < len(told) < 240 and not held_out & told
    assert made == PERMUTATIONS.lesson(300, seed=1, **asked) != PERMUTATIONS.lesson(300, seed=2, **asked)


@pytest.mark.parametrize("has_distractor", [True, False])
def test_the_questions_of_a_lesson_have_as_many_tokens_each(task, has_distractor):
    made = task.lesson(40, n_steps=3, seed=0, has_distractor=has_distractor)
    spoken = tokenizer(task.vocabulary)
    assert len({len(spoken(problem.question)["input_ids"]) for problem in made}) == 1
    assert {problem.has_distractor for problem in made} == {has_distractor}


def test_more_steps_than_there_are_words_for_are_refused():
    with pytest.raises(LatentError, match="has at most 6 steps, not 7"):
        PERMUTATIONS.problems(1, steps=(7,), seed=0, held_out=False)
