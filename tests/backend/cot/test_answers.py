import itertools
import subprocess
import sys

import pytest

from backend.cot.answers import Judge, cluster_answers, grader, judge
from tests.backend.cot.answer_pairs import DIFFERENT, EQUAL, UNKNOWN
from tests.hanging import ends


@pytest.fixture(scope="module")
def pool():
    with Judge(seconds=3.0) as running:
        yield running


def test_the_table_of_pairs_is_judged_right_in_both_directions_and_nothing_is_falsely_equal(pool):
    asked = [
        (pair, truth)
        for truth, table in ((True, EQUAL), (False, DIFFERENT), (None, {"unknown": UNKNOWN}))
        for pair in itertools.chain(*table.values())
    ]
    assert len(asked) >= 450
    for turn in (1, -1):
        got = pool.judge([pair[::turn] for pair, _ in asked])
        wrong = [(pair, verdict) for (pair, truth), verdict in zip(asked, got, strict=True) if verdict is not truth]
        print(f"{len(asked) - len(wrong)} of {len(asked)} pairs right ({1 - len(wrong) / len(asked):.1%})")
        assert [
            pair for pair, verdict in wrong if verdict
        ] == []  # a false "equal" is far worse than a false "different"
        assert wrong == []


def test_no_answer_is_unknown_not_wrong(pool):
    assert pool.judge([(None, "4"), ("", "4"), ("  ", "4"), ("4", None)]) == [None] * 4


def test_an_endless_comparison_ends_is_unknown_and_the_pool_lives_on(pool):
    with ends():  # two seconds of it are the pair's, the rest a new process's
        assert pool.judge([("3", "3.0"), ("9^{9^{9^9}}", "5"), ("4", "4.0")]) == [True, None, True]


def test_a_killed_worker_is_replaced(pool):
    pool.judge([("1", "2")])
    pool._workers[0].process.kill()
    pool._workers[0].process.join()
    assert pool.judge([("5", "5.0")]) == [True]


def test_judging_works_from_a_thread():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(judge, [("1/2", "0.5")]).result(timeout=60) == [True]


def test_repeated_pairs_are_judged_once(pool, monkeypatch):
    run, compared = pool._run, []
    monkeypatch.setattr(pool, "_run", lambda pairs: (compared.extend(pairs), run(pairs)))
    assert pool.judge([("1/7", "2/14")] * 1_000) == [True] * 1_000
    assert pool.judge([("1/7", "2/14")] * 1_000) == [True] * 1_000
    assert compared == [("1/7", "2/14")]


def test_clusters_join_equal_answers_whatever_their_order(pool):
    answers = ["1/2", "0.5", "3", "1/2", None, "", "3.0", "3", "seven"]
    expected = {"1/2": "1/2", "0.5": "1/2", "3": "3", "3.0": "3", "seven": "seven"}
    assert cluster_answers(answers, pool) == cluster_answers(answers[::-1], pool) == expected


def test_equality_that_is_not_transitive_gives_each_answer_one_cluster(pool):
    cluster = cluster_answers(["50", "50", "50", r"50\%", "0.5", "0.5"], pool)
    assert cluster == {"50": "50", r"50\%": "50", "0.5": "0.5"}


def test_the_grader_names_its_parts_and_its_rules():
    assert grader().startswith("math-verify 0.") and grader().endswith("rules 2") and "pint 0." in grader()


def test_only_judging_processes_import_what_is_heavy():
    program = (
        "import sys, backend.cot.answers; print(sorted({'sympy', 'pint', 'math_verify', 'latex2sympy2_extended'} &"
        " set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_answer_that_is_prose_without_end_is_not_judged(pool):
    assert pool.judge([("1 + " * 200 + "1", "201")]) == [None]
