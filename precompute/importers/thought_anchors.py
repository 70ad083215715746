"""Reads chains of thought published in the layout of "Thought Anchors" (Bogdan et al. 2025) into the store's tables.

    MODEL/[temperature_T_top_p_P/]CASE/problem_N/   CASE is correct_base_solution or incorrect_base_solution; of scenarios, which have
                                                    no answer, CASE/scenario_N in yes_base_solution or no_base_solution
        problem.json or scenario.json               needed
        base_solution.json                          needed
        chunks_labeled.json                         chunks, tags, metrics; or chunks.json, which has the chunks alone
        chunks_resampled.json                       optional: {"i": [first sentences of the rollouts at chunk i]}
        step_importance.json                        optional: sentence to sentence, by rollouts
        step_importance_supp.json                   optional: the same by attention suppressed
        chunk_i/solutions.json                      optional: the raw rollouts at chunk i
    MODEL/.../CASE_forced_answer/problem_N/chunk_i/solutions.json    optional: answers forced before chunk i

Published values stay as published, under the convention "published", but for zeros that the files themselves say are
undefined (see `Undefined`): these are unknown, and what was written is kept beside them. Published chunks keep their
boundaries, whatever our own rules of cutting are: they are found in the CoT's text by their characters without white
space, in order; the white space between them closes the chunk before it up to its last newline, as in
`backend.cot.chunking`, and the spans tile the text. A chunk that is not found there is an error. Step
importance by suppression has the convention "published_suppression"; its publisher took from each target the mean over
its sources, so that a target with one source has 0 whatever the value was: that 0 is left out. Not in the store, and so
left out: `depends_on`, `summary`, summary.json.
"""  # noqa: E501

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from backend.cot.categories import CATEGORIES
from backend.cot.prompts import PUBLISHED
from backend.cot.thoughts import closing_tag, split_response
from backend.ids import chunk_id, rollout_id, stable_id
from precompute.checked_json import ImportedStudy, ImportFormatError, Node, Part, read_json, row
from precompute.importers import Importer

# Our name of a metric -> its key in chunks_labeled.json.
METRICS = {
    "counterfactual_accuracy": "accuracy",
    "resampling_importance_kl": "resampling_importance_kl",
    "resampling_importance_accuracy": "resampling_importance_accuracy",
    "counterfactual_importance_kl": "counterfactual_importance_kl",
    "counterfactual_importance_accuracy": "counterfactual_importance_accuracy",
    "forced_importance_kl": "forced_importance_kl",
    "forced_importance_accuracy": "forced_importance_accuracy",
    "different_trajectories_fraction": "different_trajectories_fraction",
    "overdeterminedness": "overdeterminedness",
}
# -> number of the sample; the scenarios' answer is whether the model did it, which is neither right nor wrong
CASES = {"correct_base_solution": 0, "incorrect_base_solution": 1, "no_base_solution": 0, "yes_base_solution": 1}
FORCED = "_forced_answer"
LAYOUT = (
    "MODEL/CASE/problem_N with problem.json and base_solution.json, CASE being correct_base_solution or"
    " incorrect_base_solution (of scenarios MODEL/CASE/scenario_N with scenario.json, CASE being yes_base_solution or"
    " no_base_solution)"
)
READ = (
    "problem.json",
    "scenario.json",
    "base_solution.json",
    "chunks_labeled.json",
    "chunks.json",
    "step_importance.json",
    "step_importance_supp.json",
)
# File of step importance -> the convention of its values.
STEPS = {"step_importance.json": "published", "step_importance_supp.json": "published_suppression"}
TABLES_READ = ("models", "problems", "cots", "chunks", "categories", "rollouts", "importance", "step_importance")
FILTERED_CHARS = 3  # the published lists leave out chunks of fewer than 4 characters

Rows = dict[str, list[dict[str, Any]]]


def read_thought_anchors(folder: Path) -> ImportedStudy:
    """All CoTs below `folder`: the top folder, a model's folder, a case's folder, or one problem's folder.

    Raises ImportFormatError, and returns nothing, when any file is malformed, lacks a field, or repeats an id.
    """
    parts = thought_anchors_parts(folder)
    together = Together({name: [] for name in TABLES_READ})
    warnings = [warning for part in parts for warning in together.add(part, part.read(True)).warnings]
    return ImportedStudy(Path(folder).resolve().name, together.rows, warnings)


