"""Averaged Jacobians of a study: which texts and tokens, the same rows however the work is cut, and what is stored."""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.cot.reasoning import TARGETS
from backend.lens.jacobian import cotangents_of, prompt_rows, stored_rows
from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens
from backend.lens.named_tokens import by_frequency, named_tokens
from backend.lens.stored import lens_of
from backend.models.pullbacks import Pullbacks
from backend.store.packed import pack, unpack
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.engines.local import Local
from precompute.estimates import Lengths, Quantities
from precompute.pipeline import run_study
from precompute.refresh import refresh
from precompute.stages import jacobian
from precompute.study import Study
from precompute.terminal import ours
from precompute.units import Context
from tests import steerable_study

LONG = "We need to find the sum of 12 and 30, and then we should check the result again. The answer is 42. {}"


@pytest.fixture
def folder(tiny, tmp_path) -> StudyFolder:
    return StudyFolder(steerable_study.make(tmp_path / "s", tiny("llama")))


def study_of(tiny_folder, **wanted) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 1,
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0]},
            "engine": {"workers": 1},
            "jacobian": {"tokens": 6, **wanted},
        }
    )


def made(study: Study, folder: StudyFolder) -> Store:
    run_study(study, folder, stages=[jacobian])
    return Store(folder.path)


def test_named_tokens_end_thoughts_begin_target_words_and_begin_answers(tiny):
    tokenizer = tiny("llama").tokenizer
    found, left_out = named_tokens(tokenizer, closings=["</think>"], answers=["42", "7"], most=100)
    by_role = {role: [one for one in found if role in one.roles] for role in ("end of thinking", "answer", *TARGETS)}
    assert all(by_role.values()) and left_out == 0
    assert len({one.token_id for one in found}) == len(found)
    for one in by_role["self-reflection"]:
        assert "Wait".startswith(one.text.strip())
    assert {one.text.strip() for one in by_role["answer"]} == {"4", "7"}  # numbers are digit by digit here
    few, left_out = named_tokens(tokenizer, closings=["</think>"], answers=["42", "7"], most=2)
    assert few == found[:2] and left_out == len(found) - 2


def test_answers_are_named_most_frequent_first():
    assert by_frequency(["7", "42", "3", "42"]) == ["42", "3", "7"]


