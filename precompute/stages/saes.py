"""Small TopK autoencoders of every model at some layers, several seeds each, and the same ones trained on clouds that
have no features: a Gaussian one, and the activations of a randomly initialised model.

1. Texts are read once a model: workers take texts, and the streams at all the layers go to scratch, a file a layer, in
   groups of layers where all of them would be too much. Texts that were read stay read when a run is killed.
2. Workers take trainings. A unit is one of them, durable as soon as it is finished: weights among the study's
   dictionaries, one row of `saes`, how often each feature fires, and how far its decoder rows cluster.
3. Scratch is deleted when the last of its trainings is durable.

Every seed belongs to a unit, so what a training comes to depends neither on workers nor on what is trained beside it.
Models of one architecture share its randomly initialised one.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.crosscoder import stored
from backend.feature_geometry.text_trees import Corpus, TextTree
from backend.feature_geometry.trained_on import GAUSSIAN, MODEL, RANDOM_WEIGHTS
from backend.ids import seed_for, stable_id
from backend.models.loaded import LoadedModel
from backend.models.loading import find_weights
from backend.models.model_files import read_json
from backend.schema.provenance import commit, versions
from precompute import dictionary_texts, models
from precompute.estimates import Estimate, Quantities
from precompute.stages.cots import shares
from precompute.study import Dictionaries, Model, Study
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.train import Settings
    from backend.feature_geometry.streams import Recording

NAME, UNIT = "saes", "training"
RULE = 1  # of texts, activations, clouds, training and what is measured: raise it when they change
EXCEEDANCES = (1e-3, 1e-6)  # of the exact law, at which tails are counted
_MOST_BYTES = 8e9  # of activations that lie in scratch at a time
_TEXTS_A_TASK = 16
_SAY_EVERY = 60.0  # seconds
EVERY = 3  # layers
_TRAINING = (
    "n_features",
    "k",
    "tokens",
    "batch",
    "learning_rate",
    "warmup",
    "dead_after",
    "aux",
    "aux_k",
    "dtype",
    "recorded_as",
)
_FORGOTTEN = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")  # of a configuration


@dataclass(frozen=True)
class Sae:
    """One training."""

    sae_id: str
    model_id: str
    layer: int
    seed: int
    trained_on: str  # of trained_on.SOURCES
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What trainings learn from that read the same streams: a model's own, or those of one with random weights."""

    context: Context
    wanted: Dictionaries
    model: Model
    random_seed: int | None

    @cached_property
    def model_id(self) -> str:
        return models.model_id(self.model)

    def saes(self, layers: Sequence[int]) -> list[Sae]:
        own = range(self.wanted.seeds)
        asked = (
            [(RANDOM_WEIGHTS, 0)]
            if self.random_seed is not None
            else [*((MODEL, seed) for seed in own), *((GAUSSIAN, 0),) * (GAUSSIAN in self.wanted.nulls)]
        )
        return [self._sae(layer, seed, trained_on) for layer in layers for trained_on, seed in asked]

    def _sae(self, layer: int, seed: int, trained_on: str) -> Sae:
        inputs = {
            "layer": layer,
            "number": seed,
            "trained_on": trained_on,
            "texts": self._texts,
            **{name: getattr(self.wanted, name) for name in _TRAINING},
        }
        own = stable_id("a", self.model_id, inputs)
        return Sae(own, self.model_id, layer, seed_of(self.context.study, seed), trained_on, inputs)

    @cached_property
    def _texts(self) -> dict[str, Any]:
        return dictionary_texts.inputs(self.context, self.wanted)

    @cached_property
    def corpus(self) -> Corpus:
        return dictionary_texts.texts_of(self.context, self.wanted, self.model)

    def recording(self, layers: Sequence[int]) -> "Recording":
        from backend.feature_geometry.streams import Recording

        content = [self.model_id, self.random_seed, list(layers), self.corpus.digest, self.wanted.recorded_as, RULE]
        width = self.context.store.model_facts(self.model_id)["d_model"]
        n_rows = self.corpus.n_learned + self.corpus.n_held_out
        folder = self.context.scratch / f"streams-{stable_id('s', *content)}"
        return Recording(folder, tuple(layers), n_rows, width, self.wanted.recorded_as)


