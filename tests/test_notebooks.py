"""Every notebook runs from its first cell to its last, and what it registers stays with the study where its code is
not.
"""

import ast
import json
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from anchorscope import keep, open_study
from app.shell.vocabulary import column, direction_words, metric
from backend.errors import AnchorscopeError
from backend.evidence import pairs
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.importance.metric_registry import METRICS
from backend.search.columns import known_columns
from backend.store.geometry_columns import COLUMNS
from backend.store.unit_files import StudyFolder
from precompute import own_arrays
from precompute.pipeline import run_study
from precompute.stages import evidence
from precompute.terminal import Console
from tests import small_study
from tests.pages.conftest import opened as opened
from tests.precompute import test_geometry_stages as tiny

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
REGISTRIES = (DIRECTION_KINDS, METRICS, COLUMNS)


def cells(notebook: Path) -> list[str]:
    return [
        "".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def run(name: str) -> list[object]:
    """The cells in order in one namespace, as a kernel would; returns what the last expression of each shows."""
    (notebook,) = (path for path in NOTEBOOKS if path.stem == name)
    names, shown = {"__name__": "__main__"}, []
    for code in cells(notebook):
        tree = ast.parse(code)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(notebook), "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(notebook), "eval"), names))
    return shown


@pytest.fixture(autouse=True)
def forgotten(monkeypatch, tmp_path):
    """What a notebook registers is taken back, its studies are here, and evidence is of few draws and pairs."""
    tested = evidence.tested
    for module, name, value in (
        (pairs, "fits", lambda sample, **options: ()),
        (pairs, "theil_sen", lambda sample, **options: pairs.NO_SLOPE),
        (pairs.mixed_model, "mixed", lambda sample: pairs.mixed_model.unknown("")),
        (evidence, "N_PLANTED", 2),
        (evidence, "tested", lambda context: [one for one in tested(context) if one[1] in ("all", "fl")][:3]),
        (own_arrays, "DRAWS", 20),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(tmp_path / "stores"))
    with ExitStack() as taken_back:
        for registry in REGISTRIES:
            taken_back.callback(keep_only, registry, set(registry))
        yield


def keep_only(registry, names: set[str]) -> None:
    for name in set(registry) - names:
        registry.remove(name)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_a_test(notebook):
    assert all(not cell.get("outputs") for cell in json.loads(notebook.read_text())["cells"])
    assert f'run("{notebook.stem}")' in Path(__file__).read_text()


def test_own_tensors_are_a_study_with_the_planted_relation_on_top(monkeypatch, tmp_path):
    monkeypatch.setattr(own_arrays, "own_stores", lambda: tmp_path / "stores")
    monkeypatch.setattr("backend.geometry.projection.latent_maps", _no_maps)
    path, found = run("own_tensors")
    assert path == tmp_path / "stores" / "own-tensors"
    assert (found["x"].iloc[0], found["layer"].iloc[0], found["metric"].iloc[0]) == ("residual_norm", 12, "surprise")
    assert found["within"].iloc[0] > 0.8 and not (tmp_path / "stores" / "too-short").exists()


def _no_maps(activations, *, model_id, seed, **how):
    """UMAP takes seconds, and has tests of its own."""
    from backend.geometry.projection import LatentMaps

    return LatentMaps((), ())


def test_an_own_metric_and_column_stay_where_their_code_is_not(tmp_path):
    small_study.make(tmp_path / "stores" / "quick")
    *_, gave_up, peak, mine, registered = run("own_metric")
    assert len(gave_up) and gave_up["value"].dropna().between(0, 1).all()
    assert peak["value"].between(1 / small_study.WIDTH, 1).all() and {"peak_share", "gave_up"} & {
        *mine["x"],
        *mine["metric"],
    }
    assert registered["made_by"].tolist() == ["code", "code"]
    for registry, name in ((METRICS, "gave_up"), (COLUMNS, "peak_share")):
        registry.remove(name)
    with closing(open_study("quick")) as store:
        assert store.geometry_choices()["x"].eq("peak_share").any()
        known = known_columns(store)
        assert known["peak_share"].label.startswith("Share of the largest coordinate")
        assert known["gave_up"].label == "Gave up"
    assert metric("gave_up").label == "Gave up" and "which need not be here" in metric("gave_up").meaning
    assert column("peak_share").unit == "share of the squared norm"
    with pytest.raises(AnchorscopeError, match="its code is not registered in this process"):
        metric("gave_up").measure.estimate(None, None)


def test_an_own_kind_of_direction_is_swept_and_stays_where_its_code_is_not(tmp_path, tiny_folder):
    stages = (tiny.problems, tiny.Written, tiny.chunks, tiny.activations, tiny.Importance, tiny.sweep)
    study = tiny.study_of(str(tiny_folder("llama")))
    run_study(study, StudyFolder(tmp_path / "stores" / "quick"), stages=stages, console=Console(quiet=True))
    *_, swept, mine = run("own_direction")
    assert dict(zip(swept["kind"], swept["curves"], strict=True))["back"] > 0 and set(swept["kind"]) >= {"per_chunk"}
    assert {"steepness", "amplitude"} <= set(mine["x"])
    DIRECTION_KINDS.remove("back")
    with closing(open_study("quick")) as store:
        assert store.geometry_choices()["kind"].eq("back").any()
        row = store.frame("SELECT * FROM registered").iloc[0]
    assert direction_words("back") == "the chunk before − the chunk" and row["sha256"] and row["colour"] == "#AA3377"


def test_nothing_registered_or_no_folder_is_a_sentence(tmp_path):
    with pytest.raises(AnchorscopeError, match="Nothing is registered in this process"):
        keep("quick")
    for code in cells(next(path for path in NOTEBOOKS if path.stem == "own_metric"))[:2]:
        exec(code, {})
    with pytest.raises(AnchorscopeError, match="nowhere is no study's folder"):
        keep("nowhere")
    study = small_study.make(tmp_path / "stores" / "quick")
    with pytest.raises(AnchorscopeError, match="no kind of direction is registered here"):
        keep(study, steer=True)


def test_the_dashboard_shows_own_values_and_words_without_any_code(opened, tmp_path):
    small_study.make(tmp_path / "stores" / "quick")
    for code in cells(next(path for path in NOTEBOOKS if path.stem == "own_metric"))[:2]:
        exec(code, {})
    keep("quick").close()
    METRICS.remove("gave_up")
    COLUMNS.remove("peak_share")
    chosen = {"geometry_column": "peak_share", "metric": "gave_up:all"}
    test = opened("steepness", tmp_path / "stores" / "quick", study="quick", **chosen)
    assert not test.exception
    pickers = {box.label: (box.value, box.options) for box in test.selectbox}
    assert pickers["Geometry"][0] == "peak_share" and pickers["Importance"][0] == "gave_up:all"
    assert "Share of the largest coordinate" in pickers["Geometry"][1]
    assert not opened("browse", tmp_path / "stores" / "quick", study="quick").exception
