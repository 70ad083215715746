"""Parallelograms among the rows of a small study: two models, three classes, and the rows of its dictionary."""

from contextlib import closing
from pathlib import Path

import numpy as np

from backend.feature_geometry import word_rows
from backend.feature_geometry.cleaning import Words
from backend.feature_geometry.parallelograms import Pairs
from backend.feature_geometry.word_pairs import WordPair
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder

LAYER, D, N = 1, 24, 12
CLASSES = {
    "antonym": [WordPair(f"in{k}", f"out{k}") for k in range(N)],
    "capitalize": [WordPair(f"word{k}", f"Word{k}") for k in range(N)],
    "<b>odd</b>": [WordPair(f"**a{k}**", f"![b{k}](c)") for k in range(N)],
}
SPACES = word_rows.Spaces(("raw", "centred"), ("vocabulary",), (0, 5), shuffles=100, examples=2, seed=0)


def words(seed: int) -> Words:
    """The second class is made of parallelograms, the others of random words."""
    rng, made = np.random.default_rng(seed), {}
    for number, name in enumerate(CLASSES):
        inputs, outputs = rng.standard_normal((2, N, D))
        if name == "capitalize":
            outputs = inputs + 2 * rng.standard_normal(D) + 0.05 * outputs
        ids = np.arange(2 * N) + 100 * number
        made[name] = Pairs(inputs, outputs, ids[:N], ids[N:], np.zeros(N, int))
    return Words(made, rng.standard_normal((100, D)), rng.integers(2, 9, 100), np.arange(100))


def add(folder: Path, models: list[str], *, dictionary_id: str | None = None, large: bool = False) -> None:
    """Adds them to a published study, and publishes it anew. `large`: words differ along one direction alone."""
    found, tables = {}, dict[str, list]()
    of = {"layer": LAYER}
    tables = {"parallelograms": [], "parallelogram_examples": [], "word_readings": []}
    for seed, model_id in enumerate(models):
        read = words(seed)
        found[model_id] = word_rows.found(read, SPACES)
        own = of | {"model_id": model_id}
        tables["parallelograms"] += [own | row for row in word_rows.class_rows(found[model_id])]
        tables["parallelogram_examples"] += [own | row for row in word_rows.example_rows(found[model_id], CLASSES, 2)]
        reading = word_rows.reading_row(read) | ({"first_share": 0.999, "norm_largest": 25_000.0} if large else {})
        tables["word_readings"].append(own | {"context": "alone"} | reading)
    pair = dict(zip(("base_model_id", "distilled_model_id"), models, strict=False))
    if len(models) > 1:
        rows = word_rows.comparison_rows(found[models[0]], found[models[1]])
        tables["parallelogram_comparisons"] = [of | pair | row for row in rows]
    tables["word_classes"] = [
        {"word_class": name, "source": "assets/word_pairs", "n_pairs": N + 3, "n_kept": N, "parameters": "{}"}
        | {"n_input": 1, "n_output": 0, "n_both": 2, "n_duplicate": 0}
        for name in CLASSES
    ]
    if dictionary_id is not None:
        tables |= _searches(dictionary_id, models)
    with StudyFolder(folder).writing("test") as writer:
        writer.add("parallelograms", "all", tables)
        publish(writer)


def add_to_pair(folder: Path) -> None:
    """Adds them to a published study with a dictionary, of its two models and its rows."""
    with closing(Store(folder)) as store:
        row = store.dictionaries().iloc[0]
    add(folder, [row["base_model_id"], row["distilled_model_id"]], dictionary_id=row["dictionary_id"])


def add_autoencoders(folder: Path, model_id: str, trained_on: dict[str, str]) -> None:
    """Searched autoencoders of one layer, by the id of their weights, to a published study without any."""
    saes = [
        dict.fromkeys(TABLES["saes"].columns)
        | {"sae_id": f"a{name}", "model_id": model_id, "layer": 3, "seed": 1, "dictionary_id": name, "trained_on": on}
        for name, on in trained_on.items()
    ]
    tables = {
        table: [row for name in trained_on for row in _searches(name, [model_id])[table]]
        for table in ("feature_quadruple_searches", "feature_quadruples")
    }
    with StudyFolder(folder).writing("test") as writer:
        writer.add("parallelograms", "saes", tables | {"saes": saes})
        publish(writer)


def _searches(dictionary_id: str, models: list[str]) -> dict[str, list]:
    curves = {"rows": 0.70, "shuffled": 0.85, "covariance": 0.82, "turned": 0.81}
    of = [{"dictionary_id": dictionary_id, "model_id": model_id} for model_id in models]
    about = {"n_rows": 6, "n_dead": 1, "n_alike": 1, "n_sides": 40, "seed": 0}
    searches = [
        own
        | about
        | {"searched": name, "draw": draw, "smallest": least - 0.1, "median": least}
        | {"losses": np.linspace(least - 0.1, least + 0.1, 21).tolist()}
        for own in of
        for name, least in curves.items()
        for draw in range(1 if name == "rows" else 2)
    ]
    quadruples = [
        own | {"place": place, "a": 0, "b": 1, "c": 2, "d": place + 2, "loss": 0.6, "cosine": 0.4}
        for own in of
        for place in (1, 2)
    ]
    return {"feature_quadruple_searches": searches, "feature_quadruples": quadruples}
