"""Reads a study in the layout of "Steering Thought Anchors" (Dawes 2025) into the store's tables.

    generated_data_annotated_MODEL.json    needed: one entry a CoT, with one value a chunk for each metric
    chunk_categories_MODEL.json            optional: tags by example and chunk
    steering_vectors_MODEL.json            optional: unit vectors with the prompt, index and sentence of their anchor

The files do not hold the chunks, only values by chunk number, made with a splitter that drops an unfinished last
sentence (`backend.cot.chunking` keeps it as the last chunk). So a CoT's values are taken where they are as many as its
chunks, or one fewer; where they are not, the CoT is imported without them, with a warning. Tags are taken when every
example has as many chunks as its CoT: where one has not, the file describes other CoTs, and an agreement elsewhere is
chance. A vector belongs to a chunk only where prompt, index and sentence agree; its layer is kept as published. Not in
the store, and so left out: baseline_accuracy, counterfactual_answers, and the answers of CoTs whose text was not
published.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.cot.categories import CATEGORIES
from backend.cot.chunking import chunk_spans
from backend.cot.prompts import PUBLISHED
from backend.cot.thoughts import closing_tag, split_response
from backend.ids import stable_id
from backend.statistics.intervals import wilson
from precompute.checked_json import ImportedStudy, ImportFormatError, Node, Part, by_cots, read_json, row
from precompute.importers import Importer
from precompute.importers.thought_anchors import Undefined, chunk_row, model_row, published_row

# Our name of a metric -> its key in the annotated file.
METRICS = {
    "counterfactual_accuracy": "counterfactual_accuracies",
    "counterfactual_importance_kl": "counterfactual_importance_kl",
    "different_trajectories_fraction": "different_trajectories_fraction",
    "overdeterminedness": "overdeterminedness",
}
DATA, TAGS, VECTORS = "generated_data_annotated_", "chunk_categories_", "steering_vectors_"
LAYOUT = f"one {DATA}MODEL.json, and beside it {TAGS}MODEL.json and {VECTORS}MODEL.json"
CANDIDATE = (0.2, 0.8)  # accuracy of a problem worth studying (Dawes 2025)


def read_seed_study(folder: Path) -> ImportedStudy:
    """The study in `folder`.

    Raises ImportFormatError, and returns nothing, when a file is malformed or contradicts another.
    """
    folder = Path(folder).resolve()
    found = sorted(folder.glob(f"{DATA}*.json"))
    if len(found) != 1:
        raise ImportFormatError(f"{folder} has {len(found)} files {DATA}*.json; expected {LAYOUT}.")
    suffix = found[0].stem.removeprefix(DATA)
    warnings: list[str] = []
    tags, vectors = (_beside(folder / f"{name}{suffix}.json", warnings) for name in (TAGS, VECTORS))
    model = _model(suffix, vectors)
    tables: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in (
            "models",
            "problems",
            "problem_accuracy",
            "cots",
            "chunks",
            "categories",
            "importance",
            "directions",
        )
    }
    tables["models"].append(model)
    chunks_of: list[list[dict[str, Any]]] = []
    entries: dict[str, Node] = {}
    for entry in read_json(found[0]).items():
        prompt = entry["prompt"].text()
        if prompt in entries:
            raise entry["prompt"].fault("every problem once", found=f"the prompt of {entries[prompt].place} again")
        entries[prompt] = entry
        chunks_of.append(_read_entry(entry, len(chunks_of), model, tables, warnings))
    if not chunks_of:
        raise ImportFormatError(f"{found[0]} lists no CoT; expected at least one.")
    if tags is not None:
        tables["categories"] = _category_rows(tags, chunks_of, warnings)
    if vectors is not None:
        by_prompt = dict(zip(entries, chunks_of, strict=True))
        tables["directions"] = _direction_rows(vectors, model["model_id"], by_prompt, warnings)
    return ImportedStudy(folder.name, tables, warnings)


def seed_study_parts(folder: Path) -> list[Part]:
    """The CoTs of the study in `folder`, one part each, and what belongs to none.

    The files are small and are read to tell CoTs apart.
    """
    study = read_seed_study(folder)
    by_cot = by_cots(study.tables)
    questions = {problem["problem_id"]: problem["source_key"] for problem in study.tables["problems"]}
    names = {cot["cot_id"]: questions[cot["problem_id"]] for cot in study.tables["cots"]} | {None: "the whole study"}
    warnings = {next(iter(by_cot), None): study.warnings}  # of the whole folder: said once
    return [
        _part(
            f"{study.name}/{names[cot]}",
            stable_id("i", "seed-study", cot),
            ImportedStudy(study.name, tables, warnings.get(cot, [])),
        )
        for cot, tables in by_cot.items()
    ]


def _part(name: str, part_id: str, found: ImportedStudy) -> Part:
    digest = hashlib.sha256(json.dumps(found.tables, sort_keys=True).encode()).hexdigest()
    return Part(part_id, name, lambda rollouts: digest, lambda rollouts: found)


def _beside(path: Path, warnings: list[str]) -> Node | None:
    if not path.is_file():
        warnings.append(
            f"{path} is missing: the study has no {'tags' if path.name.startswith(TAGS) else 'steering vectors'}"
        )
        return None
    return read_json(path)


def _model(suffix: str, vectors: Node | None) -> dict[str, Any]:
    """The model by the name in the vectors' file, which must be the one in the file names (with - for /); else by that
    one.
    """
    name = vectors.get("model") if vectors else None
    if name is None:
        return model_row(suffix)
    if name.text().replace("/", "-") != suffix:
        raise name.fault(f"the model of the file's name, {suffix!r} with / for one -")
    return model_row(name.text())


def _read_entry(
    entry: Node, number: int, model: Mapping[str, Any], tables: dict[str, list[dict[str, Any]]], warnings: list[str]
) -> list[dict[str, Any]]:
    question, solution, answer = entry["prompt"].text(), entry.get("gt_solution"), entry.get("answer")
    problem = row(
        "problems",
        problem_id=stable_id("p", "seed-study", question),
        source="seed-study",
        source_key=f"example {number}",
        question=question,
        answer=entry["gt_answer"].text(),
        solution=solution.text() if solution else None,
    )
    text, after, closing = _cot_text(entry)
    written = (answer.text() if answer else "").strip() or None
    cot = row(
        "cots",
        cot_id=stable_id("c", problem["problem_id"], model["model_id"], text),
        problem_id=problem["problem_id"],
        model_id=model["model_id"],
        prompt_name=PUBLISHED,
        sample=0,
        prompt=entry["model_input_prompt"].text(),
        think_close=closing,
        text=text,
        after_text=after,
        answer=written,
        answer_source="published" if written is not None else None,
    )
    chunks = [
        chunk_row(cot["cot_id"], i, start, end, text[start:end]) for i, (start, end) in enumerate(chunk_spans(text))
    ]
    tables["problems"].append(problem)
    tables["problem_accuracy"] += _accuracy_rows(entry, problem["problem_id"], model["model_id"])
    tables["cots"].append(cot)
    tables["chunks"] += chunks
    shares = entry.get(METRICS["different_trajectories_fraction"])
    fractions = {} if shares is None else {number: share.value for number, share in enumerate(shares.items())}
    for metric, key in METRICS.items():
        values = entry.get(key)
        if values is None:
            continue
        numbers = values.items()
        if len(numbers) not in (len(chunks), len(chunks) - 1):
            warnings.append(
                f"{values.file}, at {values.place}: {len(numbers)} values for {len(chunks)} chunks; left out"
            )
            continue
        known = [
            (chunk, value)
            for chunk, value in zip(chunks, numbers, strict=False)
            if value.value is not None and value.number() is not None
        ]
        tables["importance"] += [
            published_row(
                chunk["chunk_id"],
                metric,
                value,
                _undefined(metric, chunk["chunk_index"], len(numbers), fractions, value),
            )
            for chunk, value in known
        ]
    return chunks


def _undefined(metric: str, index: int, n: int, fractions: dict[int, Any], value: Node) -> str | None:
    """Why a 0 is no value: by the rules of `thought_anchors.Undefined`, whose functions this study's code has."""
    if value.number() != 0:
        return None
    return Undefined(index, range(n), None, None).why(metric, fractions.get(index))