def thought_anchors_parts(folder: Path) -> list[Part]:
    """The CoTs below `folder`, one part each; nothing but the names of folders and files is looked at."""
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise ImportFormatError(f"{folder} is not a folder; expected {LAYOUT}.")
    return [_part(place) for place in _problem_folders(folder)]


def _part(place: Path) -> Part:
    model, case = _model_and_case(place)
    return Part(
        stable_id("i", "thought-anchors", model, case, place.name),
        "/".join((model, case, place.name)),
        lambda rollouts: _digest(place, rollouts),
        lambda rollouts: _read_problem(place, rollouts),
    )


@dataclass
class Together:
    """Rows of several parts, which may not contradict one another."""

    rows: Rows
    seen: dict[tuple[str, str], tuple[str, str]] = field(
        default_factory=dict
    )  # (kind of id, id) -> what it stands for, and which part

    def add(self, part: Part, found: ImportedStudy) -> ImportedStudy:
        """Raises ImportFormatError where `found` holds a CoT again, or asks another question under the same name."""
        for cot in found.tables.get("cots", ()):
            if ("cots", cot["cot_id"]) in self.seen:
                first = self.seen["cots", cot["cot_id"]][1]
                raise ImportFormatError(
                    f"{part.name} holds the same CoT as {first}; expected every CoT once. Remove one of the folders."
                )
            self.seen["cots", cot["cot_id"]] = "", part.name
        for problem in found.tables.get("problems", ()):
            if problem["answer"] is None:  # a scenario, which each model was asked in words of its own
                continue
            named = (problem["source"], problem["source_key"])
            question, first = self.seen.setdefault(("named", str(named)), (problem["question"], part.name))
            if question != problem["question"]:
                raise ImportFormatError(
                    f"{part.name} and {first} are both {problem['source_key']} but ask different questions; expected"
                    " one problem a number."
                )
        for table, rows in found.tables.items():
            key = {"problems": "problem_id", "models": "model_id"}.get(table)
            if key:  # shared by several CoTs
                rows = [one for one in rows if self.seen.setdefault((table, one[key]), ("", part.name))[1] == part.name]
            self.rows.setdefault(table, []).extend(rows)
        return found


def _digest(place: Path, rollouts: bool) -> str:
    """Of the names and bytes of the files that are read."""
    of_rollouts = [place / "chunks_resampled.json", *sorted(place.glob("chunk_*/solutions.json"))]
    forced = _forced_folder(place)
    of_rollouts += [forced / "base_solution.json", *sorted(forced.glob("chunk_*/solutions.json"))]
    digest = hashlib.sha256()
    for file in [place / name for name in READ] + (of_rollouts if rollouts else []):
        if file.is_file():
            with file.open("rb") as handle:
                known = hashlib.file_digest(handle, "sha256").digest()
            digest.update("/".join(file.parts[-4:]).encode() + b"\0" + known)
    return digest.hexdigest()


def _problem_folders(folder: Path) -> list[Path]:
    found = []
    for candidate in sorted([folder, *(p for p in folder.rglob("*") if p.is_dir())]):
        if candidate.name.startswith("problem_") and candidate.parent.name.endswith(FORCED):
            partner = _forced_partner(candidate)
            if not (partner / "base_solution.json").is_file():
                raise ImportFormatError(
                    f"{candidate} has forced answers for the CoT in {partner}, which is missing. Fetch that folder too."
                )
            if not partner.is_relative_to(folder):
                raise ImportFormatError(
                    f"{candidate} has forced answers for the CoT in {partner}. Import that folder: both are read then."
                )
        elif any((candidate / name).is_file() for name in ("problem.json", "scenario.json", "base_solution.json")):
            found.append(candidate)
    if not found:
        raise ImportFormatError(f"{folder} holds no problem; expected {LAYOUT}, here or below.")
    return found


def _model_and_case(place: Path) -> tuple[str, str]:
    case, parent = place.parent.name, place.parent.parent
    if case not in CASES or not re.fullmatch(r"(?:problem|scenario)_\w+", place.name):
        seen_as = "/".join(place.parts[-3:])
        raise ImportFormatError(
            f"{place}: expected the layout {LAYOUT}, found {seen_as}. Rename the folders as published."
        )
    return parent.parent.name if parent.name.startswith("temperature_") else parent.name, case


