"""A study made of what somebody computed elsewhere and holds in a notebook: texts, arrays and numbers.

1. Everything that was handed over is checked, and turned into rows. A fault is a sentence that names the argument, the
   row and what was expected; nothing is written then.
2. The unit files are written into a folder beside the study's, with maps, neighbourhoods and evidence computed from
   them by the stages' own code, and its store is published.
3. Only then the folder gets the study's name.

What is not handed over stays unknown: tokens, revisions, the RMS of a residual stream, intervals. A metric of a name
that Anchorscope computes itself has the convention `published`, because here it was computed by others.
"""

import hashlib
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from backend.cot.chunking import chunk_spans
from backend.cot.prompts import PUBLISHED
from backend.errors import AnchorscopeError
from backend.geometry.neighbourhoods import neighbourhoods
from backend.ids import chunk_id, seed_for, stable_id
from backend.importance.conventions import ALL
from backend.importance.metric_registry import METRICS
from backend.root import own_stores
from backend.search.columns import RESERVED
from backend.statistics.intervals import wilson
from backend.store.geometry_columns import COLUMNS, NONE
from backend.store.publish import publish
from backend.store.registered import NAME
from backend.store.unit_files import StudyFolder, Writer
from precompute.bring_up import bring_up
from precompute.checked_json import row
from precompute.pipeline import run_row
from precompute.stages import claims, evidence
from precompute.stages.cots import CANDIDATE
from precompute.study import Study

STAGE = "arrays"
DRAWS = 2000  # of the evidence
_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as in a study file
_CHAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NEEDED = ("problem", "model")
_KNOWN = {
    "problem": "the question, a text",
    "model": "the name of the model that wrote it",
    "chunks": "its sentences, a list of texts that joined give the chain",
    "text": "the chain as one text, which is cut into sentences; instead of chunks",
    "id": "your own name of the chain: letters, digits, - and _",
    "prompt": "everything before the chain, as the model read it",
    "token_ids": "a list of token ids for each chunk",
    "prompt_token_ids": "a list of the prompt's token ids",
    "answer": "the answer it gives, a text",
    "correct": "True or False",
    "truth": "the right answer, a text",
    "level": "difficulty, a whole number",
    "after_text": "what the model wrote after its chain",
    "categories": "a tag or None for each chunk",
}
_LARGEST = float(np.finfo(np.float32).max)
_BESIDE = {"_low": "ci_low", "_high": "ci_high", "_n": "n"}  # columns beside a metric's own

Values: TypeAlias = "Sequence[Any] | np.ndarray | pd.Series | Any"  # a torch tensor too


class ArraysError(AnchorscopeError):
    """What was handed over is no study: the argument, the row, and what was expected."""


@dataclass(frozen=True)
class Chain:
    """One chain of thought as it was handed over."""

    name: str  # its own, or its row
    cot: dict[str, Any]
    problem: dict[str, Any]
    chunks: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    model: str


