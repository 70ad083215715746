"""Parallelograms of word pairs in every model, and of decoder rows in the study's dictionaries.

1. Words are single tokens of every model; all models read the same ones. Workers take blocks of words, always of the
   same size, so that a vector is the same on any number of workers. Each model reads them once for as many layers as
   memory takes.
2. A unit a layer holds all models, because they are compared pair by pair. Classes too small to have a distribution are
   left out, and said.
3. A unit a dictionary holds the search among its decoder rows and that among its nulls. Of the study's small
   autoencoders each layer's first training is searched, of the model's and of its trained nulls alike.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.crosscoder.stored import read_from
from backend.errors import AnchorscopeError
from backend.feature_geometry import word_pairs, word_rows
from backend.feature_geometry.cleaning import Words
from backend.feature_geometry.feature_quadruples import SEARCHED, Rows, search, usable
from backend.feature_geometry.parallelograms import Pairs
from backend.feature_geometry.row_sets import Source
from backend.feature_geometry.row_sets import rows as decoder_rows
from backend.feature_geometry.trained_on import GAUSSIAN, RANDOM_WEIGHTS
from backend.feature_geometry.word_pairs import FEWEST_PAIRS, OWN, Kept, WordPair
from backend.ids import seed_for, stable_id
from backend.models.loaded import LoadedModel
from backend.models.word_contexts import before, vocabulary, word_ids
from backend.root import ROOT
from backend.store.dictionaries import folder_of, folder_with
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import codes as codes_stage
from precompute.stages import saes
from precompute.study import Dictionaries
from precompute.units import Context, Finished, Unit

NAME, UNIT = "parallelograms", "layer or dictionary"
RULE = 1  # of what is read, measured and searched: raise it when it changes
_CLASSES = "classes"  # the unit of how many pairs take part
MOST_PAIRS = 128  # of a class that are measured
_MOST_BYTES = 1e9  # of words' vectors of one model that are held at a time: each layer's are measured, then forgotten
_WORDS_A_TASK = 256  # always: a vector depends on its batch in the last digit
_TOKENS_A_WORD = 5  # about, with its context; all layers are read in one pass
_SECONDS_A_SPACE = 0.4  # of all classes of one model, for the estimate
_SECONDS_A_SIDE = 4e-8  # of a search, times sides
_SPACE_BYTES = 2.5e-6  # gigabytes of a space's rows


@dataclass(frozen=True)
class Task:
    """Words that one model reads."""

    number: int
    before: tuple[int, ...]
    token_ids: tuple[int, ...]
    layers: tuple[int, ...]

    @property
    def makes(self) -> tuple[str, ...]:
        return (f"words of layers {self.layers[0]} to {self.layers[-1]}/{self.number}",)


@dataclass(frozen=True)
class Read:
    """What one model is given to read: the pairs' words, then words of the vocabulary."""

    before: tuple[int, ...]
    tokens: Mapping[str, int]  # of each word of the pairs
    drawn: Mapping[int, str]  # of the vocabulary

    @property
    def token_ids(self) -> tuple[int, ...]:
        return (*self.tokens.values(), *self.drawn)


def units(context: Context) -> list[Unit]:
    """The classes, a unit a layer, and a unit a dictionary; none before the models are known."""
    wanted = context.study.parallelograms
    known = _models(context)
    if wanted is None or not known:
        return []
    classes = word_pairs.digest(word_pairs.read_classes(_folder(context)))
    words = {"models": known, "classes": classes, "leading_space": wanted.leading_space}
    spaces = wanted.model_dump(include={"context", "cleanings", "components", "fitted_on", "vocabulary", "shuffles"})
    own = {**words, **spaces, "examples": wanted.examples, "seed": context.study.seed}
    found = [Unit(_CLASSES, {**words, "context": wanted.context, "vocabulary": wanted.vocabulary})]
    found += [Unit(f"layer.{layer}", own) for layer in _layers(context)]
    return found + (_dictionary_units(context) + _sae_units(context) if wanted.sides else [])


