"""A tuned lens of a tiny model becomes rows of its study; every lens has a quality by layer and kind of position."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from backend import ids
from backend.errors import AnchorscopeError
from backend.lens.corpus import HELD_OUT, TRAIN, VALIDATION, part_of
from backend.lens.lens import TunedLens
from backend.lens.stored import lens_of
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.estimates import Lengths, Quantities
from precompute.export import export_duckdb
from precompute.refresh import refresh
from precompute.stages import lens, lens_quality
from precompute.study import Study, StudyError
from precompute.terminal import ours
from tests import lens_study
from tests.checking_device import DEVICE, checking
from tests.lens_study import LAYERS, PROBLEMS, WIDTH, run, tables


@pytest.fixture
def folder(tiny, tmp_path) -> StudyFolder:
    return lens_study.make(tmp_path / "study", tiny("llama"))


def asked(tiny_folder, **wanted) -> Study:
    return lens_study.asked(str(tiny_folder("llama")), **wanted)


def without_seconds(rows: dict[str, list[dict]]) -> dict[str, list[dict]]:
    return rows | {"lens_layers": [one | {"seconds": None} for one in rows["lens_layers"]]}


def test_a_lens_has_a_card_its_layers_their_rows_and_its_quality(tiny_folder, folder):
    run(asked(tiny_folder), folder)
    found = tables(folder)
    (card,) = found["lenses"]
    assert (card["kind"], card["variant"], card["source"], card["seed"]) == ("tuned", "all", "fitted", 0)
    assert card["n_tokens"] > 100 and card["n_problems"] == sum(
        part_of(ids.stable_id("p", number), 0) == TRAIN for number in range(PROBLEMS)
    )
    assert card["revision"] and len(card["corpus"]) == 64 and json.loads(card["parameters"])["batch"] == 64
    layers = found["lens_layers"]
    assert [one["layer"] for one in layers] == [0, 2] and all(one["seconds"] > 0 for one in layers)
    fitted = [one["layer"] for one in layers if one["kept"] != "identity"]
    with contextlib.closing(Store(folder.path)) as store:
        (told,) = store.lenses(card["model_id"]).to_dict("records")
    assert told["is_whole"] and (told["n_layers"], told["n_identity"]) == (2, 2 - len(fitted))
    assert told["minutes"] == pytest.approx(sum(one["seconds"] for one in layers) / 60)
    assert fitted, "at least one layer of a model of random weights is helped"
    assert len(found["lens_rows"]) == WIDTH * len(fitted)
    quality = {(one["lens_id"], one["layer"], one["positions"]): one for one in found["lens_quality"]}
    assert {layer for lens_id, layer, _ in quality if lens_id == "logit"} == {0, 2, 3}
    for lens_id in ("logit", card["lens_id"]):
        assert quality[lens_id, 3, "all"]["kl"] == 0, "the last layer is the model itself"
    for layer in fitted:
        assert quality[card["lens_id"], layer, "all"]["kl"] < quality["logit", layer, "all"]["kl"]
    assert {kind for _, _, kind in quality} == {"all", "prompt", "cot", "chunk_first", "answer_digit"}
    n = {kind: quality["logit", 0, kind]["n_tokens"] for _, _, kind in quality}
    assert n["all"] == sum(n.values()) - n["all"]


def test_what_is_measured_on_are_problems_that_nothing_learned_from(tiny, tiny_folder, folder):
    run(asked(tiny_folder), folder)
    n_problems = {part: 0 for part in (TRAIN, VALIDATION, HELD_OUT)}
    for number in range(PROBLEMS):
        n_problems[part_of(ids.stable_id("p", number), 0)] += 1
    found = tables(folder)
    (card,) = found["lenses"]
    assert card["n_problems"] == n_problems[TRAIN]
    assert {one["n_problems"] for one in found["lens_layers"]} == {n_problems[VALIDATION]}
    assert {one["n_problems"] for one in found["lens_quality"] if one["positions"] == "all"} == {n_problems[HELD_OUT]}


def test_a_run_that_was_cut_goes_on_with_the_layers_that_are_left_and_comes_to_the_same(tiny_folder, folder, tmp_path):
    study, untouched = asked(tiny_folder), StudyFolder(shutil.copytree(folder.path, tmp_path / "untouched"))

    def compute(context, units):
        yield from lens.compute(context, units[:1])
        raise AnchorscopeError("cut")

    cut = SimpleNamespace(**{**vars(lens), "compute": compute})
    with pytest.raises(AnchorscopeError, match="cut"):
        run(study, folder, stages=(cut,))
    with folder.writing("test") as writer:
        publish(writer)
    assert [one["layer"] for one in tables(folder)["lens_layers"]] == [0]
    run(study, folder)
    assert "all done" in run(study, folder)
    run(study, untouched)
    assert without_seconds(tables(folder)) == without_seconds(tables(untouched))


def test_the_stored_lens_is_read_back_and_travels_with_a_file_and_a_pack(tiny_folder, folder, tmp_path):
    run(asked(tiny_folder), folder)
    export_duckdb(folder.path, tmp_path / "one.duckdb")
    pack(folder.path, tmp_path / "pack")
    unpack(tmp_path / "pack", tmp_path / "two.duckdb")
    found = tables(folder)
    lens_id = found["lenses"][0]["lens_id"]
    stream = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    carried = {}
    for path in (folder.path, tmp_path / "one.duckdb", tmp_path / "two.duckdb"):
        with contextlib.closing(Store(path)) as store:
            read = lens_of(store, lens_id)
            assert isinstance(read, TunedLens)
            carried[path.name] = [read.carried(stream, layer) for layer in (0, 2, 3)]
    study, one, two = carried.values()
    assert all(map(torch.equal, study, one)) and torch.equal(study[2], stream)
    assert all(torch.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in zip(study, two, strict=True))
    rows = [one for one in found["lens_rows"] if one["layer"] == found["lens_rows"][0]["layer"]]
    weight = torch.tensor([one["values"] for one in rows])
    bias = torch.tensor([one["bias"] for one in rows], dtype=torch.float32)
    layer = rows[0]["layer"]
    assert torch.allclose(study[(0, 2).index(layer)], stream + stream @ weight.T + bias, atol=1e-5)


def test_a_pack_gets_its_lenses_from_its_own_rows_and_keeps_those_that_others_fill(
    tiny_folder, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    study = asked(tiny_folder, tokens=0)
    brought = lens_study.row("lenses", lens_id="l0", model_id="m0", kind="jacobian", variant="all", source="file")
    with folder.writing("test") as writer:
        writer.add("lens_files", "l0", {"lenses": [brought]})
        publish(writer)
    pack(folder.path, tmp_path / "pack")
    changed = refresh(tmp_path / "pack", ["lens", "lens_quality"], ours(None), study=study)
    assert {*changed} == {"runs", "lenses", "lens_layers", "lens_rows", "lens_quality"}
    run(study, folder)
    mine = tables(folder)
    with contextlib.closing(Store(unpack(tmp_path / "pack", tmp_path / "again.duckdb"))) as store:
        found = {table: store.whole_table(table).to_pylist() for table in mine}
    assert [one["lens_id"] for one in found["lenses"]] == [one["lens_id"] for one in mine["lenses"]]
    for one, other in zip(found["lens_quality"], mine["lens_quality"], strict=True):
        assert one["kl"] == pytest.approx(other["kl"], rel=1e-3, abs=1e-9), "what a pack holds went through float16"


def test_a_variant_learns_from_its_kinds_of_position_alone(tiny_folder, folder):
    run(asked(tiny_folder, variants=["all", "answer_digit"], layers=[1], tokens=64), folder, stages=(lens,))
    every, digits = tables(folder)["lenses"][0], tables(folder)["lenses"][1]
    if every["variant"] != "all":
        every, digits = digits, every
    assert digits["variant"] == "answer_digit" and digits["n_tokens"] < every["n_tokens"] / 5
    run(asked(tiny_folder, variants=["after"], layers=[1]), folder, stages=(lens,))
    assert tables(folder)["lenses"] == [], "there is no such position here, which is said with the run"


def test_texts_of_files_are_learned_from_each_a_problem_of_its_own(tiny_folder, folder, tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(
            f"However, we should check {number} again.\nThe sum of 12 is {number}.\n"
        )
    study = asked(tiny_folder, variants=["text"], layers=[1], texts=[str(tmp_path / "*.txt")], tokens=0)
    run(study, folder)
    found = tables(folder)
    assert 1 < found["lenses"][0]["n_problems"] <= 12
    assert "text" in {one["positions"] for one in found["lens_quality"]}
    with pytest.raises(AnchorscopeError, match=r"lens.texts has 'nowhere/\*', and no file is called so"):
        run(asked(tiny_folder, texts=["nowhere/*"]), folder)


def test_a_layer_that_is_not_there_is_refused_and_the_last_needs_no_map(tiny_folder, folder):
    with pytest.raises(AnchorscopeError, match=r"lens.layers has \[4\], but the model has 4 layers"):
        run(asked(tiny_folder, layers=[4]), folder)
    run(asked(tiny_folder, layers="all", tokens=0), folder, stages=(lens,))
    assert [one["layer"] for one in tables(folder)["lens_layers"]] == [0, 1, 2]


def test_a_study_without_lens_has_no_units_and_no_line_of_the_plan(tiny_folder, folder):
    study = Study.model_validate({**asked(tiny_folder).model_dump(exclude={"lens"})})
    run(study, folder)
    assert not any(tables(folder).values())
    of = Quantities(study, Lengths(100, 20, True), 10, 10**6, WIDTH, LAYERS, 1e9, {}, 384)
    assert lens.estimate(of) is lens_quality.estimate(of) is None
    with pytest.raises(StudyError, match=r"no \[lens\]"):
        _ = study.its_lens


def test_the_plan_counts_the_products_of_the_descent(tiny_folder):
    lengths = Lengths(100, 20, True)
    minutes = []
    for tokens in (0, 10_000, 20_000):
        study = asked(tiny_folder, layers="all", tokens=tokens)
        line = lens.estimate(Quantities(study, lengths, 10, 10**6, WIDTH, LAYERS, 1e9, {}, 384))
        assert line is not None and line.units == LAYERS - 1
        minutes.append(line.minutes)
    assert minutes[2] - minutes[1] == pytest.approx(minutes[1] - minutes[0]) and minutes[1] > minutes[0]


def test_a_kind_of_position_that_there_is_not_is_refused_by_name(tiny_folder):
    with pytest.raises(ValueError, match="there is no kind of position 'digits'"):
        asked(tiny_folder, variants=["digits"])


def test_both_stages_ask_for_each_of_their_transfers_between_devices(tiny_folder, folder):
    study = asked(tiny_folder, tokens=128, layers=[1])
    away = study.model_copy(update={"engine": study.engine.model_copy(update={"device": DEVICE})})
    with checking() as waits:
        run(away, folder)
    (one,) = tables(folder)["lens_layers"]
    assert waits["cpu"] > 0 and one["kl_tuned"] is not None
    quality = [one for one in tables(folder)["lens_quality"] if one["layer"] == 3]
    assert quality and all(one["kl"] == 0 for one in quality)
