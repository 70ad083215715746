"""The texts that lenses learn from and are measured on, as a model of the study reads them.

Every CoT of the study, whoever wrote it, with its prompt and what was written after it; and the lines of files, each a
problem of its own.
"""

import glob
import hashlib
from pathlib import Path
from typing import Any

from backend.cot.answers import answer_place
from backend.cot.thoughts import response_of
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.lens.corpus import Text
from backend.lens.positions import Places, kinds_of
from backend.models.loading import load_tokenizer
from precompute import corpus
from precompute.study import Model
from precompute.units import Context


def inputs(context: Context) -> dict[str, Any]:
    """What texts and their split follow from, as JSON can hold it."""
    wanted = context.study.its_lens
    cots = ",".join(cot["cot_id"] for cot in context.store.tokenised_cots())
    return {
        "cots": hashlib.sha256(cots.encode()).hexdigest(),
        "texts": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files(wanted.texts)],
        "max_tokens": wanted.max_tokens,
        "seed": context.study.seed,
    }


def files(patterns: tuple[str, ...]) -> list[Path]:
    """The files that the patterns name, each once. Raises AnchorscopeError for a pattern that names none."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        matching = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
        if not matching:
            raise AnchorscopeError(f"lens.texts has {pattern!r}, and no file is called so; give files with texts.")
        found.update(dict.fromkeys(matching))
    return list(found)


def texts_of(context: Context, model: Model) -> list[Text]:
    """All texts, by id, as `model` reads them."""
    wanted = context.study.its_lens
    tokenizer = load_tokenizer(model.name, revision=model.revision)
    cots = context.store.tokenised_cots()
    chunks = context.store.chunks_of([cot["cot_id"] for cot in cots])
    read = [_cot(tokenizer, cot, chunks.get(cot["cot_id"], []), wanted.max_tokens) for cot in cots]
    lines = dict.fromkeys(line for file in files(wanted.texts) for line in corpus.lines(file, "lens.texts"))
    return [*read, *(_line(tokenizer, line, wanted.max_tokens) for line in lines)]


def _cot(tokenizer: Any, cot: dict[str, Any], chunks: list[dict[str, Any]], most: int) -> Text:
    start = len(cot["prompt"])
    response = response_of(cot["text"], cot["after_text"], cot["think_close"])
    answer = answer_place(response)
    places = Places(
        cot=(start, start + len(cot["text"])),
        chunks=tuple((start + chunk["char_start"], start + chunk["char_end"]) for chunk in chunks),
        answer=None if answer is None else (start + answer[0], start + answer[1]),
    )
    text = cot["prompt"] + response
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    kinds = kinds_of(text, told["offset_mapping"], places)
    return Text(cot["cot_id"], cot["problem_id"], tuple(told["input_ids"][:most]), tuple(kinds[:most]))


def _line(tokenizer: Any, line: str, most: int) -> Text:
    """A text of a file, with what the tokenizer puts before any text."""
    name, ids = stable_id("x", line), tuple(tokenizer(line)["input_ids"][:most])
    return Text(name, name, ids, ("text",) * len(ids))
