"""Sentences of each CoT as spans of its text and of its tokens."""

from collections.abc import Iterator, Sequence

from backend.cot.chunking import chunk_spans, newest_rule, token_spans
from backend.ids import chunk_id
from backend.models.loading import load_tokenizer
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.units import Context, Finished, Unit

NAME, UNIT = "chunks", "CoT"
RULE = 1  # of what every text's chunks are; how a text is cut has a rule of its own (`rules`): raise it when it changes
_COT_SECONDS = 0.02  # of cutting a CoT and finding its tokens
_AS_PUBLISHED = 1  # imported chunks are where their publisher put them, whatever our rules are


def units(context: Context) -> list[Unit]:
    return [Unit(cot, {"rule": rule}) for cot, rule in rules(context, own=True).items()]


def rules(context: Context, *, own: bool = False) -> dict[str, int]:
    """The newest rule of cutting that has a say in each CoT, by id; of `own` CoTs alone, or of imported ones too.

    It is part of the inputs of whatever is made of chunks: a change of the rules makes anew what it can cut
    differently, and nothing else.
    """
    texts = context.store.cot_texts()
    return {
        cot: max(RULE, newest_rule(text)) if ours else _AS_PUBLISHED for cot, text, ours in texts if ours or not own
    }


def newest(context: Context) -> int:
    """The newest of `rules`, for what is made of all CoTs together."""
    return max(rules(context).values(), default=1)


def estimate(of: Quantities) -> Estimate:
    return of.line(NAME, of.n_cots, gigabytes=of.n_chunks * 3e-7, seconds=of.n_cots * _COT_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    tokenizers = {
        model_id: load_tokenizer(model.name, revision=model.revision)
        for model_id, model in models.by_id(context.study).items()
    }
    for unit in units:
        cot = cots[unit.unit_id]
        encoded = tokenizers[cot["model_id"]](
            cot["prompt"] + cot["text"], add_special_tokens=False, return_offsets_mapping=True
        )
        spans = chunk_spans(cot["text"])
        tokens = token_spans(spans, encoded["offset_mapping"], len(cot["prompt"]))
        rows = [
            {
                "chunk_id": chunk_id(unit.unit_id, index),
                "cot_id": unit.unit_id,
                "chunk_index": index,
                "char_start": start,
                "char_end": end,
                "text": cot["text"][start:end],
                "token_start": first,
                "token_end": last,
            }
            for index, ((start, end), (first, last)) in enumerate(zip(spans, tokens, strict=True))
        ]
        yield Finished(unit, {"chunks": rows})