@dataclass(frozen=True)
class ReadTask:
    """Some texts, each with the row of the recording at which its streams begin."""

    makes: tuple[str, ...]  # ids of the texts
    texts: tuple[tuple[int, TextTree], ...]
    recording: "Recording"
    random_seed: int | None


@dataclass(frozen=True)
class TrainTask:
    makes: tuple[str, ...]  # the one id of the training
    sae: Sae
    recording: "Recording"
    n_learned: int  # rows, the first ones; the rest are held out
    settings: "Settings"
    facts: Mapping[str, Any]
    study: Path  # among whose dictionaries the weights are kept
    device: str


def seed_of(study: Study, number: int) -> int:
    """Of the number-th training at each layer, from 0; nulls have the first one's."""
    return seed_for("autoencoder", study.seed, number) % 2**32


def layers_of(context: Context, wanted: Dictionaries, model_id: str) -> tuple[int, ...]:
    """Raises AnchorscopeError for a layer that the model does not have."""
    n_layers = context.store.model_facts(model_id)["n_layers"]
    chosen = range(0, n_layers, EVERY) if wanted.layers is None else sorted(set(wanted.layers))
    models.require_layers(chosen, n_layers, "dictionaries.layers")
    return tuple(chosen)


def readings(context: Context) -> Iterator[Reading]:
    """Models that no CoT is written by yet have none."""
    for wanted in context.study.dictionaries:
        architectures: set[str] = set()
        known = [one for one in context.study.models if context.store.model_facts(models.model_id(one))]
        for model in known:
            yield Reading(context, wanted, model, None)
        for model in known if RANDOM_WEIGHTS in wanted.nulls else ():
            if (architecture := _architecture(model)) not in architectures:
                architectures.add(architecture)
                yield Reading(context, wanted, model, seed_for("random weights", context.study.seed) % 2**32)


def _architecture(model: Model) -> str:
    """All that a randomly initialised model follows from."""
    weights = find_weights(model.name, model.revision)
    config = read_json((weights.base or weights).folder, "config.json")
    return json.dumps({key: value for key, value in config.items() if key not in _FORGOTTEN}, sort_keys=True)


def units(context: Context) -> list[Unit]:
    if not context.study.dictionaries or not context.store.tokenised_cots():
        return []
    asked = [sae for one in readings(context) for sae in one.saes(layers_of(context, one.wanted, one.model_id))]
    return [Unit(sae.sae_id, sae.inputs) for sae in {sae.sae_id: sae for sae in asked}.values()]


