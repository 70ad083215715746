r"""Problems with known answers, and a reader of the files in which people publish them.

A file holds one record a problem: JSONL, a JSON array (also as the one list of a JSON object), CSV, Parquet, or a
folder of such files. Datasets name their columns differently and mean the same, so a record is read by what it has:

- the question: `question` or `problem` (GSM8K, MATH, AIME, OpenR1, DeepScaleR), or `prompt`, a text or a chat whose
  last user turn asks (DAPO and others made for verl, which may keep the bare question in `extra_info`);
- the answer: a column that says it (`answer`, `final_answer`, `reward_model.ground_truth` …), a number, a text, or a
  list of them; of a worked text what follows the last `####` on its line (GSM8K), else its last box, else what it says
  the answer is; and where there is no such column, the same of `solution` or `response`;
- the level: a whole number from 1 to 5, or that as "Level 3"; anything else is unknown.

A record that has no question or no answer, or asks what an earlier one asked, is left out and named; `strict` refuses
the file instead.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from backend.cot.answers import extract_answer
from backend.cot.boxes import last_boxed
from backend.errors import AnchorscopeError, stands_for_another
from backend.ids import stable_id


class ProblemError(AnchorscopeError):
    """A problem file that is not what it should be, or a wish the generator cannot fulfil."""


@dataclass(frozen=True)
class Problem:
    """One question with its ground truth; the fields are the columns of the store's `problems`."""

    problem_id: str  # from source and question
    source: str  # generator, gsm8k, math, file, ...
    source_key: str  # the source's own name or number of it
    level: int | None  # 1 (easy) to 5; None when unknown
    question: str
    answer: str  # ground truth, as an answer in a box would be written
    solution: str | None
    difficulty: float | None = (
        None  # 0 to 1 among the problems it was chosen from, see `hardest`; None when nothing was chosen
    )

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in range(1, 6):
            raise ValueError(f"a level is 1 to 5 or None, got {self.level}")
        if not self.question.strip() or not self.answer.strip():
            raise ValueError("a problem needs a question and an answer")


# ---- Files
# ----------------------------------------------------------------------------------------------------------------------

_QUESTIONS = ("question", "problem", "prompt", "query", "instruction")
_ANSWERS = (
    "answer",
    "final_answer",
    "expected_answer",
    "correct_answer",
    "ground_truth",
    "gt_answer",
    "target",
    "answer_number",
)
_OPTIONS = ("choices", "options")  # of a multiple choice, whose question does not name them
_SOLUTIONS = ("solution", "gt_solution", "rationale", "response")
_IDS = ("id", "unique_id", "uuid", "index")
_ENDINGS = (".json", ".jsonl", ".csv", ".tsv", ".parquet")  # of files in a folder; a file named by itself may have any
_LONGEST_ANSWER = 200  # characters of a text that is an answer by itself; a longer one must say where its answer is
_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
_SENTENCES = re.compile(r"(?:\S+\s+){2,}\S+[.!?]\s+[A-Z]\S*\s+\S+")  # at least two: "Mr. Smith" is none
_LEVEL = re.compile(r"(?:Level\s*)?([1-5])(?:\.0)?", re.IGNORECASE)
# What DAPO's prompts put before and after the question (BytedTsinghua-SIA/DAPO-Math-17k).
_WRAPPED = re.compile(r"Solve the following math problem.*?\n\n(.+?)\n\nRemember to put your answer.*", re.DOTALL)


