"""How the directions of a study lie to each other: cosines of all pairs of the rows of each set, in the tails.

A unit is a set: one kind of the models' own directions at a layer, one decoder of the study's dictionary or of one of
its small autoencoders, or a published dictionary. What is published and not here is said by name, with where it is to
be had and where it belongs; its unit stays undone.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import AnchorscopeError
from backend.feature_geometry.covariance_nulls import NULLS
from backend.feature_geometry.row_sets import ROW_KINDS, Source, rows
from backend.ids import stable_id
from backend.store.dictionaries import folder_of, folder_with
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import saes
from precompute.study import PUBLISHED_FILE, Cosines, Published, PublishedFile, Study
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.feature_geometry.cosine_rows import About, Asked
    from backend.models.loaded import LoadedModel

NAME, UNIT = "cosines", "set"
RULE = 1  # of what is counted: raise it when it changes
_ROLES = {"base": "base", "distilled": "tuned", "model": "model"}
_MLP_FACTOR = 4  # neurons over width, for the estimate


@dataclass(frozen=True)
class Task:
    """One set, and what is known beside its rows."""

    makes: tuple[str, ...]
    source: Source
    about: "About"
    asked: "Asked"
    expected: tuple[int | None, int | None]  # rows and width, where the study says them
    frequencies: np.ndarray | None
    activations: np.ndarray | None


@dataclass(frozen=True)
class Wanted:
    """A set as the study asks for it."""

    unit: Unit
    kind: str
    model: str  # id of a model of the study; the name of a published dictionary's
    layer: int | None
    role: str
    row: dict[str, Any] | None = None  # of dictionaries or saes
    side: int = 0  # which of its models
    published: Published | None = None
    file: PublishedFile | None = None


def units(context: Context) -> list[Unit]:
    return [one.unit for one in wanted_sets(context)]


def estimate(of: Quantities) -> Estimate | None:
    """Products of half the Gram matrix, of each set and of each of its nulls."""
    wanted = of.study.cosines
    if wanted is None:
        return None
    sizes = [*_own_sizes(of, wanted), *_published_sizes(of.study)]
    flop = sum(n * n * d for n, d in sizes if n is not None and d is not None) * (1 + len(wanted.nulls))
    known = all(n is not None and d is not None for n, d in sizes)
    held = max((12e-9 * n * d for n, d in sizes if n is not None and d is not None), default=0.0)
    products = {"cosines": flop if known else math.nan}
    return of.line(NAME, len(sizes), gigabytes=len(sizes) * 2e-5, products=products, held=held)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    by_id, asked = {unit.unit_id: unit for unit in units}, _asked(context)
    sets = [one for one in wanted_sets(context) if one.unit.unit_id in by_id]
    for model_id, model in models.by_id(context.study).items():
        own = [one for one in sets if ROW_KINDS[one.kind].of_model and one.model == model_id]
        tasks = [_task(context, one, asked) for one in own]
        for unit_id, tables in context.run(measure, tasks, model=models.spec(context.study, model)):
            yield Finished(by_id[unit_id], tables, {"model_id": model_id, "dtype": model.dtype})
    absent = [one for one in sets if one.file is not None and one.published is not None and not _is_here(one)]
    of_files = [one for one in sets if not ROW_KINDS[one.kind].of_model and one not in absent]
    for unit_id, tables in context.run(measure, [_task(context, one, asked) for one in of_files]):
        yield Finished(by_id[unit_id], tables)
    if absent:
        context.warn(to_download(context.study))


def measure(loaded: "LoadedModel | None", task: Task) -> Iterator[tuple[str, Any]]:
    """Runs in a worker: the rows of every table."""
    from backend.feature_geometry.cosine_rows import Beside, measured

    is_tokens = loaded is not None and task.about.kind == "unembedding"
    beside = Beside(task.frequencies, task.activations, _texts(loaded) if is_tokens and loaded is not None else None)
    yield task.makes[0], measured(_rows(loaded, task), task.about, task.asked, beside)


def wanted_sets(context: Context) -> list[Wanted]:
    """Every set that the study asks for and that can be known of now."""
    wanted = context.study.cosines
    if wanted is None:
        return []
    inputs = wanted.model_dump(include={"nulls", "most_rows", "pairs", "links"}) | {"seed": context.study.seed}
    found = [*_own(context, wanted, inputs), *_dictionaries(context, wanted, inputs), *_saes(context, wanted, inputs)]
    return [*found, *_published(context.study, inputs)]


def to_download(study: Study) -> str:
    """In words, what is to be fetched from where to where; empty where nothing is missing."""
    lines = []
    for published in study.cosines.published if study.cosines else ():
        absent = [file.path for file in published.files if not (published.folder / file.path).exists()]
        if absent:
            lines.append(
                f"{len(absent)} of {len(published.files)} dictionaries of {published.model} are not in"
                f" {published.folder}: download from {published.repository} to there "
                + ", ".join(path.as_posix() for path in absent)
            )
    return "\n".join(lines)


def _own(context: Context, wanted: Cosines, inputs: dict[str, Any]) -> Iterator[Wanted]:
    """The models' own directions; models that the store does not know yet have none."""
    for model_id, model in models.by_id(context.study).items():
        if not (facts := context.store.model_facts(model_id)):
            continue
        n_layers = int(facts["n_layers"])
        layers = range(n_layers) if wanted.layers == "all" else wanted.layers
        models.require_layers(layers, n_layers, "cosines.layers")
        for kind in (ROW_KINDS[name] for name in wanted.kinds if ROW_KINDS[name].of_model):
            for layer in layers if kind.by_layer else (None,):
                unit_id = f"{kind.name}.{model_id}" + ("" if layer is None else f".{layer:04d}")
                unit = Unit(unit_id, inputs | _activations_of(context, wanted, model_id))
                yield Wanted(unit, kind.name, model_id, layer, _ROLES[model.role])