def _forced_folder(place: Path) -> Path:
    return place.parent.parent / (place.parent.name + FORCED) / place.name


def _forced_partner(forced: Path) -> Path:
    return forced.parent.parent / forced.parent.name.removesuffix(FORCED) / forced.name


def _read_problem(place: Path, rollouts: bool) -> ImportedStudy:
    """The rows of one CoT."""
    warnings: list[str] = []
    rows: Rows = {name: [] for name in TABLES_READ}
    model_name, case = _model_and_case(place)
    about = "scenario.json" if place.name.startswith("scenario_") else "problem.json"
    problem_file, base = (read_json(_needed(place / name)) for name in (about, "base_solution.json"))
    problem = (
        _scenario_row(problem_file, base, place.name)
        if about == "scenario.json"
        else _problem_row(problem_file, place.name)
    )
    model = model_row(model_name)
    found = _cot_row(base, problem, model, CASES[case])
    cot = found["cot_id"]
    rows["problems"], rows["models"], rows["cots"] = [problem], [model], [found]
    if found["is_correct"] is not None and found["is_correct"] != (case == "correct_base_solution"):
        warnings.append(f"{base.file}: is_correct is {found['is_correct']} in a folder {case}; kept as the file says")

    published = _published_chunks(place, warnings)
    spans = align_chunks(found["text"], published, warnings)
    ids: dict[int, str] = {}
    texts: dict[int, str] = {}
    for position, ((index, _, _), (start, end)) in enumerate(zip(published, spans, strict=True)):
        ids[index], texts[index] = chunk_id(cot, position), found["text"][start:end]
        rows["chunks"].append(chunk_row(cot, position, start, end, texts[index]))
    sampled = _chunks_with_rollouts(place), _chunks_with_rollouts(_forced_folder(place))
    for index, _, node in published:
        if isinstance(node.value, dict):
            rows["categories"] += _category_rows(node, ids[index], warnings)
            rows["importance"] += _importance_rows(node, ids[index], Undefined(index, tuple(ids), *sampled))
    for name, convention in STEPS.items():
        rows["step_importance"] += _step_importance_rows(place / name, convention, ids, texts)
    if not (place / "step_importance.json").is_file():
        warnings.append(f"{place / 'step_importance.json'} is missing: this CoT has no sentence-to-sentence importance")
    if rollouts:
        raw = _raw_rollouts(place, "resample", cot, ids, texts, warnings)
        rows["rollouts"] += raw
        rows["rollouts"] += _resampled_sentences(place, cot, ids, {row["chunk_id"] for row in raw})
        if (forced := _forced_folder(place)).is_dir():
            _same_cot(forced / "base_solution.json", base)
            rows["rollouts"] += _raw_rollouts(forced, "forced", cot, ids, texts, warnings)
    return ImportedStudy(place.name, rows, warnings)


@dataclass(frozen=True)
class Undefined:
    """Why a 0 that the published code wrote for a chunk is no value, from what its files say; `docs/importing.md` has
    the table.

    That code returns 0.0 early where it has nothing to compute from. A 0 it did compute stays 0.
    """

    index: int
    listed: Sequence[int]  # the chunk_idx there are, rising
    sampled: frozenset[int] | None  # those with raw rollouts; None where no raw rollouts were published
    forced: frozenset[int] | None  # likewise forced answers

    def why(self, metric: str, fraction: float | None) -> str | None:
        """None where the 0 is a value. `fraction` is the chunk's different_trajectories_fraction,
        None where unknown."""
        if metric == "counterfactual_accuracy":
            return "no rollout of it was published" if self._without(self.sampled, self.index) else None
        of_forced = metric.startswith("forced")
        if self.index == self.listed[-1]:
            return "the last chunk: nothing comes after it"
        if self._without(self.forced if of_forced else self.sampled, self.index):
            return f"no {'forced answer' if of_forced else 'rollout'} of it was published"
        if metric == "resampling_importance_accuracy" and self.index + 1 not in self.listed:
            return f"chunk {self.index + 1}, which it would be compared with, is left out of the published list"
        if metric.startswith("counterfactual_importance") and fraction == 0:
            return "no rollout of it is dissimilar"
        return None

    @staticmethod
    def _without(those: frozenset[int] | None, index: int) -> bool:
        return those is not None and index not in those


