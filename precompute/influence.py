"""What the stages of [influence] read: which CoTs, by which models, and as which tokens."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from backend.cot.chunking import token_spans
from precompute import models
from precompute.estimates import Quantities
from precompute.turns import in_turn
from precompute.units import Context


def influence_cots(context: Context) -> dict[str, Mapping[str, Any]]:
    """The CoTs that [influence] asks for, by id: those with rollouts first, problems and writers in turn; none where it
    does not ask.
    """
    wanted = context.study.influence
    if wanted is None:
        return {}
    rolled = set(context.store.own_answers()["cot_id"])
    halves: dict[bool, list[Mapping[str, Any]]] = defaultdict(list)
    for cot in context.store.tokenised_cots():
        halves[cot["cot_id"] in rolled].append(cot)
    seed = context.study.seed
    chosen = [*in_turn(halves[True], seed), *in_turn(halves[False], seed)][: wanted.cots]
    return {cot["cot_id"]: cot for cot in chosen}


def influence_readings(context: Context) -> list[tuple[str, Mapping[str, Any]]]:
    """(id of the model that reads, CoT): both models of a pair read every CoT of either."""
    cots = influence_cots(context).values()
    return [(reader, cot) for cot in cots for reader in models.readers(context.study, cot)]


def as_read(
    tokenizer: Any, cot: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]]
) -> tuple[list[int], dict[str, tuple[int, int]]]:
    """Token ids of prompt and CoT, and each chunk's token span in them, as a model reads them whose tokenizer need not
    be the writer's.
    """
    encoded = tokenizer(cot["prompt"] + cot["text"], add_special_tokens=False, return_offsets_mapping=True)
    places = [(chunk["char_start"], chunk["char_end"]) for chunk in chunks]
    spans = token_spans(places, encoded["offset_mapping"], len(cot["prompt"]))
    return encoded["input_ids"], dict(zip([chunk["chunk_id"] for chunk in chunks], spans, strict=True))


def n_readings(of: Quantities) -> float:
    """For the plan."""
    wanted = of.study.influence
    n_cots = 0 if wanted is None else of.n_cots if wanted.cots is None else min(wanted.cots, of.n_cots)
    return n_cots * max(len(of.study.pair), 1)