def _dictionaries(context: Context, wanted: Cosines, inputs: dict[str, Any]) -> Iterator[Wanted]:
    """A set for each decoder of each dictionary."""
    if "dictionary" not in wanted.kinds:
        return
    for row in context.store.dictionaries().to_dict("records"):
        name, pair = str(row["dictionary_id"]), [row["base_model_id"], row["distilled_model_id"]]
        sides = [model_id for model_id in pair if isinstance(model_id, str)]
        fired = _digest(context.store.features(name)["frequency"].to_numpy())
        for side, model_id in enumerate(sides):
            known = inputs | {"frequencies": fired} | _activations_of(context, wanted, model_id)
            role = ("base", "tuned")[side] if len(sides) > 1 else "model"
            unit = Unit(f"dictionary.{name}.{side}", known)
            yield Wanted(unit, "dictionary", model_id, int(row["layer"]), role, row, side)


def _saes(context: Context, wanted: Cosines, inputs: dict[str, Any]) -> Iterator[Wanted]:
    """Of small autoencoders those whose weights are here: a pack has their rows alone."""
    if "sae" not in wanted.kinds:
        return
    roles = {model_id: _ROLES[model.role] for model_id, model in models.by_id(context.study).items()}
    for row in context.store.trained_saes().to_dict("records"):
        model_id = str(row["model_id"])
        if not (folder_of(context.store.path) / str(row["dictionary_id"])).is_dir():
            continue
        known = inputs | {"sha256": row["sha256"]} | _activations_of(context, wanted, model_id)
        unit = Unit(f"sae.{row['sae_id']}", known)
        yield Wanted(unit, "sae", model_id, int(row["layer"]), roles.get(model_id, "model"), row)


def _published(study: Study, inputs: dict[str, Any]) -> Iterator[Wanted]:
    from backend.crosscoder.kinds import DictionaryError

    for published in study.cosines.published if study.cosines else ():
        for file in published.files:
            place = f"{published.repository}/{file.path.as_posix()}"
            unit_id = f"{PUBLISHED_FILE}.{stable_id('p', place, published.model, file.layer)}"
            one = Wanted(
                Unit(unit_id, inputs),
                PUBLISHED_FILE,
                published.model,
                file.layer,
                published.role,
                published=published,
                file=file,
            )
            try:
                content = _sha256(published.folder / file.path) if _is_here(one) else "missing"
            except DictionaryError as error:
                content = str(error)  # which the run raises when it reads it
            yield replace(one, unit=Unit(unit_id, inputs | {"place": place, "role": published.role, "file": content}))


def _sha256(path: Path) -> str:
    from backend.crosscoder.files import weights_file
    from backend.models.loading import remembered_sha256

    return remembered_sha256(weights_file(path))


def _is_here(one: Wanted) -> bool:
    assert one.published is not None and one.file is not None
    return (one.published.folder / one.file.path).exists()


def _activations_of(context: Context, wanted: Cosines, model_id: str) -> dict[str, str]:
    of_activations = any(not NULLS[null].of_rows for null in wanted.nulls)
    return {"activations": context.store.activation_digest(model_id)} if of_activations else {}


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(values, np.float64).tobytes()).hexdigest()


def _asked(context: Context) -> "Asked":
    from backend.feature_geometry.cosine_rows import Asked

    wanted = context.study.its_cosines
    return Asked(wanted.nulls, wanted.most_rows, wanted.pairs, wanted.links, context.study.seed)