def _dictionary_units(context: Context) -> list[Unit]:
    wanted = context.study.its_parallelograms
    return [
        Unit(
            f"dictionary.{row['dictionary_id']}",
            wanted.model_dump(include={"sides", "draws", "features"})
            | {"dead": stable_id("s", _dead(context, row).tolist()), "seed": context.study.seed},
        )
        for row in codes_stage.dictionaries(context)
    ]


def _sae_units(context: Context) -> list[Unit]:
    wanted = context.study.its_parallelograms
    own = wanted.model_dump(include={"sides", "draws", "features"}) | {"seed": context.study.seed}
    return [Unit(f"sae.{row['sae_id']}", own | {"sha256": row["sha256"]}) for row in _saes(context)]


def _saes(context: Context) -> list[dict[str, Any]]:
    """Each layer's first training whose weights are here: a pack has their rows alone."""
    found, first = context.store.trained_saes().to_dict("records"), saes.seed_of(context.study, 0)
    folder = folder_of(context.store.path)
    return [row for row in found if row["seed"] == first and (folder / str(row["dictionary_id"])).is_dir()]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.parallelograms
    if wanted is None:
        return None
    n_layers, n_models = 1 if wanted.layers is None else len(wanted.layers), len(of.study.models)
    classes = word_pairs.read_classes(OWN if wanted.pairs is None else wanted.pairs)
    words = wanted.vocabulary + sum(2 * len(pairs) for pairs in classes.values())
    spaces = n_layers * n_models * len(wanted.cleanings) * len(wanted.components) * len(wanted.fitted_on)
    of_saes = sum(_n_saes(one, of) for one in of.study.dictionaries)
    n_rows = (of_saes + n_models * len(of.study.crosscoder)) * (wanted.sides > 0)
    searches = (1 + (len(SEARCHED) - 1) * wanted.draws) * n_rows
    return of.line(
        NAME,
        1 + n_layers + (of_saes + len(of.study.crosscoder)) * (wanted.sides > 0),
        tokens=n_models * words * _TOKENS_A_WORD,
        by="forward",
        gigabytes=spaces * _SPACE_BYTES,
        seconds=spaces * _SECONDS_A_SPACE + searches * _SECONDS_A_SIDE * wanted.sides**2 * of.width / 576,
    )


def _n_saes(wanted: Dictionaries, of: Quantities) -> int:
    n_layers = len(range(0, of.n_layers or 1, saes.EVERY)) if wanted.layers is None else len(wanted.layers)
    n_models = len(of.study.models)
    return n_layers * (n_models * (1 + (GAUSSIAN in wanted.nulls)) + (RANDOM_WEIGHTS in wanted.nulls))


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    kept, layers = _kept(context), dict[int, Unit]()
    for unit in units:
        kind, _, name = unit.unit_id.partition(".")
        match kind:
            case "classes":
                yield Finished(unit, {"word_classes": list(_class_rows(context, kept))})
            case "layer":
                layers[int(name)] = unit
            case "dictionary":
                yield Finished(unit, _of_dictionary(context, name))
            case "sae":
                yield Finished(unit, _of_sae(context, name))
            case _:
                raise ValueError(f"parallelograms has no unit {unit.unit_id}")
    if layers:
        classes = _large_enough(context, kept)
        for layer, words in _words_by_layer(context, sorted(layers), classes):
            yield Finished(layers[layer], _of_layer(context, layer, words, classes))


def read(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, np.ndarray]]:
    """Runs in a worker: (n_layers, n, d_model) float32."""
    from backend.models.word_vectors import word_vectors

    found = word_vectors(loaded, task.before, task.token_ids, task.layers)
    yield task.makes[0], np.stack([found[layer] for layer in task.layers])


# Which words


def _models(context: Context) -> list[str]:
    """Ids of the study's models that the store knows."""
    return [model_id for model_id in models.by_id(context.study) if context.store.model_facts(model_id)]


