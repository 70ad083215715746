"""Questions with known answers: from our generator, or from a file that somebody published."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from backend.cot.problems import Problem, ProblemFile, hardest, read_problem_file
from backend.cot.word_problems import generate
from backend.errors import AnchorscopeError
from precompute.estimates import Estimate, Quantities
from precompute.study import Problems
from precompute.units import Context, Finished, Unit

NAME, UNIT = "problems", "problem set"
RULE = 1  # of choosing problems: raise it when it changes

_SHOWN = 5  # notes on a file's records that are told one by one
# Keys that came in later: left at their defaults they change nothing, and the unit's key neither.
_ADDED = ("file", "hardest", "strict")


def units(context: Context) -> list[Unit]:
    """One unit: all problems of the study."""
    wanted = context.study.problems
    if wanted is None:
        return []
    settings = wanted.model_dump(mode="json")
    defaults = {name: Problems.model_fields[name].default for name in _ADDED}
    settings = {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}
    inputs = {"problems": settings, "seed": context.study.seed}
    if wanted.read_from is not None:
        inputs["sha256"] = _sha256(wanted.read_from[1])
    return [Unit("problems", inputs)]


def estimate(of: Quantities) -> Estimate:
    return of.line(NAME, 0 if of.study.problems is None else 1, gigabytes=0, seconds=0.03)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    for unit in units:
        assert context.study.problems is not None  # else there is no unit
        found = chosen(context.study.problems, seed=context.study.seed)
        for note in told(found.notes):
            context.warn(note)
        yield Finished(
            unit, {"problems": [asdict(problem) for problem in found.problems]}, {"seed": context.study.seed}
        )


def chosen(wanted: Problems, *, seed: int) -> ProblemFile:
    """The study's problems: those of its levels, then at most `limit` of them, then the `hardest` of these; and what
    was left out.

    A problem of unknown level is of every level.
    """
    if wanted.read_from is None:
        assert wanted.per_level is not None  # exactly one source
        found = ProblemFile(tuple(generate({level: wanted.per_level for level in wanted.levels}, seed=seed)), ())
    else:
        source, path = wanted.read_from
        found = read_problem_file(path, source, strict=wanted.strict)
    problems: Sequence[Problem] = [
        problem for problem in found.problems if problem.level is None or problem.level in wanted.levels
    ]
    problems = problems[: wanted.limit]
    return ProblemFile(tuple(problems if wanted.hardest is None else hardest(problems, wanted.hardest)), found.notes)


def told(notes: Sequence[str]) -> list[str]:
    """The first notes, and how many more there are."""
    more = len(notes) - _SHOWN
    return [
        *notes[:_SHOWN],
        *([f"{more} more records of that file were left out or not understood in part"] if more > 0 else []),
    ]


def _sha256(path: Path) -> str:
    """Of a file; of a folder, that of the names and contents of its files."""
    try:
        if not path.is_dir():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(
                f"{file.relative_to(path).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
            )
        return digest.hexdigest()
    except OSError as error:
        raise AnchorscopeError(
            f"{path} cannot be read ({error.strerror}); [problems] needs a file of problems, or a folder."
        ) from error
