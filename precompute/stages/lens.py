"""The tuned lens of each model: one affine map a layer and variant, fitted on the study's CoTs and more texts.

A unit is a layer, durable as soon as it is fitted. A worker takes some layers of a lens, reads the texts once, keeps
the streams of these layers at the positions that take part, and fits one layer after the other. What a layer comes to
does not depend on which others were fitted beside it.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.ids import stable_id
from backend.lens import corpus as split
from backend.lens.corpus import TRAIN, VALIDATION, Text
from backend.lens.positions import kinds_in
from backend.models.loaded import LoadedModel
from backend.schema.provenance import commit, versions
from precompute import lens_texts, models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    import torch

    from backend.lens.fit import LayerFit, Streams

NAME, UNIT = "lens", "layer of a lens"
RULE = 1  # of texts, split and fit: raise it when they change
_MOST_BYTES = 1e9  # of the streams that a worker keeps
_CHOICES = 8 * 1024  # positions and maps whose KL chooses the ridge's strength
_MAPS = 7  # that are judged on the validation positions


@dataclass(frozen=True)
class Task:
    """Some layers of one lens."""

    makes: tuple[str, ...]  # a unit a layer
    layers: tuple[int, ...]
    texts: tuple[Text, ...]  # those with positions that take part
    train: split.Positions
    validation: split.Positions
    tokens: int
    batch: int
    learning_rate: float
    seed: int


def layers_of(context: Context, model_id: str) -> tuple[int, ...]:
    """The layers that get a map: the study's, without the last. Raises AnchorscopeError for one that is not there."""
    n_layers = context.store.model_facts(model_id)["n_layers"]
    wanted = context.study.its_lens.layers
    chosen = range(n_layers) if wanted == "all" else sorted(set(wanted))
    models.require_layers(chosen, n_layers, "lens.layers")
    return tuple(layer for layer in chosen if layer < n_layers - 1)


def units(context: Context) -> list[Unit]:
    """One unit a model, variant and layer; models that no CoT is written by yet have none."""
    wanted = context.study.lens
    if wanted is None or not context.store.tokenised_cots():
        return []
    inputs = _inputs(context)
    return [
        Unit(f"{model_id}.{variant}.{layer:03d}", inputs)
        for model_id in models.by_id(context.study)
        if context.store.model_facts(model_id)
        for variant in wanted.variants
        for layer in layers_of(context, model_id)
    ]


def texts_inputs(context: Context) -> dict[str, Any]:
    """What texts, split and kinds of position follow from."""
    return {**lens_texts.inputs(context), "chunks": chunks_stage.newest(context)}