def _layers(context: Context) -> list[int]:
    """Half depth is that of the first model."""
    depths = [context.store.model_facts(model_id)["n_layers"] for model_id in _models(context)]
    wanted = context.study.its_parallelograms.layers
    layers = sorted({depths[0] // 2 - 1 if depths[0] > 1 else 0} if wanted is None else set(wanted))
    models.require_layers(layers, min(depths), "parallelograms.layers")
    return layers


def _folder(context: Context) -> Path:
    wanted = context.study.its_parallelograms.pairs
    return OWN if wanted is None else wanted


def _tokenizers(context: Context) -> dict[str, Any]:
    from backend.models.loading import load_tokenizer

    of = models.by_id(context.study)
    return {name: load_tokenizer(of[name].name, revision=of[name].revision) for name in _models(context)}


def _kept(context: Context) -> dict[str, Kept]:
    """The pairs of each class that every model has as single tokens."""
    space = context.study.its_parallelograms.leading_space
    tokenizers = [
        lambda word, own=own: word_ids(own, word, leading_space=space) for own in _tokenizers(context).values()
    ]
    classes = word_pairs.read_classes(_folder(context))
    return {name: word_pairs.single_tokens(pairs, tokenizers) for name, pairs in classes.items()}


def _large_enough(context: Context, kept: Mapping[str, Kept]) -> dict[str, tuple[WordPair, ...]]:
    small = [name for name, own in kept.items() if len(own.pairs) < FEWEST_PAIRS]
    if small:
        context.warn(f"Fewer than {FEWEST_PAIRS} pairs of single tokens: {', '.join(small)} are not measured.")
    large = [name for name, own in kept.items() if len(own.pairs) > MOST_PAIRS]
    if large:
        context.warn(f"{MOST_PAIRS} pairs are drawn of each of {', '.join(large)}, which have more.")
    seed = context.study.seed
    found = {name: drawn(own.pairs, name, seed) for name, own in kept.items() if name not in small}
    if not found:
        raise AnchorscopeError(
            f"No class of {_folder(context)} has {FEWEST_PAIRS} pairs of words that are single tokens of every model."
            " Name other pairs under parallelograms.pairs, or set leading_space the other way."
        )
    return found


def drawn(pairs: tuple[WordPair, ...], name: str, seed: int) -> tuple[WordPair, ...]:
    """At most MOST_PAIRS of a class, in their order: quadruples grow with the square of its pairs."""
    order = np.random.default_rng(seed_for("pairs of a class", seed, name)).permutation(len(pairs))
    return tuple(pairs[place] for place in sorted(order[:MOST_PAIRS].tolist()))


def _class_rows(context: Context, kept: Mapping[str, Kept]) -> Iterator[dict[str, Any]]:
    wanted, folder = context.study.its_parallelograms, _folder(context)
    source = str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else folder.name
    parameters = wanted.model_dump(include={"context", "leading_space", "vocabulary", "shuffles"})
    for name, own in kept.items():
        yield {
            "word_class": name,
            "source": source,
            "n_pairs": own.n,
            "n_kept": len(own.pairs),
            **{f"n_{reason}": n for reason, n in own.left_out.items()},
            "parameters": json.dumps(parameters, sort_keys=True),
        }


# Words by layer


def _of_layer(
    context: Context, layer: int, words: Mapping[str, Words], classes: Mapping[str, tuple[WordPair, ...]]
) -> dict[str, list[dict[str, Any]]]:
    wanted = context.study.its_parallelograms
    spaces = word_rows.Spaces(
        wanted.cleanings, wanted.fitted_on, wanted.components, wanted.shuffles, wanted.examples, context.study.seed
    )
    tables: dict[str, list[dict[str, Any]]] = {
        "parallelograms": [],
        "parallelogram_examples": [],
        "word_readings": [],
    }
    found: dict[str, word_rows.Found] = {}
    for model_id, own in words.items():
        found[model_id] = word_rows.found(own, spaces)
        of = {"model_id": model_id, "layer": layer}
        tables["word_readings"].append(of | {"context": wanted.context} | word_rows.reading_row(own))
        tables["parallelograms"] += [of | row for row in word_rows.class_rows(found[model_id])]
        tables["parallelogram_examples"] += [
            of | row for row in word_rows.example_rows(found[model_id], classes, wanted.examples)
        ]
    return tables | {"parallelogram_comparisons": list(_compared(context, found, layer))}


def _compared(context: Context, found: Mapping[str, word_rows.Found], layer: int) -> Iterator[dict[str, Any]]:
    roles = {model.role: model_id for model_id, model in models.by_id(context.study).items() if model_id in found}
    if not {"base", "distilled"} <= roles.keys():
        return
    of = {"base_model_id": roles["base"], "distilled_model_id": roles["distilled"], "layer": layer}
    yield from (of | row for row in word_rows.comparison_rows(found[roles["base"]], found[roles["distilled"]]))


def _to_read(context: Context, tokenizer: Any, classes: Mapping[str, tuple[WordPair, ...]]) -> Read:
    """Words of the vocabulary are drawn by the study's seed: the same ones of models of one tokenizer."""
    wanted = context.study.its_parallelograms
    every = [word for pairs in classes.values() for pair in pairs for word in (pair.input, pair.output)]
    tokens = {word: word_ids(tokenizer, word, leading_space=wanted.leading_space)[0] for word in every}
    there = vocabulary(tokenizer, leading_space=wanted.leading_space)
    rng = np.random.default_rng(seed_for("words of the vocabulary", context.study.seed))
    chosen = sorted(rng.permutation(sorted(there))[: wanted.vocabulary].tolist())
    if len(chosen) < 2:
        raise AnchorscopeError(
            "The tokenizer has no words of the Latin alphabet as single tokens"
            f" {'after a space' if wanted.leading_space else 'at the beginning of a text'}; set"
            " parallelograms.leading_space the other way."
        )
    return Read(before(tokenizer, wanted.context), tokens, {token: there[token] for token in chosen})


def _words_by_layer(
    context: Context, layers: Sequence[int], classes: Mapping[str, tuple[WordPair, ...]]
) -> Iterator[tuple[int, dict[str, Words]]]:
    """Each layer with the words of every model there."""
    given = {model_id: _to_read(context, tokenizer, classes) for model_id, tokenizer in _tokenizers(context).items()}
    largest = max(
        len(own.token_ids) * int(context.store.model_facts(model_id)["d_model"]) * 4 for model_id, own in given.items()
    )
    at_once = max(1, int(_MOST_BYTES // largest))
    for start in range(0, len(layers), at_once):
        group = tuple(layers[start : start + at_once])
        vectors = {model_id: _vectors(context, model_id, own, group) for model_id, own in given.items()}
        for number, layer in enumerate(group):
            yield layer, {model_id: _worded(own, vectors[model_id][number], classes) for model_id, own in given.items()}


def _vectors(context: Context, model_id: str, given: Read, layers: tuple[int, ...]) -> np.ndarray:
    """(n_layers, n, d_model) float32."""
    model = models.by_id(context.study)[model_id]
    tasks = [
        Task(number, given.before, given.token_ids[start : start + _WORDS_A_TASK], layers)
        for number, start in enumerate(range(0, len(given.token_ids), _WORDS_A_TASK))
    ]
    made = dict(context.run(read, tasks, model=models.spec(context.study, model)))
    vectors = np.concatenate([made[task.makes[0]] for task in tasks], axis=1)
    where = ", ".join(map(str, layers))
    context.say(f"{model.name}: {vectors.shape[1]:,} words read at {'layer' if len(layers) == 1 else 'layers'} {where}")
    return vectors


def _worded(given: Read, vectors: np.ndarray, classes: Mapping[str, tuple[WordPair, ...]]) -> Words:
    vectors = vectors.astype(np.float64)
    place = {word: number for number, word in enumerate(given.tokens)}
    pairs = {name: _pairs(own, place, vectors) for name, own in classes.items()}
    lengths = np.array([len(word) for word in given.drawn.values()])
    return Words(pairs, vectors[len(given.tokens) :], lengths, np.array(list(given.drawn)))


def _pairs(pairs: Sequence[WordPair], place: Mapping[str, int], vectors: np.ndarray) -> Pairs:
    inputs = np.array([place[pair.input] for pair in pairs])
    outputs = np.array([place[pair.output] for pair in pairs])
    return Pairs(vectors[inputs], vectors[outputs], inputs, outputs, np.zeros(len(pairs), dtype=np.int64))


# Decoder rows


def _dead(context: Context, row: Mapping[str, Any]) -> np.ndarray:
    """(n_features,) bool: fired on no token of the study; none is known to be dead where none was measured."""
    features = context.store.features(row["dictionary_id"]).set_index("feature")["frequency"]
    return (features.reindex(range(row["n_features"])) == 0).to_numpy()


def _of_dictionary(context: Context, name: str) -> dict[str, list[dict[str, Any]]]:
    (row,) = (row for row in codes_stage.dictionaries(context) if row["dictionary_id"] == name)
    dictionary, dead = read_from(context.store, name), _dead(context, row)
    tables: dict[str, list[dict[str, Any]]] = {"feature_quadruple_searches": [], "feature_quadruples": []}
    for number, model_id in enumerate(filter(None, (row["base_model_id"], row["distilled_model_id"]))):
        rows = usable(dictionary.raw_rows(number).numpy(), dead)
        of = {"dictionary_id": name, "model_id": model_id}
        for table, found in _searched(context, rows):
            tables[table].append(of | found)
        context.say(f"Quadruples of {len(rows.features):,} decoder rows of {name} are searched.")
    return tables


def _of_sae(context: Context, name: str) -> dict[str, list[dict[str, Any]]]:
    (row,) = (row for row in _saes(context) if row["sae_id"] == name)
    dead = context.store.sae_frequencies(name)["frequency"].to_numpy() == 0
    source = Source(path=folder_with(context.store.path, row["dictionary_id"]), layer=int(row["layer"]))
    rows = usable(decoder_rows("sae", source), dead)
    of = {"dictionary_id": row["dictionary_id"], "model_id": row["model_id"]}
    tables: dict[str, list[dict[str, Any]]] = {"feature_quadruple_searches": [], "feature_quadruples": []}
    for table, found in _searched(context, rows):
        tables[table].append(of | found)
    context.say(
        f"Quadruples of {len(rows.features):,} decoder rows of an autoencoder at layer {row['layer']} are searched."
    )
    return tables


def _searched(context: Context, rows: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the two tables, by table."""
    wanted, seed = context.study.its_parallelograms, context.study.seed
    about = {"n_rows": len(rows.features), "n_dead": rows.n_dead, "n_alike": rows.n_alike, "seed": seed}
    for searched in SEARCHED:
        for draw in range(1 if searched == "rows" else wanted.draws):
            how = {"sides": wanted.sides, "keep": wanted.features, "seed": seed, "draw": draw}
            found = search(searched, rows.vectors, **how)
            losses = found.curve
            yield (
                "feature_quadruple_searches",
                {"searched": searched, "draw": draw, **about, "n_sides": len(found.best)}
                | word_rows.known({"smallest": found.smallest, "median": found.median})
                | {"losses": None if np.isnan(losses).any() else [round(float(one), 4) for one in losses]},
            )
            for place, one in enumerate(found.quadruples if searched == "rows" else (), start=1):
                corners = {corner: int(rows.features[getattr(one, corner)]) for corner in "abcd"}
                yield (
                    "feature_quadruples",
                    {"place": place} | corners | word_rows.known({"loss": one.loss, "cosine": one.cosine}),
                )
