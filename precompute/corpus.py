"""What a dictionary of activations learns from: texts that both models of the pair read.

1. The study's CoTs, prompt and answer included, as each of the models wrote them (and imported ones that one of them
   reads).
2. Traces written by rule (`backend.cot.traces`) for problems of their own seed, if so many are asked for: in the
   distilled model's prompt, the first of them.
3. A file of other texts, named corpora (`precompute.corpora`), and what the base model writes freely
   (`precompute.base_texts`).

Where a number of tokens is asked for, at least `reasoning_share` of them is the first kind: CoTs in an order of their
own, then what rollouts wrote, each without the part that is its CoT's. The rest fills up to the number, in the order
above; it never exceeds its share of what there is of reasoning, but by a part of its last text. Corpora and what the
base model writes have equal parts of what the others leave, and the base model fills up what corpora lack: to the
token.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backend.cot.prompts import asked
from backend.cot.thoughts import response_of
from backend.cot.traces import trace
from backend.cot.word_problems import generate
from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id
from precompute import base_texts, corpora, models
from precompute.study import Crosscoder, Study
from precompute.units import Context

if TYPE_CHECKING:
    from backend.crosscoder.shards import Text

SEED = 40_000  # of problems and traces: studies use small seeds, and the reasoner learned from others
_LEVELS = (1, 2, 3, 4, 5)
_CHARS, _MOST_CHARS = 3.5, 16  # of a token: about, where its number is unknown; and more than any text has on average


def cots_of_the_pair(context: Context) -> list[dict[str, Any]]:
    """Tokenised CoTs that a model of the pair wrote, or reads, by id."""
    pair = {models.model_id(model) for model in context.study.pair}
    return [cot for cot in context.store.tokenised_cots() if models.reader_of(context.study, cot) in pair]


def contents(context: Context, wanted: Crosscoder) -> dict[str, Any]:
    """Everything that the texts follow from, as JSON can hold it, and `n_texts`, of those that `sources` lists. No
    text is written for it.
    """
    if wanted.tokens is not None:
        return _contents_of_a_budget(context, wanted)
    cots = [cot["cot_id"] for cot in cots_of_the_pair(context)]
    n_lines = len(lines(wanted.texts))
    return {"cots": cots, **_written(context, wanted), "n_texts": len(cots) + wanted.generated + n_lines}


def _written(context: Context, wanted: Crosscoder) -> dict[str, Any]:
    """What traces and a file's texts follow from."""
    file = None if wanted.texts is None else hashlib.sha256(wanted.texts.read_bytes()).hexdigest()
    prompt = context.study.prompts_of(context.study.pair[-1])[0]
    generated = (
        {"n": wanted.generated, "seed": SEED, "prompt": prompt.wording, **prompt.settings} if wanted.generated else None
    )
    return {"generated": generated, "texts": file}


def _contents_of_a_budget(context: Context, wanted: Crosscoder) -> dict[str, Any]:
    cots, rollouts = _reasoning(context, wanted)
    return {
        "cots": [cot["cot_id"] for cot in cots],
        "rollouts": rollouts["rollout_id"].tolist(),
        **_written(context, wanted),
        "corpus": wanted.corpus,
        "tokens": wanted.tokens,
        "share": wanted.reasoning_share,
        **({"base_texts": base_texts.recipe(context, wanted.max_tokens)} if wanted.base_texts else {}),
        "n_texts": len(cots) + len(rollouts),
    }


def _reasoning(context: Context, wanted: Crosscoder) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """CoTs, and rows of `rollout_texts`, that have the tokens asked for between them, or all that there are."""
    assert wanted.tokens is not None
    budget = round(wanted.tokens * wanted.reasoning_share) if has_others(wanted) else wanted.tokens
    cots, so_far = [], 0
    for cot in sorted(cots_of_the_pair(context), key=lambda one: seed_for("learned", one["cot_id"])):
        if so_far < budget:
            cots.append(cot)
            so_far += min(len(cot["token_ids"]), wanted.max_tokens) - 1
    every = context.store.rollout_texts() if wanted.rollouts and so_far < budget else None
    if every is None:
        return cots, pd.DataFrame({"rollout_id": [], "cot_id": []})
    known = {cot["cot_id"] for cot in cots}
    own = every[(every["kind"] != "forced") & every["cot_id"].isin(known)].drop_duplicates(
        ["cot_id", "char_start", "text"]
    )
    own = own.iloc[np.argsort([seed_for("learned", name) for name in own["rollout_id"]], kind="stable")]
    lengths = own["n_tokens"].fillna(own["text"].str.len() / _CHARS).clip(upper=wanted.max_tokens)
    before = lengths.cumsum() - lengths
    return cots, own[before < budget - so_far]


def has_others(wanted: Crosscoder) -> bool:
    """Whether it learns from what is no reasoning of the study's models."""
    return bool(wanted.corpus or wanted.generated or wanted.texts or wanted.base_texts)


@dataclass(frozen=True)
class Source:
    """A text, and what of it is a response to what."""

    text: "Text"
    problem: str  # a text of a file is its own
    prompt_chars: int  # where the response begins