def _inputs(context: Context) -> dict[str, Any]:
    wanted = context.study.its_lens
    own = {name: getattr(wanted, name) for name in ("learn_from", "tokens", "batch", "learning_rate", "validate_on")}
    return {**texts_inputs(context), **own}


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.lens
    if wanted is None:
        return None
    n_layers = of.all_layers - 1 if wanted.layers == "all" else len(wanted.layers)
    fits = len(of.study.models) * len(wanted.variants)
    own, share = of.n_cots * of.lengths.cot, split.PARTS[TRAIN] + split.PARTS[VALIDATION]
    kept = min(wanted.learn_from, own * share) * of.width * 4
    passes = max(1, n_layers * kept / _MOST_BYTES)
    products = {
        "lens": fits * n_layers * 4 * wanted.tokens * of.unembedding,
        "divergence": fits * n_layers * 2 * (_CHOICES + _MAPS * wanted.validate_on) * of.unembedding,
    }
    return of.line(
        NAME,
        fits * n_layers,
        tokens=of.read * share * fits * max(passes, of.study.engine.workers),
        by="forward",
        gigabytes=fits * n_layers * of.width**2 * 4e-9,
        products=products,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    by_id = {unit.unit_id: unit for unit in units}
    pending: dict[tuple[str, str], list[int]] = defaultdict(list)
    for unit in units:
        model_id, variant, layer = unit.unit_id.split(".")
        pending[model_id, variant].append(int(layer))
    for (model_id, variant), layers in pending.items():
        model = models.by_id(context.study)[model_id]
        texts = lens_texts.texts_of(context, model)
        train, validation = (_drawn(context, texts, part, variant) for part in (TRAIN, VALIDATION))
        if not train:
            context.warn(f"No position of kind {variant} is there for {model.name} to fit a lens on.")
            yield from (Finished(by_id[f"{model_id}.{variant}.{layer:03d}"], {}) for layer in layers)
            continue
        card = _card(context, model_id, variant, texts, train, validation)
        tasks = _tasks(context, f"{model_id}.{variant}", layers, texts, train, validation)
        provenance = {"model_id": model_id, "dtype": model.dtype, "seed": context.study.seed}
        for unit_id, (row, map_rows) in context.run(fit, tasks, model=models.spec(context.study, model)):
            lens = {"lens_id": card["lens_id"]}
            rows = {
                "lenses": [card],
                "lens_layers": [lens | row],
                "lens_rows": [one | lens for one in map_rows],
            }
            yield Finished(by_id[unit_id], rows, provenance)


def _drawn(context: Context, texts: Sequence[Text], part: str, variant: str) -> dict[str, tuple[int, ...]]:
    wanted = context.study.its_lens
    most = {TRAIN: wanted.learn_from, VALIDATION: wanted.validate_on}[part]
    return split.drawn(texts, part, kinds=kinds_in(variant), most=most, seed=context.study.seed)


def lens_id(context: Context, model_id: str, variant: str) -> str:
    return stable_id("l", RULE, model_id, "tuned", variant, _inputs(context))


def _card(
    context: Context,
    model_id: str,
    variant: str,
    texts: Sequence[Text],
    train: split.Positions,
    validation: split.Positions,
) -> dict[str, Any]:
    """The row of `lenses`."""
    wanted, facts = context.study.its_lens, context.store.model_facts(model_id)
    problems = {text.problem_id for text in texts if text.text_id in train}
    return {
        "lens_id": lens_id(context, model_id, variant),
        "model_id": model_id,
        "kind": "tuned",
        "variant": variant,
        "source": "fitted",
        "n_tokens": sum(map(len, train.values())),
        "n_problems": len(problems),
        "corpus": split.digest(texts, train, validation),
        "seed": context.study.seed,
        "dtype": facts["dtype"],
        "revision": facts["revision"],
        "parameters": json.dumps({**wanted.model_dump(), "shares": split.PARTS}),
        "versions": json.dumps(versions()),
        "commit": commit(),
    }


def _tasks(
    context: Context,
    prefix: str,
    layers: Sequence[int],
    texts: Sequence[Text],
    train: split.Positions,
    validation: split.Positions,
) -> list[Task]:
    wanted = context.study.its_lens
    d_model = context.store.model_facts(prefix.split(".")[0])["d_model"]
    kept = sum(len(some) for part in (train, validation) for some in part.values()) * d_model * 4
    largest = max(1, int(_MOST_BYTES // max(kept, 1)) - 1)
    return [
        Task(
            tuple(f"{prefix}.{layer:03d}" for layer in share),
            tuple(share),
            tuple(text for text in texts if text.text_id in train or text.text_id in validation),
            train,
            validation,
            wanted.tokens,
            wanted.batch,
            wanted.learning_rate,
            context.study.seed,
        )
        for share in shares(list(layers), context.engine.workers, largest)
    ]


def fit(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, tuple[dict[str, Any], list[dict[str, Any]]]]]:
    """Runs in a worker: the row of lens_layers and those of lens_rows of each layer, all without the lens's id."""
    from backend.lens.fit import Head, Settings, fit_layer

    settings = Settings(task.tokens, task.batch, task.learning_rate, task.seed)
    began = time.monotonic()
    head = Head(loaded)
    train, validation = (_streams(loaded, task, part) for part in (task.train, task.validation))
    problems = [text.problem_id for text in task.texts for _ in task.validation.get(text.text_id, ())]
    target = head.target(train[task.layers[0]].last)
    shared = (time.monotonic() - began) / len(task.layers)
    for unit_id, layer in zip(task.makes, task.layers, strict=True):
        began = time.monotonic()
        found = fit_layer(head, train.pop(layer), target, validation.pop(layer), problems, settings)
        seconds = shared + time.monotonic() - began
        yield unit_id, (_layer_row(layer, found, seconds), _map_rows(layer, found.map))


def _streams(loaded: LoadedModel, task: Task, positions: split.Positions) -> dict[int, "Streams"]:
    """By layer, at these positions, text after text."""
    import torch

    from backend.lens.fit import Streams
    from backend.models.residuals import record_residuals

    last = loaded.n_layers - 1
    kept: dict[int, list[torch.Tensor]] = {layer: [] for layer in (*task.layers, last)}
    for text in task.texts:
        if text.text_id in positions:
            residuals = record_residuals(loaded, text.token_ids, list(kept))
            for layer, found in kept.items():
                found.append(residuals[layer][list(positions[text.text_id])])
    empty = torch.empty(0, loaded.d_model)
    whole = {layer: torch.cat([empty, *found]) if not found else torch.cat(found) for layer, found in kept.items()}
    return {layer: Streams(whole[layer], whole[last]) for layer in task.layers}


def _layer_row(layer: int, found: "LayerFit", seconds: float) -> dict[str, Any]:
    from backend.statistics.columns import known

    gain = found.gain
    return {
        "layer": layer,
        "kept": found.kept,
        "ridge": found.ridge,
        **{f"kl_{name}": found.kl.get(name) for name in ("identity", "ridge", "tuned")},
        "gain": known(gain.mean),
        "gain_low": known(gain.low),
        "gain_high": known(gain.high),
        "n_tokens": gain.n,
        "n_problems": gain.n_clusters,
        "steps": found.steps,
        "seconds": seconds,
        "cosine": None,
    }


def _map_rows(layer: int, found: "tuple[torch.Tensor, torch.Tensor] | None") -> list[dict[str, Any]]:
    from backend.lens.stored import rows_of

    return [] if found is None else rows_of("", layer, *found)