def _chunks_with_rollouts(place: Path) -> frozenset[int] | None:
    found = [
        int(m[1])
        for p in place.glob("chunk_*/solutions.json")
        if (m := re.fullmatch(r"chunk_(\d+)", p.parent.name)) and _holds(p)
    ]
    return frozenset(found) if found else None


def _holds(solutions: Path) -> bool:
    return solutions.stat().st_size > 2  # more than []


def _needed(path: Path) -> Path:
    if not path.is_file():
        raise ImportFormatError(
            f"{path} is missing; expected {LAYOUT}. Fetch the folder again; nothing of it was imported."
        )
    return path


def _problem_row(problem: Node, key: str) -> dict[str, Any]:
    question, level, solution = problem["problem"].text(), problem.get("level"), problem.get("gt_solution")
    known = re.fullmatch(r"(?:Level )?([1-5])", (level.answer() or "").strip()) if level else None
    return row(
        "problems",
        problem_id=stable_id("p", "thought-anchors", key, question),
        source="thought-anchors",
        source_key=key,
        level=int(known[1]) if known else None,
        question=question,
        answer=problem["gt_answer"].answer(),
        solution=solution.text() if solution else None,
    )


def _scenario_row(scenario: Node, base: Node, key: str) -> dict[str, Any]:
    """A scenario has no answer: nothing is right or wrong about it.

    What the model was asked is the prompt of base_solution.json.
    """
    asked = scenario.get("email_content")
    prompt = base["prompt"].text()
    question = asked.text() if asked else prompt
    return row(
        "problems",
        problem_id=stable_id("p", "thought-anchors", key, question),
        source="thought-anchors",
        source_key=key,
        question=question,
    )


def model_row(name: str, **known: Any) -> dict[str, Any]:
    """A model of which others say little more than its name."""
    role = "distilled" if "distill" in name.lower() else "model"
    return row("models", model_id=stable_id("m", name, None, None), name=name, role=role, **known)


def _cot_row(base: Node, problem: Mapping[str, Any], model: Mapping[str, Any], sample: int) -> dict[str, Any]:
    closing = closing_tag(base["solution"].text(), base["prompt"].text())
    text, after = split_response(base["solution"].text(), closing)
    answer, correct = base.get("answer"), base.get("is_correct")
    written = _answer(answer)
    verdict = correct.flag() if correct and written is not None else None
    return row(
        "cots",
        cot_id=stable_id("c", problem["problem_id"], model["model_id"], text),
        problem_id=problem["problem_id"],
        model_id=model["model_id"],
        prompt_name=PUBLISHED,
        sample=sample,
        prompt=base["prompt"].text(),
        think_close=closing,
        text=text,
        after_text=after,
        answer=written,
        answer_source="published" if written is not None else None,
        is_correct=verdict,
        grader="published" if verdict is not None else None,
    )


def _answer(node: Node | None) -> str | None:
    """The files write "" where no answer was given."""
    return node.answer() if node else None


def _published_chunks(place: Path, warnings: list[str]) -> list[tuple[int, str, Node]]:
    """(chunk_idx, text, its entry) in reading order; indices rise but may leave out filtered chunks."""
    labelled = place / "chunks_labeled.json"
    if labelled.is_file():
        found = [(node["chunk_idx"].integer(), node["chunk"].text(), node) for node in read_json(labelled).items()]
    else:
        warnings.append(f"{labelled} is missing: the chunks come from chunks.json, without tags and metrics")
        found = [
            (i, node.text(), node) for i, node in enumerate(read_json(_needed(place / "chunks.json"))["chunks"].items())
        ]
    if not found:
        raise ImportFormatError(
            f"{labelled} lists no chunk; expected at least one. Fetch the file again; nothing of its CoT was imported."
        )
    for (before, _, _), (index, _, node) in pairwise(found):
        if index <= before:
            raise node.fault(
                f"chunk_idx to rise from {before}", found=f"{index}{', which comes twice' if index == before else ''}"
            )
    return found


