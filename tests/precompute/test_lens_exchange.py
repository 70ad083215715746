"""Lenses leave a study in the layouts that others read, and come into one, as rows whose quality is measured."""

import contextlib

import pytest
import torch
from typer.testing import CliRunner

from backend.errors import AnchorscopeError
from backend.lens.files import LAYOUTS, layout_of
from backend.lens.jacobian_files import Card
from backend.lens.jacobian_files import write as write_jacobian
from backend.lens.kinds import LENSES, LensError
from backend.lens.lens import JacobianLens
from backend.lens.stored import lens_of
from backend.store.store import Store
from precompute.cli import app
from precompute.lens_exchange import export_lens, import_lens
from precompute.stages import lens
from tests import lens_study
from tests.lens_study import LAYERS, WIDTH, run, tables


@pytest.fixture
def trained(tiny, tmp_path):
    """The tiny model with gains of its final norm that were drawn: at 1 they would count as folded."""
    loaded = tiny("llama")
    before = loaded.model.model.norm.weight.data.clone()
    loaded.model.model.norm.weight.data += 0.3 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    yield loaded
    loaded.model.model.norm.weight.data.copy_(before)


@pytest.fixture
def model(trained, tmp_path) -> str:
    folder = tmp_path / "tiny-model"
    trained.model.save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def fitted(model, tmp_path):
    """A study with a fitted lens of every layer."""
    from backend.models.loading import load_model

    folder = lens_study.make(tmp_path / "study", load_model(model))
    run(lens_study.asked(model, layers="all", tokens=0), folder, stages=(lens,))
    return folder


def test_a_fitted_lens_goes_through_a_file_into_another_study_and_says_the_same(model, fitted, tmp_path):
    from backend.models.loading import load_model

    other = lens_study.make(tmp_path / "other", load_model(model))
    files = export_lens(fitted.path, tmp_path / "lens", None)
    assert [file.name for file in files] == ["config.json", "params.pt"]
    (said,) = import_lens(other.path, tmp_path / "lens", model)
    (own,), (brought,) = tables(fitted)["lenses"], tables(other)["lenses"]
    assert brought["lens_id"] in said and (brought["kind"], brought["source"]) == ("tuned", "file")
    assert {one["kept"] for one in tables(other)["lens_layers"]} == {"file"}
    stream = torch.randn(3, WIDTH)
    with contextlib.closing(Store(fitted.path)) as one, contextlib.closing(Store(other.path)) as two:
        lenses = lens_of(one, own["lens_id"]), lens_of(two, brought["lens_id"])
    for layer in range(LAYERS):
        assert torch.equal(*(lens.carried(stream, layer) for lens in lenses))
    assert "already" in import_lens(other.path, tmp_path / "lens", model)[0]
    run(lens_study.asked(model, layers="all", tokens=0), other)
    rows = [one for one in tables(other)["lens_quality"] if one["positions"] == "all"]
    by_lens = {lens_id: [one["kl"] for one in rows if one["lens_id"] == lens_id] for lens_id in
               {one["lens_id"] for one in rows}}  # fmt: skip
    assert len(by_lens) == 3 and by_lens[brought["lens_id"]] == by_lens[own["lens_id"]] != by_lens["logit"]


def test_a_jacobian_lens_of_a_file_is_read_and_measured(model, fitted, tmp_path):
    matrices = {layer: 2 * torch.eye(WIDTH) for layer in range(LAYERS - 1)}
    card = Card("elsewhere/Its-Name", None, "owner/texts", 2, 128, "float32")
    folder = write_jacobian(JacobianLens(LAYERS, matrices), card, tmp_path / "lenses")
    with pytest.raises(LensError, match="elsewhere/Its-Name"):
        import_lens(fitted.path, folder, model)
    import_lens(fitted.path, folder, model, known_as="Its-Name")
    brought = next(one for one in tables(fitted)["lenses"] if one["kind"] == "jacobian")
    with contextlib.closing(Store(fitted.path)) as store:
        read = lens_of(store, brought["lens_id"])
    assert isinstance(read, JacobianLens) and torch.equal(read.jacobians[1], matrices[1])
    run(lens_study.asked(model, layers="all", tokens=0), fitted)
    quality = {(one["kind"], one["layer"]): one["kl"] for one in tables(fitted)["lens_quality"]
               if one["positions"] == "all"}  # fmt: skip
    assert quality["jacobian", 0] == pytest.approx(quality["logit", 0], rel=1e-4), "a norm takes the factor away"
    assert quality["jacobian", LAYERS - 1] == 0
    written = export_lens(fitted.path, tmp_path / "again", brought["lens_id"])
    assert any(file.name.endswith("_jacobian_lens.pt") for file in written)


def test_which_lens_leaves_must_be_said_where_it_is_not_clear(fitted, model, tmp_path):
    with pytest.raises(AnchorscopeError, match=r"no lens 'l0': .*\(tuned, all\)\. Give one with --lens-id"):
        export_lens(fitted.path, tmp_path / "lens", "l0")
    with pytest.raises(AnchorscopeError, match="exists already"):
        export_lens(fitted.path, fitted.path, None)
    with pytest.raises(AnchorscopeError, match="no model 'nobody'; it has "):
        import_lens(fitted.path, tmp_path, "nobody")
    with pytest.raises(LensError, match=r"no lens in a layout that is known here: a folder with config\.json"):
        import_lens(fitted.path, tmp_path / "nothing", model)


def test_the_commands_say_what_they_did(fitted, model, tmp_path):
    runner = CliRunner()
    done = runner.invoke(app, ["export", str(fitted.path), "--lens", str(tmp_path / "lens")])
    assert done.exit_code == 0 and layout_of(tmp_path / "lens").name == "tuned"
    done = runner.invoke(app, ["import-lens", str(fitted.path), str(tmp_path / "lens"), "--model", model])
    assert done.exit_code == 0
    assert sorted(one["source"] for one in tables(fitted)["lenses"]) == ["file", "fitted"]


def test_every_kind_of_lens_that_is_fitted_has_a_layout():
    assert set(LAYOUTS) == {name for name, kind in LENSES.items() if kind.is_fitted}