@dataclass(frozen=True)
class ProblemFile:
    """What a file holds: its problems in order, and a sentence for each record that was left out or not understood in
    part.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def read_problem_file(path: Path, source: str = "file", *, strict: bool = False) -> ProblemFile:
    """The problems of a file or folder; `source` becomes theirs, and part of their ids.

    Raises ProblemError where nothing can be read, where no record is a problem, and, when `strict`, at the first record
    that is none.
    """
    path = Path(path)
    problems: list[Problem] = []
    notes: list[str] = []
    first_seen: dict[str, str] = {}
    keys: set[str] = set()
    for where, key, record in _records(path):
        try:
            problem, note = _problem(where, source, key, record)
            if (seen := first_seen.setdefault(problem.question, where)) != where:
                raise ProblemError(f"{where}: asks what {seen} asks; expected every problem once. Remove one of them.")
        except ProblemError as fault:
            if strict:
                raise
            notes.append(str(fault))
            continue
        if problem.source_key in keys:
            note = f"{where}: the id {problem.source_key!r} was seen before; the problem is called {key!r}"
            problem = replace(problem, source_key=key)
        keys.add(problem.source_key)
        problems.append(problem)
        notes += [note] if note else []
    if not problems:
        raise ProblemError(
            notes[0] if notes else f"{path} holds no problem; expected one record a problem: a question and its answer."
        )
    return ProblemFile(tuple(problems), tuple(notes))


def read_gsm8k(path: Path, *, strict: bool = False) -> list[Problem]:
    """Problems of a GSM8K file: `question` and `answer`, whose last line is `#### ANSWER`."""
    return list(read_problem_file(path, "gsm8k", strict=strict).problems)


def read_math(path: Path, *, strict: bool = False) -> list[Problem]:
    r"""Problems of a MATH file: `problem`, `solution` with its answer in \boxed{}, `level`; MATH-500 says the `answer`
    too.
    """
    return list(read_problem_file(path, "math", strict=strict).problems)


def _records(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(place in words, name where the record has none of its own, record) of every record of a file, or of every file
    of a folder.

    A JSON record that cannot be read is its ProblemError, for the caller to raise or to note.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _ENDINGS)
        for file in files:
            yield from _records_of_file(file, file.relative_to(path).with_suffix("").as_posix())
    else:
        yield from _records_of_file(path, path.stem)


def _records_of_file(path: Path, name: str) -> Iterator[tuple[str, str, Any]]:
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise ProblemError(
            f"{path} cannot be read: {fault.strerror}. Give a JSONL, JSON or Parquet file, or a folder of them."
        ) from fault
    if raw[:4] == b"PAR1":
        for number, record in enumerate(_parquet_rows(path, raw), start=1):
            yield f"{path}, row {number}", f"{name}:{number}", record
        return
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ProblemError(
            f"{path} cannot be read as UTF-8 text: {fault}. Give a JSONL, JSON or Parquet file, not compressed."
        ) from fault
    if (placeholder := stands_for_another(raw[:64])) is not None:
        raise ProblemError(f"{path} {placeholder}")
    if (delimiter := {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())) is not None:
        yield from _rows_of_table(path, name, text, delimiter)
        return
    whole = _whole(text)
    if whole is not None:
        for number, record in enumerate(whole, start=1):
            yield f"{path}, item {number}", f"{name}:{number}", record
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        parsed: Any
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError) as fault:
            parsed = ProblemError(f"{where}: expected one JSON object, but {fault}. Correct or remove the line.")
        yield where, f"{name}:{number}", parsed


def _rows_of_table(path: Path, name: str, text: str, delimiter: str) -> Iterator[tuple[str, str, Any]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a solution may be longer than its 131,072 characters
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for number, record in enumerate(rows, start=1):
            yield (
                f"{path}, record {number}",
                f"{name}:{number}",
                {key: value for key, value in record.items() if key is not None},
            )
    except csv.Error as fault:
        raise ProblemError(
            f"{path}, line {rows.line_num}: expected a row of a table, but {fault}. Save the file anew."
        ) from fault


def _parquet_rows(path: Path, raw: bytes) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(raw)).to_pylist()
    except pa.ArrowException as fault:
        raise ProblemError(
            f"{path} begins as a Parquet file and cannot be read as one: {fault}. Fetch it again."
        ) from fault


def _whole(text: str) -> list[Any] | None:
    """Records of a file that is one JSON value: an array; an object around one list of records, or around records by
    name, or of columns, as pandas writes them; or a single problem over several lines. None where it is not one value,
    or is one line of JSONL.
    """
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return value if isinstance(value, list) else None
    asking = {str(key).lower(): inner for key, inner in value.items() if str(key).lower() in _QUESTIONS}
    if not asking:
        lists = [inner for inner in value.values() if isinstance(inner, list) and inner and all(map(_asks, inner))]
        if len(lists) == 1:
            return lists[0]
        if value and all(isinstance(inner, dict) and _asks(inner) for inner in value.values()):
            return list(value.values())
    elif all(isinstance(column, list) and all(isinstance(cell, str) for cell in column) for column in asking.values()):
        return (
            [dict(zip(value, row, strict=False)) for row in zip(*value.values(), strict=False)]
            if _even(value, list)
            else None
        )
    elif all(isinstance(column, dict) for column in asking.values()) and _even(value, dict):
        return [
            dict(zip(value, row, strict=True))
            for row in zip(*(column.values() for column in value.values()), strict=True)
        ]
    return [value] if "\n" in text.strip() else None


def _asks(record: Any) -> bool:
    """Whether a record has a question, in it or one level down."""
    inside = [inner for inner in record.values() if isinstance(inner, dict)] if isinstance(record, dict) else []
    return isinstance(record, dict) and any(
        str(key).lower() in _QUESTIONS for part in (record, *inside) for key in part
    )


def _even(columns: Mapping[str, Any], wanted: type) -> bool:
    return (
        all(isinstance(column, wanted) for column in columns.values())
        and len({len(column) for column in columns.values()}) == 1
    )


def _problem(where: str, source: str, key: str, record: Any) -> tuple[Problem, str | None]:
    """The problem of a record, and a note on what of it was not understood. Raises ProblemError."""
    if isinstance(record, ProblemError):
        raise record
    if not isinstance(record, dict):
        raise ProblemError(
            f"{where}: expected a JSON object with the keys of a problem, found {type(record).__name__}."
        )
    nested = {name: value for name, value in record.items() if isinstance(value, dict)}
    flat = {_named(name): value for inner in nested.values() for name, value in inner.items() if isinstance(name, str)}
    fields = {**flat, **{_named(str(name)): value for name, value in record.items()}}
    question = _question(where, fields, flat)
    for name in _OPTIONS:
        if isinstance(fields.get(name), list | dict) and fields[name] and not _holds(question, fields[name]):
            raise ProblemError(
                f"{where}, key {name!r}: a multiple choice whose options are not in the question; expected a question"
                " that can be answered as it stands. Write the options into it, and the letter as the answer."
            )
    answer, solution = _answer_and_solution(where, fields, flat)
    if any(re.search("[\ud800-\udfff]", text) for text in (question, answer, solution or "")):
        raise ProblemError(
            f"{where}: half of a character (\\ud800 to \\udfff) stands alone; expected whole text. Correct the record."
        )
    own = next(
        (fields[name] for name in _IDS if isinstance(fields.get(name), int | str) and str(fields[name]).strip()), None
    )
    level, given = _level(fields.get("level")), fields.get("level")
    unknown = given is not None and level is None and str(given).strip() not in ("", "Level ?")
    return Problem(
        problem_id=stable_id("p", source, question),
        source=source,
        source_key=key if own is None else str(own),
        level=level,
        question=question,
        answer=answer,
        solution=solution,
    ), (f"{where}: the level {given!r:.60} is not one of 1 to 5 and counts as unknown" if unknown else None)


def _named(column: str) -> str:
    return column.strip().lower().replace(" ", "_")


def _question(where: str, fields: Mapping[str, Any], flat: Mapping[str, Any]) -> str:
    if isinstance(fields.get("body"), str) and isinstance(fields.get("question"), str):  # SVAMP tells the story apart
        return f"{fields['body'].strip()} {fields['question'].strip()}"
    name = next((name for name in _QUESTIONS if fields.get(name) is not None), None)
    if name is None:
        raise ProblemError(f"{where}: no question; expected one of {', '.join(_QUESTIONS)}, found {_found(fields)}.")
    found = fields[name]
    if isinstance(found, list):  # a chat
        turns = [turn.get("content") for turn in found if isinstance(turn, dict) and turn.get("role") == "user"]
        found = turns[-1] if turns else None
    if not isinstance(found, str) or not found.strip():
        raise ProblemError(f"{where}, key {name!r}: expected a text that is not empty, found {fields[name]!r:.60}.")
    bare = flat.get("question") or flat.get("raw_problem")
    if isinstance(bare, str) and bare.strip() and name == "prompt":
        return bare
    wrapped = _WRAPPED.fullmatch(found.strip())
    return wrapped[1] if wrapped else found


def _holds(question: str, options: Any) -> bool:
    if isinstance(options, dict):  # ARC's {"text": [...], "label": [...]}, MedQA's {"A": ...}
        options = options.get("text") or list(options.values())
    texts = [re.sub(r"^\W*[A-J]\W+", "", option) for option in options if isinstance(option, str)]
    return bool(texts) and all(option.strip() in question for option in texts)


def _answer_and_solution(where: str, fields: Mapping[str, Any], flat: Mapping[str, Any]) -> tuple[str, str | None]:
    solution: str | None = next(
        (fields[name] for name in _SOLUTIONS if isinstance(fields.get(name), str) and fields[name].strip()), None
    )
    name = next((name for name in _ANSWERS if fields.get(name) not in (None, "", [])), None)
    if name is None:
        if solution is None:
            raise ProblemError(
                f"{where}: no answer; expected one of {', '.join((*_ANSWERS, 'solution'))}, found {_found(fields)}."
            )
        answer = _answer_in(solution)
        if answer is None:
            raise ProblemError(
                f"{where}, key 'solution': expected an answer in \\boxed{{...}} or after ####, found none."
            )
        return answer, None if answer == solution.strip() else solution
    stated = _stated(fields[name])
    answer = None if stated is None else _answer_in(stated)
    if answer is None:
        wanted = "an answer, or a worked text with one after #### or in a box"
        raise ProblemError(f"{where}, key {name!r}: expected {wanted}, found {fields[name]!r:.60}.")
    worked, mark, _ = (stated or "").rpartition("####")
    if mark and solution is None:
        solution = _CALCULATOR_MARK.sub("", worked).strip() or None
    return answer, solution


def _stated(value: Any) -> str | None:
    """An answer column as text: a number as it is written, several values with commas between them.

    None where it is neither.
    """
    if isinstance(value, list):
        parts = [stated for part in value if (stated := _stated(part)) is not None]
        return ", ".join(parts) if parts and len(parts) == len(value) else None
    if isinstance(value, float):
        return None if not math.isfinite(value) else str(int(value)) if value == int(value) else repr(value)
    if isinstance(value, str) and value.strip().startswith('["'):  # a list that was written as text
        try:
            return _stated(json.loads(value))
        except ValueError:
            return value
    return str(value) if isinstance(value, int | str) else None


def _answer_in(text: str) -> str | None:
    _, mark, answer = text.rpartition("####")
    if mark:
        return answer.strip().partition("\n")[0].strip() or None
    if (boxed := last_boxed(text)) is not None:
        return boxed
    short = text.strip()
    said = extract_answer(text)
    if said is not None or "\n" in short or len(short) > _LONGEST_ANSWER or _SENTENCES.search(short):
        return said
    return short if short and "\\boxed" not in short else None


def _level(value: Any) -> int | None:
    known = None if isinstance(value, bool) else _LEVEL.fullmatch(str(value).strip())
    return int(known[1]) if known else None


def _found(fields: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, fields)) or "no key"


# ---- Difficulty
# ---------------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_PLAIN_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:/\d+)?")


def hardest(problems: Sequence[Problem], n: int) -> list[Problem]:
    """The `n` most difficult problems, most difficult first, each with its `difficulty`; equals in the order given.

    Difficulty is the mean of up to three ranks among `problems` (ties share their mean rank, divided by how many have
    it, so each is in (0, 1]): the level, the count of numbers in the question, and the size of the answer where that is
    a number. What is unknown of a problem is left out of its mean. Nothing was sampled for it.
    """
    from scipy.stats import rankdata

    measures = [[measure(problem) for problem in problems] for measure in (lambda p: p.level, _n_numbers, _size)]
    ranks: list[list[float]] = [[] for _ in problems]
    for values in measures:
        known = [index for index, value in enumerate(values) if value is not None]
        for index, rank in zip(known, rankdata([values[index] for index in known]) / max(1, len(known)), strict=True):
            ranks[index].append(float(rank))
    rated = [replace(problem, difficulty=sum(own) / len(own)) for problem, own in zip(problems, ranks, strict=True)]
    return sorted(rated, key=lambda problem: -(problem.difficulty or 0.0))[:n]


def _n_numbers(problem: Problem) -> int:
    return len(_NUMBER.findall(problem.question))


def _size(problem: Problem) -> float | None:
    """The absolute value of an answer that is a plain number."""
    plain = re.sub(r"[\s,$€£%]|\\[$%]", "", problem.answer)
    plain = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", plain)
    try:
        return abs(float(Fraction(plain))) if _PLAIN_NUMBER.fullmatch(plain) else None
    except (ZeroDivisionError, OverflowError):
        return None