def estimate(of: Quantities) -> Estimate | None:
    if not of.study.dictionaries:
        return None
    n_models, width = len(of.study.models), of.width
    trainings, read, operations, scratch, kept = 0.0, 0.0, 0.0, 0.0, 0.0
    for wanted in of.study.dictionaries:
        n_layers = -(-of.all_layers // EVERY) if wanted.layers is None else len(wanted.layers)
        clouds = n_models * (GAUSSIAN in wanted.nulls) + (RANDOM_WEIGHTS in wanted.nulls)
        n = n_layers * (n_models * wanted.seeds + clouds)
        size = (wanted.read + wanted.held_out) * width * np.dtype(wanted.recorded_as).itemsize
        groups = max(1.0, n_layers * size / _MOST_BYTES)
        trainings += n
        read += (wanted.read + wanted.held_out) * groups * (n_models + (RANDOM_WEIGHTS in wanted.nulls))
        operations += n * wanted.tokens * 2 * width * wanted.n_features
        scratch = max(scratch, size * n_layers / groups)
        kept += n * wanted.n_features * width * 4
    return of.line(
        NAME,
        trainings,
        tokens=read,
        by="forward",
        gigabytes=kept * 1e-11,  # a row or two of each
        scratch=(scratch + kept) * 1e-9,
        products={"small dictionary": operations},
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    todo = {unit.unit_id: unit for unit in units}
    for one in readings(context):
        layers = layers_of(context, one.wanted, one.model_id)
        if not any(sae.sae_id in todo for sae in one.saes(layers)):
            continue
        _say_what_is_read(one)
        if one.corpus.n_learned < one.wanted.batch or not one.corpus.n_held_out:
            context.warn(_too_few(one))
            yield from (Finished(todo[sae.sae_id], {}) for sae in one.saes(layers) if sae.sae_id in todo)
            continue
        width = context.store.model_facts(one.model_id)["d_model"]
        size = (one.corpus.n_learned + one.corpus.n_held_out) * width * np.dtype(one.wanted.recorded_as).itemsize
        for group in _groups(layers, size):
            asked = [(todo[sae.sae_id], sae) for sae in one.saes(group) if sae.sae_id in todo]
            if not asked:
                continue
            recording = one.recording(group)
            _read(one, recording)
            yield from _trained(one, recording, asked)
            shutil.rmtree(recording.folder, ignore_errors=True)  # all of its trainings are durable now


def _groups(layers: Sequence[int], bytes_a_layer: float) -> list[tuple[int, ...]]:
    """Layers whose activations lie in scratch together."""
    n = max(1, math.ceil(len(layers) * bytes_a_layer / _MOST_BYTES))
    return [tuple(layers[start::n]) for start in range(min(n, len(layers)))]


def _say_what_is_read(one: Reading) -> None:
    found, wanted = one.corpus, one.wanted
    whose = one.model.name if one.random_seed is None else f"a randomly initialised {one.model.name}"
    again = "" if found.n_learned >= wanted.tokens else f", each {wanted.tokens / max(found.n_learned, 1):.1f} times"
    one.context.say(
        f"autoencoders of {whose}: {found.n_learned:,} tokens to learn from of {found.n_available:,} that the study"
        f" has{again}; {found.n_held_out:,} of other problems to measure on"
    )


def _too_few(one: Reading) -> str:
    return (
        f"No autoencoder of {one.model.name} is trained: {one.corpus.n_learned:,} tokens to learn from are fewer than a"
        f" batch of {one.wanted.batch:,}, or no problem is left to measure on ({one.corpus.n_held_out:,} tokens)."
        " Give the study more CoTs or dictionaries.texts, or a smaller dictionaries.batch."
    )


def _read(one: Reading, recording: "Recording") -> None:
    """Reads the texts that the recording lacks."""
    recording.begin()
    done, first, missing = recording.done, 0, []
    for tree in one.corpus.trees:
        if tree.text_id not in done:
            missing.append((first, tree))
        first += tree.n_rows
    tasks = [
        ReadTask(tuple(tree.text_id for _, tree in some), tuple(some), recording, one.random_seed)
        for some in (shares(missing, one.context.engine.workers, _TEXTS_A_TASK) if missing else ())
    ]
    total, said, study = len(one.corpus.trees), time.monotonic(), one.context.study
    for text_id, _ in one.context.run(read, tasks, model=models.spec(study, one.model)):
        recording.note(text_id)
        done.add(text_id)
        if time.monotonic() - said > _SAY_EVERY:
            one.context.say(f"  {len(done)} of {total} texts are read")
            said = time.monotonic()


def read(loaded: LoadedModel, task: ReadTask) -> Iterator[tuple[str, None]]:
    """Runs in a worker: streams of each text, on disk."""
    from backend.feature_geometry.streams import random_weights, streams_of

    model = loaded if task.random_seed is None else random_weights(loaded, task.random_seed)
    for first, tree in task.texts:
        task.recording.write(first, streams_of(model, tree, task.recording.layers))
    task.recording.flush()  # once for all: a text is read when it would survive a power cut
    yield from ((tree.text_id, None) for _, tree in task.texts)


def _trained(one: Reading, recording: "Recording", asked: Sequence[tuple[Unit, Sae]]) -> Iterator[Finished]:
    study = one.context.study
    tasks = [
        TrainTask(
            (sae.sae_id,),
            sae,
            recording,
            one.corpus.n_learned,
            _settings(one.wanted, sae, recording.width),
            _facts(one, sae),
            one.context.weights,
            study.engine.device,
        )
        for _, sae in asked
    ]
    units = {sae.sae_id: (unit, sae) for unit, sae in asked}
    for sae_id, tables in one.context.run(train, tasks):
        unit, sae = units[sae_id]
        yield Finished(unit, tables, {"model_id": sae.model_id, "dtype": one.wanted.dtype, "seed": sae.seed})


def _settings(wanted: Dictionaries, sae: Sae, width: int) -> "Settings":
    from backend.crosscoder.train import Settings

    return Settings(
        n_models=1,
        width=width,
        n_features=wanted.n_features,
        kind="topk",
        k=wanted.k,
        learning_rate=wanted.learning_rate,
        steps=max(1, wanted.tokens // wanted.batch),
        warmup=wanted.warmup,
        batch=wanted.batch,
        dead_after=wanted.dead_after,
        aux_k=wanted.aux_k,
        aux=wanted.aux,
        dtype=wanted.dtype,
        seed=sae.seed,
    )


def _facts(one: Reading, sae: Sae) -> dict[str, Any]:
    """What is kept with the weights."""
    found = one.context.store.model_facts(sae.model_id)
    return {
        "models": [{name: found[name] for name in ("name", "revision", "dtype", "model_id")}],
        "layer": sae.layer,
        "trained_on": sae.trained_on,
        "random_weights_seed": one.random_seed,
        "corpus": one.corpus.digest,
        "n_texts": len(one.corpus.learned),
        "n_available": one.corpus.n_available,
        "max_tokens": one.wanted.max_tokens,
        "recorded_as": one.wanted.recorded_as,
        "versions": versions(),
        "commit": commit(),
    }


def train(_: None, task: TrainTask) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Runs in a worker: one training, its weights kept, its rows."""
    from backend.feature_geometry import small_saes

    rows = _rows(task)
    learned, held_out = rows[: task.n_learned], rows[task.n_learned :]
    of = small_saes.moments(learned)
    began = time.monotonic()
    dictionary = small_saes.train(learned, of, task.settings, facts=task.facts, device=task.device)
    seconds = time.monotonic() - began
    measured = small_saes.measure(dictionary, held_out)
    sae, settings = task.sae, task.settings
    row = {
        "sae_id": sae.sae_id,
        "model_id": sae.model_id,
        "layer": sae.layer,
        "seed": sae.seed,
        "trained_on": sae.trained_on,
        "n_features": settings.n_features,
        "k": settings.k,
        "tokens": settings.steps * settings.batch,
        "distinct_tokens": len(learned),
        "held_out_tokens": measured.n,
        "variance_explained": measured.variance_explained,
        "l0": measured.l0,
        "dead": measured.dead,
        "dictionary_id": dictionary.dictionary_id,
        "sha256": stored.keep(dictionary, task.study),
        "path": f"dictionaries/{dictionary.dictionary_id}",
        "parameters": json.dumps({**task.facts, "settings": asdict(settings), "seconds": round(seconds, 1)}),
    }
    frequencies = [
        {"sae_id": sae.sae_id, "feature": feature, "frequency": frequency}
        for feature, frequency in enumerate(measured.frequency.tolist())
    ]
    tails = _tails(sae.sae_id, dictionary.raw_rows(0).numpy(), measured.frequency > 0)
    _cloud(task).unlink(missing_ok=True)
    yield sae.sae_id, {"saes": [row], "sae_features": frequencies, "sae_tails": tails}


def _rows(task: TrainTask) -> np.ndarray:
    """What is learned from and measured on: the layer's streams, or a cloud of their mean and covariance."""
    from backend.feature_geometry import small_saes

    streams = task.recording.rows(task.sae.layer)
    if task.sae.trained_on in (MODEL, RANDOM_WEIGHTS):
        return streams
    if task.sae.trained_on != GAUSSIAN:
        raise ValueError(f"no rows are made for {task.sae.trained_on!r}")
    learned = streams[: task.n_learned]
    mean = small_saes.moments(learned).mean
    cloud = np.memmap(_cloud(task), streams.dtype, "w+", shape=streams.shape)
    small_saes.draw_gaussian(cloud, mean, small_saes.covariance(learned, mean), task.sae.seed)
    return cloud


def _cloud(task: TrainTask) -> Path:
    return task.recording.folder / f"cloud-{task.sae.sae_id}"


def _tails(sae_id: str, rows: np.ndarray, fires: np.ndarray) -> list[dict[str, Any]]:
    """Of all rows, of those that fire, and of those of them that are no duplicates."""
    from backend.feature_geometry.decoder_tails import distinct, tail

    live = rows[fires]
    made = []
    for which, some in (("all", rows), ("live", live), ("distinct", live[distinct(live)])):
        for exceedance in EXCEEDANCES:
            found = tail(some, exceedance)
            made.append(
                {
                    "sae_id": sae_id,
                    "rows": which,
                    "exceedance": exceedance,
                    "threshold": found.threshold,
                    "n_rows": found.n_rows,
                    "n_pairs": found.n_pairs,
                    "share": found.share,
                }
            )
    return made