@dataclass
class Handed:
    """All that was handed over, checked, as rows by table; `described` says of each argument what came in."""

    chains: list[Chain]
    tables: dict[str, list[dict[str, Any]]]
    described: dict[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        return [len(chain.chunks) for chain in self.chains]

    @property
    def chunks(self) -> list[tuple[Chain, dict[str, Any]]]:
        return [(chain, chunk) for chain in self.chains for chunk in chain.chunks]


def study_from_arrays(
    cots: pd.DataFrame | Sequence[Mapping[str, Any]],
    activations: Mapping[int, Values] | None = None,
    metrics: pd.DataFrame | Mapping[str, Values] | None = None,
    *,
    name: str,
    geometry: Mapping[str, Mapping[int, Values]] | None = None,
    maps: Mapping[int, Values] | None = None,
    words: Mapping[str, Mapping[str, Any]] | None = None,
    note: str = "",
    seed: int = 0,
    draws: int = DRAWS,
    folder: str | Path | None = None,
    replace: bool = False,
) -> Path:
    """Make the study `name` and return its folder; `anchorscope.open_study.from_arrays` says what each argument is.

    Raises ArraysError before anything is written.
    """
    target = _target(name, folder, replace)
    if type(draws) is not int or draws < 0:
        raise ArraysError(f"draws is {draws!r}; a whole number from 0 on was expected (2000 is usual).")
    handed = _chains(cots)
    _activations(handed, activations)
    _metrics(handed, metrics)
    _geometry(handed, geometry)
    _maps(handed, maps)
    _words(handed, words)
    building, before = (target.with_name(f".{target.name}.{what}") for what in ("building", "before"))
    shutil.rmtree(building, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(StudyFolder(building), handed, name=name, note=note, seed=seed, draws=draws, mapped=maps is None)
        if target.exists():
            target.rename(before)
        building.rename(target)
    finally:
        for leftover in (building, before):
            shutil.rmtree(leftover, ignore_errors=True)
    return target


def _target(name: str, folder: str | Path | None, replace: bool) -> Path:
    if not isinstance(name, str) or not _STUDY.fullmatch(name):
        raise ArraysError(
            f"name is {name!r}; up to 64 letters, digits, ., _ and - were expected, a letter or digit first."
        )
    target = (Path(folder) if folder is not None else own_stores()) / name
    if target.exists() and not (replace and StudyFolder(target).manifest.exists()):
        wanted = "another name, or replace=True" if StudyFolder(target).manifest.exists() else "another name"
        raise ArraysError(f"name is {name!r}, and {target} is there already; {wanted} was expected.")
    if replace and target.exists() and not _is_of_arrays(target):
        raise ArraysError(f"replace is True, but {target} was not made from arrays; another name was expected.")
    return target


def _is_of_arrays(target: Path) -> bool:
    return bool(StudyFolder(target).ledger().all_keys(STAGE))


# Chains


def _chains(cots: Any) -> Handed:
    rows = cots.to_dict("records") if isinstance(cots, pd.DataFrame) else cots
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Sequence) or not len(rows):
        raise ArraysError(
            f"cots is {_what(cots)}; a DataFrame or a list of mappings was expected, one a chain of thought, with"
            f" {', '.join(_KNOWN)}."
        )
    chains: list[Chain] = []
    samples: Counter[tuple[str, str]] = Counter()
    names: dict[str, int] = {}
    for number, given in enumerate(rows):
        if not isinstance(given, Mapping):
            raise ArraysError(f"cots, row {number}: {_what(given)} came; a mapping was expected.")
        chain = _chain({key: value for key, value in given.items() if not _is_missing(value)}, number, samples)
        if chain.name in names:
            raise ArraysError(
                f"cots, row {number}: the id {chain.name!r} is that of row {names[chain.name]} too; each chain once was"
                " expected."
            )
        names[chain.name] = number
        chains.append(chain)
    tables: dict[str, list[dict[str, Any]]] = {
        "problems": list({chain.problem["problem_id"]: chain.problem for chain in chains}.values()),
        "cots": [chain.cot for chain in chains],
        "chunks": [chunk for chain in chains for chunk in chain.chunks],
        "categories": [tag for chain in chains for tag in chain.tags],
        "problem_accuracy": _accuracy(chains),
    }
    described = {"cots": f"{len(chains)} chains, {len(tables['chunks'])} chunks"}
    return Handed(chains, tables, described)


def _chain(given: Mapping[str, Any], number: int, samples: Counter[tuple[str, str]]) -> Chain:
    name = given.get("id", str(number))
    at = f"cots, row {number}" + (f" (id {name!r})" if "id" in given else "")
    if strangers := [key for key in given if key not in _KNOWN]:
        raise ArraysError(f"{at}: there is a {strangers[0]!r}; expected are {', '.join(_KNOWN)}.")
    for key in _NEEDED:
        if key not in given:
            raise ArraysError(f"{at}: there is no {key}; {_KNOWN[key]} was expected.")
    name = str(name) if isinstance(name, (int, np.integer)) else name
    if not isinstance(name, str) or not _CHAIN.fullmatch(name):
        raise ArraysError(f"{at}: id is {name!r}; up to 64 letters, digits, - and _ were expected.")
    for key in ("problem", "model", "text", "prompt", "answer", "truth", "after_text"):
        if key in given and not isinstance(given[key], str):
            raise ArraysError(f"{at}: {key} is {_what(given[key])}; {_KNOWN[key]} was expected.")
    for key in ("problem", "model"):
        if not given[key].strip() or len(given[key]) > 100_000:
            raise ArraysError(f"{at}: {key} is empty or endless; {_KNOWN[key]} was expected.")
    texts = _texts(given, at)
    if "correct" in given and not isinstance(given["correct"], (bool, np.bool_)):
        raise ArraysError(f"{at}: correct is {given['correct']!r}; True, False or nothing was expected.")
    level = given.get("level")
    if level is not None and (
        isinstance(level, bool) or not isinstance(level, (int, float, np.number)) or float(level) % 1
    ):
        raise ArraysError(f"{at}: level is {level!r}; a whole number was expected.")
    model_id = _model_id(given["model"])
    problem_id = stable_id("p", STAGE, given["problem"], given.get("truth"))
    cot_id = stable_id("c", STAGE, name, problem_id, model_id)
    ids, spans, n_prompt = _tokens(given, len(texts), at)
    ends = np.cumsum([len(text) for text in texts]).tolist()
    chunks = [
        row(
            "chunks",
            chunk_id=chunk_id(cot_id, index),
            cot_id=cot_id,
            chunk_index=index,
            char_start=end - len(text),
            char_end=end,
            text=text,
            token_start=spans[index][0] if spans else None,
            token_end=spans[index][1] if spans else None,
        )
        for index, (text, end) in enumerate(zip(texts, ends, strict=True))
    ]
    verdict = None if "correct" not in given else bool(given["correct"])
    cot = row(
        "cots",
        cot_id=cot_id,
        problem_id=problem_id,
        model_id=model_id,
        prompt_name=PUBLISHED,
        sample=samples[problem_id, model_id],
        prompt=given.get("prompt", given["problem"]),
        text="".join(texts),
        after_text=given.get("after_text"),
        token_ids=ids,
        n_prompt_tokens=n_prompt,
        n_tokens=None if ids is None or n_prompt is None else len(ids) - n_prompt,
        answer=given.get("answer"),
        answer_source="published" if "answer" in given else None,
        is_correct=verdict,
        grader=None if verdict is None else "arrays",
    )
    samples[problem_id, model_id] += 1
    problem = row(
        "problems",
        problem_id=problem_id,
        source=STAGE,
        source_key=f"row {number}",
        level=None if level is None else int(level),
        question=given["problem"],
        answer=given.get("truth"),
    )
    return Chain(name, cot, problem, chunks, _tags(given, chunks, at), given["model"])


def _texts(given: Mapping[str, Any], at: str) -> list[str]:
    if ("chunks" in given) == ("text" in given):
        has = "both" if "chunks" in given else "neither"
        raise ArraysError(f"{at}: there is {has} of chunks and text; one of the two was expected.")
    if "text" in given:
        texts = [given["text"][start:end] for start, end in chunk_spans(given["text"])]
    else:
        if isinstance(given["chunks"], str):
            raise ArraysError(f"{at}: chunks is one text; a list of texts was expected (or text=…, which is cut).")
        texts = list(given["chunks"])
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise ArraysError(f"{at}: chunk {index} is {_what(text)}; a text that is not empty was expected.")
    if not texts:
        raise ArraysError(f"{at}: there is no chunk; at least one was expected.")
    return texts


def _tokens(given: Mapping[str, Any], n: int, at: str) -> tuple[list[int] | None, list[tuple[int, int]], int | None]:
    """Ids of prompt and chain, each chunk's span in them, and how many are the prompt's."""
    if "token_ids" not in given:
        if "prompt_token_ids" in given:
            raise ArraysError(f"{at}: there are prompt_token_ids and no token_ids; {_KNOWN['token_ids']} was expected.")
        return None, [], None
    prompt = _ids(given.get("prompt_token_ids", []), f"{at}: prompt_token_ids")
    own = list(given["token_ids"])
    if len(own) != n or any(isinstance(one, (int, np.integer)) for one in own):
        raise ArraysError(f"{at}: token_ids has {len(own)} entries; {n} were expected, {_KNOWN['token_ids']}.")
    ids, spans = list(prompt), []
    for index, some in enumerate(own):
        start = len(ids)
        ids += _ids(some, f"{at}: token_ids of chunk {index}")
        spans.append((start, len(ids)))
    return ids, spans, len(prompt) if "prompt_token_ids" in given else None


def _ids(values: Any, at: str) -> list[int]:
    found = [_plain(one) for one in (_numbers(values, at).tolist() if hasattr(values, "detach") else values)]
    for place, one in enumerate(found):
        if isinstance(one, bool) or not isinstance(one, int) or one < 0:
            raise ArraysError(f"{at}, place {place}: {one!r} came; a token id, a whole number from 0 on, was expected.")
    return found


def _tags(given: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]], at: str) -> list[dict[str, Any]]:
    if "categories" not in given:
        return []
    tags = list(given["categories"])
    if isinstance(given["categories"], str) or len(tags) != len(chunks):
        raise ArraysError(f"{at}: categories has {len(tags)} entries; {len(chunks)} were expected, one a chunk.")
    for index, tag in enumerate(tags):
        if tag is not None and (not isinstance(tag, str) or not NAME.fullmatch(tag)):
            raise ArraysError(
                f"{at}: the category of chunk {index} is {tag!r}; a word such as self_checking was expected."
            )
    return [
        row("categories", chunk_id=chunk["chunk_id"], source=STAGE, rank=0, category=tag)
        for chunk, tag in zip(chunks, tags, strict=True)
        if tag is not None
    ]


