"""Units of chains of thought: those that studies had before there were prompts keep their keys, and a prompt is another
unit.
"""

import io
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from backend.cot.prompts import BOXED, PromptError
from backend.models.loading import load_model
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import models
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import chunks, cots, problems
from precompute.study import Study
from precompute.units import Context

PROBLEM = "p_1"


@pytest.fixture
def keys(tiny_folder):
    """`keys(**changes)`: the units of a study of one problem, as model name -> keys."""

    def of(model=None, **changes) -> list[str]:
        content = {
            "name": "s",
            "seed": 3,
            "models": [{"name": str(tiny_folder("llama")), **(model or {})}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0]},
            **changes,
        }
        store = SimpleNamespace(study_problems=lambda: [{"problem_id": PROBLEM}])
        return [
            unit.key.partition(".")[2] for unit in cots.units(Context(Study.model_validate(content), "r", store, print))
        ]

    return of


def test_the_key_of_a_study_without_prompts_is_what_it_was_before_there_were_any(keys):
    assert keys() == ["p_1@6ae6961c2d2aea30"]
    assert keys(prompts=[{"name": "boxed"}]) == keys()


def test_a_prompt_more_keeps_what_there_is_and_every_setting_makes_another_unit(keys):
    both = keys(prompts=[{"name": "boxed"}, {"name": "plain"}])
    assert both[:1] == keys() and both[1].startswith("p_1.plain@")
    settings = [
        {"arguments": {"enable_thinking": False}},
        {"arguments": {"enable_thinking": True}},
        {"thinks": True},
        {"template": "rag"},
    ]
    texts = [
        {"text": "{question}"},
        {"text": "{question}!"},
        {"text": "{question}", "system": "Be brief."},
        {"like": "steps"},
    ]
    found = [
        keys()[0],
        *(keys(model=one)[0] for one in settings),
        *(keys(prompts=[{"name": "own", **one}])[0] for one in texts),
    ]
    assert len(set(found)) == len(found)


def test_a_dtype_of_sampling_is_part_of_the_unit_only_where_it_is_named(keys):
    assert keys(sampling={"dtype": None}) == keys()
    named = [keys(sampling={"dtype": dtype})[0] for dtype in ("float32", "bfloat16")]
    assert len({keys()[0], *named}) == 3


def test_sampling_in_another_dtype_leaves_the_models_id_and_the_seeds(tiny_folder):
    study = Study.model_validate(
        {
            "name": "s",
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sampling": {"samples": 2, "max_new_tokens": 16, "forced_max_tokens": 4, "dtype": "bfloat16"},
            "sweep": {"layers": [0]},
        }
    )
    (model,) = study.models
    assert models.spec(study, model).dtype == "float32" and models.sampling_spec(study, model).dtype == "bfloat16"
    task = cots.Task(("u",), (("p_1", "1 + 1?"),), BOXED, study.sampling, 3, 8, "model", model.dtype)
    ours, lower = (
        next(cots.write_cots(load_model(model.name, dtype=dtype), task))[1] for dtype in ("float32", "bfloat16")
    )
    assert ours.model == lower.model and ours.model["dtype"] == "float32"
    assert (ours.dtype, lower.dtype) == ("float32", "bfloat16")
    assert [cot["seed"] for cot in ours.cots] == [cot["seed"] for cot in lower.cots]


@pytest.fixture(scope="module")
def ran(tiny_folder, tmp_path_factory):
    """`ran(*prompts)`: the store of one small study on two tiny models, run on with these prompts by the stages up to
    chunks.
    """
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "asked")

    def run(*prompts) -> Store:
        content = {
            "name": "asked",
            "seed": 3,
            "models": [{"name": str(tiny_folder(family))} for family in ("llama", "qwen2")],
            "prompts": list(prompts),
            "problems": {"per_level": 1, "levels": [1, 2]},
            "sweep": {"layers": [0]},
            "sampling": {"samples": 2, "max_new_tokens": 16, "forced_max_tokens": 4},
            "engine": {"workers": 1, "rows": 8},
        }
        run_study(
            Study.model_validate(content), folder, stages=[problems, cots, chunks], console=Console(file=io.StringIO())
        )
        return Store(folder.path)

    return run


ROWS = "SELECT * EXCLUDE (run_id) FROM cots WHERE prompt_name = 'boxed' ORDER BY cot_id"


def test_a_prompt_more_leaves_every_row_of_the_others_and_fills_each_cell(ran):
    before = ran({"name": "boxed"}).frame(ROWS)
    store = ran({"name": "boxed"}, {"name": "plain"}, {"name": "own", "text": "{question} Go.", "worked": True})
    pd.testing.assert_frame_equal(store.frame(ROWS), before)
    cells = store.frame(
        "SELECT model_id, prompt_name, count(*) AS n, count(DISTINCT cot_id) AS ids, count(DISTINCT seed) AS seeds FROM"
        " cots GROUP BY ALL"
    )
    assert len(cells) == 6 and (cells[["n", "ids", "seeds"]] == 4).all(axis=None)
    assert store.frame("SELECT count(DISTINCT cot_id) AS n FROM cots")["n"][0] == 24
    assert len(store.frame("SELECT * FROM problem_accuracy")) == len(cells) * 2
    plain = store.frame(
        "SELECT prompt, question FROM cots JOIN problems USING (problem_id) WHERE prompt_name = 'plain'"
    )
    assert all(f"Solve: {row.question}<|im_end|>" in row.prompt for row in plain.itertuples())
    asked_under = store.prompts().set_index("prompt_name")
    assert asked_under.loc["own", "worked"].all() and not asked_under.loc["plain", "worked"].any()
    assert set(asked_under["manner"]) == {"none"}
    assert len(store.verdicts()) == 24 and set(store.cot_index()["prompt_name"]) == {"boxed", "plain", "own"}
    store.close()


def test_plan_counts_prompts_and_refuses_one_that_a_template_cannot_ask(tiny_folder, tmp_path):
    content = {
        "name": "planned",
        "models": [{"name": str(tiny_folder("llama"))}],
        "prompts": [{"name": "boxed"}, {"name": "plain"}],
        "problems": {"per_level": 3, "levels": [1]},
        "sweep": {"layers": [0]},
        "sampling": {"samples": 2},
    }
    estimates, _ = plan_study(Study.model_validate(content), StudyFolder(tmp_path / "planned"))
    assert {line.stage: line.units for line in estimates if line.stage in ("cots", "chunks")} == {
        "cots": 6,
        "chunks": 12,
    }
    content["models"][0]["arguments"] = {"enable_thinking": False}
    with pytest.raises(PromptError, match="its chat template reads no argument enable_thinking; it reads none"):
        plan_study(Study.model_validate(content), StudyFolder(tmp_path / "planned"))
