"""Cosine tails of a study's sets: what is stored is what the library gives, and what is not here is named."""

import io
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from backend.errors import AnchorscopeError
from backend.feature_geometry.cosine_rows import marks
from backend.feature_geometry.cosine_tails import directions, tails
from backend.models.layers import layers_of
from backend.models.loading import load_model
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import models
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import cosines
from precompute.study import Study, load_study
from precompute.units import Finished, Unit
from tests import small_dictionary, small_study

GEMMA = Path(__file__).parents[2] / "studies" / "feature-geometry-gemma2.toml"
N, D = 40, 12


class Known:
    """The models' rows, which CoTs would bring."""

    NAME, UNIT = "cots", "study"

    @staticmethod
    def units(context):
        return [Unit("all", {})]

    @staticmethod
    def compute(context, units):
        loaded = [(load_model(one.name), one.role) for one in context.study.models]
        yield Finished(units[0], {"models": [models.model_row(one, role) for one, role in loaded]})


def run(study: Study, folder: StudyFolder) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=[Known, cosines], console=Console(file=said, width=200))
    return said.getvalue()


def rows_of(folder: StudyFolder, table: str) -> list[dict]:
    with closing(Store(folder.path)) as store:
        return store.whole_table(table).to_pylist()


@pytest.fixture(scope="module")
def pair(tiny_folder) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "models": [
                {"name": str(tiny_folder("llama")), "role": "base"},
                {"name": str(tiny_folder("qwen2")), "role": "distilled"},
            ],
            "problems": {"per_level": 1, "levels": [1]},
            "sweep": {"layers": [1]},
            "cosines": {"layers": [0, 2], "pairs": 1, "most_rows": 200},
            "engine": {"workers": 1},
        }
    )


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory) -> StudyFolder:
    made = StudyFolder(tmp_path_factory.mktemp("stores") / "tiny")
    run(pair, made)
    return made


def test_every_set_of_both_models_is_there_with_its_null(folder):
    sets = rows_of(folder, "cosine_sets")
    own = {(one["kind"], one["role"], one["layer"]): one for one in sets if one["drawn_from"] is None}
    assert set(own) == {
        (kind, role, layer)
        for role in ("base", "tuned")
        for kind, layers in (("mlp_out", (0, 2)), ("attention_out", (0, 2)), ("unembedding", (None,)))
        for layer in layers
    }
    assert {one["drawn_from"] for one in sets} == {None, "rows"}  # no chunk activations here
    assert {one["null_of"] for one in sets if one["drawn_from"]} == {one["set_id"] for one in own.values()}
    unembedding = own["unembedding", "base", None]
    assert (unembedding["n_total"], unembedding["n_rows"]) == (384, 200) and own["mlp_out", "base", 0]["n_rows"] == 96


def test_the_counts_are_those_of_the_weights(pair, folder):
    loaded = load_model(pair.models[1].name)
    weight = layers_of(loaded.model).blocks[2].mlp.down_proj.weight.detach().T.numpy()
    plain = tails(directions(weight), marks(loaded.d_model))
    (own,) = [
        one
        for one in rows_of(folder, "cosine_sets")
        if (one["kind"], one["role"], one["layer"], one["drawn_from"]) == ("mlp_out", "tuned", 2, None)
    ]
    stored = {
        one["mark"]: one
        for one in rows_of(folder, "cosine_exceedances")
        if one["set_id"] == own["set_id"] and one["subset"] == "all"
    }
    assert {mark: one["n_beyond"] for mark, one in stored.items()} == {
        mark: beyond.n for mark, beyond in plain.beyond.items()
    }


def test_tokens_of_an_unembedding_are_named(pair, folder):
    tokenizer = load_model(pair.models[0].name).tokenizer
    (of,) = [
        one["set_id"]
        for one in rows_of(folder, "cosine_sets")
        if (one["kind"], one["role"], one["drawn_from"]) == ("unembedding", "base", None)
    ]
    pairs = [one for one in rows_of(folder, "cosine_pairs") if one["set_id"] == of]
    assert pairs and all(one["token_a"] == tokenizer.decode([one["a"]]) for one in pairs)


def test_a_finished_study_does_nothing_and_another_seed_draws_again(pair, folder):
    assert re.search(r"cosines\s+10 set units, all done", run(pair, folder))
    assert plan_study(pair, folder, stages=[cosines])[0][0].units == 10


def test_a_layer_that_a_model_lacks_is_refused(pair, tmp_path):
    study = pair.model_copy(update={"cosines": pair.cosines.model_copy(update={"layers": (9,)})})
    with pytest.raises(AnchorscopeError, match=r"cosines.layers has \[9\], but the model has 4 layers"):
        run(study, StudyFolder(tmp_path / "tiny"))


