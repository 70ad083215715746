"""The texts that small dictionaries learn from, as a model of the study reads them: CoTs with their prompts, each with
the rollouts that continue it; traces written by rule; and the lines of a file.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backend.cot.thoughts import response_of
from backend.feature_geometry.text_trees import Continuation, Corpus, TextTree, corpus_of
from backend.ids import stable_id
from backend.models.loading import load_tokenizer
from precompute import corpus
from precompute.study import Dictionaries, Model
from precompute.units import Context

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_READ = ("read", "rollouts", "generated", "max_tokens", "held_out", "held_out_share")  # settings that choose texts


def inputs(context: Context, wanted: Dictionaries) -> dict[str, Any]:
    """What texts, their split and their choice follow from, as JSON can hold it."""
    cots = ",".join(cot["cot_id"] for cot in context.store.tokenised_cots())
    file = None if wanted.texts is None else hashlib.sha256(wanted.texts.read_bytes()).hexdigest()
    return {
        **{name: getattr(wanted, name) for name in _READ},
        "cots": hashlib.sha256(cots.encode()).hexdigest(),
        "rollouts_of": context.store.digest_of_rollouts() if wanted.rollouts else None,
        "traces": corpus.SEED if wanted.generated else None,
        "texts": file,
        "seed": context.study.seed,
    }


def texts_of(context: Context, wanted: Dictionaries, model: Model) -> Corpus:
    """What `model` reads. Models of one tokenizer read the same tokens: then the digests are equal."""
    tokenizer = load_tokenizer(model.name, revision=model.revision)
    trees = [*_cots(context, wanted, tokenizer), *_others(context, wanted, tokenizer)]
    return corpus_of(
        trees,
        tokens=wanted.read,
        held_out=wanted.held_out,
        share=wanted.held_out_share,
        seed=context.study.seed,
        max_tokens=wanted.max_tokens,
    )


def _cots(context: Context, wanted: Dictionaries, tokenizer: "PreTrainedTokenizerBase") -> Iterator[TextTree]:
    rollouts: Mapping[str, list[tuple[int, str]]] = _rollouts(context) if wanted.rollouts else {}
    for cot in context.store.tokenised_cots():
        text = cot["prompt"] + response_of(cot["text"], cot["after_text"], cot["think_close"])
        told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in told["offset_mapping"]]
        own = [(len(cot["prompt"]) + start, written) for start, written in rollouts.get(cot["cot_id"], ())]
        continuations = tuple(_continuations(tokenizer, text, ends, own))
        yield TextTree(cot["cot_id"], cot["problem_id"], tuple(told["input_ids"]), continuations)


def _rollouts(context: Context) -> dict[str, list[tuple[int, str]]]:
    """By CoT: each different text once, with the character of the CoT from which on it was written."""
    found: dict[str, dict[tuple[int, str], None]] = {}
    for row in context.store.rollout_texts().itertuples(index=False):
        found.setdefault(str(row.cot_id), {})[int(row.char_start), str(row.text)] = None
    return {cot: list(written) for cot, written in found.items()}


def _continuations(
    tokenizer: "PreTrainedTokenizerBase", text: str, ends: Sequence[int], written: Sequence[tuple[int, str]]
) -> Iterator[Continuation]:
    """A token of the text that straddles the place at which something was written is not among what it follows: its
    characters before there are read anew, with what was written.
    """
    starts = {place: sum(end <= place for end in ends) for place, _ in written}
    begins = {place: ends[start - 1] if start else 0 for place, start in starts.items()}
    whole = [text[begins[place] : place] + new for place, new in written]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"] if whole else []
    for (place, _), tokens in zip(written, ids, strict=True):
        yield Continuation(starts[place], tuple(tokens))


def _others(context: Context, wanted: Dictionaries, tokenizer: "PreTrainedTokenizerBase") -> Iterator[TextTree]:
    """Each a problem of its own."""
    for source in corpus.generated(context.study, wanted.generated):
        ids = tokenizer(source.text.text, add_special_tokens=False)["input_ids"]
        yield TextTree(source.text.text_id, source.problem, tuple(ids))
    for line in dict.fromkeys(corpus.lines(wanted.texts, "dictionaries.texts")):
        name = stable_id("x", line)
        yield TextTree(name, name, tuple(tokenizer(line)["input_ids"]))
