"""What a dictionary of activations learns from: texts that both models of the pair read.

1. The study's CoTs, prompt and answer included, as each of the models wrote them (and imported ones that one of them
   reads).
2. Traces written by rule (`backend.cot.traces`) for problems of their own seed, if so many are asked for: in the
   distilled model's prompt, the first of them.
3. A file of other texts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cot.prompts import asked
from backend.cot.thoughts import response_of
from backend.cot.traces import trace
from backend.cot.word_problems import generate
from backend.errors import AnchorscopeError
from precompute import models
from precompute.study import Crosscoder, Study
from precompute.units import Context

if TYPE_CHECKING:
    from backend.crosscoder.shards import Text

SEED = 40_000  # of problems and traces: studies use small seeds, and the reasoner learned from others
_LEVELS = (1, 2, 3, 4, 5)


def cots_of_the_pair(context: Context) -> list[dict[str, Any]]:
    """Tokenised CoTs that a model of the pair wrote, or reads, by id."""
    pair = {models.model_id(model) for model in context.study.pair}
    return [cot for cot in context.store.tokenised_cots() if models.reader_of(context.study, cot) in pair]


def contents(context: Context, wanted: Crosscoder) -> dict[str, Any]:
    """Everything that the texts follow from, as JSON can hold it, and `n_texts`. No text is written for it."""
    cots = [cot["cot_id"] for cot in cots_of_the_pair(context)]
    n_lines = len(lines(wanted.texts))
    file = None if wanted.texts is None else hashlib.sha256(wanted.texts.read_bytes()).hexdigest()
    prompt = context.study.prompts_of(context.study.pair[-1])[0]
    generated = (
        {"n": wanted.generated, "seed": SEED, "prompt": prompt.wording, **prompt.settings} if wanted.generated else None
    )
    return {"cots": cots, "generated": generated, "texts": file, "n_texts": len(cots) + wanted.generated + n_lines}


@dataclass(frozen=True)
class Source:
    """A text, and what of it is a response to what."""

    text: "Text"
    problem: str  # a text of a file is its own
    prompt_chars: int  # where the response begins


def sources(context: Context, wanted: Crosscoder) -> list[Source]:
    """All texts, in the one order in which they are recorded.

    Raises AnchorscopeError naming file and line for a text that is none.
    """
    from backend.crosscoder.shards import Text

    cots = [
        Source(Text(cot["cot_id"], _whole(cot)), cot["problem_id"], len(cot["prompt"]))
        for cot in cots_of_the_pair(context)
    ]
    own = [
        Source(Text(name := f"line-{number:07d}", line), name, 0)
        for number, line in enumerate(lines(wanted.texts), start=1)
    ]
    return [*cots, *generated(context.study, wanted.generated), *own]


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