def align_chunks(text: str, published: list[tuple[int, str, Node]], warnings: list[str]) -> list[tuple[int, int]]:
    """Character spans of the published chunks in the CoT's text, which they tile.

    Between chunks only white space may lie, and what the published lists filter out: up to 3 characters for every index
    left out (or once, where indices were renumbered), which goes to the chunk after it. What follows the last chunk
    goes to the last one.
    """
    places = [i for i, character in enumerate(text) if not character.isspace()]
    solid = "".join(text[i] for i in places)
    ends, cursor, index_before = [0], 0, -1
    spans: list[tuple[int, int]] = []
    for index, chunk, node in published:
        wanted = "".join(chunk.split())
        left_out = FILTERED_CHARS * max(1, index - index_before - 1)
        found = solid.find(wanted, cursor, cursor + left_out + len(wanted)) if wanted else -1
        if found < 0:
            rest = text[places[cursor] :] if cursor < len(places) else ""
            raise node.fault(
                f"chunk_idx {index} to be in the CoT of base_solution.json, which goes on with {rest[:60]!r}",
                found=f"{chunk[:60]!r}",
            )
        cursor, index_before = found + len(wanted), index
        end = places[cursor - 1] + 1
        gap_end = places[cursor] if cursor < len(places) else len(text)
        newline = text.rfind("\n", end, gap_end)
        spans.append((ends[-1], newline + 1 if newline >= 0 else end))
        ends.append(spans[-1][1])
    if cursor < len(places):
        more = len(places) - cursor
        warnings.append(
            f"{published[-1][2].file}: {more} characters of the CoT follow the last chunk; they were put into it"
        )
    spans[-1] = (spans[-1][0], len(text))
    return spans


def _category_rows(node: Node, chunk: str, warnings: list[str]) -> list[dict[str, Any]]:
    tags = node.get("function_tags")
    names = list(dict.fromkeys(tag.text() for tag in tags.items())) if tags else []
    for name in names:
        if name not in CATEGORIES:
            warnings.append(
                f"{node.file}, at {node.place}.function_tags: {name!r:.60} is none of the nine tags; left out"
            )
    known = [name for name in names if name in CATEGORIES]
    return [
        row("categories", chunk_id=chunk, source="published", rank=rank, category=name)
        for rank, name in enumerate(known)
    ]


def _importance_rows(node: Node, chunk: str, undefined: Undefined) -> list[dict[str, Any]]:
    """A row for every metric that is there; a missing or unknown one gives none, an undefined one written as 0 gives
    one without value.
    """
    fields = {metric: node.get(key) for metric, key in METRICS.items()}
    known = {metric: field for metric, field in fields.items() if field is not None and field.number() is not None}
    share = known.get("different_trajectories_fraction")
    fraction = None if share is None else share.number()
    return [
        published_row(chunk, metric, field, undefined.why(metric, fraction) if field.number() == 0 else None)
        for metric, field in known.items()
    ]


def published_row(chunk: str, metric: str, value: Node, reason: str | None = None) -> dict[str, Any]:
    """A value as it was written; with a reason why it is none, it is kept beside."""
    written = value.number()
    if reason is None:
        return row("importance", chunk_id=chunk, metric=metric, convention="published", value=written)
    return row("importance", chunk_id=chunk, metric=metric, convention="published", written=written, reason=reason)


def chunk_row(cot: str, position: int, start: int, end: int, text: str) -> dict[str, Any]:
    return row(
        "chunks",
        chunk_id=chunk_id(cot, position),
        cot_id=cot,
        chunk_index=position,
        char_start=start,
        char_end=end,
        text=text,
    )


def _rollout_row(cot: str, chunk: str, kind: str, sample: int, **known: Any) -> dict[str, Any]:
    return row(
        "rollouts",
        rollout_id=rollout_id(chunk, kind, sample),
        chunk_id=chunk,
        cot_id=cot,
        kind=kind,
        sample=sample,
        **known,
    )