def _model_id(name: str) -> str:
    return stable_id("m", STAGE, name)


def _accuracy(chains: Sequence[Chain]) -> list[dict[str, Any]]:
    verdicts: dict[tuple[str, str], list[bool]] = {}
    for chain in chains:
        if chain.cot["is_correct"] is not None:
            key = (chain.cot["problem_id"], chain.cot["model_id"])
            verdicts.setdefault(key, []).append(chain.cot["is_correct"])
    rows = []
    for (problem, model), own in verdicts.items():
        low, high = wilson(sum(own), len(own))
        share = sum(own) / len(own)
        rows.append(
            row(
                "problem_accuracy",
                problem_id=problem,
                model_id=model,
                prompt_name=PUBLISHED,
                n=len(own),
                n_correct=sum(own),
                accuracy=share,
                ci_low=low,
                ci_high=high,
                candidate=CANDIDATE[0] <= share <= CANDIDATE[1],
            )
        )
    return rows


# Arrays


def _activations(handed: Handed, given: Mapping[int, Values] | None) -> None:
    if given is None:
        handed.tables["activations"] = []
        return
    rows: list[dict[str, Any]] = []
    widths: dict[str, tuple[int, int]] = {}
    for layer, values in _by_layer(given, "activations").items():
        at = f"activations[{layer}]"
        vectors = _matrix(handed, values, at)
        for (chain, chunk), vector in zip(handed.chunks, vectors, strict=True):
            of, width = widths.setdefault(chain.model, (layer, len(vector)))
            if width != len(vector):
                raise ArraysError(
                    f"{at}, {_row(chain, chunk)}: {len(vector)} values came; {width} were expected, the width of"
                    f" {chain.model} at layer {of}."
                )
            rows.append(
                row(
                    "activations",
                    chunk_id=chunk["chunk_id"],
                    model_id=_model_id(chain.model),
                    layer=layer,
                    vector=vector.astype(np.float32),
                    n_tokens=None if chunk["token_start"] is None else chunk["token_end"] - chunk["token_start"],
                )
            )
        handed.described[at] = _described(vectors)
    handed.tables["activations"] = rows


