import json

import numpy as np
import pandas as pd
import pytest

from backend.cot.problems import Problem, ProblemError, hardest, read_gsm8k, read_math, read_problem_file
from backend.cot.word_problems import generate
from tests.shared_data import shared_folder


def test_a_problem_refuses_a_level_out_of_range_and_an_empty_answer():
    with pytest.raises(ValueError, match="level"):
        Problem("p", "math", "1", 6, "q", "a", None)
    with pytest.raises(ValueError, match="answer"):
        Problem("p", "math", "1", 5, "q", " ", None)


def lines(tmp_path, *records):
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", encoding="utf-8")
    return path


def test_gsm8k_loses_its_calculator_marks_and_keeps_its_answer(tmp_path):
    path = lines(tmp_path, {"question": "How many?", "answer": "2 * 9 = $<<2*9=18>>18.\nSo 18.\n#### 1,018"})
    (problem,) = read_gsm8k(path)
    assert (problem.answer, problem.solution) == ("1,018", "2 * 9 = $18.\nSo 18.")
    assert (problem.source, problem.source_key, problem.level) == ("gsm8k", "set:1", None)


def test_math_takes_the_last_box_with_its_inner_braces(tmp_path):
    solution = r"First \boxed{1}, then \boxed{\frac{1}{\sqrt{2}}}."
    path = lines(
        tmp_path,
        {"problem": "Find x.", "solution": solution, "level": "Level 5", "type": "Algebra", "unique_id": "test/7"},
        {"problem": "Find y.", "solution": solution, "level": "Level ?"},
    )
    first, second = read_math(path)
    assert (first.answer, first.level, first.source_key) == (r"\frac{1}{\sqrt{2}}", 5, "test/7")
    assert second.level is None
    assert not read_problem_file(path).notes  # "Level ?" is how MATH itself says that it does not know


# A record as each of these is published (column names and types are theirs, the problems ours) -> question, answer,
# solution, level, key.
RECORDS = {
    "MATH": (
        {"problem": "Q?", "level": "Level 3", "type": "Algebra", "solution": r"So it is \boxed{12}."},
        ("Q?", "12", r"So it is \boxed{12}.", 3, "set:1"),
    ),
    "MATH, a box without braces": (
        {"problem": "Q?", "level": "Level 3", "solution": r"It is $\boxed 5$."},
        ("Q?", "5", r"It is $\boxed 5$.", 3, "set:1"),
    ),
    "MATH, two boxes that are one answer": (
        {"problem": "Q?", "level": "Level 3", "solution": r"So $\boxed{-4}$ and $\boxed{9}$."},
        ("Q?", "-4, 9", r"So $\boxed{-4}$ and $\boxed{9}$.", 3, "set:1"),
    ),
    "MATH-500": (
        {
            "problem": "Q?",
            "solution": r"\boxed{\frac{2}{3}}",
            "answer": r"\frac{2}{3}",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "test/algebra/9.json",
        },
        ("Q?", r"\frac{2}{3}", r"\boxed{\frac{2}{3}}", 2, "test/algebra/9.json"),
    ),
    "AIME 2024": (
        {"id": 61, "problem": "Q?", "solution": "Long.", "answer": "033", "url": "u", "year": "2024"},
        ("Q?", "033", "Long.", None, "61"),
    ),
    "AIME, capital names, a number": (
        {"ID": "2024-I-1", "Problem": "Q?", "Solution": "Long.", "Answer": 204},
        ("Q?", "204", "Long.", None, "2024-I-1"),
    ),
    "AIME 2025, the answer alone": ({"question": "Q?", "answer": "70"}, ("Q?", "70", None, None, "set:1")),
    "DeepScaleR": (
        {"problem": "Q?", "answer": r"\frac{1}{2}", "solution": ""},
        ("Q?", r"\frac{1}{2}", None, None, "set:1"),
    ),
    "OpenR1": (
        {
            "problem": "Q?",
            "solution": "Long.",
            "answer": "x=4",
            "problem_type": "Algebra",
            "uuid": "ab-1",
            "generations": ["a", "b"],
            "messages": [{"role": "user", "content": "Q?"}],
        },
        ("Q?", "x=4", "Long.", None, "ab-1"),
    ),
    "NuminaMath": (
        {"source": "olympiads", "problem": "Q?", "solution": r"We get $\boxed{8}$.", "messages": []},
        ("Q?", "8", r"We get $\boxed{8}$.", None, "set:1"),
    ),
    "DAPO": (
        {
            "data_source": "math_dapo",
            "ability": "MATH",
            "reward_model": {"ground_truth": "34", "style": "rule"},
            "prompt": [
                {
                    "role": "user",
                    "content": "Solve the following math problem step by step. The last line is the answer.\n\nQ?\n\n"
                    'Remember to put your answer on its own line after "Answer:".',
                }
            ],
            "extra_info": {"index": "9a"},
        },
        ("Q?", "34", None, None, "9a"),
    ),
    "DAPO, processed": (
        {"prompt": "Q?", "solution": "34", "data_source": "math_dapo", "extra_info": {"index": "9b"}},
        ("Q?", "34", None, None, "9b"),
    ),
    "GSM8K for verl": (
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": 'Q? Answer after "####".'}],
            "reward_model": {"ground_truth": "7", "style": "rule"},
            "extra_info": {"question": "Q?", "answer": "3+4=<<3+4=7>>7\n#### 7", "index": 5},
        },
        ("Q?", "7", "3+4=7", None, "5"),
    ),
    "GSM8K, a number": ({"question": "Q?", "answer": 7}, ("Q?", "7", None, None, "set:1")),
    "GSM8K, a float": ({"question": "Q?", "answer": 7.0}, ("Q?", "7", None, None, "set:1")),
    "OlympiadBench": (
        {"id": 3, "question": "Q?", "final_answer": ["1", "2"], "solution": ["a"]},
        ("Q?", "1, 2", None, None, "3"),
    ),
    "MetaMathQA": (
        {"query": "Q?", "response": "We add 3 and 4.\n#### 7\nThe answer is: 7", "type": "GSM_Rephrased"},
        ("Q?", "7", "We add 3 and 4.\n#### 7\nThe answer is: 7", None, "set:1"),
    ),
    "prose that ends in its answer": (
        {"question": "Q?", "answer": "We add 3 and 4 first.\nThe answer is 7."},
        ("Q?", "7", None, None, "set:1"),
    ),
    "SVAMP": (
        {"ID": "chal-1", "Body": "There are 8 pens.", "Question": "Q?", "Answer": 6.0},
        ("There are 8 pens. Q?", "6", None, None, "chal-1"),
    ),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("container", ["jsonl", "bom", "windows", "array", "object", "parquet", "folder"])