def _cot_text(entry: Node) -> tuple[str, str | None, str | None]:
    """The CoT with the white space that the file's `cot` was stripped of, what follows the thinking, and the tag that
    closes it.
    """
    cot, whole, prompt = entry["cot"].text(), entry["raw_response"].text(), entry["model_input_prompt"].text()
    if not cot.strip():
        raise entry["cot"].fault("a chain of thought that is not empty")
    if whole.startswith(prompt):
        closing = closing_tag(whole[len(prompt) :], prompt)
        text, after = split_response(whole[len(prompt) :], closing)
        if text.strip() == cot.strip():
            return text, after, closing
    return cot, None, closing_tag(cot, prompt)


def _accuracy_rows(entry: Node, problem: str, model: str) -> list[dict[str, Any]]:
    """The published accuracy over the published answers; none where either is missing."""
    accuracy, answers = entry.get("accuracy"), entry.get("answers")
    if accuracy is None or answers is None or not (n := len(answers.items())) or (value := accuracy.number()) is None:
        return []
    n_correct = round(value * n)
    if not math.isclose(n_correct, value * n, abs_tol=1e-6) or not 0 <= value <= 1:
        raise accuracy.fault(f"a share of {n} answers")
    interval = wilson(n_correct, n)
    return [
        row(
            "problem_accuracy",
            problem_id=problem,
            model_id=model,
            prompt_name=PUBLISHED,
            n=n,
            n_correct=n_correct,
            accuracy=value,
            ci_low=interval.low,
            ci_high=interval.high,
            candidate=CANDIDATE[0] <= value <= CANDIDATE[1],
        )
    ]


