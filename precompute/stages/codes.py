"""Codes of every token of the study's CoTs: both models of the pair read the same tokens, and the dictionary encodes
what they do.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.crosscoder.kinds import KINDS
from backend.crosscoder.stored import read_from
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models.loading import load_tokenizer
from precompute import corpus
from precompute.estimates import Estimate, Quantities
from precompute.recording import Recorder, all_cores
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.crosscoder.shards import Shards

NAME, UNIT = "codes", "CoT"
RULE = 1  # of reading and encoding: raise it when they change
_COTS_AT_ONCE = 16
_WHOLE = 2**31  # tokens at which a CoT would be cut


def dictionaries(context: Context) -> list[dict[str, Any]]:
    """Rows of the study's dictionaries, by id; none where the study asks for none."""
    return context.store.whole_table("dictionaries").to_pylist() if context.study.crosscoder else []


def units(context: Context) -> list[Unit]:
    cots = corpus.cots_of_the_pair(context) if context.study.crosscoder else []
    return [
        Unit(f"{row['dictionary_id']}.{cot['cot_id']}", {"models": models_of(row), "layer": row["layer"]})
        for row in dictionaries(context)
        for cot in cots
    ]


def estimate(of: Quantities) -> Estimate | None:
    if not of.study.crosscoder:
        return None
    n_models, gigabytes, tokens = len(of.study.pair), 0.0, 0.0
    for wanted in of.study.crosscoder:
        dense = wanted.n_features * 12e-9 if KINDS[wanted.kind].is_signed and wanted.dictionary is None else 0.0
        gigabytes += of.read * (6e-7 + dense)  # a linear dictionary keeps every code
        tokens += of.read * n_models * of.depth(wanted.layer)
    n_units = of.n_cots * len(of.study.crosscoder)
    return of.line(NAME, n_units, tokens=tokens, by="forward", gigabytes=gigabytes)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    cots = {cot["cot_id"]: cot for cot in corpus.cots_of_the_pair(context)}
    by_id = {unit.unit_id: unit for unit in units}
    reader = context.study.pair[0]
    tokenizer = load_tokenizer(reader.name, revision=reader.revision)
    lacking = {
        row["dictionary_id"]: [cot for name, cot in cots.items() if f"{row['dictionary_id']}.{name}" in by_id]
        for row in dictionaries(context)
    }
    rows = [row for row in dictionaries(context) if lacking[row["dictionary_id"]]]
    with all_cores(context.study):
        for row in rows:
            todo = lacking[name := row["dictionary_id"]]
            dictionary, recorder = read_from(context.store, name), recorder_of(context, row, rows)
            for first in range(0, len(todo), _COTS_AT_ONCE):
                shards = recorded(recorder, some := todo[first : first + _COTS_AT_ONCE])
                for cot in some:
                    codes = codes_of(dictionary, activations_of(shards, cot))
                    tables = {
                        "cot_codes": [
                            {"dictionary_id": name, "cot_id": cot["cot_id"], "tokens": _texts(tokenizer, cot), **codes}
                        ]
                    }
                    yield Finished(by_id[f"{name}.{cot['cot_id']}"], tables, {"layer": row["layer"]})


def coded_cots(context: Context, row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tokenised CoTs whose codes by this dictionary are known, by id."""
    known = set(context.store.coded_cots(row["dictionary_id"]))
    return {cot["cot_id"]: cot for cot in corpus.cots_of_the_pair(context) if cot["cot_id"] in known}


def recorder_of(context: Context, row: Mapping[str, Any], beside: Sequence[Mapping[str, Any]] = ()) -> Recorder:
    """Records CoTs whole, as the models of a dictionary read them, in float32; what it has does not depend on the
    dictionary's weights. Those of `beside` that are of the same models have their layers recorded in the same passes.
    """
    folders = {
        one["layer"]: context.scratch / f"cots-{stable_id('s', RULE, models_of(one), one['layer'])}"
        for one in (row, *beside)
        if models_of(one) == models_of(row)
    }
    layer = row["layer"]
    return Recorder(context.study, layer, folders.pop(layer), "float32", _WHOLE, folders)


def recorded(recorder: Recorder, cots: Sequence[Mapping[str, Any]]) -> "Shards":
    """Shards with at least these CoTs."""
    from backend.crosscoder.shards import Shards, Text

    recorder.ensure([Text(cot["cot_id"], cot["prompt"] + cot["text"]) for cot in cots])
    return Shards(recorder.folder)


def activations_of(shards: "Shards", cot: Mapping[str, Any]) -> np.ndarray:
    """(n_tokens − 1, n_models, largest d_model): what the models do at the CoT's tokens but the first.

    Raises where they read other tokens.
    """
    rows = shards.rows_of(cot["cot_id"])
    if shards.tokens(rows)[:, 2].tolist() != list(cot["token_ids"])[1:]:
        raise AnchorscopeError(
            f"CoT {cot['cot_id']} was recorded in other tokens than are stored. Delete {shards.folder} and run again."
        )
    return shards.activations(rows)


def codes_of(dictionary: "Dictionary", activations: np.ndarray) -> dict[str, Any]:
    """Columns of cot_codes for the codes that are not 0."""
    import torch

    codes = dictionary.encode(torch.from_numpy(activations))
    rows, features = codes.nonzero(as_tuple=True)
    return {"positions": (rows + 1).numpy(), "features": features.numpy(), "codes": codes[rows, features].numpy()}


def _texts(tokenizer: Any, cot: Mapping[str, Any]) -> list[str]:
    """The text of each token, up to where the next one starts: joined they are prompt + CoT."""
    text = cot["prompt"] + cot["text"]
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    edges = [0, *(start for start, _ in offsets[1:]), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def models_of(row: Mapping[str, Any]) -> list[str]:
    """Ids of its models, the base first."""
    return [row[key] for key in ("base_model_id", "distilled_model_id") if row[key] is not None]