def test_a_pack_gets_jacobians_of_its_stored_texts(tiny_folder, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pack(folder.path, tmp_path / "pack")
    study = study_of(tiny_folder)
    changed = refresh(tmp_path / "pack", ["jacobian"], ours(None), study=study)
    assert {"lenses", "lens_layers", "jacobian_tokens", "jacobian_rows"} <= set(changed)
    with closing(made(study, folder)) as whole, closing(Store(unpack(tmp_path / "pack", tmp_path / "p.duckdb"))) as few:
        assert few.whole_table("jacobian_tokens").equals(whole.whole_table("jacobian_tokens"))


def test_stored_rows_are_the_plain_mean_over_the_drawn_texts(tiny, tiny_folder, folder):
    loaded = tiny("llama")
    with closing(made(study_of(tiny_folder), folder)) as store:
        (lens,) = store.jacobian_lenses().to_dict("records")
        rows, tokens = stored_rows(store, lens["lens_id"]), store.jacobian_tokens(lens["lens_id"])
        layers = store.frame("SELECT * FROM lens_layers ORDER BY layer")
        every = store.jacobian_rows(lens["lens_id"])
        convergence = store.jacobian_convergence(lens["lens_id"])
    texts = [loaded.tokenizer(text)["input_ids"] for text in steerable_study.COTS]
    named = cotangents_of(loaded, rows.cotangents.token_ids)
    assert rows.cotangents.token_ids == tuple(tokens["token_id"]) and len(tokens) == lens["n_named"] == 6
    torch.testing.assert_close(rows.cotangents.vectors, named.vectors)
    alone = [prompt_rows(Pullbacks(loaded), ids, named.vectors, range(3)) for ids in texts]
    expected = torch.stack(alone).mean(0)
    for layer in range(3):
        torch.testing.assert_close(rows.rows[layer], expected[layer], rtol=1e-4, atol=1e-5)
    assert rows.n_layers == 4 and lens["variant"] == "named tokens"
    cosines = torch.nn.functional.cosine_similarity(*alone, dim=-1)
    np.testing.assert_allclose(layers["cosine"], cosines.mean(-1), rtol=1e-4)
    np.testing.assert_allclose(every[every["layer"] < 3]["cosine"], cosines.flatten(), rtol=1e-4)
    assert every[every["layer"] == 3]["cosine"].isna().all()
    assert lens["n_tokens"] == sum(len(ids) - 17 for ids in texts) and lens["n_problems"] == 1
    assert json.loads(lens["parameters"])["n_texts"] == 2 == len(convergence)
    assert np.isnan(convergence["relative_change"][0]) and convergence["relative_change"][1] > 0


def test_whole_matrices_are_kept_less_the_identity_by_request_and_give_the_same_rows(tiny, tiny_folder, folder):
    with closing(made(study_of(tiny_folder), folder)) as store:
        alone = stored_rows(store, store.jacobian_lenses()["lens_id"].item())
    with closing(made(study_of(tiny_folder, matrices=True), folder)) as store:
        (lens,) = store.jacobian_lenses().to_dict("records")
        rows = stored_rows(store, lens["lens_id"])
        kept = store.frame('SELECT layer, "values" FROM lens_rows ORDER BY layer, row')
        whole = lens_of(store, lens["lens_id"])
    assert lens["variant"] == "all" and isinstance(whole, JacobianLens)
    for layer, values in kept.groupby("layer")["values"]:
        matrix = torch.from_numpy(np.stack([*values])) + torch.eye(64)
        expected = alone.rows[layer]
        assert (rows.rows[layer] - expected).norm() < 1e-5 * expected.norm()
        assert (rows.cotangents.vectors @ matrix - expected).norm() < 1e-5 * expected.norm()
        torch.testing.assert_close(whole.jacobians[layer], matrix)


def test_texts_of_a_file_take_the_place_of_cots_and_short_ones_no_part(tiny_folder, folder, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join([LONG.format("One."), "Too short.", LONG.format("Two."), LONG.format("One.")]))
    with closing(made(study_of(tiny_folder, texts=str(file)), folder)) as store:
        (lens,) = store.jacobian_lenses().to_dict("records")
    said = json.loads(lens["parameters"])
    assert (said["n_texts"], said["too_short"], said["texts"]) == (2, 1, "texts.txt")
    file.write_text("Too short.")
    with closing(made(study_of(tiny_folder, texts=str(file)), folder)) as store:
        assert store.jacobian_lenses().empty
        assert "needs 18 tokens" in str(store.frame("SELECT warnings FROM runs")["warnings"].tolist())


def test_a_run_that_was_stopped_goes_on_to_the_same_rows(tiny_folder, folder, tmp_path, monkeypatch):
    """And results that come before their turn wait for it."""
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(LONG.format(number) for number in range(5)))
    study = study_of(tiny_folder, texts=str(file))
    with closing(Store(folder.path)) as store:
        context = Context(study, "r", store, print)
        (unit,) = jacobian.units(context)
        (whole,) = jacobian.compute(context, [unit])
        seen = []

        class Backwards(Local):
            def run(self, work, tasks, *, model):
                results = [*super().run(work, tasks, model=model)][::-1]
                seen.append(len(results))
                yield from results

        context.engine = Backwards()
        (again,) = jacobian.compute(context, [unit])
        assert said(again) == said(whole)
        monkeypatch.setattr(jacobian, "CHECKPOINT_EVERY", 0.0)
        measure = jacobian.measure

        def breaks(loaded, task):
            for number, made in enumerate(measure(loaded, task)):
                if number == 2:
                    raise KeyboardInterrupt
                yield made

        monkeypatch.setattr(jacobian, "measure", breaks)
        context.engine = Local()
        with pytest.raises(KeyboardInterrupt):
            next(jacobian.compute(context, [unit]))
        monkeypatch.setattr(jacobian, "measure", measure)
        context.engine = Backwards()
        (resumed,) = jacobian.compute(context, [unit])
        assert said(resumed) == said(whole)
        assert seen == [6, 4]  # a cotangent and five texts; two of them were kept


def said(finished) -> list:
    """What does not depend on the clock."""
    tables = {name: rows for name, rows in finished.tables.items() if name != "lens_layers"}
    return [json.dumps(tables[name], default=lambda values: values.tolist()) for name in sorted(tables)]


def test_a_study_without_the_section_asks_for_nothing_and_older_studies_have_none(tiny_folder, folder):
    study = study_of(tiny_folder).model_copy(update={"jacobian": None})
    with closing(Store(folder.path)) as store:
        assert jacobian.units(Context(study, "r", store, print)) == []
        assert store.jacobian_lenses().empty
        with pytest.raises(LensError, match="no rows of named tokens"):
            stored_rows(store, "l_none")


def test_the_plan_counts_a_pass_for_each_named_token_or_for_each_value_of_a_stream(tiny_folder):
    of = Quantities(
        study=study_of(tiny_folder, prompts=10),
        lengths=Lengths(50.0, 10.0, False),
        n_problems=1,
        parameters=None,
        d_model=64,
        n_layers=4,
        machine=None,
        done={},
    )
    assert jacobian.estimate(of).tokens == 10 * 50 * (1 + 6)
    assert jacobian.estimate(replace(of, study=study_of(tiny_folder, prompts=10, matrices=True))).tokens == 500 * 65
    assert jacobian.estimate(replace(of, study=of.study.model_copy(update={"jacobian": None}))) is None