def _raw_rollouts(
    place: Path, kind: str, cot: str, ids: dict[int, str], texts: dict[int, str], warnings: list[str]
) -> list[dict[str, Any]]:
    found = []
    numbered = sorted(
        (int(m[1]), p) for p in place.glob("chunk_*") if (m := re.fullmatch(r"chunk_(\d+)", p.name)) and p.is_dir()
    )
    left_out = []
    for index, folder in numbered:
        solutions = folder / "solutions.json"
        if not solutions.is_file():
            warnings.append(f"{solutions} is missing: chunk {index} has no rollouts")
            continue
        if index not in ids:
            left_out.append(index)  # a chunk that the labelled list filtered out
            continue
        entries = read_json(solutions).items()
        failed = [node for node in entries if isinstance(node.value, dict) and "error" in node.value]
        if failed:
            warnings.append(
                f"{solutions}: {len(failed)} of {len(entries)} rollouts failed when they were made; left out"
            )
        good = [(sample, node) for sample, node in enumerate(entries) if node not in failed]
        found += [_raw_rollout(node, kind, sample, cot, ids[index], texts[index]) for sample, node in good]
    if left_out:
        numbers = ", ".join(map(str, left_out))
        warnings.append(
            f"{place}: the rollouts of chunks {numbers} are left out, because the chunk list does not have these chunks"
        )
    return found


def _raw_rollout(node: Node, kind: str, sample: int, cot: str, chunk: str, text: str) -> dict[str, Any]:
    removed, resampled, correct = node.get("chunk_removed"), node.get("chunk_resampled"), node.get("is_correct")
    if removed and "".join(removed.text().split()) not in "".join(text.split()):
        raise removed.fault(f"the text of the chunk its folder is named for, {text.strip()[:60]!r}")
    answer = _answer(node.get("answer"))
    verdict = correct.flag() if correct and answer is not None else None
    return _rollout_row(
        cot,
        chunk,
        kind,
        sample,
        text=node["rollout"].text(),
        resampled_chunk=resampled.text() if resampled and kind == "resample" else None,
        answer=answer,
        is_correct=verdict,
        grader="published" if verdict is not None else None,
    )


def _resampled_sentences(place: Path, cot: str, ids: dict[int, str], with_rollouts: set[str]) -> list[dict[str, Any]]:
    path = place / "chunks_resampled.json"
    if not path.is_file():
        return []
    found = []
    for key, sentences in read_json(path).entries().items():
        if not key.isdecimal() or int(key) not in ids:
            raise sentences.fault(f"a chunk_idx of the chunk list as key, 0 to {max(ids)}", found=repr(key))
        chunk = ids[int(key)]
        if chunk not in with_rollouts:  # raw rollouts hold the same sentences, and more
            texts = [sentence.text() for sentence in sentences.items()]
            found += [
                _rollout_row(cot, chunk, "resample", sample, resampled_chunk=text) for sample, text in enumerate(texts)
            ]
    return found


def _same_cot(path: Path, base: Node) -> None:
    if path.is_file():
        solution = read_json(path)["solution"]
        ours, theirs = (split_response(text, closing_tag(text)) for text in (solution.text(), base["solution"].text()))
        if ours[0] != theirs[0]:
            raise solution.fault(f"the CoT of {base.file}, whose answers were forced here", found="another text")


def _step_importance_rows(
    path: Path, convention: str, ids: dict[int, str], texts: dict[int, str]
) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found: dict[tuple[int, int], float] = {}
    for step in read_json(path).items():
        source = step["source_chunk_idx"].integer()
        if source not in ids:
            raise step["source_chunk_idx"].fault(f"a chunk_idx of the chunk list, 0 to {max(ids)}")
        quoted = step.get("source_chunk_text")
        if quoted and "".join(quoted.text().split()) not in "".join(texts[source].split()):
            raise quoted.fault(f"the text of chunk_idx {source}, {texts[source].strip()[:60]!r}")
        for impact in step["target_impacts"].items():
            target, score = impact["target_chunk_idx"], impact.get("importance_score")
            if target.integer() not in ids or target.integer() <= source:
                raise target.fault(f"a chunk_idx of the chunk list after {source}")
            if (source, target.value) in found:
                raise target.fault(f"every target of chunk_idx {source} once", found=f"{target.value} again")
            if score is not None and (value := score.number()) is not None:
                found[source, target.value] = value
    if convention != "published":  # less the mean over the target's sources: of one source, nothing is left
        n_sources = Counter(target for _, target in found)
        found = {pair: value for pair, value in found.items() if value or n_sources[pair[1]] > 1}
    return [
        row(
            "step_importance",
            source_chunk_id=ids[source],
            target_chunk_id=ids[target],
            convention=convention,
            value=value,
        )
        for (source, target), value in found.items()
    ]


IMPORTER = Importer("thought-anchors", "chains of Thought Anchors (Bogdan et al. 2025)", thought_anchors_parts)