def _category_rows(tags: Node, chunks_of: list[list[dict[str, Any]]], warnings: list[str]) -> list[dict[str, Any]]:
    """Tags by example and chunk number; none where any example has another number of chunks than the CoT it should
    describe.
    """
    annotator = tags.get("annotator_model")
    source = f"published ({annotator.text()})" if annotator else "published"
    rows: list[dict[str, Any]] = []
    others: list[int] = []
    seen: set[int] = set()
    for example in tags["examples"].items():
        number, n_chunks = example["example_index"].integer(), example["num_chunks"].integer()
        if number in seen:
            raise example["example_index"].fault("every example once", found=f"{number} again")
        seen.add(number)
        if not 0 <= number < len(chunks_of) or n_chunks != len(chunks_of[number]):
            others.append(number)
            continue
        for key, labelled in example["categories"].entries().items():
            if not key.isdecimal() or int(key) >= n_chunks:
                raise labelled.fault(f"a chunk number below {n_chunks} as key", found=repr(key))
            names = list(dict.fromkeys(tag.text() for tag in labelled["function_tags"].items()))
            if odd := [name for name in names if name not in CATEGORIES]:
                warnings.append(
                    f"{labelled.file}, at {labelled.place}: {', '.join(odd)!r:.60} is none of the nine tags; left out"
                )
            known = [name for name in names if name in CATEGORIES]
            chunk = chunks_of[number][int(key)]["chunk_id"]
            rows += [
                row("categories", chunk_id=chunk, source=source, rank=rank, category=name)
                for rank, name in enumerate(known)
            ]
    if others:
        warnings.append(
            f"{tags.file}: {len(others)} of {len(seen)} examples have another number of chunks than the CoT of their"
            " number, or there is no such CoT, so the tags were given to other CoTs; all of them are left out"
        )
        return []
    return rows


def _direction_rows(
    vectors: Node, model: str, by_prompt: dict[str, list[dict[str, Any]]], warnings: list[str]
) -> list[dict[str, Any]]:
    """One direction a vector, kind `file`; the mean vector belongs to no chunk.

    Unit vectors hide their length: norm is None.
    """
    rows = []
    config = vectors.get("config")
    shared = {"source": vectors.file.name, "config": config.value if config else None}
    for entry in vectors["vectors"].items():
        prompt, index, sentence = entry["prompt"].text(), entry["anchor_idx"].integer(), entry["anchor_sentence"].text()
        chunks = by_prompt.get(prompt, [])
        matches = 0 <= index < len(chunks) and chunks[index]["text"].split() == sentence.split()
        if not matches:
            warnings.append(
                f"{entry.file}, at {entry.place}: chunk {index} of the CoT with this prompt is not {sentence[:60]!r},"
                " so the vector was made from another CoT; imported without its chunk"
            )
        count = entry.get("counterfactual_count")
        about = {
            "anchor_idx": index,
            "anchor_sentence": sentence,
            "counterfactual_count": count.integer() if count else None,
        }
        chunk = chunks[index]["chunk_id"] if matches else None
        d_model, layer = entry["hidden_size"].integer(), entry["layer"].integer()
        rows.append(_direction(entry["vector"], d_model, layer, model, chunk, shared | about))
    if (mean := vectors.get("mean_vector")) is not None:
        rows.append(
            _direction(
                mean, len(mean.items()), vectors["layer"].integer(), model, None, shared | {"mean_of": len(rows)}
            )
        )
    ids = [direction["direction_id"] for direction in rows]
    if len(set(ids)) < len(ids):
        raise vectors["vectors"].fault("every vector once", found="the same vector for the same anchor twice")
    return rows


def _direction(
    vector: Node, d_model: int, layer: int, model: str, chunk: str | None, parameters: dict[str, Any]
) -> dict[str, Any]:
    items = [value.number() for value in vector.items()]
    values = [value for value in items if value is not None]
    if len(items) != d_model or len(values) < d_model:
        raise vector.fault(f"{d_model} known numbers", found=f"{len(items)}, of which {items.count(None)} unknown")
    length = math.hypot(*values)
    if length == 0:
        raise vector.fault("a direction", found="a vector of zeros")
    return row(
        "directions",
        direction_id=stable_id("d", "file", model, layer, chunk, parameters, values),
        kind="file",
        model_id=model,
        layer=layer,
        chunk_id=chunk,
        norm=None if math.isclose(length, 1, abs_tol=1e-4) else length,
        vector=[value / length for value in values],
        parameters=json.dumps(parameters | {"layer": "as published"}),
    )


IMPORTER = Importer("seed-study", "a study of Steering Thought Anchors (Dawes 2025)", seed_study_parts)
