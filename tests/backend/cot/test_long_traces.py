"""Long traces: every equation is true but the listed slips, a missed slip is really used, and the manner is that of a
reasoner at length.
"""

import random
import re
from collections import Counter

import pytest

from backend.cot import long_traces
from backend.cot.boxes import last_boxed
from backend.cot.chunking import chunk_spans
from backend.cot.long_traces import Manner, expanded, long_trace, n_forms
from backend.cot.problems import ProblemError
from backend.cot.reasoning import TARGETS, target_counts
from backend.cot.word_problems import exact_value, generate

PROBLEMS = generate(dict.fromkeys((1, 2, 3), 100), seed=3)
EQUATION = re.compile(r"\b(\d+ [-+*/] \d+) = (\d+)\b")
CAREFUL = Manner(guess=0, wrong=0, misread=0, missed=0, disagree=0)
CARELESS = Manner(missed=1, late=0, guess=0.5, wrong=1)


def false_equations(text):
    return [f"{e} = {v}" for e, v in EQUATION.findall(text) if exact_value(e) != int(v)]


@pytest.mark.parametrize("manner", [None, CAREFUL, CARELESS, Manner(guess=1, wrong=1, disagree=1, missed=1, late=1)])
def test_every_equation_is_true_but_the_listed_slips(manner):
    n = 0
    for problem in PROBLEMS:
        made = long_trace(problem, seed=1, manner=manner)
        listed = Counter([*made.found, *([made.missed] if made.missed else [])])
        assert Counter(false_equations(made.thinking)) == listed, made.thinking
        n += len(EQUATION.findall(made.thinking))
    assert n > 1000


def test_a_found_slip_is_followed_by_the_right_value():
    slips = 0
    for problem in PROBLEMS:
        made = long_trace(problem, seed=2, manner=Manner(guess=1, wrong=1, missed=0, disagree=0))
        for slip in made.found:
            expression = slip.partition(" = ")[0]
            after = made.thinking.partition(slip)[2]
            assert slip.partition(" = ")[2] != str(exact_value(expression))
            assert f"{expression} = {exact_value(expression)}" in after.partition("Wait, ")[2].partition(". ")[0] + "."
            slips += 1
    assert slips > 300


def test_numbers_are_told_before_they_are_used():
    for problem in PROBLEMS:
        thinking = long_trace(problem, seed=7, manner=CAREFUL).thinking
        opening = thinking.partition("\n\n")[0]
        assert set(re.findall(r"\d+", problem.question)) <= set(re.findall(r"\d+", opening)), opening
        for line in (problem.solution or "").splitlines():
            expression = line.partition(" = ")[0]
            before = re.findall(r"\d+", thinking.partition(f"{expression} = ")[0])
            assert {*expression.split(" ")[::2]} <= {*before}, thinking


def test_parts_come_before_the_result_of_a_long_calculation():
    n = 0
    for problem in PROBLEMS:
        thinking = long_trace(problem, seed=8, manner=CAREFUL).thinking
        for line in (problem.solution or "").splitlines():
            a, sign, b = line.partition(" = ")[0].split(" ")
            long = max(len(a.rstrip("0")), len(b.rstrip("0"))) > 1 and a != "1"
            if sign == "/" or (sign == "*" and long):
                value = line.partition(" = ")[2]
                last = f"{b} * {value} = {a}" if sign == "/" and int(value) <= 10 else f"= {value}"
                place = thinking.index(line)
                paragraph = thinking[:place].rpartition("\n\n")[2]
                assert last in paragraph, thinking
                n += 1
    assert n > 60


def test_checks_of_size_and_doubts_are_true():
    n = 0
    for problem in PROBLEMS:
        thinking = long_trace(problem, seed=9, manner=Manner(guess=1, disagree=1)).thinking
        for word, than, value in re.findall(
            r" be (more|less) than (\d+)(?:, (?:because|since) [^.,]*)?, and (\d+) is", thinking
        ):
            assert (int(value) > int(than)) == (word == "more") and value != than, thinking
            n += 1
        for one, other in re.findall(
            r"(?:gives|have|says|get) (\d+), (?:and before it was|not|against) (\d+)", thinking
        ):
            assert one != other, thinking
            n += 1
    assert n > 100


def test_the_wordings_are_thousands():
    """The roles that a trace is mostly made of have hundreds of forms each."""
    often = ("FACT", "PART", "RESULT", "MEANS", "CHECK", "CHECKED", "SIZE", "ROUTE", "ROUTE_GOES_ON", "AGREE", "END")
    forms = {role: n_forms(getattr(long_traces, role)) for role in (*often, "OPENING", "TURNED", "FIXED", "GUESS")}
    forms |= {sign: n_forms(patterns) for sign, patterns in long_traces.PLAN.items()}
    assert min(forms[role] for role in (*often, *long_traces.PLAN)) >= 300
    assert sum(forms.values()) > 15_000


def test_a_missed_slip_carries_on_to_the_answer_unless_it_is_found_late():
    n = {False: 0, True: 0}
    for late in n:
        for problem in PROBLEMS:
            made = long_trace(problem, seed=3, manner=Manner(missed=1, late=float(late)))
            assert last_boxed(made.response) == made.answer
            if made.missed is None:
                assert made.answer == problem.answer
                continue
            wrong = made.missed.partition(" = ")[2]
            used = re.findall(rf"\b{wrong} [-+*/] \d|[-+*/] {wrong} = ", made.thinking)
            assert used or made.missed.partition(" = ")[0] in (problem.solution or "").splitlines()[-1]
            assert made.late == late and (made.answer == problem.answer) == late, made.thinking
            n[late] += 1
    assert min(n.values()) > 100


def test_by_default_a_minority_ends_wrong():
    wrong = sum(long_trace(problem, seed=4).answer != problem.answer for problem in PROBLEMS)
    assert 0 < wrong < 0.1 * len(PROBLEMS)


def test_each_kind_of_word_is_in_more_than_a_third_of_the_traces():
    made = [target_counts(long_trace(problem, seed=6).thinking) for problem in PROBLEMS]
    for name in TARGETS:
        assert sum(counts[name] > 0 for counts in made) > 0.4 * len(made), name


def test_traces_have_ten_to_forty_chunks_and_few_are_copies():
    problems = generate(dict.fromkeys((1, 2, 3), 667), seed=9)
    lengths, texts = [], []
    for problem in problems:
        thinking = long_trace(problem, seed=1).thinking
        spans = chunk_spans(thinking)
        lengths.append(len(spans))
        texts += [thinking[start:end].strip() for start, end in spans]
    assert sum(10 <= n <= 40 for n in lengths) > 0.95 * len(lengths) and sum(lengths) > 15 * len(lengths)
    assert len(set(texts)) > 0.75 * len(texts)


def test_the_same_seed_and_number_tell_the_same_and_others_do_not():
    assert long_trace(PROBLEMS[9], seed=4) == long_trace(PROBLEMS[9], seed=4)
    assert len({long_trace(PROBLEMS[9], seed=4, number=k).thinking for k in range(12)}) == 12


def test_a_problem_of_another_level_is_refused():
    with pytest.raises(ProblemError, match="levels 1 to 3"):
        long_trace(generate({4: 1}, seed=1)[0], seed=1)


def test_a_pattern_has_all_its_forms_and_no_others():
    rng = random.Random(1)
    assert {expanded("[a|b [c|d]]e", rng) for _ in range(200)} == {"ae", "b ce", "b de"}
    assert n_forms(["[a|b][c|d|]"]) == 6 and n_forms(["x", "[y|z]"]) == 3