def _by_layer(given: Any, argument: str) -> dict[int, Any]:
    if not isinstance(given, Mapping):
        raise ArraysError(
            f"{argument} is {_what(given)}, which names no layer; a mapping was expected, such as {{12: array}} with"
            " the 0-based block whose output it is."
        )
    if not given:
        raise ArraysError(f"{argument} is empty; at least one layer was expected, such as {{12: array}}.")
    found: dict[int, Any] = {}
    for layer, values in given.items():
        if isinstance(layer, bool) or not isinstance(layer, (int, np.integer)) or not 0 <= layer < 10_000:
            raise ArraysError(
                f"{argument} has the layer {layer!r}; a whole number from 0 on was expected, the 0-based block."
            )
        found[int(layer)] = values
    return found


def _matrix(handed: Handed, values: Any, at: str) -> list[np.ndarray]:
    """One vector a chunk, of one array for all chunks in order, or of an array a chain."""
    if not isinstance(values, (list, tuple)):
        whole = _numbers(values, at)
        if whole.ndim != 2 or len(whole) != sum(handed.sizes):
            raise ArraysError(
                f"{at} has the shape {whole.shape}; ({sum(handed.sizes)}, d) was expected, a row a chunk in the order"
                " of cots."
            )
        vectors = list(whole)
    else:
        if len(values) != len(handed.chains):
            raise ArraysError(
                f"{at} is a list of {len(values)} arrays; {len(handed.chains)} were expected, one a chain, or one array"
                " for all chunks."
            )
        vectors = []
        for number, (chain, one) in enumerate(zip(handed.chains, values, strict=True)):
            part = _numbers(one, f"{at}, row {number}")
            if part.ndim != 2 or len(part) != len(chain.chunks):
                raise ArraysError(
                    f"{at}, row {number}: the shape is {part.shape}; ({len(chain.chunks)}, d) was expected, a row a"
                    f" chunk of {chain.name!r}."
                )
            vectors += list(part)
    for (chain, chunk), vector in zip(handed.chunks, vectors, strict=True):
        if not len(vector):
            raise ArraysError(f"{at}, {_row(chain, chunk)}: the vector is empty; at least one value was expected.")
        if not (known := np.abs(vector.astype(np.float64)) <= _LARGEST).all():  # NaN is not
            place = int(np.argmin(known))
            raise ArraysError(
                f"{at}, {_row(chain, chunk)}: value {place} is {vector[place]}; a finite number (of float32) was"
                " expected. Leave a chunk without an activation out by leaving its chain out."
            )
    return vectors