def sources(context: Context, wanted: Crosscoder) -> list[Source]:
    """All texts, in the one order in which they are recorded, rollouts from one place beside each other; of a number of
    tokens those of reasoning, which `others` follow.

    Raises AnchorscopeError naming file and line for a text that is none.
    """
    if wanted.tokens is None:
        cots = [_of_cot(cot) for cot in cots_of_the_pair(context)]
        return [*cots, *generated(context.study, wanted.generated), *_of_file(wanted)]
    cots_of_it, rollouts = _reasoning(context, wanted)
    by_id = {cot["cot_id"]: cot for cot in cots_of_it}
    alike = rollouts.sort_values(["cot_id", "char_start"], kind="stable") if len(rollouts) else rollouts
    return [*map(_of_cot, cots_of_it), *(_of_rollout(by_id[row.cot_id], row) for row in alike.itertuples())]


def _of_cot(cot: Mapping[str, Any]) -> Source:
    from backend.crosscoder.shards import Text

    return Source(Text(cot["cot_id"], _whole(cot)), cot["problem_id"], len(cot["prompt"]))


def _of_rollout(cot: Mapping[str, Any], row: Any) -> Source:
    """It goes on from its CoT, whose own tokens are recorded with the CoT."""
    from backend.crosscoder.shards import Text

    before = cot["prompt"] + cot["text"][: row.char_start]
    return Source(Text(row.rollout_id, before + row.text, len(before)), cot["problem_id"], len(cot["prompt"]))


def _of_file(wanted: Crosscoder) -> list[Source]:
    from backend.crosscoder.shards import Text

    return [
        Source(Text(name := f"line-{number:07d}", line), name, 0)
        for number, line in enumerate(lines(wanted.texts), start=1)
    ]


@dataclass(frozen=True)
class Others:
    """What is learned from beside reasoning, where corpora were found (name to commit), and how the base model wrote
    what it wrote.
    """

    sources: list[Source]
    revisions: dict[str, str | None]
    base_texts: dict[str, Any] | None = None


def others(context: Context, wanted: Crosscoder, n_tokens: int) -> Others:
    """Texts that have `n_tokens` between them, or all that there are. Raises AnchorscopeError for a corpus that cannot
    be reached; what was fetched lies in scratch.
    """
    from backend.crosscoder.shards import Text, cut
    from backend.models.loading import load_tokenizer

    reader = context.study.pair[0]
    tokenizer = load_tokenizer(reader.name, revision=reader.revision)

    def count(text: str) -> int:
        return max(0, len(cut(tokenizer, Text("", text), wanted.max_tokens)[0]) - 1)

    found: list[Source] = []
    left = n_tokens
    for source in [*generated(context.study, wanted.generated), *_of_file(wanted)]:
        if left > 0:
            found.append(source)
            left -= count(source.text.text)
    revisions: dict[str, str | None] = {}
    share = left // max(1, len(wanted.corpus) + wanted.base_texts)
    for number, name in enumerate(wanted.corpus if left > 0 else ()):
        file = context.scratch / f"corpus-{stable_id('c', name, share, wanted.max_tokens)}.jsonl"
        fetched = corpora.collected(name, file, n_tokens=share, count=count, longest=wanted.max_tokens * _MOST_CHARS)
        revisions[name] = fetched.revision
        for place, text in enumerate(fetched.texts):
            own = f"corpus-{number}-{place:07d}"
            found.append(Source(Text(own, text), own, 0))
            left -= count(text) if wanted.base_texts else 0
    if not wanted.base_texts or left <= 0:
        return Others(found, revisions)
    own_words = base_texts.written(context, left, wanted.max_tokens)
    for number, ids in enumerate(own_words.texts):
        own = f"base-{number:07d}"
        found.append(Source(Text(own, tokenizer.decode(ids), ids=ids), own, 0))
    return Others(found, revisions, own_words.facts)


def _whole(cot: Mapping[str, Any]) -> str:
    """Prompt, CoT, and what was written after it."""
    return cot["prompt"] + response_of(cot["text"], cot["after_text"], cot["think_close"])


def generated(study: Study, n: int) -> list[Source]:
    """`n` traces, in the prompt of the distilled model, or of the last one."""
    from backend.crosscoder.shards import Text
    from backend.models.loading import load_tokenizer

    if not n:
        return []
    writer = (study.pair or study.models)[-1]
    tokenizer = load_tokenizer(writer.name, revision=writer.revision)
    prompt = study.prompts_of(writer)[0]
    made = []
    for problem in generate({level: len(range(level - 1, n, len(_LEVELS))) for level in _LEVELS}, seed=SEED):
        told = trace(problem, seed=SEED)
        put = asked(tokenizer, problem.question, prompt)
        closing = "" if put.closing is None else f"\n{put.closing}"
        name = f"trace-{problem.problem_id}"
        text = f"{put.text}{told.thinking}{closing}\n\n{told.response}{tokenizer.eos_token}"
        made.append(Source(Text(name, text), name, len(put.text)))
    return made


def lines(file: Path | None, key: str = "crosscoder.texts") -> list[str]:
    """The texts of a file: `text` of each JSONL record, or each line that is not empty. `key` is the study file's.

    Raises AnchorscopeError naming file and line.
    """
    if file is None:
        return []
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AnchorscopeError(f"{file} cannot be read ({error}); {key} needs text, or JSONL with `text`.") from error
    found = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if file.suffix != ".jsonl":
        return [line for _, line in found]
    texts = []
    for number, line in found:
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise AnchorscopeError(f"{file}, line {number}: expected a JSON record with `text` ({error!r}).") from error
        if not isinstance(text, str):
            raise AnchorscopeError(f"{file}, line {number}: `text` is {type(text).__name__}; expected a string.")
        texts.append(text)
    return texts