def _task(context: Context, one: Wanted, asked: "Asked") -> Task:
    from backend.feature_geometry.cosine_rows import About

    kind = ROW_KINDS[one.kind]
    if not kind.keeps_pairs:
        asked = replace(asked, pairs=0, links=0)
    facts = {} if one.published else context.store.model_facts(one.model)
    row = one.row or {}
    about = About(
        kind=one.kind,
        model_id=None if one.published else one.model,
        model=str(facts.get("name", one.model)),
        role=one.role,
        layer=one.layer,
        source=_source_name(one),
        trained_on=row.get("trained_on") if one.kind == "sae" else None,
        seed=int(row["seed"]) if one.kind == "sae" else None,
    )
    return Task(
        makes=(one.unit.unit_id,),
        source=_source(context, one),
        about=about,
        asked=asked,
        expected=(one.published.n_features, one.published.d_model) if one.published else (None, None),
        frequencies=_frequencies(context, one),
        activations=_activations(context, one),
    )


def _source_name(one: Wanted) -> str | None:
    if one.published is not None and one.file is not None:
        return f"{one.published.repository}/{one.file.path.as_posix()}"
    return None if one.row is None else str(one.row["sae_id" if one.kind == "sae" else "dictionary_id"])


def _source(context: Context, one: Wanted) -> Source:
    if one.published is not None and one.file is not None:
        return Source(path=one.published.folder / one.file.path, layer=one.layer, scale=one.published.scale)
    if one.row is not None:
        folder = folder_with(context.store.path, str(one.row["dictionary_id"]))
        return Source(path=folder, layer=one.layer, model=one.side)
    return Source(layer=one.layer)


def _frequencies(context: Context, one: Wanted) -> np.ndarray | None:
    """How often each row's feature fires; None where that was not measured."""
    if one.row is None:
        return None
    if one.kind == "sae":
        found = context.store.sae_frequencies(str(one.row["sae_id"]))
    else:
        found = context.store.features(str(one.row["dictionary_id"]))
    known = found["frequency"].to_numpy(np.float64)
    return known if len(known) and np.isfinite(known).all() else None


def _activations(context: Context, one: Wanted) -> np.ndarray | None:
    wanted = any(not NULLS[null].of_rows for null in context.study.its_cosines.nulls)
    if not wanted or one.layer is None or one.published is not None:
        return None
    _, found = context.store.activations(one.model, one.layer)
    return found if len(found) else None


def _rows(loaded: "LoadedModel | None", task: Task) -> np.ndarray:
    found = rows(task.about.kind, replace(task.source, loaded=loaded))
    for what, expected, is_ in zip(("rows", "values a row"), task.expected, found.shape, strict=True):
        if expected is not None and expected != is_:
            raise AnchorscopeError(f"{task.source.path} has {is_:,} {what}; the study file says {expected:,}.")
    return found


def _texts(loaded: "LoadedModel") -> Any:
    return lambda token_id: loaded.tokenizer.decode([token_id])


def _own_sizes(of: Quantities, wanted: Cosines) -> Iterator[tuple[int | None, int | None]]:
    """Rows and width of every set but the published ones, as far as the study file says."""
    n_layers = (of.n_layers or 1) if wanted.layers == "all" else len(wanted.layers)
    d = of.d_model
    per_model: dict[str, tuple[int, int | None]] = {
        "mlp_out": (n_layers, d and _MLP_FACTOR * d),
        "attention_out": (n_layers, d),
        "unembedding": (1, of.vocab_size),
    }
    for kind in wanted.kinds:
        if ROW_KINDS[kind].of_model:
            times, n = per_model[kind]
            yield from [(n and min(n, wanted.most_rows), d)] * (times * len(of.study.models))
    if "dictionary" in wanted.kinds:
        for one in of.study.crosscoder:
            yield from [(min(one.n_features, wanted.most_rows), d)] * len(of.study.pair)
    if "sae" in wanted.kinds:
        yield from _sae_sizes(of, wanted)


def _sae_sizes(of: Quantities, wanted: Cosines) -> Iterator[tuple[int | None, int | None]]:
    if (trained := saes.estimate(of)) is not None:
        widest = max(one.n_features for one in of.study.dictionaries)
        yield from [(min(widest, wanted.most_rows), of.d_model)] * (trained.units or 1)


def _published_sizes(study: Study) -> Iterable[tuple[int | None, int | None]]:
    wanted = study.its_cosines
    for published in wanted.published:
        n = published.n_features
        yield from [(n and min(n, wanted.most_rows), published.d_model)] * len(published.files)