def _numbers(values: Any, at: str) -> np.ndarray:
    """A NumPy array of numbers, of a torch tensor too, wherever it lies."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if values.dtype.is_floating_point else values).numpy()
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise ArraysError(f"{at} is {_what(values)} of uneven lengths; an array was expected.") from error
    if found.dtype.kind not in "fiu":
        raise ArraysError(f"{at} has the dtype {found.dtype}; floating point numbers were expected.")
    return found


def _values(handed: Handed, values: Any, at: str) -> list[float | None]:
    """One number a chunk, NaN and None as None, of one array for all chunks in order, or of one a chain."""
    per_chain = isinstance(values, (list, tuple)) and any(np.ndim(one) == 1 or hasattr(one, "detach") for one in values)
    if per_chain and len(values) != len(handed.chains):
        raise ArraysError(f"{at} is a list of {len(values)} arrays; {len(handed.chains)} were expected, one a chain.")
    parts = list(zip(handed.chains, values, strict=True)) if per_chain else [(None, values)]
    found: list[float | None] = []
    for number, (chain, part) in enumerate(parts):
        here = at if chain is None else f"{at}, row {number}"
        wanted = sum(handed.sizes) if chain is None else len(chain.chunks)
        if isinstance(part, (list, tuple)):
            part = [math.nan if one is None or one is pd.NA else one for one in part]
        numbers = _numbers(part, here)
        if numbers.shape != (wanted,):
            raise ArraysError(f"{here} has the shape {numbers.shape}; ({wanted},) was expected, a number a chunk.")
        found += [None if math.isnan(one) else float(one) for one in numbers.astype(np.float64)]
    for (chain, chunk), one in zip(handed.chunks, found, strict=True):
        if one is not None and math.isinf(one):
            raise ArraysError(f"{at}, {_row(chain, chunk)}: {one} came; a finite number was expected, NaN for unknown.")
    return found


# Metrics and geometry


def _metrics(handed: Handed, given: Any) -> None:
    columns = {} if given is None else _columns(handed, given)
    names = {
        name for name in columns if not any(name.endswith(end) and name[: -len(end)] in columns for end in _BESIDE)
    }
    rows = []
    for name in sorted(names):
        _name(name, "metrics", COLUMNS)
        convention = PUBLISHED if name in METRICS else ALL
        beside = {into: columns.get(f"{name}{end}") for end, into in _BESIDE.items()}
        for number, (_, chunk) in enumerate(handed.chunks):
            more = {into: values[number] for into, values in beside.items() if values is not None}
            if (n := more.get("n")) is not None:
                more["n"] = round(n)
            rows.append(
                row(
                    "importance",
                    chunk_id=chunk["chunk_id"],
                    metric=name,
                    convention=convention,
                    value=columns[name][number],
                    **more,
                )
            )
        if name not in METRICS:
            handed.tables.setdefault("registered", []).append(_registered("metric", name, columns[name]))
        handed.described[f"metrics[{name}]"] = _described(columns[name])
    handed.tables["importance"] = rows


def _columns(handed: Handed, given: Any) -> dict[str, list[float | None]]:
    """By name, a number a chunk in the order of cots."""
    if isinstance(given, pd.DataFrame):
        if strangers := [name for name in given.columns if not isinstance(name, str)]:
            raise ArraysError(f"metrics has the column {strangers[0]!r}; names of metrics were expected.")
        if {"chain", "chunk"} <= set(given.columns):
            return _keyed(handed, given)
        if lone := {"chain", "chunk"} & set(given.columns):
            raise ArraysError(
                f"metrics has the column {lone.pop()!r} alone; both chain and chunk were expected, or neither, and a"
                " row a chunk in the order of cots."
            )
        given = {name: given[name].to_numpy() for name in given.columns}
    if not isinstance(given, Mapping) or not given:
        raise ArraysError(f"metrics is {_what(given)}; a DataFrame or a mapping of a name to values was expected.")
    return {name: _values(handed, values, f"metrics[{name!r}]") for name, values in given.items()}


def _keyed(handed: Handed, given: pd.DataFrame) -> dict[str, list[float | None]]:
    chains = {chain.name: chain for chain in handed.chains}
    places = {(chain.name, chunk["chunk_index"]): n for n, (chain, chunk) in enumerate(handed.chunks)}
    where: dict[int, int] = {}
    for number, (name, index) in enumerate(zip(given["chain"], given["chunk"], strict=True)):
        at = f"metrics, row {number}"
        name = str(name)
        if name not in chains:
            raise ArraysError(f"{at}: the chain {name!r} is not in cots; expected is one of {_some(list(chains))}.")
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)) or (name, int(index)) not in places:
            last = len(chains[name].chunks) - 1
            raise ArraysError(f"{at}: the chain {name!r} has no chunk {index!r}; expected is one of 0 to {last}.")
        place = places[name, int(index)]
        if place in where:
            raise ArraysError(
                f"{at}: chain {name!r}, chunk {index} is in row {where[place]} too; each chunk once was expected."
            )
        where[place] = number
    columns = {}
    for name in given.columns.difference(["chain", "chunk"], sort=False):
        known = _numbers(given[name].to_numpy(), f"metrics[{name!r}]").astype(np.float64)
        filled = np.full(len(places), np.nan)
        for place, number in where.items():
            filled[place] = known[number]
        columns[name] = _values(handed, filled, f"metrics[{name!r}]")
    return columns


def _geometry(handed: Handed, given: Mapping[str, Mapping[int, Values]] | None) -> None:
    rows = []
    if given is not None and not isinstance(given, Mapping):
        raise ArraysError(
            f"geometry is {_what(given)}; a mapping was expected, such as {{'my_curvature': {{12: values}}}}."
        )
    for name, layers in (given or {}).items():
        _name(name, "geometry", METRICS, COLUMNS)
        if any(one["name"] == name for one in handed.tables.get("registered", ())):
            raise ArraysError(f"geometry has the name {name!r}, and so has metrics; another name was expected.")
        every: list[float | None] = []
        for layer, values in _by_layer(layers, f"geometry[{name!r}]").items():
            known = _values(handed, values, f"geometry[{name!r}][{layer}]")
            every += known
            rows += [
                row(
                    "kept_columns",
                    x=name,
                    chunk_id=chunk["chunk_id"],
                    kind=NONE,
                    model_id=_model_id(chain.model),
                    layer=layer,
                    position=NONE,
                    unit=NONE,
                    value=one,
                )
                for (chain, chunk), one in zip(handed.chunks, known, strict=True)
            ]
        handed.tables.setdefault("registered", []).append(_registered("column", name, every))
        handed.described[f"geometry[{name}]"] = _described(every)
    handed.tables["kept_columns"] = rows


def _name(name: Any, argument: str, *taken: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ArraysError(
            f"{argument} has the name {name!r}; up to 63 small letters, digits and _ were expected, a letter first."
        )
    if name in RESERVED or any(name in other for other in taken):
        raise ArraysError(f"{argument} has the name {name!r}, which is Anchorscope's own; another one was expected.")


def _registered(kind: str, name: str, values: Sequence[float | None]) -> dict[str, Any]:
    known = [one for one in values if one is not None]
    return row(
        "registered",
        kind=kind,
        name=name,
        own_label=name,
        unit="value",
        own_meaning="",
        signed=any(one < 0 for one in known),
        made_by=STAGE,
        sha256=hashlib.sha256(json.dumps(values).encode()).hexdigest(),
    )


def _words(handed: Handed, given: Mapping[str, Mapping[str, Any]] | None) -> None:
    entries = {one["name"]: one for one in handed.tables.get("registered", ())}
    for name, said in (given or {}).items():
        if name not in entries:
            raise ArraysError(f"words has {name!r}; expected is one of your own: {_some(list(entries))}.")
        for part, value in dict(said).items():
            if part not in ("label", "unit", "meaning") or not isinstance(value, str):
                raise ArraysError(
                    f"words[{name!r}] has {part!r}: {value!r}; texts for label, unit and meaning were expected."
                )
            entries[name][part if part == "unit" else f"own_{part}"] = value


def _maps(handed: Handed, given: Mapping[int, Values] | None) -> None:
    if given is None:
        return
    recorded = {one["layer"] for one in handed.tables["activations"]}
    placed: list[dict[str, Any]] = []
    made: list[dict[str, Any]] = []
    for layer, values in _by_layer(given, "maps").items():
        at = f"maps[{layer}]"
        if layer not in recorded:
            raise ArraysError(f"{at}: there are no activations of that layer; expected is one of {_some(recorded)}.")
        points = _matrix(handed, values, at)
        if {len(point) for point in points} - {2, 3}:
            raise ArraysError(f"{at} has {len(points[0])} values a chunk; 2 or 3 were expected.")
        method = f"umap_{len(points[0])}d"
        own = Counter(_model_id(chain.model) for chain in handed.chains for _ in chain.chunks)
        made += [
            row("maps", model_id=model, layer=layer, method=method, n=n, parameters=json.dumps({"given": "arrays"}))
            for model, n in own.items()
        ]
        placed += [
            row(
                "projections",
                chunk_id=chunk["chunk_id"],
                model_id=_model_id(chain.model),
                layer=layer,
                method=method,
                x=float(point[0]),
                y=float(point[1]),
                z=float(point[2]) if len(point) > 2 else None,
            )
            for (chain, chunk), point in zip(handed.chunks, points, strict=True)
        ]
        handed.described[at] = _described(points)
    handed.tables |= {"maps": made, "projections": placed}


# What is written


def _write(folder: StudyFolder, handed: Handed, *, name: str, note: str, seed: int, draws: int, mapped: bool) -> None:
    run_id = stable_id("r", name, datetime.now(UTC).isoformat())
    parameters = {"made": "from arrays of a notebook", "arguments": handed.described, "note": note, "draws": draws}
    run = run_row(run_id, STAGE, name, seed, json.dumps(parameters))
    for cot in handed.tables["cots"]:
        cot["run_id"] = run_id
    for entry in handed.tables.get("registered", ()):
        entry["run_id"] = run_id
    widths = {one["model_id"]: len(one["vector"]) for one in handed.tables["activations"]}
    names = dict.fromkeys(chain.model for chain in handed.chains)
    models = [
        row("models", model_id=_model_id(model), name=model, role="model", d_model=widths.get(_model_id(model)))
        for model in names
    ]
    provenance = {"run_id": run_id, "made": "from arrays"}
    with folder.writing(f"arrays {name}") as writer:
        writer.add("runs", run_id, {"runs": [run]})
        tables = {"models": models, **{table: rows for table, rows in handed.tables.items() if rows}}
        digest = hashlib.sha256(json.dumps(handed.described, sort_keys=True).encode()).hexdigest()[:16]
        writer.add(STAGE, f"study@{digest}", tables, provenance=provenance)
        if handed.tables["activations"]:
            _shapes(writer, handed, seed=seed, mapped=mapped)
        publish(writer)
        bring_up(writer, settings(name, seed, draws=draws), [evidence, claims], run_id)


def _shapes(writer: Writer, handed: Handed, *, seed: int, mapped: bool) -> None:
    """The cloud around each chunk, and maps where none were handed over."""
    clouds: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for one in handed.tables["activations"]:
        clouds.setdefault((one["model_id"], one["layer"]), {})[one["chunk_id"]] = one["vector"]
    rows = [
        one for (model, layer), cloud in clouds.items() for one in neighbourhoods(cloud, model_id=model, layer=layer)
    ]
    writer.add("neighbourhoods", STAGE, {"neighbourhoods": rows})
    if not mapped:
        return
    from backend.geometry.projection import latent_maps  # takes seconds to import

    for model in dict.fromkeys(model for model, _ in clouds):
        own = {
            layer: (list(cloud), np.array(list(cloud.values()))) for (of, layer), cloud in clouds.items() if of == model
        }
        fitted = latent_maps(own, model_id=model, seed=seed_for(seed, "maps", model))
        frames = {"maps": fitted.map_rows(), "projections": fitted.projection_rows()}
        plain = {table: frame.astype(object).where(frame.notna(), None) for table, frame in frames.items()}
        writer.add("maps", model, {table: frame.to_dict("records") for table, frame in plain.items()})


def settings(name: str, seed: int, *, draws: int = DRAWS) -> Study:
    """A study file that asks for evidence: of arrays there is no other. Its model and layer are nobody's."""
    return Study.model_validate(
        {
            "name": name,
            "seed": seed,
            "models": [{"name": STAGE, "reads": [STAGE]}],
            "geometry": {"n_bootstrap": draws, "n_permutations": draws, "layers": [0]},
            "sweep": {"layers": [0]},
        }
    )


# Words of faults


def _row(chain: Chain, chunk: Mapping[str, Any]) -> str:
    return f"chain {chain.name!r}, chunk {chunk['chunk_index']}"


def _what(value: Any) -> str:
    shape = getattr(value, "shape", None)
    size = f" of shape {tuple(shape)}" if shape is not None else f" of length {len(value)}" if _sized(value) else ""
    return f"a {type(value).__name__}{size}"


def _sized(value: Any) -> bool:
    return hasattr(value, "__len__")


def _some(names: Any, most: int = 8) -> str:
    listed = [str(name) for name in sorted(names)]
    return ", ".join(listed[:most]) + (" …" if len(listed) > most else "") or "none"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _described(values: Sequence[Any]) -> dict[str, Any]:
    """Shape and digest of what came in, to know it again."""
    digest = hashlib.sha256()
    for one in values:
        digest.update(np.asarray(np.nan if one is None else one, np.float64).tobytes())
    return {"rows": len(values), "width": int(np.size(values[0])) if len(values) else 0, "sha256": digest.hexdigest()}