def test_a_record_is_read_as_its_dataset_means_it_in_every_container(tmp_path, name, container):
    record, (question, answer, solution, level, key) = RECORDS[name]
    path = tmp_path / "set.jsonl"
    if container == "parquet":
        pd.DataFrame([record]).to_parquet(path)
    elif container == "folder":
        (tmp_path / "all").mkdir()
        (tmp_path / "all" / "set.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
        path = tmp_path / "all"
    else:
        text = json.dumps(
            {"jsonl": record, "bom": record, "windows": record, "array": [record], "object": {"data": [record]}}[
                container
            ]
        )
        path.write_bytes(
            {"bom": b"\xef\xbb\xbf"}.get(container, b"") + text.encode() + {"windows": b"\r\n"}.get(container, b"\n")
        )
    found = read_problem_file(path)
    (problem,) = found.problems
    assert (problem.question, problem.answer, problem.solution) == (question, answer, solution)
    assert (problem.level, problem.source_key) == (level, key)
    assert found.notes == ()


GOOD = {"question": "How many?", "answer": "#### 3"}
BROKEN = [
    ('{"question": ', r"set\.jsonl, line 2: expected one JSON object"),
    ("[" * 100_000, r"line 2: expected one JSON object"),
    ("[1]", r"line 2: expected a JSON object .* found list"),
    ({"question": "Which?"}, r"line 2: no answer; expected one of answer, .* found 'question'"),
    ({"answer": "3"}, r"line 2: no question; expected one of question, .* found 'answer'"),
    ({"question": 3, "answer": "#### 3"}, r"line 2, key 'question': expected a text"),
    ({"question": "  ", "answer": "#### 3"}, r"line 2, key 'question': expected a text"),
    (
        {"question": "Which?", "answer": "We add.\nThen we stop."},
        r"line 2, key 'answer': expected an answer, or a worked text",
    ),
    ({"question": "Which?", "answer": "It is 4.\n####"}, r"line 2, key 'answer': expected an answer"),
    ({"question": "Which?", "answer": float("nan")}, r"line 2, key 'answer': expected an answer"),
    ({"question": "Which?", "answer": {"value": [1, {}]}}, r"line 2, key 'answer': expected an answer"),
    (
        {"problem": "Which?", "solution": r"\boxed{\frac{1}{2}" + "\n and on"},
        r"line 2, key 'solution': expected an answer in \\boxed",
    ),
    (
        {"question": "Which?", "answer": 1, "choices": ["red", "blue"]},
        r"line 2, key 'choices': a multiple choice whose options are not in",
    ),
    (
        {"question": "Which?", "answer": "We add both of them. Then we stop here."},
        r"line 2, key 'answer': expected an answer",
    ),
    ({"question": "Which \ud83d?", "answer": "3"}, r"line 2: half of a character"),
    (GOOD, r"line 2: asks what .*set\.jsonl, line 1 asks"),
]


@pytest.mark.parametrize(("record", "message"), BROKEN)
def test_a_record_that_is_no_problem_is_named_and_left_out_or_refuses_the_file(tmp_path, record, message):
    path = lines(tmp_path, GOOD, record, {"question": "And this one?", "answer": "#### 4"})
    found = read_problem_file(path)
    assert [problem.answer for problem in found.problems] == ["3", "4"]
    assert len(found.notes) == 1
    with pytest.raises(ProblemError, match=message):
        read_problem_file(path, strict=True)
    with pytest.raises(ProblemError) as refusal:
        read_gsm8k(path, strict=True)
    assert str(refusal.value) == found.notes[0]


def test_an_id_seen_before_costs_the_problem_its_id_and_not_its_place(tmp_path):
    found = read_problem_file(
        lines(tmp_path, GOOD | {"id": "a"}, {"question": "Other?", "answer": "#### 1", "id": "a"})
    )
    assert [problem.source_key for problem in found.problems] == ["a", "set:2"]
    assert found.notes == (f"{tmp_path}/set.jsonl, line 2: the id 'a' was seen before; the problem is called 'set:2'",)


@pytest.mark.parametrize(
    ("given", "level"), [(1, 1), (5.0, 5), ("Level 4", 4), ("3", 3), (np.int64(2), 2), (None, None), ("", None)]
)
def test_levels_as_people_write_them(tmp_path, given, level):
    path = tmp_path / "set.parquet"
    pd.DataFrame([{"problem": "Q?", "answer": "1", "level": given}]).to_parquet(path)
    found = read_problem_file(path)
    assert found.problems[0].level == level and not found.notes


@pytest.mark.parametrize("given", [0, 6, 2.5, "hard", True])
def test_another_scale_of_levels_is_unknown_and_said(tmp_path, given):
    found = read_problem_file(lines(tmp_path, {"problem": "Q?", "answer": "1", "level": given}))
    assert found.problems[0].level is None
    assert "is not one of 1 to 5 and counts as unknown" in found.notes[0]


def test_a_file_in_which_nothing_is_a_problem_is_refused_with_its_first_fault(tmp_path):
    with pytest.raises(ProblemError, match="line 1: no answer"):
        read_problem_file(lines(tmp_path, {"question": "Which?"}))
    with pytest.raises(ProblemError, match="holds no problem"):
        read_problem_file(lines(tmp_path, ""))


ANSWERS = [  # what an answer column may hold, and the answer that it states
    ("3 + 4 = 7. The answer is 7.", "7"),
    ('["7"]', "7"),
    ("[1, 2]", "[1, 2]"),
    ("(B) 12", "(B) 12"),
    ("5 sq. cm", "5 sq. cm"),
    ("Mr. Smith", "Mr. Smith"),
    ("J. K. Rowling", "J. K. Rowling"),
    (7.0, "7"),
    (True, "True"),
    (["2", "3"], "2, 3"),
]


@pytest.mark.parametrize(("given", "answer"), ANSWERS)
def test_an_answer_column_states_one_answer_however_it_is_written(tmp_path, given, answer):
    (problem,) = read_problem_file(lines(tmp_path, {"question": "Which?", "answer": given})).problems
    assert problem.answer == answer


def test_options_that_the_question_names_leave_it_a_question(tmp_path):
    record = {"question": "Which? (A) red (B) blue", "answer": "B", "options": ["A) red", "B) blue"]}
    assert read_problem_file(lines(tmp_path, record)).problems[0].answer == "B"


A, B = {"question": "A?", "answer": "1"}, {"question": "B?", "answer": "2"}
WHOLE = {  # one JSON value around both, as tools write it
    "by name": {"0": A, "1": B},
    "columns": {"question": ["A?", "B?"], "answer": ["1", "2"]},
    "columns of pandas": {"question": {"0": "A?", "1": "B?"}, "answer": {"0": "1", "1": "2"}},
    "rows of a dataset's viewer": {
        "features": [{"feature_idx": 0, "name": "question"}],
        "rows": [{"row_idx": 0, "row": A}, {"row": B}],
    },
}


@pytest.mark.parametrize("layout", WHOLE)
def test_a_json_value_around_all_problems_is_read_whole(tmp_path, layout):
    path = tmp_path / "all.json"
    path.write_text(json.dumps(WHOLE[layout]), encoding="utf-8")
    found = read_problem_file(path)
    assert [(problem.question, problem.answer) for problem in found.problems] == [
        ("A?", "1"),
        ("B?", "2"),
    ] and not found.notes


def test_a_table_may_have_tabs_and_solutions_of_any_length(tmp_path):
    path = tmp_path / "set.tsv"
    path.write_text(f"question\tsolution\tanswer\nA?\t{'x' * 200_000}\t1\n", encoding="utf-8")
    assert [problem.answer for problem in read_problem_file(path).problems] == ["1"]


def test_a_csv_file_has_a_record_a_row(tmp_path):
    path = tmp_path / "AIME.csv"
    rows = ["ID,Year,Problem Number,Question,Answer", '1983-1,1983,1,"Let x, y\nbe two. Q?",60', "1983-2,1983,2,,15"]
    path.write_text("\n".join(rows), encoding="utf-8")
    found = read_problem_file(path)
    assert [(p.question, p.answer, p.source_key) for p in found.problems] == [("Let x, y\nbe two. Q?", "60", "1983-1")]
    assert found.notes == (f"{path}, record 2, key 'question': expected a text that is not empty, found ''.",)


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(ProblemError, match=r"none\.jsonl cannot be read: No such file"):
        read_gsm8k(tmp_path / "none.jsonl")
    (tmp_path / "packed.jsonl").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(ProblemError, match=r"cannot be read as UTF-8 text: .* not compressed"):
        read_math(tmp_path / "packed.jsonl")
    (tmp_path / "pointer.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ProblemError, match=r"pointer\.jsonl is a pointer of Git LFS.*git lfs pull"):
        read_math(tmp_path / "pointer.jsonl")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ProblemError, match=r"begins as a Parquet file and cannot be read as one"):
        read_math(tmp_path / "cut.parquet")


def test_the_hardest_are_those_of_high_level_many_numbers_and_a_large_answer():
    def asked(question, answer, level=None):
        return Problem(question, "file", question, level, question, answer, None)

    easy, many, large = asked("One 1?", "2"), asked("With 1, 2 and 3.5?", "2"), asked("One 1, again?", "$1,000")
    # Ranks of three: numbers 1.5, 3, 1.5; sizes 1.5, 1.5, 3; so the mean of each over 3.
    found = hardest([easy, many, large], 3)
    assert [problem.question for problem in found] == [many.question, large.question, easy.question]
    assert [problem.difficulty for problem in found] == pytest.approx([0.75, 0.75, 0.5])
    high, low = asked("No number?", "n", 5), asked("None here?", "m", 1)
    assert [p.level for p in hardest([low, high], 1)] == [5]
    assert hardest([high], 1)[0].difficulty == 1.0


SIZES = [("-7", 7), (r"\frac{3}{4}", 0.75), ("$1,234.5", 1234.5), ("12\\%", 12), ("x+1", None), ("1/0", None)]


@pytest.mark.parametrize(("answer", "size"), SIZES)
def test_the_size_of_an_answer_is_that_of_a_plain_number(answer, size):
    from backend.cot.problems import _size

    assert _size(Problem("p", "file", "1", None, "Q?", answer, None)) == size


def test_generated_problems_of_higher_levels_are_harder_by_the_same_measure():
    problems = generate(20, seed=0)
    assert {problem.level for problem in hardest(problems, 20)} <= {4, 5}


def test_gsm8k_itself_is_read_whole():
    problems = read_gsm8k(shared_folder("gsm8k") / "test.jsonl")
    assert len(problems) == 1319
    assert problems[0].answer == "18"
    assert not any("<<" in (p.solution or "") for p in problems)
