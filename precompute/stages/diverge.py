"""Where the base and the distilled model part: their residual streams on the same tokens, layer by layer.

1. Texts are the study's CoTs, as either of the two wrote them, prompt and answer included: problems take turns, and in
   each problem the writers, until `tokens` are read. A position counts once for all texts that begin alike, as its
   streams do not depend on what follows; the first token of a text is left out (its stream is an attention sink).
2. A unit is a layer. A worker takes some layers, has both models read the texts, and measures one layer after the
   other. What a layer comes to does not depend on which others were measured beside it.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.errors import AnchorscopeError
from backend.models.loaded import LoadedModel
from precompute import corpus, models
from precompute.engines.engine import ModelSpec
from precompute.estimates import Estimate, Quantities
from precompute.stages.cots import shares
from precompute.turns import in_turn
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    import torch

    from backend.feature_geometry.divergence import Positions

NAME, UNIT = "diverge", "layer"
RULE = 1  # of texts and measures: raise it when they change
_MOST_BYTES = 1e9  # of the streams that a worker keeps
_PRODUCTS = 9  # sums of products a position: of CKA, its control, and the same without each group of problems
_SAME = ("n_layers", "d_model", "vocab_size")  # of both models


@dataclass(frozen=True)
class Text:
    """A text that both models read, and which of its positions take part."""

    problem: int
    token_ids: tuple[int, ...]
    n_prompt: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """Some layers of the pair; the engine loads the base model, the worker the distilled one."""

    makes: tuple[str, ...]  # a unit a layer
    layers: tuple[int, ...]
    texts: tuple[Text, ...]
    distilled: ModelSpec
    lens_tokens: int
    components: int
    seed: int


def units(context: Context) -> list[Unit]:
    """One unit a layer. Raises AnchorscopeError for models that have no layers to set beside each other."""
    wanted = context.study.diverge
    if wanted is None:
        return []
    base, distilled = (models.model_id(model) for model in context.study.pair)
    facts, others = context.store.model_facts(base), context.store.model_facts(distilled)
    if not facts or not others or not (chosen := texts(context)):
        return []
    _require_alike(facts, others, wanted.components)
    read = json.dumps([[text.problem, text.token_ids, text.n_prompt] for text in chosen])
    inputs = {
        "texts": hashlib.sha256(read.encode()).hexdigest(),
        "lens_tokens": wanted.lens_tokens,
        "components": wanted.components,
        "seed": context.study.seed,
    }
    return [Unit(f"{base}.{distilled}.{layer:03d}", inputs) for layer in range(facts["n_layers"])]


def _require_alike(base: Mapping[str, Any], distilled: Mapping[str, Any], components: int) -> None:
    for fact in _SAME:
        if base[fact] != distilled[fact]:
            raise AnchorscopeError(
                f"[diverge] compares models layer by layer, and {fact} of {base['name']} is {base[fact]}, of"
                f" {distilled['name']} {distilled[fact]}. Leave [diverge] out, or name a model and one made from it."
            )
    if components >= base["d_model"]:
        raise AnchorscopeError(
            f"diverge.components is {components}, and the residual stream has {base['d_model']} dimensions: give fewer."
        )


def texts(context: Context) -> list[Text]:
    """The texts, until their tokens are `tokens`; one at least, where there is any."""
    wanted, found, begun, read = context.study.its_diverge, list[Text](), dict[int, Any](), 0
    numbers: dict[str, int] = {}
    for cot in in_turn(corpus.cots_of_the_pair(context), context.study.seed):
        token_ids = tuple(cot["token_ids"][: wanted.max_tokens])
        read += len(token_ids)
        if found and read > wanted.tokens:
            break
        problem = numbers.setdefault(cot["problem_id"], len(numbers))
        found.append(Text(problem, token_ids, cot["n_prompt_tokens"], _new(token_ids, begun)))
    return found


def _new(token_ids: Sequence[int], begun: dict[int, Any]) -> tuple[int, ...]:
    """Positions, but the first, up to which no text before this one is the same; `begun` is the tree of those texts."""
    found = []
    for position, token in enumerate(token_ids):
        if token not in begun:
            begun[token] = {}
            found.append(position)
        begun = begun[token]
    return tuple(position for position in found if position)


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.diverge
    if wanted is None:
        return None
    read = min(wanted.tokens, (of.n_cots * (of.lengths.cot + of.lengths.prompt)))
    products = {
        "products": of.all_layers * 2 * _PRODUCTS * read * of.width**2,
        "divergence": of.all_layers * 8 * wanted.lens_tokens * of.unembedding,
    }
    return of.line(
        NAME,
        of.all_layers,
        tokens=2 * read * of.study.engine.workers,  # each worker reads for its own layers
        by="forward",
        gigabytes=of.all_layers * 3e-6,
        products=products,
        held=of.others_weights,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    by_id = {unit.unit_id: unit for unit in units}
    study, wanted, chosen = context.study, context.study.its_diverge, tuple(texts(context))
    base, distilled = (models.spec(study, model) for model in study.pair)
    facts = context.store.model_facts(units[0].unit_id.split(".")[0])
    kept = 2 * 4 * sum(len(text.positions) for text in chosen) * facts["d_model"]
    largest = max(1, math.floor(_MOST_BYTES / max(kept, 1)))
    tasks = [
        Task(
            tuple(share),
            tuple(int(unit_id.rpartition(".")[2]) for unit_id in share),
            chosen,
            distilled,
            wanted.lens_tokens,
            wanted.components,
            study.seed,
        )
        for share in shares(list(by_id), context.engine.workers, largest)
    ]
    for unit_id, rows in context.run(measure, tasks, model=base):
        of_base, of_distilled, layer = unit_id.split(".")
        about = {"base_model_id": of_base, "distilled_model_id": of_distilled, "layer": int(layer)}
        provenance = {"model_id": of_distilled, "dtype": distilled.dtype, "seed": study.seed}
        yield Finished(by_id[unit_id], {"divergence": [about | row for row in rows]}, provenance)


def measure(base: LoadedModel, task: Task) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Runs in a worker: the rows of each layer."""
    from backend.crosscoder.shards import require_one_tokenizer
    from backend.feature_geometry.divergence import divergence
    from backend.feature_geometry.lens_divergence import lens_divergence
    from backend.lens.lens import Readout
    from backend.models.loading import load_model

    of = task.distilled
    distilled = load_model(of.name, revision=of.revision, dtype=of.dtype, device=of.device)
    require_one_tokenizer([base, distilled])
    at, streams = _positions(task), [_streams(model, task) for model in (base, distilled)]
    some = at.some(task.lens_tokens)
    heads = Readout(base), Readout(distilled)
    for unit_id, layer in zip(task.makes, task.layers, strict=True):
        a, b = (of_model.pop(layer) for of_model in streams)
        lenses = lens_divergence(*heads, a[some].to(of.device), b[some].to(of.device), at.only(some))
        yield unit_id, list(divergence(a.numpy(), b.numpy(), at, k=task.components, lenses=lenses))


def _positions(task: Task) -> "Positions":
    import numpy as np

    from backend.feature_geometry.divergence import Positions

    places = [(text, position) for text in task.texts for position in text.positions]
    return Positions(
        np.array([text.problem for text, _ in places], int),
        np.array([text.token_ids[position] for text, position in places], int),
        np.array([position < text.n_prompt for text, position in places], bool),
        task.seed,
    )


def _streams(loaded: LoadedModel, task: Task) -> "dict[int, torch.Tensor]":
    """By layer, (n, d_model) at the positions, text after text."""
    import torch

    from backend.models.residuals import record_residuals

    parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in task.layers}
    for text in task.texts:
        if text.positions:
            for layer, stream in record_residuals(loaded, text.token_ids, task.layers).items():
                parts[layer].append(stream[list(text.positions)].cpu())
    return {layer: torch.cat(found) for layer, found in parts.items()}