def test_the_two_decoders_of_the_studys_dictionary_and_what_never_fires(pair, tmp_path):
    folder = StudyFolder(small_study.make(tmp_path / "small"))
    small_dictionary.add(folder.path)
    with closing(Store(folder.path)) as store:
        from precompute.units import Context

        study = pair.model_copy(
            update={"models": (), "cosines": pair.cosines.model_copy(update={"kinds": ("dictionary",)})}
        )
        context = Context(study, "r", store, lambda sentence: None)
        found = {unit.unit.unit_id: unit for unit in cosines.compute(context, cosines.units(context))}
        assert len(found) == 2
        decoder = small_dictionary.weights().decoder.numpy()
        for one in found.values():
            (row,) = [line for line in one.tables["cosine_sets"] if line["drawn_from"] is None]
            side = ("base", "tuned").index(row["role"])
            assert row["n_dead"] == 1 and row["layer"] == small_dictionary.LAYER and row["n_rows"] == len(decoder[side])
            (line,) = [
                line
                for line in one.tables["cosine_exceedances"]
                if (line["set_id"], line["subset"], line["mark"]) == (row["set_id"], "all", "0.1")
            ]
            assert line["n_beyond"] == tails(directions(decoder[side]), {"0.1": 0.1}).beyond["0.1"].n


# ---- published dictionaries


def published(folder: Path, **keys) -> Study:
    files = [{"layer": layer, "path": f"layer_{layer}/width_1k/average_l0_9/params.npz"} for layer in (3, 5)]
    table = {"model": "its/model", "repository": "its/dictionaries", "folder": str(folder), "files": files}
    return Study.model_validate({"name": "p", "cosines": {"published": [table | keys]}, "engine": {"workers": 1}})


def write(folder: Path, layer: int) -> np.ndarray:
    draw = np.random.default_rng(layer)
    arrays = {
        "W_enc": draw.standard_normal((D, N)),
        "W_dec": draw.standard_normal((N, D)),
        "b_enc": np.zeros(N),
        "b_dec": np.zeros(D),
        "threshold": np.ones(N),
    }
    place = folder / f"layer_{layer}" / "width_1k" / "average_l0_9"
    place.mkdir(parents=True)
    np.savez(place / "params.npz", **{name: array.astype(np.float32) for name, array in arrays.items()})
    return arrays["W_dec"]


def only_cosines(study: Study, folder: StudyFolder) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=[cosines], console=Console(file=said, width=200))
    return said.getvalue()


def test_what_is_here_is_done_and_what_is_not_is_named_with_where_it_is_from_and_belongs(tmp_path):
    files, made = tmp_path / "files", StudyFolder(tmp_path / "p")
    study, rows = published(files, n_features=N, d_model=D), write(files, 3)
    (line,) = plan_study(study, made, stages=[cosines])[0]
    assert line.units == 2 and line.minutes is not None
    said = only_cosines(study, made).partition("warning: ")[2]
    for words in ("1 of 2 dictionaries of its/model", str(files), "its/dictionaries", "layer_5/width_1k/average_l0_9"):
        assert words in said.replace("\n", " ")
    assert "layer_3" not in said
    assert plan_study(study, made, stages=[cosines])[0][0].done == 1
    (one,) = [row for row in rows_of(made, "cosine_sets") if row["drawn_from"] is None]
    assert (one["model"], one["model_id"], one["layer"], one["d"]) == ("its/model", None, 3, D)
    (line,) = [
        row
        for row in rows_of(made, "cosine_exceedances")
        if (row["set_id"], row["subset"], row["mark"]) == (one["set_id"], "all", "0.1")
    ]
    assert line["n_beyond"] == tails(directions(rows.astype(np.float32)), {"0.1": 0.1}).beyond["0.1"].n
    write(files, 5)
    assert cosines.to_download(study) == ""
    only_cosines(study, made)
    assert {row["layer"] for row in rows_of(made, "cosine_sets")} == {3, 5}


def test_a_file_of_other_sizes_or_of_another_layer_than_the_study_says_is_refused(tmp_path):
    files = tmp_path / "files"
    write(files, 3)
    write(files, 5)
    with pytest.raises(AnchorscopeError, match=r"has 40 rows; the study file says 41"):
        only_cosines(published(files, n_features=N + 1), StudyFolder(tmp_path / "p"))
    with pytest.raises(AnchorscopeError, match=r"is of layer 5; layer 3 was expected"):
        only_cosines(
            published(files, files=[{"layer": 3, "path": "layer_5/width_1k/average_l0_9/params.npz"}]),
            StudyFolder(tmp_path / "q"),
        )


def test_the_study_of_gemma_2_is_planned_without_its_files_and_names_the_canonical_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study(GEMMA)
    lines, _ = plan_study(study, StudyFolder(tmp_path / "g"))
    (line,) = [one for one in lines if one.stage == "cosines"]
    assert line.units == 32 and line.minutes > 0
    layers = {one.model: [file.layer for file in one.files] for one in study.cosines.published}
    assert layers == {
        "google/gemma-2-2b": list(range(26)),
        "google/gemma-2-9b": [9, 20, 31],
        "google/gemma-2-9b-it": [9, 20, 31],
    }
    for one in study.cosines.published:
        for file in one.files:
            assert file.path.parts[:2] == (f"layer_{file.layer}", "width_16k")
    told = cosines.to_download(study)
    assert "layer_12/width_16k/average_l0_82/params.npz" in told and "google/gemma-scope-9b-it-res" in told


def test_a_missing_key_of_a_published_table_is_told(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(GEMMA.read_text().replace('repository = "google/gemma-scope-2b-pt-res"', "repositry = 1"))
    with pytest.raises(AnchorscopeError, match=r"cosines.published.0.repositry: there is no such key; allowed here:.*"):
        load_study(file)
