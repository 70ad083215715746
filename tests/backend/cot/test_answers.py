import time

import pytest

from backend.cot.answers import Judge, cluster_answers, extract_answer, grader, judge


@pytest.fixture(scope="module")
def pool():
    with Judge(seconds=3.0) as running:
        yield running


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So we get \boxed{18}.", "18"),
        (r"First \boxed{3}, then \boxed{\frac{1}{23}}", r"\frac{1}{23}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{ 18 apples }", "18 apples"),
        (r"The answer goes in \boxed{}. It is \boxed{4}.", "4"),
        (r"It is \boxed{4}. The answer goes in \boxed{}.", "4"),
        (r"It is \boxed{4}. No wait, it is \boxed{5", "4"),  # the cut-off box says nothing
        (r"It is \boxed{5", None),
        (r"\boxed{\boxed{4}}", "4"),
        (r"A set \{1 } is \boxed {\frac{1}{2}} {", r"\frac{1}{2}"),
        ("2 + 2 = 4\n#### 1,080", "1,080"),
        ("The answer is 7. I hope this helps.", "7"),
        ("The answer is 3.50 dollars.", "3.50 dollars"),
        ("Therefore, the final answer is: **12 apples**", "12 apples"),
        ("Answer: \\(\\frac{3}{4}\\)", r"\frac{3}{4}"),
        ("The answer is 7. Wait, the answer is 8.", "8"),
        ("The answer is what we look for.", None),
        ("Tom has 3 apples.", None),
        ("", None),
    ],
)
def test_the_answer_as_it_was_written(text, answer):
    assert extract_answer(text) == answer


def test_extraction_is_fast_on_texts_full_of_statements():
    start = time.perf_counter()
    assert extract_answer("the answer is " * 50_000) is None
    assert time.perf_counter() - start < 3


EQUAL = [
    ("1,000", "1000"), ("1{,}000", "1000"), (r"\$1{,}000", "1000"), ("1 000", "1000"), ("18", "18.00"), ("18 apples", "18"),
    ("$18", "18"), (r"\$18", "18"), ("18 dollars", "18"), ("€18", "18"), ("7.5 dollars", "15/2"), ("3/4", "0.75"), (r"\frac34", "3/4"),
    (r"\frac{3}{4} cup", "0.75"), ("3 1/2", "7/2"), (r"3\frac{1}{2}", "3.5"), ("-3 1/2", "-7/2"), ("-5", "-5.0"), ("-$5", "-5"),
    (r"50\%", "50"), (r"50\%", "0.5"), ("x = 5", "5"), ("f(-10) = 3(-10) + 5 = -25", "-25"), (" -25 ", "-25"), ("18.", "18"),
    (r"\text{18 apples}", "18"), (r"18 \text{ apples}", "18"), (r"-\dfrac{1}{4027}", r"-\frac{1}{4027}"), ("2^{10}", "1024"),
    (r"\sqrt{4}", "2"), ("Tuesday", r"\text{tuesday}"), ("15/20 of the cake", "3/4"), ("12 liters per hour", "12"), ("2,125", "2125"),
    (r"\left(1,\frac{9}{2}\right)", "(1, 4.5)"), ("x^2 + 1", "1 + x^2"),
]  # fmt: skip

DIFFERENT = [
    (r"\frac{1}{23}", r"\frac{12}{3}"), ("1,000", "1.000"), ("1000", "1"), ("-5", "5"), ("18 apples", "81"), ("0.5", "5"), (r"50\%", "5"),
    ("3 1/2", "3/2"), ("Tuesday", "Monday"), ("two", "2 pi"), ("x^2 + y^2 = 1", "1"), (r"2 pi", "2"), ("12", "1,2"), ("7", "7.01"),
    (r"\frac{1}{23}", r"\frac{123}{}"), ("I do not know", "4"), ("4", r"\text{none}"), ("(1,2)", "(2,1)"), ("x = 1", "x = 2"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "truth"), EQUAL)
def test_equal_answers(pool, answer, truth):
    assert pool.judge([(answer, truth)]) == [True]


@pytest.mark.parametrize(("answer", "truth"), DIFFERENT)
def test_different_answers(pool, answer, truth):
    assert pool.judge([(answer, truth)]) == [False]


def test_no_answer_is_unknown_not_wrong(pool):
    assert pool.judge([(None, "4"), ("", "4"), ("  ", "4"), ("4", None)]) == [None] * 4


def test_what_cannot_be_read_on_either_side_is_unknown(pool):
    assert pool.judge([(r"\frac{1}{", r"\sqrt{")]) == [None]


def test_an_endless_comparison_ends_is_unknown_and_the_pool_lives_on(pool):
    start = time.monotonic()
    assert pool.judge([("3", "3.0"), ("9^{9^{9^9}}", "5"), ("4", "4.0")]) == [True, None, True]
    assert time.monotonic() - start < 30


def test_a_killed_worker_is_replaced(pool):
    pool.judge([("1", "2")])
    pool._workers[0].process.kill()
    pool._workers[0].process.join()
    assert pool.judge([("5", "5.0")]) == [True]


def test_judging_works_from_a_thread():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(judge, [("1/2", "0.5")]).result(timeout=60) == [True]


def test_repeated_pairs_cost_nothing(pool):
    pool.judge([("1/3", "2/6")])
    start = time.perf_counter()
    assert pool.judge([("1/3", "2/6")] * 10_000) == [True] * 10_000
    assert time.perf_counter() - start < 0.5


def test_clusters_join_equal_answers_whatever_their_order(pool):
    answers = ["1/2", "0.5", "3", "1/2", None, "", "3.0", "3", "seven"]
    expected = {"1/2": "1/2", "0.5": "1/2", "3": "3", "3.0": "3", "seven": "seven"}
    assert cluster_answers(answers, pool) == cluster_answers(answers[::-1], pool) == expected


def test_equality_that_is_not_transitive_gives_each_answer_one_cluster(pool):
    cluster = cluster_answers(["50", "50", "50", r"50\%", "0.5", "0.5"], pool)
    assert cluster == {"50": "50", r"50\%": "50", "0.5": "0.5"}


def test_the_grader_names_its_version():
    assert grader().startswith("math-verify 0.")
